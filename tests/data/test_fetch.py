"""Fetching, against servers that break off, stall, lie and redirect."""

import hashlib
import http.server
import os
import signal
import stat
import threading

import numpy as np
import pytest

from bype.core.errors import InputError, RunExistsError
from bype.data import fetch

CONTENT = np.random.default_rng(0).integers(0, 256, 300_000, dtype=np.uint8).tobytes()
FILE = fetch.PublishedFile("file.gz", len(CONTENT), hashlib.sha256(CONTENT).hexdigest(), ())


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):  # a client that hangs up is what these tests are about
        pass


class _Handler(http.server.BaseHTTPRequestHandler):
    """Each path is a way to misbehave; `asked` is what came in, in order."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_GET(self):
        way, wanted = self.path.split("/")[1], self.headers.get("Range")
        self.server.asked.append((way, wanted))
        self.close_connection = True
        getattr(self, f"_{way.replace('-', '_')}")(int(wanted[6:-1]) if wanted else 0)

    def _send(self, body, start=0, *, length=None, status=None):
        self.send_response(status or (206 if start else 200))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def _good(self, start):
        self._send(CONTENT[start:], start)

    def _truncates(self, start):  # 100,000 bytes at a time, of a length that promises all
        self._send(CONTENT[start : start + 100_000], start, length=len(CONTENT) - start)

    def _byte_by_byte(self, start):
        self._send(CONTENT[start : start + 1], start, length=len(CONTENT) - start)

    def _stalls(self, start):
        if start:
            return self._good(start)
        self._send(CONTENT[:50_000], length=len(CONTENT))
        self.server.release.wait(10)
        return None

    def _unsteady(self, start):  # knows no ranges, and breaks off sooner or later
        self._send(CONTENT[: 60_000 + 10_000 * (len(self.server.asked) % 2)], length=len(CONTENT))

    def _knows_no_ranges(self, start):
        self._send(CONTENT if start else CONTENT[:70_000], length=len(CONTENT))

    def _other_range(self, start):
        if start:
            self._send(CONTENT[5:], 5)
        else:
            self._send(CONTENT[:70_000], length=len(CONTENT))

    def _lies(self, start):
        self._send(bytes(len(CONTENT) - start), start)

    def _endless(self, start):
        self.send_response(200)
        self.end_headers()
        for _ in range(10_000):
            self.wfile.write(CONTENT)

    def _short(self, start):
        self._send(CONTENT[start:200_000], start)

    def _gone(self, start):
        self._send(b"no", status=404)

    def _broken(self, start):
        self._send(b"no", status=503)

    def _refuses_ranges(self, start):
        self._send(b"no", status=416) if start else self._good(start)

    def _redirects(self, start):
        self.send_response(302)
        self.send_header("Location", "/good/file.gz")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _loops(self, start):
        self.send_response(302)
        self.send_header("Location", "/loops/file.gz")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _to_a_file(self, start):
        self.send_response(302)
        self.send_header("Location", "file:///etc/hostname")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _mnist(self, start):
        self._good(start) if self.path == "/mnist/file.gz" else self._gone(start)


@pytest.fixture(autouse=True)
def limit():
    """No test here may hang: a fault in the conditions that end a download shows as a failure."""

    def late(number, frame):
        raise AssertionError("the download did not end within 20 s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(fetch, "PAUSE", 0.001)
    monkeypatch.setattr(fetch, "TIMEOUT", 0.3)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with _Server(("127.0.0.1", 0), _Handler) as running:
        running.asked, running.release = [], threading.Event()
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield running
        running.release.set()
        running.shutdown()


def _part(n):
    """The first n bytes of the content, as a published file."""
    return fetch.PublishedFile("file.gz", n, hashlib.sha256(CONTENT[:n]).hexdigest(), ())


def _get(server, folder, *ways, file=FILE):
    urls = tuple(f"http://127.0.0.1:{server.server_port}/{way}/file.gz" for way in ways)
    return fetch.download(file, folder, urls, lambda *_: None)


@pytest.mark.parametrize(
    ("way", "ranges"),
    [
        ("good", [None]),
        ("truncates", [None, "bytes=100000-", "bytes=200000-"]),
        ("stalls", [None, "bytes=50000-"]),
        ("knows-no-ranges", [None, "bytes=70000-"]),
        ("redirects", [None, None]),
    ],
)
def test_a_file_arrives_whole_and_is_asked_for_from_where_it_broke_off(server, tmp_path, way, ranges):
    target = _get(server, tmp_path / "new", way)
    assert target.read_bytes() == CONTENT
    assert [r for _, r in server.asked] == ranges
    assert [p.name for p in target.parent.iterdir()] == ["file.gz"]
    _get(server, tmp_path / "new", way)
    assert len(server.asked) == len(ranges), "a file that is there is not fetched again"


def test_a_download_is_flushed_whole_before_it_is_moved_into_place(server, tmp_path, monkeypatch):
    flushed = []
    fsync = os.fsync

    def spied(handle):
        if stat.S_ISREG(os.fstat(handle).st_mode):
            flushed.append((os.fstat(handle).st_size, (tmp_path / "file.gz").exists()))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", spied)
    _get(server, tmp_path, "truncates")
    assert flushed == [(len(CONTENT), False)]


def test_wrong_bytes_of_the_right_size_are_fetched_again(server, tmp_path):
    (tmp_path / "file.gz").write_bytes(bytes(len(CONTENT)))
    assert _get(server, tmp_path, "good").read_bytes() == CONTENT
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("way", "message"),
    [
        ("lies", "got SHA-256"),
        ("endless", "got more bytes"),
        ("short", "got 200000 bytes"),
        ("other-range", "got 299995 bytes"),
        ("unsteady", "got [67]0000 bytes"),
        ("gone", "got HTTP 404"),
        ("broken", "got HTTP 503"),
        ("loops", "got HTTP 302"),
        ("to-a-file", "got HTTP 302"),
    ],
)
def test_what_is_not_the_published_file_never_counts(server, tmp_path, way, message):
    earlier = tmp_path / "file.gz"
    earlier.write_bytes(b"what was there before")
    with pytest.raises(InputError, match=message):
        _get(server, tmp_path, way)
    assert earlier.read_bytes() == b"what was there before"
    assert len(server.asked) < 30


def test_the_next_address_is_tried_and_goes_on_from_the_first_one_s_part(server, tmp_path):
    assert _get(server, tmp_path, "gone", "lies", "short", "good").read_bytes() == CONTENT
    assert server.asked[-1] == ("good", "bytes=200000-")


def test_a_part_that_was_spoiled_is_begun_anew(server, tmp_path):
    (tmp_path / ".file.gz.part").write_bytes(b"x" * 1000)
    assert _get(server, tmp_path, "good").read_bytes() == CONTENT
    assert [r for _, r in server.asked] == ["bytes=1000-", None]
    (tmp_path / "file.gz").unlink()
    (tmp_path / ".file.gz.part").write_bytes(b"x" * (len(CONTENT) + 1))
    assert _get(server, tmp_path, "good").read_bytes() == CONTENT


def test_a_part_whose_range_is_refused_is_begun_anew(server, tmp_path):
    (tmp_path / ".file.gz.part").write_bytes(CONTENT[:1000])
    assert _get(server, tmp_path, "refuses-ranges").read_bytes() == CONTENT
    assert [r for _, r in server.asked] == ["bytes=1000-", None]


def test_a_file_that_another_process_fetches_is_left_to_it(server, tmp_path):
    import fcntl

    with (tmp_path / ".file.gz.part").open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(RunExistsError, match="another process is downloading this file"):
            _get(server, tmp_path, "good")
    assert server.asked == []


def test_a_folder_that_cannot_be_written_is_our_error(server, tmp_path):
    (tmp_path / "mnist").write_text("a file where the folder should be")
    with pytest.raises(InputError, match="expected to write it"):
        _get(server, tmp_path / "mnist", "good")


def test_a_mirror_is_a_data_folder_over_http(server, tmp_path, monkeypatch, cli_json, run_cli):
    monkeypatch.setitem(fetch.FILES, "mnist", (FILE,))
    mirror = f"http://127.0.0.1:{server.server_port}/"
    out = cli_json("data", "fetch", "mnist", "--mirror", mirror, "--data-dir", tmp_path)
    assert out == {"files": {"mnist": [str(tmp_path / "mnist" / "file.gz")]}}
    assert (tmp_path / "mnist" / "file.gz").read_bytes() == CONTENT
    (tmp_path / "mnist" / "file.gz").unlink()
    for wrong, message in (("file:///etc", "unknown url type"), ("nonsense", "unknown url type")):
        code, _, err = run_cli("data", "fetch", "mnist", "--mirror", wrong, "--data-dir", tmp_path)
        assert (code, err.count("\n"), message in err) == (2, 1, True), err


def test_sets_that_are_not_fetched_say_what_to_do(run_cli, tmp_path, monkeypatch):
    monkeypatch.setenv("BYPE_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("HOME", str(tmp_path))
    code, out, err = run_cli("data", "fetch", "celeba")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "get img_align_celeba.zip from https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html" in err
    assert str(tmp_path / "data" / "celeba" / "img_align_celeba.zip") in err
    assert run_cli("data", "fetch", "digits")[0] == 0
    assert "expected one of digits" in run_cli("data", "fetch", "minst")[2]


def test_sums_and_addresses_are_whole():
    for name, files in fetch.FILES.items():
        for file in files:
            assert len(file.sha256) == 64
            assert file.size > 4000
            assert file.urls
            assert all(u.startswith("http") and u.endswith("/" + file.name) for u in file.urls), name
            assert bool(file.content) == file.name.endswith("ubyte.gz")
    assert len(fetch.CIFAR10_MEMBERS) == 6


@pytest.mark.data
def test_check_knows_the_published_files_packed_or_not(published, tmp_path, cli_json, run_cli):
    import gzip

    rows = {r["set"]: r for r in (cli_json("data", "check", n)["sets"][0] for n in ("mnist", "cifar10"))}
    assert rows["mnist"]["compared"] == 4
    assert rows["cifar10"]["compared"] == 6
    assert (rows["mnist"]["train"], rows["mnist"]["shape"], rows["mnist"]["classes"]) == (50_000, "1x28x28", 10)
    for file in fetch.FILES["fashion-mnist"]:
        where = tmp_path / "fashion-mnist" / file.name.removesuffix(".gz")
        where.parent.mkdir(exist_ok=True)
        where.write_bytes(gzip.decompress((published / "fashion-mnist" / file.name).read_bytes()))
    assert cli_json("data", "check", "fashion-mnist", "--data-dir", tmp_path)["sets"][0]["compared"] == 4
    content = bytearray(where.read_bytes())
    content[-1] ^= 1
    where.write_bytes(content)
    code, _, err = run_cli("data", "check", "fashion-mnist", "--data-dir", tmp_path)
    assert (code, "expected the published file" in err) == (2, True), err


def test_check_describes_a_set_of_one_s_own(cli_json, tmp_path):
    np.save(tmp_path / "a.npy", np.random.default_rng(0).random((20, 3, 4, 5)))
    (row,) = cli_json("data", "check", tmp_path / "a.npy")["sets"]
    assert (row["train"], row["test"], row["shape"], row["values"], row["classes"]) == (16, 2, "3x4x5", "floats", 0)
    assert len(row["sum"]) == 64


def test_an_attempt_that_adds_a_single_byte_is_progress(server, tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "ATTEMPTS", 1)
    assert _get(server, tmp_path, "byte-by-byte", file=_part(12)).read_bytes() == CONTENT[:12]
    assert [r for _, r in server.asked] == [None, *(f"bytes={n}-" for n in range(1, 12))]


def test_no_more_than_a_byte_beyond_the_file_is_kept(server, tmp_path, monkeypatch):
    sizes, receive = [], fetch._receive

    def spied(url, file, out, progress):
        receive(url, file, out, progress)
        sizes.append(out.tell())

    monkeypatch.setattr(fetch, "_receive", spied)
    with pytest.raises(InputError, match="more bytes"):
        _get(server, tmp_path, "good", file=_part(1000))
    assert sizes == [1001]


def test_a_part_that_is_complete_is_not_asked_for_again(server, tmp_path):
    (tmp_path / ".file.gz.part").write_bytes(CONTENT)
    assert _get(server, tmp_path, "gone").read_bytes() == CONTENT
    assert server.asked == []


def test_the_packed_file_of_cifar10_is_compared_where_it_is_not_unpacked(tmp_path):
    (packed,) = fetch.FILES["cifar10"]
    (tmp_path / packed.name).write_bytes(b"another")
    with pytest.raises(InputError, match=f"{packed.name}: expected the published file"):
        fetch._compare("cifar10", tmp_path)
