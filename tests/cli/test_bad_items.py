"""Items that cannot be used are one line and exit 2; odd but valid ones are used."""

import csv
import io
import os
import zipfile

import numpy as np
import pytest
from PIL import Image

import bype

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 8, 8), dtype=np.uint8)


def png(image=PIXELS[0]):
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, format="PNG")
    return stream.getvalue()


def zipped(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as z:
        for name, content in files.items():
            z.writestr(name, content)


def link_to_itself(path):
    path.mkdir()
    (path / "self").symlink_to(".")


def short_array(path):
    np.save(path, PIXELS)
    path.write_bytes(path.read_bytes()[:-9])


def other_size(path):
    path.mkdir()
    (path / "a.png").write_bytes(png(PIXELS[0, 1:]))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ok.png").write_bytes(png())
    return tmp_path


BAD = {
    "truncated": ("x.png", lambda p: p.write_bytes(png()[:60]), "x.png: expected a PNG"),
    "empty": ("x.png", lambda p: p.write_bytes(b""), "got an empty file"),
    "text": ("x.png", lambda p: p.write_text("hello"), "got another file"),
    "a gif": ("x.gif", lambda p: Image.fromarray(PIXELS[0]).save(p), "got a GIF file"),
    "a pipe": ("x.png", os.mkfifo, "expected a file, got a folder or a device"),
    "a broken link": ("x.png", lambda p: p.symlink_to("nowhere"), "cannot be read"),
    "a folder in itself": ("x", link_to_itself, "cyclic link"),
    "an empty folder": ("x", lambda p: p.mkdir(), "got none"),
    "an empty zip": ("x.zip", lambda p: zipped(p, {}), "got none"),
    "no zip": ("x.zip", lambda p: p.write_bytes(png()), "expected a zip"),
    "a bomb": ("x.zip", lambda p: zipped(p, {"a.png": b"\0" * 2**27}), "zip bomb"),
    "outside": ("x.zip", lambda p: zipped(p, {"../a.png": png()}), "names inside the archive"),
    "objects": ("x.npy", lambda p: np.save(p, np.array([{}, "a"], object)), "never unpickled"),
    "objects in a npz": ("x.npz", lambda p: np.savez(p, images=np.array([{}, []], object)), "never unpickled"),
    "a short array": ("x.npy", short_array, "bytes for uint8"),
    "complex numbers": ("x.npy", lambda p: np.save(p, np.ones((4, 8, 8), complex)), "got complex128"),
    "a scalar": ("x.npy", lambda p: np.save(p, np.float32(1)), "got ()"),
    "negative": ("x.npy", lambda p: np.save(p, -np.ones((4, 8, 8), np.float32)), "expected floats in [0, 1]"),
    "another size": ("x.npy", lambda p: np.save(p, PIXELS[:, 1:]), "expected images of 1x8x8, the model's, got 1x7x8"),
    "a file of another size": ("x", other_size, "expected an image of 8x8, got 7x8"),
    "a table": ("x.csv", lambda p: p.write_text("a,b\n1,2\n"), "expected images, as the model was trained on"),
    "nothing": ("", None, "expected a file, a folder, a set or a test index, got ''"),
    "a blank": (" ", None, "expected a file, a folder, a set or a test index, got ' '"),
    "a huge index": ("99999999999999999999", None, "99999999999999999999: "),
    "a large index": ("180", None, "test index from 0 to 178, got 180"),
    "an unknown file": ("nosuch", None, "nosuch: cannot be read"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_item_is_one_line(kind, copies, folder, run_cli):
    name, make, message = BAD[kind]
    if make is not None:
        make(folder / name)
    code, out, err = run_cli("score", copies["standard"], name, "--samples", 2, "--out", "scores.csv")
    assert (code, out, len(err.splitlines())) == (2, "", 1), err
    assert message in err
    assert "--skip-bad" not in err, "score does not have it"
    assert not (folder / "scores.csv").exists()


@pytest.mark.parametrize(("item", "split"), [("ok.png", "test"), ("3", "train"), ("ok.png", "tset")])
def test_a_split_of_what_has_none_is_refused(copies, folder, run_cli, item, split):
    code, _, err = run_cli("score", copies["standard"], item, "--split", split, "--samples", 2, "--out", "s.csv")
    assert (code, len(err.splitlines())) == (2, 1)
    assert "--split: expected a set" in err


def test_a_place_of_a_published_set_that_is_not_there_is_refused(copies, folder, run_cli):
    code, _, err = run_cli("score", copies["standard"], "ok.png", "--data", "mnist", "--samples", 2, "--out", "s.csv")
    assert (code, len(err.splitlines())) == (2, 1)
    assert "--data: expected the folder of digits" in err


def test_odd_but_valid_names_are_kept(copies, folder, cli_json):
    names = ["a,b.png", 'q"uote.png', "new\nline.png", "ä 猫.png", os.fsdecode(b"\xff\xfe.png"), "=1+1.png"]
    (folder / "odd").mkdir()
    for name in names:
        (folder / "odd" / name).write_bytes(png())
    found = cli_json("score", copies["standard"], "odd", "--samples", 2, "--out", "s.csv")["items"]
    assert sorted(item["name"] for item in found) == sorted(f"odd/{name}" for name in names)
    with open("s.csv", encoding="utf-8", newline="") as f:
        rows = list(csv.DictReader(f))
    escaped = [name.encode("utf-8", "backslashreplace").decode() for name in names]
    assert sorted(row["name"] for row in rows) == sorted(f"odd/{name}" for name in escaped)
    assert len({row["log_likelihood"] for row in rows}) == 1, "the same pixels"


def test_pictures_of_every_mode_and_blank_ones_are_scored(copies, folder, cli_json, caplog):
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (8, 8, 4), dtype=np.uint8)).save("rgba.png")
    Image.fromarray(rng.integers(0, 65536, (8, 8)).astype(np.uint16)).save("wide.png")
    Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).convert("P").save("palette.png")
    Image.fromarray(PIXELS[0] > 128).save("bits.png")
    np.save("blank.npy", np.zeros((3, 8, 8), np.float32))
    zipped(folder / "sub.zip", {"sub/": b"", "sub/a.png": png()})
    frames = [Image.fromarray(p) for p in PIXELS]
    frames[0].save("moving.png", save_all=True, append_images=frames[1:])
    files = ["rgba.png", "wide.png", "palette.png", "bits.png", "blank.npy", "sub.zip", "moving.png"]
    found = cli_json("score", copies["standard"], *files, "--samples", 2, "--out", "s.csv")["items"]
    assert len(found) == 9
    assert "the first frame of 1 animated images is used: moving.png" in caplog.text


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_without_permission_is_one_line(copies, folder, run_cli):
    (folder / "ok.png").chmod(0)
    code, _, err = run_cli("score", copies["standard"], "ok.png", "--samples", 2, "--out", "s.csv")
    assert (code, len(err.splitlines())) == (2, 1)


