"""Commands that take items: files beside test indices, named in the JSON output."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import bype
from bype.viz import labelled


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Three test digits as PNG files of their own size, and one photograph of another."""
    folder = tmp_path_factory.mktemp("files")
    stored = bype.load("digits").test.stored()[:3, 0].numpy()
    for i, image in enumerate(stored):
        Image.fromarray((image * 15).astype(np.uint8)).save(folder / f"{i}.png")
    photo = np.random.default_rng(0).integers(0, 256, (30, 20, 3), dtype=np.uint8)
    Image.fromarray(photo).save(folder.parent / f"{folder.name}.png")
    return folder


def test_a_folder_is_reconstructed_as_its_pixels_are(trained, files, tmp_path, cli_json):
    run, out = trained["standard"], tmp_path / "x.png"
    result = cli_json("reconstruct", run, files, "2", "--out", out)
    assert result["n"] == 4
    assert result["names"] == [*(f"{files}/{i}.png" for i in range(3)), "digits:test[2]"]
    own = bype.load("digits").test
    stored = [torch.from_numpy(np.array(Image.open(files / f"{i}.png")))[None, None] for i in range(3)]
    x = torch.cat([*((v + 0.5) / 256 for v in stored), own.scaled()[2:3]])
    title = "Items, and below their reconstructions (the mean of p(x|z) at the mean of q(z|x))"
    names = [*result["names"][:3], f"digits:test[2]\n{int(own.labels[2])}"]
    expected = labelled.reconstructions(x, bype.load_model(run).reconstruct(x), names, title)
    with Image.open(out) as picture:
        assert np.array_equal(np.array(picture), np.array(expected))


def test_files_need_no_data_of_the_run(tiny, files, tmp_path, cli_json, monkeypatch):
    source = tmp_path / "x.npy"
    np.save(source, np.random.default_rng(0).random((40, 8, 8)).astype(np.float32))
    bype.fit(bype.Config(str(source), prior="standard", epochs=1, latent_dim=3, hidden_dim=9), tmp_path / "run")
    source.unlink()
    for command in (
        ["reconstruct", tmp_path / "run", files],
        ["interpolate", tmp_path / "run", "--between", files / "0.png", files / "1.png"],
        ["sample", tmp_path / "run", "--like", files / "0.png"],
    ):
        assert cli_json(*command, "--out", tmp_path / "x.png")["n"] > 0


def test_lines_between_files_are_those_between_their_images(trained, files, tmp_path, cli_json):
    run = trained["bype"]
    result = cli_json("interpolate", run, "--between", files / "0.png", "1", "--steps", 3, "--out", tmp_path / "x.png")
    assert result["between"] == [[str(files / "0.png"), "digits:test[1]"]]
    assert result["n"] == 3


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["reconstruct", "RUN", "PHOTO"], "expected an image of 8x8, got 30x20; --resize crops it at the centre"),
        (["sample", "RUN", "--like", "FOLDER"], "--like: expected one image, got 3 in"),
        (["sample", "RUN", "--like", "9999"], "--like: 9999: expected a file, a set or a test index from 0 to 178"),
        (["interpolate", "RUN", "--between", "0", "none.png"], "--between: none.png: cannot be read"),
        (["interpolate", "RUN", "--points", "--between", "0", "99"], "expected points of the prior from 0 to 19"),
    ],
)
def test_items_that_do_not_fit_are_one_line(trained, files, tmp_path, run_cli, command, message):
    places = {"RUN": trained["bype"], "FOLDER": files, "PHOTO": files.parent / f"{files.name}.png"}
    code, out, err = run_cli(*(places.get(part, part) for part in command), "--out", tmp_path / "x.png")
    assert (code, out) == (2, "")
    assert message in err
    assert len(err.splitlines()) == 1


def test_photographs_are_resized_on_demand(trained, files, tmp_path, run_cli):
    photo = files.parent / f"{files.name}.png"
    code, out, err = run_cli("reconstruct", trained["bype"], photo, "--resize", "--out", tmp_path / "x.png", "--json")
    assert code == 0, err
    assert json.loads(out)["names"] == [str(photo)]
