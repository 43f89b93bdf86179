"""Files that are damaged, or made to do harm: each is refused in one line, soon, and without much memory."""

import ast
import gzip
import io
import os
import resource
import struct
import subprocess
import sys
import tarfile
import time
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import bype
import bype.core.errors

SECONDS, MEGABYTES = 1.0, 200


def _npy(shape="(20, 4, 4)", descr="'|u1'", body=bytes(320), magic=b"\x93NUMPY\x01\x00", fortran="False"):
    header = f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}".encode()
    header += b" " * (-(len(magic) + 2 + len(header) + 1) % 64) + b"\n"
    return magic + struct.pack("<H", len(header)) + header + body


def _saved(array):
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def _images(n=20, *shape):
    return np.random.default_rng(0).integers(0, 256, (n, *(shape or (4, 4))), dtype=np.uint8)


def _zip(path, members, compress=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compress) as packed:
        for name, content in members.items():
            packed.writestr(name, content)


def _png(array=None, size=None):
    buffer = io.BytesIO()
    Image.fromarray(_images(1)[0] if array is None else array).save(buffer, "PNG")
    content = bytearray(buffer.getvalue())
    if size is not None:  # a header that declares another size, its sum made right
        content[16:24] = struct.pack(">II", *size)
        content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    return bytes(content)


class _Nameless(zipfile.ZipInfo):
    def is_dir(self):
        return False  # which Python 3.11 looks for in the name's last letter


class _Spy:
    """What a pickle runs when it is loaded."""

    def __reduce__(self):
        return os.mkdir, ("/tmp/bype-unpickled",)


