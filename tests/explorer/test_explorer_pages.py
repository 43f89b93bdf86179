"""The explorer's pages over HTTP, without a browser."""

import concurrent.futures
import html
import http.client
import io
import re
import shutil
import threading
import time

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("starlette", reason="the extra app is not installed")
uvicorn = pytest.importorskip("uvicorn", reason="the extra app is not installed")

from bype.core.errors import InputError  # noqa: E402
from bype.explorer.app import make_app  # noqa: E402
from bype.explorer.guard import MAX_BODY, is_own_host  # noqa: E402
from bype.explorer.server import bound_socket, own_names, url_of  # noqa: E402
from bype.explorer.session import Session  # noqa: E402
from bype.explorer.sources import Source  # noqa: E402
from bype.runs.run import Run  # noqa: E402


class Served:
    """A session behind a real server in a thread."""

    def __init__(self, session):
        self.session, self.socket = session, bound_socket("127.0.0.1", 0)
        self.port = self.socket.getsockname()[1]
        config = uvicorn.Config(make_app(session), log_config=None, lifespan="off", timeout_graceful_shutdown=1)
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.socket]})
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)

    def ask(self, method, path, body=None, **headers):
        """The status, the page as text without tags, and the headers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, html.unescape(re.sub(r"<style>.*?</style>|<[^>]*>", " ", text, flags=re.S)), answer

    def get(self, path, **headers):
        return self.ask("GET", path, **headers)

    def post(self, path, files=(), fields=(), **headers):
        """A form with files, (field, name, content) each, and fields."""
        parts = [
            f'--xx\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n\r\n'.encode() + content
            for field, name, content in files
        ]
        parts += [
            f'--xx\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}'.encode() for name, value in fields
        ]
        body = b"\r\n".join([*parts, b"--xx--\r\n"])
        return self.ask("POST", path, body, Content_Type="multipart/form-data; boundary=xx", **headers)

    def close(self):
        self.server.should_exit = True
        self.thread.join()


@pytest.fixture(scope="module")
def sessions(copies):
    """A session of each prior, by its name."""
    return {name: Session(Run.open(path).load("cpu"), samples=4, items=20) for name, path in copies.items()}


@pytest.fixture(scope="module")
def served(sessions):
    """The session with a pseudocoreset, served."""
    running = Served(sessions["bype"])
    yield running
    running.close()


@pytest.fixture(scope="module")
def without_data(trained, tmp_path_factory):
    """A run on an album that has been removed."""
    from bype.core.config import Config
    from bype.runs.fitting import fit

    folder = tmp_path_factory.mktemp("gone")
    np.save(folder / "x.npy", np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8))
    config = Config(
        str(folder / "x.npy"), prior="bype", n_components=6, latent_dim=3, hidden_dim=8, epochs=1, coreset="none",
        device="cpu",
    )  # fmt: skip
    fit(config, folder / "run")
    (folder / "x.npy").unlink()
    return Session(Run.open(folder / "run").load("cpu"), samples=4)


def png(size=(30, 20), colour=200, mode="L"):
    """An image file."""
    stream = io.BytesIO()
    Image.new(mode, size, colour).save(stream, format="PNG")
    return stream.getvalue()


def sheet_values(session, tiles, sheet):
    """The pixels of tiles on a sheet."""
    return [sheet._tiles[tile.x + 40 * tile.y] for tile in tiles]


@pytest.mark.parametrize("prior", ["standard", "vamp", "exemplar", "bype"])
def test_every_prior_is_drawn_from_slid_through_and_looked_with(sessions, prior):
    session = sessions[prior]
    sheet = session.sheet()
    assert len(session.draw(Source(), 0, sheet).samples) == 24
    assert len(session.slide("0", "1", sheet).steps) == 21
    look = session.look("3", sheet)
    assert len(look.latent) == len(look.pixel) == 8
    around = session.draw(Source("item", "3"), 0, sheet)
    assert around.shown is not None
    if prior == "standard":
        assert session.points(1, sheet) is None
        with pytest.raises(InputError, match="a component: this model has none"):
            session.draw(Source("point", "0"), 0, sheet)
    else:
        assert len(session.points(1, sheet).points) == min(100, session.about.components)
        assert len(session.draw(Source("point", "2"), 0, sheet).nearest) == 8
        assert len(session.draw(Source("class", session.about.classes[0]), 0, sheet).samples) == 24


def test_samples_of_a_component_are_the_model_s_own(sessions):
    session = sessions["bype"]
    sheet = session.sheet()
    drawn = session.draw(Source("point", "5"), 7, sheet)
    model = session._loaded.model
    expected = model.sample(24, component=5, generator=torch.Generator().manual_seed(7)).images
    from bype.viz.images import to_uint8

    assert np.array_equal(np.stack(sheet_values(session, drawn.samples, sheet)), to_uint8(expected))


def test_points_are_ordered_by_weight_and_each_is_on_one_page(copies):
    session = Session(Run.open(copies["bype"]).load("cpu"), samples=2, items=5)
    parts = session._components
    parts.weights = torch.arange(20.0) / 190
    parts.order = parts.weights.argsort(descending=True, stable=True)
    numbers = [p.number for p in session.points(1, session.sheet()).points]
    assert numbers == list(range(19, -1, -1))


def test_a_slide_starts_and_ends_at_the_reconstructions(sessions):
    session, sheet = sessions["bype"], sessions["bype"].sheet()
    ends = session.slide("4", "9", sheet).steps
    data, model = session._loaded.data, session._loaded.model
    from bype.viz.images import to_uint8

    back = to_uint8(model.reconstruct(data.test.scaled(torch.tensor([4, 9]))))
    first, last = sheet_values(session, [ends[0], ends[-1]], sheet)
    assert np.abs(first.astype(int) - back[0]).max() <= 1
    assert np.abs(last.astype(int) - back[1]).max() <= 1


def test_the_figures_are_those_of_score_and_neighbours(sessions, copies, cli_json, tmp_path):
    session = sessions["bype"]
    look = session.look("3", session.sheet())
    scored = cli_json("score", copies["bype"], "3", "--samples", 4, "--out", tmp_path / "s.csv")["items"][0]
    figures = {name: value for name, value, _ in look.figures}
    assert figures["log-likelihood"] == f"{scored['log_likelihood']:.2f} nats"
    near = cli_json("neighbours", copies["bype"], "3", "--out", tmp_path / "n.png")
    assert [f"item {n['row']}," in named.name for n, named in zip(near["latent"], look.latent, strict=True)] == [
        True
    ] * 8
    assert [f"item {n['row']}," in named.name for n, named in zip(near["pixel"], look.pixel, strict=True)] == [True] * 8


def test_the_pages_say_what_they_show(served):
    status, text, answer = served.get("/")
    assert status == 200
    assert "24 samples of the prior" in text
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert "Component 3, weight" in served.get("/?point=3")[1]
    assert "From digits:test[0], label" in served.get("/slide?a=0&b=1")[1]
    status, text, _ = served.get("/image?item=2")
    assert "more unusual than" in text
    assert "of the first 20 test images" in text
    assert "Nearest training images by the distance between latents" in text


def test_another_draw_is_another_and_the_same_link_the_same(sessions):
    session = sessions["bype"]
    pictures = []
    for seed in (0, 0, 1):
        sheet = session.sheet()
        session.draw(Source("point", "1"), seed, sheet)
        pictures.append(sheet.uri())
    assert pictures[0] == pictures[1] != pictures[2]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/?point=20", "expected the number of a component from 0 to 19, got '20'"),
        ("/?point=-1", "got '-1'"),
        ("/?point=²", "got '²'"),
        ("/?class=dog", "expected a class, one of "),
        ("/?item=100000", "expected the number of a test image"),
        ("/?seed=x", "seed: expected a number"),
        ("/slide?a=1", "Expected two images, got one"),
        ("/image?item=<b>", "got '<b>'"),
    ],
)
def test_bad_numbers_are_refused_in_one_sentence(served, path, said):
    status, text, _ = served.get(path.replace("²", "%C2%B2").replace("<b>", "%3Cb%3E"))
    assert status == 400
    assert said in text


def test_an_own_image_is_cropped_scaled_and_looked_at(served):
    status, text, _ = served.post("/image", [("file", "my <photo>.png", png())])
    assert status == 200
    assert "my <photo>.png" in text
    assert "more unusual than" in text


def test_light_and_dark_are_swapped(sessions):
    session = sessions["bype"]
    plain = session.read(png(colour=200), "a").images.scaled()
    swapped = session.read(png(colour=200), "a", invert=True).images.scaled()
    assert torch.allclose(plain + swapped, torch.ones(()))


def test_own_images_slide_too(served):
    status, text, _ = served.post("/slide", [("file-a", "mine.png", png())], [("b", "2")])
    assert status == 200
    assert "From mine.png to digits:test[2]" in text


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n" + b"\0" * 50, b"<svg></svg>", b"MZ" * 100])
def test_what_is_no_image_is_refused(served, content):
    status, text, _ = served.post("/image", [("file", "x.png", content)])
    assert status == 400
    assert "x.png: expected a PNG" in text


def test_a_decompression_bomb_is_refused_without_being_decoded(served):
    bomb = png((20_000, 20_000), 1, "1")
    assert len(bomb) < 200_000
    status, text, _ = served.post("/image", [("file", "bomb.png", bomb)])
    assert status == 400
    assert "pixels" in text


def test_a_large_file_is_refused(served):
    status, text, _ = served.post("/image", [("file", "x.png", b"\0" * (MAX_BODY + 1))])
    assert status == 413
    assert "The file is too large: expected at most 20 MiB." in text


def test_a_large_file_of_unknown_length_is_refused(served):
    blocks = (b"%x\r\n" % 2**20 + b"\0" * 2**20 + b"\r\n" for _ in range(21))
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=60)
    connection.putrequest("POST", "/image")
    connection.putheader("Transfer-Encoding", "chunked")
    connection.putheader("Content-Type", "multipart/form-data; boundary=xx")
    connection.endheaders()
    for block in (*blocks, b"0\r\n\r\n"):
        connection.send(block)
    assert connection.getresponse().status == 413
    connection.close()


@pytest.mark.parametrize("path", ["/image", "/slide"])
def test_an_empty_form_and_other_bodies_are_no_error_of_the_server(served, path):
    assert served.post(path)[0] in (200, 400)
    assert served.ask("POST", path, b"\xff" * 10, Content_Type="multipart/form-data; boundary=xx")[0] in (200, 400)
    assert served.ask("POST", path, b"a=1", Content_Type="application/json")[0] in (200, 400)
    assert served.post(path, [(f"f{i}", "x", b"1") for i in range(5)])[0] == 400


def test_other_hosts_and_pages_are_refused(served):
    assert served.get("/", Host="evil.example")[0] == 403
    assert served.get("/", Host=f"localhost:{served.port}")[0] == 200
    status, text, _ = served.post("/image", [("file", "x.png", png())], Origin="http://evil.example")
    assert status == 403
    assert "Origin: expected this page" in text
    assert served.post("/image", [("file", "x.png", png())], Origin=f"http://127.0.0.1:{served.port}")[0] == 200


def test_names_of_hosts():
    assert is_own_host("127.0.0.1:8", ())
    assert is_own_host("[::1]", ())
    assert is_own_host("Box:80", ("box",))
    for other in ("", "evil.example", "127.0.0.1.evil.example", "[::1", "localhost.evil.example"):
        assert not is_own_host(other, ("box",))
    assert own_names("127.0.0.1") == own_names("::1") == own_names("localhost") == ()
    assert "box" in own_names("box")


def test_unknown_pages_and_methods_are_refused(served):
    assert served.get("/nothing")[0] == 404
    assert served.ask("DELETE", "/")[0] == 405


def test_a_hundred_clicks_at_once_are_served(served):
    paths = ["/", "/?point=1", "/?class=3", "/slide?a=0&b=5", "/image?item=4"] * 20
    expected = {path: served.get(path)[1] for path in paths[:5]}

    def click(path):
        if path == "/image?item=4":
            return served.post("/image", [("file", "x.png", png())])[:2]
        return served.get(path)[:2]

    parts = (torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.mkldnn.matmul)
    before = [part.fp32_precision for part in parts]
    with concurrent.futures.ThreadPoolExecutor(100) as pool:
        answers = list(pool.map(click, paths))
    assert [part.fp32_precision for part in parts] == before, "settings of the process, which threads share"
    assert [status for status, _ in answers] == [200] * 100
    for path, (_, text) in zip(paths, answers, strict=True):
        if path not in ("/image?item=4", "/"):
            assert text == expected[path]


def test_without_data_the_rest_works(without_data):
    session, sheet = without_data, without_data.sheet()
    assert session.about.tests == 0
    assert "no test images" in session.about.notes[0]
    assert len(session.draw(Source("point", "1"), 0, sheet).samples) == 24
    assert session.slide("0", "5", sheet).start == "point 0"
    look = session.look(session.read(png(), "own.png"), sheet)
    assert look.latent == look.pixel == []
    assert [name for name, _, _ in look.figures] == ["log-likelihood", "evidence lower bound", "bits per dimension"]
    with pytest.raises(InputError, match="the data of the run are not found"):
        session.look("0", sheet)
    with pytest.raises(InputError, match="expected the number of a point from 0 to 5"):
        session.slide("0", "6", sheet)


def test_a_failure_of_the_server_is_one_sentence(copies):
    session = Session(Run.open(copies["standard"]).load("cpu"), samples=2, items=5)
    session.look = None  # a fault
    running = Served(session)
    try:
        status, text, _ = running.get("/image?item=1")
    finally:
        running.close()
    assert status == 500
    assert "This failed on the server: TypeError" in text
    assert "Traceback" not in text


def test_a_refit_of_training_items_is_explored(copies, tmp_path, run_cli):
    path = shutil.copytree(copies["bype"], tmp_path / "run")
    assert run_cli("refit", path, "--name", "all")[0] == 0
    session = Session(Run.open(path).load("cpu", "all"), samples=2, items=5, name="all")
    assert session.about.components == session.about.points > 1000
    points = session.points(2, session.sheet())
    assert len(points.points) == 100


def test_tables_are_refused(tmp_path):
    from bype.core.config import Config
    from bype.runs.fitting import fit

    rows = "\n".join(f"{i % 7},{i % 3}" for i in range(60))
    (tmp_path / "t.csv").write_text(f"a,b\n{rows}\n")
    fit(Config(str(tmp_path / "t.csv"), prior="standard", latent_dim=2, hidden_dim=8, epochs=1, likelihood="mixed",
               device="cpu"), tmp_path / "run")  # fmt: skip
    with pytest.raises(InputError, match="expected a run of images, got one of a table"):
        Session(Run.open(tmp_path / "run").load("cpu"))


def test_addresses():
    with bound_socket("0.0.0.0", 0) as opened:
        assert url_of(opened) == f"http://127.0.0.1:{opened.getsockname()[1]}/"
    with pytest.raises(InputError, match="--host: expected an address or a name of this machine"):
        bound_socket("no.such.host.invalid", 0)
