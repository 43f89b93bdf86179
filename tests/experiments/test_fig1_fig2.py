"""Figures 1 and 2: plates and interpolations, recorded with what they are drawn from."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from bype.core.config import Config
from bype.core.tensors import read_tensors
from bype.data.catalog import load
from bype.evaluation.classifier import Classifier, ClassifierOptions
from bype.evaluation.plates import plate_agreement, plate_variance
from bype.experiments import campaign, ledger
from bype.experiments.arrays import pack, pack_images, pictures_of, unpack
from bype.experiments.catalog import fig1, fig2
from bype.experiments.catalog.registry import select_cells
from bype.experiments.catalog.sources import network_of
from bype.experiments.cell import Cell, Selection
from bype.experiments.classifiers import baseline_path
from bype.experiments.page import render
from bype.models.generation import step_sizes
from bype.runs.run import Run

OPTIONS = {"n_components": 12, "latent_dim": 3, "hidden_dim": 8, "epochs": 2, "warmup": 0, "precision": "fp32"}
FIGURES = {"fig1": fig1, "fig2": fig2}


def cell_of(name, seed=0, **options):
    return Cell(name, Config("digits", prior="bype", seed=seed, **OPTIONS | options), "fast", samples=None)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The cells of both figures on digits, with a small classifier."""
    folder = tmp_path_factory.mktemp("figures")
    places = folder / "ledger", folder / "runs"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fig1, "ClassifierOptions", small_classifier)
        for name in FIGURES:
            for seed in (0, 1):
                campaign.run_cell(cell_of(name, seed), *places)
    return places


def small_classifier(seed):
    return ClassifierOptions(epochs=2, hidden_dim=8, seed=seed)


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("protocol", ["fast", "paper"])
def test_networks_are_those_of_table_1_and_one_of_faces(name, protocol):
    cells = select_cells(name, Selection(precision="fp32", protocol=protocol))
    by_set = {s: [c for c in cells if c.config.set == s] for s in ("mnist", "fashion-mnist", "celeba")}
    assert [len(own) for own in by_set.values()] == [3, 3, 1]
    table = {"fast": "fast-table1", "paper": "table1"}[protocol]
    networks = {c.id for c in select_cells(table, Selection(precision="fp32", seeds=(0, 1, 2)))}
    assert {network_of(c).id for c in by_set["mnist"] + by_set["fashion-mnist"]} <= networks
    (faces,) = by_set["celeba"]
    assert (faces.config.arch, faces.config.n_components, faces.config.recipe) == ("celeba", 240, protocol)
    assert network_of(faces).id.startswith("celeba-celeba-celeba-bype-paper-fp32-")


def test_both_figures_share_the_network_of_faces():
    one, two = (select_cells(name, Selection(precision="fp32", dataset="celeba"))[0] for name in FIGURES)
    assert network_of(one).id == network_of(two).id


def run_of(folders, seed):
    (path,) = folders[1].glob(f"fast-table1-*-bype-*-s{seed}-*")
    return Run.open(path).load()


def test_plates_are_measured_over_all_points_with_the_classifier_of_the_data_alone(folders):
    for record in ledger.read(folders[0])[0]:
        if record["experiment"] != "fig1":
            continue
        seed = record["seed"]
        loaded = run_of(folders, seed)
        state, _ = read_tensors(baseline_path(folders[1], loaded.data.name, small_classifier(seed)))
        classifier = Classifier(loaded.data.shape, 8, torch.arange(10))
        classifier.load_state_dict({k.removeprefix("classifier."): v for k, v in state.items() if "classifier." in k})
        figures = record["figures"]
        assert figures["plate_agreement"] == plate_agreement(loaded.model, classifier, seed=seed)
        assert figures["plate_variance"] == plate_variance(loaded.model, seed=seed)


def test_stored_points_are_those_of_the_prior(folders):
    record = next(c for c in ledger.read(folders[0])[0] if c["experiment"] == "fig1" and c["seed"] == 1)
    loaded = run_of(folders, 1)
    points, samples = pictures_of(record, {"points": 1, "samples": 2}, 99)
    components = torch.from_numpy(unpack(record["arrays"]["components"], "components"))
    assert points.shape == (9, 1, 8, 8)
    assert samples.shape == (9, 9, 1, 8, 8)
    assert (points - loaded.model.prior.points_at(components)).abs().max() <= 0.5 / 255 + 1e-6
    assert len(set(components.tolist())) == 9, "without replacement"