def _own_files(root):
    """Hostile sets of one's own by what is wrong with them: a path each."""
    made = {}

    def file(what, suffix, content):
        made[what] = root / f"{what.replace(' ', '-')}{suffix}"
        made[what].write_bytes(content)

    good = _saved(_images())
    file("npy truncated", ".npy", good[:-1])
    file("npy longer", ".npy", good + b"x")
    file("npy empty", ".npy", b"")
    file("npy magic", ".npy", b"\x93NUMPX" + good[6:])
    file("npy version", ".npy", b"\x93NUMPY\x09\x00" + good[8:])
    file("npy declares 10^18 rows", ".npy", _npy(f"({10**18}, 4, 4)"))
    file("npy declares more than 64 bits", ".npy", _npy(f"({2**40}, {2**40}, {2**40})"))
    file("npy negative shape", ".npy", _npy("(-20, 4, 4)"))
    file("npy header of 4 GB", ".npy", b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + b"{" * 100)
    file("npy header nested deep", ".npy", _npy("(" * 3000 + ")" * 3000))
    file("npy header that computes", ".npy", _npy("(__import__('os').system('true'), 4)"))
    file("npy of objects", ".npy", _saved(np.array([_Spy()] * 20, dtype=object)))
    file("npy of records", ".npy", _saved(np.zeros(20, [("a", "u1"), ("b", "f4")])))
    file("npy of text", ".npy", _saved(np.array(["text"] * 20)))
    file("npy of integers", ".npy", _saved(np.zeros((20, 4), np.int64)))
    file("npy of complex numbers", ".npy", _saved(np.zeros((20, 4), np.complex64)))
    floats = _images() / 255
    for what, value in (("NaN", np.nan), ("inf", np.inf), ("minus inf", -np.inf), ("1e300", 1e300), ("minus", -0.01)):
        spoiled = floats.copy()
        spoiled[7, 1, 1] = value
        file(f"npy with {what}", ".npy", _saved(spoiled))
    file("npy of zero rows", ".npy", _saved(_images(0)))
    file("npy of one row", ".npy", _saved(_images(1)))
    file("npy of no columns", ".npy", _saved(np.zeros((20, 0), np.uint8)))
    file("npy scalar", ".npy", _saved(np.uint8(3)))
    file("npy of five dimensions", ".npy", _saved(_images(20, 2, 2, 2, 2)))
    file("npy constant", ".npy", _saved(np.full((20, 4, 4), 9, np.uint8)))
    with (root / "sparse.npy").open("wb") as f:  # 20 GB declared and there, without taking room
        f.write(_npy("(20, 10**9)".replace("10**9", str(10**9)), body=b""))
        f.truncate(f.tell() + 19 * 10**9)
    made["npy with a hole and too short"] = root / "sparse.npy"

    def packed(what, suffix, members, **options):
        made[what] = root / f"{what.replace(' ', '-')}{suffix}"
        _zip(made[what], members, **options)

    packed(
        "npz of zeros that unpacks to 300 MB", ".npz", {"images.npy": _npy("(300, 1000, 1000)", body=bytes(3 * 10**8))}
    )
    packed("npz that declares more", ".npz", {"images.npy": _npy("(10000000000, 4, 4)")})
    packed("npz labels of another length", ".npz", {"images.npy": good, "labels.npy": _saved(np.arange(19))})
    packed("npz labels of floats", ".npz", {"images.npy": good, "labels.npy": _saved(np.zeros(20))})
    packed("npz labels of objects", ".npz", {"images.npy": good, "labels.npy": _saved(np.array([_Spy()] * 20))})
    packed("npz labels enormous", ".npz", {"images.npy": good, "labels.npy": _saved(np.arange(20) + 10**12)})
    packed("npz empty", ".npz", {})
    packed("npz of no array", ".npz", {"images.npy": b"text"})
    file("npz truncated", ".npz", made["npz labels of floats"].read_bytes()[:-30])
    file("npz that is text", ".npz", b"this is no archive")
    spoiled = bytearray(made["npz labels of floats"].read_bytes())
    spoiled[200] ^= 255
    file("npz with a wrong sum", ".npz", bytes(spoiled))

    packed("zip that leaves its folder", ".zip", {f"../../{i}.png": _png() for i in range(20)})
    packed("zip of absolute names", ".zip", {f"/tmp/{i}.png": _png() for i in range(20)})
    nameless = _Nameless("x")
    nameless.filename = ""
    packed("zip with a member without a name", ".zip", {f"{i}.png": _png() for i in range(20)} | {nameless: b"x"})
    packed("zip of no images", ".zip", {"a.txt": "text"})
    packed("zip bomb", ".zip", {f"{i}.bmp": bytes(10**7) for i in range(10)})
    packed("zip in a zip", ".zip", {"a.zip": made["zip bomb"].read_bytes()})
    packed("zip of a huge image", ".zip", {f"{i}.png": _png(size=(20_000, 10_000)) for i in range(20)})
    packed("zip packed otherwise", ".zip", {f"{i}.png": _png() for i in range(20)}, compress=zipfile.ZIP_LZMA)
    file("zip that is text", ".zip", b"text")

    def folder(what, members):
        made[what] = root / what.replace(" ", "-")
        for name, content in members.items():
            (made[what] / name).parent.mkdir(parents=True, exist_ok=True)
            (made[what] / name).write_bytes(content)
        made[what].mkdir(exist_ok=True)

    images = {f"{i:02}.png": _png() for i in range(20)}
    folder("folder empty", {})
    folder("folder of mixed sizes", images | {"99.png": _png(_images(1, 5, 4)[0])})
    folder("folder with a 200-megapixel PNG", images | {"00.png": _png(size=(20_000, 10_000))})
    folder("folder with a PNG cut off", images | {"07.png": _png(_images(1, 90, 90)[0])[:2000]})
    folder("folder with an image of nothing", images | {"07.png": b""})
    folder("folder with text called PNG", images | {"07.png": b"text"})
    folder("folder with a GIF", images | {"07.gif": b"GIF89a"})
    folder("folder with a script called JPEG", images | {"07.jpg": b"%!PS-Adobe-3.0 EPSF-3.0\n" + b" " * 99})
    folder("folder of one image", {"00.png": _png()})
    folder("folder of splits", {f"{s}/{n}": c for s in ("train", "test") for n, c in images.items()})
    folder("folder in a circle", images)
    (made["folder in a circle"] / "again").symlink_to(made["folder in a circle"])
    folder("folder with a link to itself", images)
    (made["folder with a link to itself"] / "loop.png").symlink_to("loop.png")
    folder("folder with a link to nothing", images)
    (made["folder with a link to nothing"] / "none.png").symlink_to("none-such")
    folder("folder with a pipe", images)
    os.mkfifo(made["folder with a pipe"] / "pipe.png")
    made["pipe"] = root / "pipe.npy"
    os.mkfifo(made["pipe"])
    made["link to itself"] = root / "self.npy"
    made["link to itself"].symlink_to("self.npy")
    made["device"] = root / "zero.npy"
    made["device"].symlink_to("/dev/zero")
    return made


