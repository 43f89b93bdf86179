"""Figure 3: maps of test latents and their silhouette."""

import json

import numpy as np
import pytest

from bype.core.config import Config
from bype.evaluation.latents import latents, silhouette
from bype.experiments import campaign, ledger
from bype.experiments.arrays import pack, unpack
from bype.experiments.catalog import fig3
from bype.experiments.catalog.registry import select_cells
from bype.experiments.cell import Cell, Selection
from bype.experiments.page import render
from bype.runs.run import Run

OPTIONS = {"n_components": 10, "latent_dim": 3, "hidden_dim": 8, "epochs": 2, "warmup": 0, "precision": "fp32"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fig3")
    places = folder / "ledger", folder / "runs"
    for prior in ("standard", "bype"):
        for seed in (0, 1):
            cell = Cell("fig3", Config("digits", prior=prior, seed=seed, **OPTIONS), "fast", samples=None)
            campaign.run_cell(cell, *places)
    return places


@pytest.mark.parametrize("protocol", ["fast", "paper"])
def test_its_networks_are_cells_of_table_1(protocol):
    cells = select_cells("fig3", Selection(precision="fp32", protocol=protocol))
    assert sorted((c.config.prior, c.config.seed) for c in cells) == [
        (prior, seed) for prior in ("bype", "standard") for seed in (0, 1, 2)
    ]
    table = {"fast": "fast-table1", "paper": "table1"}[protocol]
    networks = {c.config: c.id for c in select_cells(table, Selection(precision="fp32", seeds=(0, 1, 2)))}
    assert all(fig3.network_of(c).id == networks[c.config] for c in cells)


def test_a_cell_records_the_silhouette_of_its_run(folders):
    cells, skipped = ledger.read(folders[0])
    assert not skipped
    assert len(cells) == 4
    for record in cells:
        (path,) = folders[1].glob(f"fast-table1-*-{record['prior']}-*-s{record['seed']}-*")
        loaded = Run.open(path).load()
        test = loaded.data.test
        expected = silhouette(latents(loaded.model, test), test.labels)
        assert record["figures"]["silhouette"] == pytest.approx(expected, abs=1e-12)
        place, labels = (unpack(record["arrays"][name], name) for name in ("map", "labels"))
        assert place.shape == (len(test), 2)
        assert np.array_equal(np.bincount(labels), test.labels.bincount().numpy())


def test_the_page_has_maps_of_one_seed_and_the_paired_difference(folders, monkeypatch):
    drawn = []
    monkeypatch.setattr(fig3, "class_maps", lambda maps: drawn.append(maps) or CLASS_MAPS(maps))
    lines = render(folders[0]).read_text().splitlines()
    assert (folders[0].parent / "fig3-fast.png").exists()
    assert [one.title for one in drawn[0]] == ["prior standard, seed 0", "prior bype, seed 0"]
    cells, _ = ledger.read(folders[0])
    value = {(c["prior"], c["seed"]): c["figures"]["silhouette"] for c in cells}
    mean = sum(value["bype", s] - value["standard", s] for s in (0, 1)) / 2
    assert any(line.startswith(f"| bype - standard | {mean:+.3f} | | 2 | ") for line in lines)


CLASS_MAPS = fig3.class_maps


def test_a_map_that_does_not_fit_its_labels_is_left_out(folders, tmp_path):
    path = next(folders[0].glob("*-s0-*"))
    record = json.loads(path.read_text())
    for labels in (np.zeros(3, np.int64), np.zeros((2, 2), np.int64)):
        record["arrays"]["labels"] = pack(labels)
        (tmp_path / path.name).write_text(json.dumps(record))
        assert ledger.read(tmp_path)[0] == []
    del record["arrays"]
    (tmp_path / path.name).write_text(json.dumps(record))
    cells, (skipped,) = ledger.read(tmp_path)
    assert not cells
    assert "expected a cell with the arrays labels, map" in skipped