def test_lines_run_from_reconstruction_to_reconstruction(folders):
    record = next(c for c in ledger.read(folders[0])[0] if c["experiment"] == "fig2" and c["seed"] == 1)
    loaded = run_of(folders, 1)
    ends, lines = pictures_of(record, {"ends": 2, "lines": 2}, 99)
    assert ends.shape == (6, 2, 1, 8, 8)
    assert lines.shape == (6, 11, 1, 8, 8)
    test = loaded.data.test.scaled()
    assert all(((test - end).abs().amax((1, 2, 3)) < 0.003).any() for end in ends.flatten(0, 1)), "test images"
    # Stored images are rounded to bytes, which moves their reconstructions a little.
    for i, place in ((0, 0), (1, -1)):
        assert (loaded.model.reconstruct(ends[:, i]) - lines[:, place]).abs().max() < 0.02
    assert 1 <= record["figures"]["largest_step"] <= 10


def test_step_sizes_are_distances_between_neighbours():
    lines = torch.zeros(2, 4, 1, 1, 2)
    lines[0, 1:, ..., 0] = 3.0  # one jump, by the vector (3, 4)
    lines[0, 1:, ..., 1] = 4.0
    lines[1, :, 0, 0, 0] = torch.arange(4.0)
    assert step_sizes(lines).tolist() == [[5.0, 0.0, 0.0], [1.0, 1.0, 1.0]]


def test_the_page_shows_both_figures_and_says_what_stands_in_for_faces(folders):
    text = render(folders[0]).read_text()
    cells, _ = ledger.read(folders[0])
    agreement = [c["figures"]["plate_agreement"] for c in cells if c["experiment"] == "fig1"]
    assert f"| digits | same label as the point (%) | {sum(agreement) / 2:.1f} |" in text
    step = [c["figures"]["largest_step"] for c in cells if c["experiment"] == "fig2"]
    assert f"| recipe `fast` | digits | {sum(step) / 2:.2f} |" in text
    assert "faces of CelebA, which have not been run" in text
    for name in FIGURES:
        assert (folders[0].parent / f"{name}-digits-fast.png").exists()


@pytest.mark.parametrize("name", FIGURES)
def test_a_cell_whose_pictures_do_not_belong_together_is_left_out(folders, tmp_path, name):
    path = next(folders[0].glob(f"{name}-*-s0-*"))
    record = json.loads(path.read_text())
    first, second = {"fig1": ("points", "samples"), "fig2": ("ends", "lines")}[name]
    good = dict(record["arrays"])
    wrong = [
        {first: good[second]},
        {second: pack(np.zeros((9, 9, 8, 8, 1), np.float32))},
        {second: pack(np.zeros((9, 2, 7, 8, 1), np.uint8))},
        {second: pack(np.zeros((2, 2, 8, 8, 1), np.uint8))},
        {first: None},
    ]
    if name == "fig1":
        wrong += [{"weights": pack(np.zeros(2, np.float32))}, {"components": pack(np.zeros((9, 1), np.int64))}]
    for other in wrong:
        record["arrays"] = good | other
        (tmp_path / path.name).write_text(json.dumps(record))
        assert ledger.read(tmp_path)[0] == [], other.keys()
    record["arrays"] = good
    (tmp_path / path.name).write_text(json.dumps(record))
    assert len(ledger.read(tmp_path)[0]) == 1


def test_unlabelled_images_have_a_variance_and_no_agreement(tmp_path):
    pixels = load("digits").train.pixels[:300].numpy()
    np.save(tmp_path / "faces.npy", (pixels.astype(np.float32) + 0.5) / 17)
    cell = cell_of("fig1")
    cell = replace(cell, config=replace(cell.config, set=str(tmp_path / "faces.npy")))
    record = campaign.run_cell(cell, tmp_path / "ledger", tmp_path / "runs")
    assert set(record["figures"]) == {"plate_variance"}
    assert ledger.read(tmp_path / "ledger")[1] == []
    render(tmp_path / "ledger")
    assert len(list(tmp_path.glob("fig1-*.png"))) == 1, "the file is named after the data, not its path"


def test_images_are_packed_as_bytes():
    images = torch.tensor([0.0, 0.5, 1.0, -1.0]).view(1, 4, 1, 1, 1)
    assert unpack(pack_images(images), "x").ravel().tolist() == [0, 128, 255, 0]