def _published_files(root):
    """Hostile published sets: their name and their `--data-dir`."""
    made = {}
    header = b"\x00\x00\x08\x03" + struct.pack(">III", 60_000, 28, 28)
    for what, content in {
        "idx gzip bomb": gzip.compress(header + bytes(10**8), 1) * 3,
        "idx header of another type": gzip.compress(b"\x00\x00\x0d" + header[3:] + bytes(47_040_000), 1),
        "idx that declares 2^32 rows": gzip.compress(header[:4] + b"\xff" * 12 + bytes(47_040_000), 1),
        "idx cut off": gzip.compress(header + bytes(10**6))[:-9],
        "idx that is text": b"text",
    }.items():
        made[what] = ("mnist", root / what.replace(" ", "-"))
        (made[what][1] / "mnist").mkdir(parents=True)
        (made[what][1] / "mnist" / "train-images-idx3-ubyte.gz").write_bytes(content)

    def archive(what, members, end=b""):
        made[what] = ("cifar10", root / what.replace(" ", "-"))
        (made[what][1] / "cifar10").mkdir(parents=True)
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
            for info, content in members:
                tar.addfile(info, io.BytesIO(content))
        content = buffer.getvalue() if not end else buffer.getvalue()[: -tarfile.RECORDSIZE] + end
        (made[what][1] / "cifar10" / "cifar-10-binary.tar.gz").write_bytes(gzip.compress(content, 1))

    def info(name, size, kind=tarfile.REGTYPE):
        member = tarfile.TarInfo(name)
        member.size, member.type = size, kind
        return member

    name = "cifar-10-batches-bin/data_batch_1.bin"
    archive("tar without its members", [(info("a", 3), b"abc")])
    archive("tar member too long", [(info(name, 10**8), bytes(10**8))])
    archive("tar bomb before its members", [(info("bomb", 3 * 10**8), bytes(3 * 10**8))])
    archive("tar member that is a link", [(info(name, 0, tarfile.SYMTYPE), b"")])
    archive("tar header of 100 MB", [(info("x", 10**8, tarfile.GNUTYPE_LONGNAME), bytes(10**8)), (info("y", 0), b"")])
    made["cifar row of another length"] = ("cifar10", root / "short")
    (root / "short" / "cifar10" / "cifar-10-batches-bin").mkdir(parents=True)
    (root / "short" / "cifar10" / "cifar-10-batches-bin" / "data_batch_1.bin").write_bytes(bytes(3072))
    return made


