"""Table 3: classifiers trained with a model's samples."""

from dataclasses import replace

import pytest

from bype.core.config import Config
from bype.evaluation.classifier import ClassifierOptions
from bype.experiments import campaign, ledger
from bype.experiments.catalog import fast_table1, table3
from bype.experiments.catalog.registry import select_cells
from bype.experiments.cell import Cell, Selection
from bype.experiments.page import render

OPTIONS = {"n_components": 10, "latent_dim": 2, "hidden_dim": 8, "epochs": 2, "warmup": 0, "precision": "fp32"}


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(table3, "ClassifierOptions", lambda seed: ClassifierOptions(epochs=2, hidden_dim=8, seed=seed))


def test_networks_are_those_of_the_fast_recipe():
    cells = select_cells("table3", Selection(precision="fp32"))
    assert len(cells) == 12
    networks = {c.config for c in select_cells("fast-table1", Selection(precision="fp32"))}
    assert {c.config for c in cells} <= networks


def test_a_cell_trains_its_network_once_and_records_errors(quick, tmp_path):
    for prior, methods in (
        ("bype", {"baseline", "posterior", "prior", "coreset"}),
        ("standard", {"baseline", "posterior"}),
    ):
        cell = Cell("table3", Config("digits", prior=prior, **OPTIONS), "fast", samples=None)
        record = campaign.run_cell(cell, tmp_path / "ledger", tmp_path / "runs")
        assert {k.removeprefix("error_") for k in record["figures"] if k.startswith("error_")} == methods
        assert all(0 <= record["figures"][f"error_{m}"] <= 100 for m in methods)
        network = Cell(fast_table1.NAME, cell.config, "fast")
        assert (tmp_path / "runs" / network.id / "best.safetensors").exists()


def test_the_section_has_a_row_per_method_and_prior(quick, tmp_path):
    cell = Cell("table3", Config("digits", prior="bype", **OPTIONS), "fast", samples=None)
    record = campaign.run_cell(cell, tmp_path / "ledger", tmp_path / "runs")
    again = replace(cell.config, seed=1)
    other = Cell("table3", again, "fast", samples=None)
    ledger.write_cell(tmp_path / "ledger", {**record, "seed": 1}, other.id)
    text = render(tmp_path / "ledger").read_text()
    error = record["figures"]["error_prior"]
    assert f"| prior | bype | 0.88 | {error:.2f} | 0.00 | 2 |" in text
    assert f"| baseline | none |  | {record['figures']['error_baseline']:.2f} |" in text
