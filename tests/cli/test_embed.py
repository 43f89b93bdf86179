"""`bype embed` and `bype neighbours`."""

import csv

import numpy as np
import pytest
import torch
from PIL import Image

import bype
from bype.evaluation.latents import latents
from bype.export.latents import Chosen
from bype.viz.axes import MAX_CLASSES
from bype.viz.latents import class_map
from bype.viz.palette import COLOURS


def test_a_csv_opens_as_a_data_frame_with_labels(trained, cli_json, tmp_path):
    pandas = pytest.importorskip("pandas")
    result = cli_json("embed", trained["bype"], "--out", tmp_path / "l.csv")
    loaded = bype.Run.open(trained["bype"]).load()
    frame = pandas.read_csv(tmp_path / "l.csv")
    assert result == {"out": str(tmp_path / "l.csv"), "n": len(frame), "latent_dim": 6}
    assert list(frame.columns) == ["name", "labels", "z0", "z1", "z2", "z3", "z4", "z5"]
    assert frame["labels"].tolist() == loaded.data.test.labels.tolist()
    assert frame["name"][3] == "digits:test[3]"
    np.testing.assert_allclose(frame.filter(like="z").to_numpy(), latents(loaded.model, loaded.data.test), rtol=1e-5)


def test_an_npz_of_all_splits_has_every_image_in_order(trained, cli_json, tmp_path):
    cli_json("embed", trained["standard"], "digits", "--split", "all", "--out", tmp_path / "l.npz")
    loaded = bype.Run.open(trained["standard"]).load()
    whole = loaded.data.part("all")
    with np.load(tmp_path / "l.npz") as arrays:  # allow_pickle is off
        assert arrays["labels"].dtype == np.int64
        assert arrays["labels"].tolist() == whole.labels.tolist()
        assert len(set(arrays["names"].tolist())) == len(whole)
        np.testing.assert_allclose(arrays["latents"], latents(loaded.model, whole), rtol=1e-4, atol=1e-5)


def test_files_of_ones_own_are_embedded_with_their_classes_without_the_data(trained, cli_json, tmp_path):
    for name in ("ants", "bees"):
        (tmp_path / "own" / name).mkdir(parents=True)
        for i in range(3):
            pixels = np.random.default_rng(i).integers(0, 256, (8, 8), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "own" / name / f"{i}.png")
    result = cli_json(
        "embed", trained["vamp"], tmp_path / "own", "--out", tmp_path / "l.npz", "--map", tmp_path / "m.png"
    )
    assert result["n"] == 6
    with np.load(tmp_path / "l.npz") as arrays:
        assert arrays["labels"].tolist() == ["ants"] * 3 + ["bees"] * 3
        assert arrays["names"][0].endswith("own/ants/0.png")
    cli_json("embed", trained["vamp"], tmp_path / "own" / "ants" / "0.png", "--out", tmp_path / "one.csv")
    with (tmp_path / "one.csv").open() as f:
        (row,) = csv.DictReader(f)
    assert "labels" not in row


def test_neighbours_are_drawn_and_listed_for_an_index_and_a_file(trained, cli_json, tmp_path):
    result = cli_json("neighbours", trained["bype"], 4, "--k", 3, "--out", tmp_path / "n.png")
    loaded = bype.Run.open(trained["bype"]).load()
    found = bype.neighbours(loaded.model, loaded.data, loaded.data.test[torch.tensor([4])], k=3)
    assert result["name"] == "digits:test[4]"
    for space, nearest in (("latent", found.latent), ("pixel", found.pixel)):
        assert [item["row"] for item in result[space]] == nearest.rows[0].tolist()
        assert [int(item["label"]) for item in result[space]] == loaded.data.train.labels[nearest.rows[0]].tolist()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "x.png")
    cli_json("neighbours", trained["bype"], tmp_path / "x.png", "--out", tmp_path / "m.png")
    with Image.open(tmp_path / "n.png") as three, Image.open(tmp_path / "m.png") as eight:
        assert three.height == eight.height
        assert three.width < eight.width


def test_a_map_has_a_colour_for_each_class_and_the_rest_in_grey():
    points = torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
    pixels = np.asarray(class_map(points, [str(i % 3) for i in range(200)], "title"))
    for i, colour in enumerate(COLOURS):
        wanted = np.array([int(colour[j : j + 2], 16) for j in (1, 3, 5)])
        shown = (np.abs(pixels.astype(int) - wanted).sum(-1) < 100).any()
        assert shown or i >= 3, colour
    class_map(points, [str(i % (MAX_CLASSES + 5)) for i in range(200)], "many")
    class_map(points, [], "no labels")


def test_chosen_rows_are_collected_across_blocks():
    rows = torch.tensor([0, 3, 4, 9])
    chosen, table = Chosen(rows), np.arange(20.0).reshape(10, 2)
    for block in (table[:4], table[4:5], table[5:]):
        chosen(block)
    assert chosen.latents.tolist() == table[rows.numpy()].tolist()


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["embed", "--out", "x.txt"], "--out: expected a name that ends in .npz or .csv"),
        (
            ["embed", "--out", "x.csv", "--map", "x.png", "--tsne", "umap"],
            "--tsne: expected sklearn or opentsne, got 'umap'",
        ),
        (["embed", "--out", "x.csv", "--map", "x.jpg"], "--map: expected a name that ends in .png"),
        (["embed", "3", "--out", "x.csv", "--map", "x.png"], "--map: expected at least four images, got 1"),
        (["embed", "--out", "x.csv", "--split", "half"], "expected train, validation, test or all"),
        (["neighbours", "9999", "--out", "x.png"], "test index from 0 to"),
        (["neighbours", "digits", "--out", "x.png"], "expected one image, got"),
    ],
)
def test_bad_calls_end_in_one_line_and_write_nothing(trained, run_cli, tmp_path, monkeypatch, command, message):
    monkeypatch.chdir(tmp_path)
    code, _, err = run_cli(command[0], trained["standard"], *command[1:])
    assert code == 2
    assert message in err
    assert "Traceback" not in err
    assert not list(tmp_path.iterdir())
