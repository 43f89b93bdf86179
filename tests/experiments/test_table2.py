"""Table 2: epochs of several priors, timed in turns."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

import bype
from bype.core.config import Config
from bype.experiments import campaign, ledger, timing
from bype.experiments.catalog import table2
from bype.experiments.catalog.registry import select_cells
from bype.experiments.cell import Cell, Selection
from bype.experiments.page import render
from bype.models.build import model_from
from bype.runs.fitting import trainer_from

CONFIG = Config("digits", n_components=20, latent_dim=2, hidden_dim=8, epochs=2, warmup=0, precision="fp32")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("table2")
    places = folder / "ledger", folder / "runs"
    campaign.run_cell(Cell("table2", CONFIG, "timing", samples=None), *places)
    return places


def test_there_is_a_cell_for_each_data_set_of_the_paper():
    cells = select_cells("table2", Selection(precision="fp32"))
    assert [c.config.set for c in cells] == ["mnist", "fashion-mnist", "cifar10"]
    assert {c.protocol for c in cells} == {"timing"}


def test_a_cell_trains_no_run_and_records_the_times_of_all_methods(folders):
    (record,), skipped = ledger.read(folders[0])
    assert not skipped
    assert not list(folders[1].glob("[!.]*"))
    figures = record["figures"]
    for method in table2.METHODS:
        assert figures[f"ratio_{method}_low"] <= figures[f"ratio_{method}"] <= figures[f"ratio_{method}_high"]
        assert figures[f"seconds_per_epoch_{method}"] > 0
    assert figures["ratio_bype"] == figures["ratio_bype_low"] == 1
    update, epoch = figures["seconds_coreset"], figures["seconds_per_epoch_bype"]
    assert figures["coreset_share"] == pytest.approx(update / (update + 10 * epoch))


def test_the_page_shows_ratios_beside_those_of_the_paper(folders, tmp_path):
    (record,), _ = ledger.read(folders[0])
    cell = Cell("table2", replace(CONFIG, set="mnist"), "timing", samples=None)
    settings = {**record["settings"], "set": "mnist"}
    changed = {**record, "set": "mnist", "settings": settings, "settings_hash": cell.id[-8:]}
    ledger.write_cell(tmp_path / "ledger", changed, cell.id)
    lines = render(tmp_path / "ledger").read_text().splitlines()
    row = next(line for line in lines if line.startswith("| mnist | exemplar(25,000)"))
    assert "| 35.45 | 2.69 |" in row
    assert f"| {record['figures']['ratio_exemplar_25000']:.2f} |" in row


def test_every_row_is_trained_once_an_epoch_and_blocks_alternate(monkeypatch):
    data = bype.load("digits")
    trainers = {}
    seen = {"a": [], "b": []}
    calls = []
    for name in seen:
        trainers[name] = trainer_from(CONFIG, model_from(CONFIG, data), data)

        def run(order, beta, name=name):
            seen[name].append(order)
            calls.append(name)
            assert beta == 1

        monkeypatch.setattr(trainers[name], "steps", SimpleNamespace(run=run))
    blocks = timing.block_seconds(trainers, 2)
    n = len(data.train)
    for name in seen:
        rows = torch.cat(seen[name][1:])  # the first call is the one that is not measured
        assert torch.equal(rows.sort().values, torch.arange(n).repeat_interleave(2))
        assert len(blocks[name]) == len(seen[name]) - 1
    assert calls == ["a", "b"] * (len(calls) // 2)


def test_an_epoch_is_the_median_of_the_sums_of_its_blocks():
    assert timing.epoch_seconds([1.0, 2.0, 10.0, 20.0, 4.0, 5.0], 3) == 9


def test_the_budget_is_kept_between_blocks(tmp_path):
    def stop():
        raise campaign.BudgetSpent

    with pytest.raises(campaign.BudgetSpent):
        table2.measure(Cell("table2", CONFIG, "timing", samples=None), tmp_path, stop)