@pytest.mark.parametrize("out", ["ok.png/s.csv", "/proc/s.csv", "there.csv"])
def test_an_output_that_cannot_be_written_is_one_line(copies, folder, run_cli, out):
    (folder / "there.csv").mkdir()
    code, _, err = run_cli("score", copies["standard"], "ok.png", "--samples", 2, "--out", out)
    assert (code, len(err.splitlines())) == (2, 1), err
    assert "cannot be written" in err


def test_the_held_out_half_scored_twice_gives_the_same_bits(copies, folder, run_cli):
    test = bype.load("digits").test
    np.save("half.npy", test.scaled().numpy()[::2])
    for out in ("a.csv", "b.csv"):
        assert run_cli("score", copies["bype"], "half.npy", "--samples", 5, "--out", out)[0] == 0
    assert (folder / "a.csv").read_bytes() == (folder / "b.csv").read_bytes()
    model = bype.load_model(copies["bype"])
    one, other = (bype.score(model, test.every(2), 5) for _ in range(2))
    assert all(a is None or a.equal(b) for a, b in zip(one, other, strict=True))


def test_ctrl_c_while_scoring_is_one_line_and_leaves_nothing(copies, folder, run_cli, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("bype.evaluation.scores._bounds", interrupt)
    code, out, err = run_cli("score", copies["standard"], "ok.png", "--samples", 2, "--out", "s.csv")
    assert (code, out, err.splitlines()[-1]) == (130, "", "bype: stopped")
    assert [p.name for p in folder.iterdir()] == ["ok.png"]