def test_hostile_files_are_refused_in_one_line_soon_and_cheaply(run_cli, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("BYPE_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own").mkdir()
    cases = {what: [path] for what, path in _own_files(tmp_path / "own").items()}
    cases |= {
        what: [name, "--data-dir", folder] for what, (name, folder) in _published_files(tmp_path / "known").items()
    }
    assert len(cases) >= 25
    before = set(tmp_path.iterdir())
    run_cli("train", "missing.npy")
    peaks, times = {}, {}
    for what, args in cases.items():
        _reset_peak()
        at_rest, start = _resident("VmRSS"), time.perf_counter()
        code, out, err = run_cli("train", *args)
        times[what] = time.perf_counter() - start
        peaks[what] = _resident("VmHWM") - at_rest
        assert code == 2, (what, err)
        assert out == "", what
        assert err.count("\n") == 1, (what, err)
        assert err.startswith("bype: "), (what, err)
        assert "expected" in err, (what, err)
        assert "got" in err, (what, err)
    assert set(tmp_path.iterdir()) == before, "a refused file leaves nothing behind"
    assert not Path("/tmp/bype-unpickled").exists()
    slowest, largest = max(times, key=times.get), max(peaks, key=peaks.get)
    print(
        f"\n{len(cases)} files; slowest {times[slowest]:.2f} s ({slowest}), largest {peaks[largest]:.0f} MB ({largest})"
    )
    assert times[slowest] < SECONDS, slowest
    assert peaks[largest] < MEGABYTES, largest


def _resident(field):
    """Megabytes of this process now (VmRSS), or at the most since the last reset (VmHWM)."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # macOS, in bytes, never reset
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def _reset_peak():
    if Path("/proc/self/clear_refs").exists():
        Path("/proc/self/clear_refs").write_text("5")


# No unpickler in reach

SOURCE = Path(bype.__file__).parent
UNPICKLERS = {"pickle", "_pickle", "cPickle", "dill", "joblib", "cloudpickle", "shelve", "marshal", "copyreg"}
LOADERS = {"torch": {"load", "save", "hub", "package", "jit"}, "numpy": {"load"}, "np": {"load"}}


def _imports(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_no_module_reaches_for_an_unpickler():
    trees = {path: ast.parse(path.read_text()) for path in SOURCE.rglob("*.py")}
    assert len(trees) > 20
    for path, tree in trees.items():
        for name in _imports(tree):
            assert name.split(".")[0] not in UNPICKLERS, (path, name)
            assert name not in {"torch.load", "torch.save", "numpy.load", "numpy.lib.npyio.load"}, (path, name)
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                assert node.attr not in LOADERS.get(node.value.id, ()), (path, node.lineno)
            if isinstance(node, ast.keyword):
                assert node.arg not in ("allow_pickle", "weights_only"), (path, node.value.lineno)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in ("eval", "exec", "__import__", "compile"), (path, node.lineno)


def test_nothing_is_unpickled_while_every_reader_runs(tmp_path, trained):
    """The import graph at work: every unpickler that Python has is replaced by one that reports whoever calls it."""
    np.savez(tmp_path / "a.npz", images=_images(), labels=np.arange(20) % 2)
    np.save(tmp_path / "a.npy", _images())
    np.save(tmp_path / "objects.npy", np.array([_Spy()] * 20), allow_pickle=True)
    _zip(tmp_path / "a.zip", {f"{i}.png": _png() for i in range(20)})
    code = """
import pickle, _pickle, sys, traceback
import torch, sklearn.datasets, PIL.Image, safetensors.torch, numpy.lib.format, tarfile, gzip  # they define unpicklers
called = []
def spy(*args, **kwargs):
    called.append("".join(traceback.format_stack(limit=4)))
    raise RuntimeError("an unpickler was called")
class Reporting(pickle._Unpickler):
    load = spy
for module in [m for m in list(sys.modules.values()) if m is not None]:
    for name in ("load", "loads", "Unpickler", "_Unpickler", "_load", "_loads"):
        owner = getattr(getattr(module, name, None), "__module__", "") or ""
        if owner in ("pickle", "_pickle", "torch.serialization"):
            setattr(module, name, Reporting if "Unpickler" in name else spy)
from bype import cli
def run(*args):
    sys.argv = ["bype", *args]
    try:
        cli.main()
    except SystemExit as e:
        return e.code or 0
    return 0
small = "--components 3 --latent-dim 2 --hidden-dim 4 --epochs 1 --device cpu".split()
codes = [run("train", s, *small, "--out", f"run-{i}") for i, s in enumerate(
    ("a.npz", "a.npy", "objects.npy", "a.zip", "digits"))]
codes.append(run("train", "digits", "--out", "run-4", "--resume"))
codes.append(run("evaluate", "run-4", "--samples", "2", "--items", "5"))
codes.append(run("sample", "run-4", "--out", "x.png"))
print("CODES", codes, "CALLED", len(called), *called)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert "CODES [0, 0, 2, 0, 0, 0, 0, 0] CALLED 0" in result.stdout, result.stdout + result.stderr


# Mutations: 10,000 of each format in the long form

SHORT, LONG = 150, 10_000


def _mutated(content, rng):
    """One to four changes: a byte, a bit, a stretch cut out, doubled, zeroed, or the end cut off; early bytes more."""
    content = bytearray(content)
    for _ in range(rng.integers(1, 5)):
        n = len(content)
        if not n:
            break
        at = int(n * rng.random() ** rng.choice([1, 4, 16]))
        length = int(rng.choice([1, 2, 4, 8, 64]))
        kind = rng.integers(0, 8)
        if kind <= 2:
            content[at] = rng.integers(0, 256)
        elif kind == 3:
            content[at] ^= 1 << int(rng.integers(0, 8))
        elif kind == 4:
            del content[at : at + length]
        elif kind == 5:
            content[at:at] = content[at : at + length]
        elif kind == 6:
            content[at : at + length] = bytes([int(rng.choice([0, 255]))]) * min(length, n - at)
        else:
            del content[at:]
    return bytes(content)


def _read_own(path):
    found = bype.load(path)
    pixels = [p.scaled() for p in found.splits.values()]
    assert all(p.min() >= 0 and p.max() <= 1 for p in pixels)


def _formats(folder, run):
    """The formats: a file's name, its content, and how it is read."""
    from bype.core.tensors import read_tensors
    from bype.data.published import read_cifar, read_idx
    from bype.runs.run import Run

    def config(path):
        Run.open(path.parent)

    def checkpoint(path):
        read_tensors(path)

    def model(path):
        model.data = getattr(model, "data", None) or Run(run).dataset.load()
        Run(path.parent).checkpoints.load_model(model.data)

    npz = io.BytesIO()
    np.savez(npz, images=_images(12, 3, 3), labels=np.arange(12))
    packed = io.BytesIO()
    np.savez_compressed(packed, images=_images(12, 3, 3), labels=np.arange(12))
    idx = b"\x00\x00\x08\x03" + struct.pack(">III", 6, 4, 4) + _images(6).tobytes()
    rows = _images(4, 3073).tobytes()
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w:gz") as t:
        member = tarfile.TarInfo("cifar-10-batches-bin/x.bin")
        member.size = len(rows)
        t.addfile(member, io.BytesIO(rows))
    best = (run / "best.safetensors").read_bytes()
    record = (run / "config.json").read_bytes()
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as z:
        for i, image in enumerate(_images(12, 5, 5)):
            z.writestr(f"{i}.png", _png(image))
    return {
        "idx": ("a", idx, lambda p: read_idx(p.parent, "a", (6, 4, 4))),
        "idx.gz": ("a.gz", gzip.compress(idx), lambda p: read_idx(p.parent, "a", (6, 4, 4))),
        "cifar": ("cifar-10-batches-bin/x.bin", rows, lambda p: read_cifar(p.parents[1], ["x.bin"], 4)),
        "cifar.tar.gz": ("cifar-10-binary.tar.gz", tar.getvalue(), lambda p: read_cifar(p.parent, ["x.bin"], 4)),
        "npy": ("a.npy", _saved(_images(12, 3, 3)), _read_own),
        "npy of floats": ("a.npy", _saved(_images(12, 3, 3) / 255), _read_own),
        "npz": ("a.npz", npz.getvalue(), _read_own),
        "npz packed": ("a.npz", packed.getvalue(), _read_own),
        "zip": ("a.zip", zipped.getvalue(), _read_own),
        "safetensors": ("best.safetensors", best, checkpoint),
        "model": ("best.safetensors", best, model),
        "config": ("config.json", record, config),
    }


FORMATS = (
    "idx", "idx.gz", "cifar", "cifar.tar.gz", "npy", "npy of floats", "npz", "npz packed", "zip", "safetensors",
    "model", "config",
)  # fmt: skip


def _mutate(tmp_path, trained, name, count):
    place, content, read = _formats(tmp_path, trained["bype"])[name]
    path = tmp_path / place
    path.parent.mkdir(exist_ok=True)
    for other in ("config.json", "metrics.jsonl"):
        (tmp_path / other).write_bytes((trained["bype"] / other).read_bytes())
    path.write_bytes(content)
    read(path)  # as it is, it is right
    rng, refused = np.random.default_rng(zlib.crc32(name.encode())), 0
    for i in range(count):
        mutant = _mutated(content, rng)
        path.write_bytes(mutant)
        try:
            read(path)
        except bype.InputError:
            refused += 1
        except BaseException as e:
            (tmp_path.parent / f"mutant-{name.replace(' ', '-')}-{i}").write_bytes(mutant)
            raise AssertionError(f"{name}, mutant {i}: {type(e).__name__}: {e}") from e
    assert refused > count / 10, "the mutations must do harm"
    return refused


@pytest.mark.parametrize("name", FORMATS)
def test_a_mutated_file_is_refused_or_read(tmp_path, trained, name):
    _mutate(tmp_path, trained, name, SHORT)


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
def test_ten_thousand_mutations_of_each_format(tmp_path, trained, name):
    print(f"\n{name}: {_mutate(tmp_path, trained, name, LONG)} of {LONG} refused, the others read")


def test_a_flipped_bit_in_a_checkpoint_is_noticed(tmp_path, trained):
    from bype.core.tensors import read_tensors

    content = (trained["bype"] / "best.safetensors").read_bytes()
    path = tmp_path / "best.safetensors"
    for at in np.random.default_rng(0).integers(8, len(content), 200).tolist():
        flipped = bytearray(content)
        flipped[at] ^= 1 << (at % 8)
        path.write_bytes(flipped)
        with pytest.raises(bype.InputError, match="damaged"):
            read_tensors(path)
