"""The experiment `fast-table1`: its cells, and its section of the results page."""

import pytest

from bype.core.recipes import RECIPES
from bype.experiments.catalog.fast_table1 import fast_table1, section
from bype.experiments.cell import Selection
from bype.experiments.records import cell_record

FULL = {"nll_paper": 24.0, "nll_paper_items": 10_000}


def record(cell, short, **figures):
    metrics = {"nll_paper_short": short, "val_loss": 25.0, "epochs": 60.0, "seconds_evaluation": 40.0, **figures}
    return cell_record(
        cell.experiment, cell.config, cell.protocol, epochs=[{"val_loss": 25.0}], metrics=metrics, versions={},
        device="EPYC", seconds=640.0,
    )  # fmt: skip


def chosen(prior, seed=0, dataset="mnist", arch="vae"):
    cells = fast_table1(Selection(precision="fp32"))
    return next(
        c for c in cells if (c.config.prior, c.config.seed, c.config.set, c.config.arch) == (prior, seed, dataset, arch)
    )


def test_cells_are_the_recipe_with_the_paper_s_likelihood_and_epochs_by_the_data():
    cells, fast = fast_table1(Selection(precision="fp32")), RECIPES["fast"]
    assert len(cells) == 4 * 6
    assert len({c.id for c in cells}) == len(cells)
    for cell in cells:
        config, n = cell.config, 40_000 if cell.config.set == "cifar10" else 50_000
        assert (config.recipe, config.likelihood, cell.protocol) == ("fast", "mse", "fast")
        assert (config.epochs, config.warmup) == (fast.epochs_for(n), fast.warmup_for(fast.epochs_for(n)))
        assert all(getattr(config, k) == v for k, v in fast.options.items() if k != "likelihood")
        assert (cell.samples, cell.every) == (
            5000 if config.seed == 0 else None,
            5 if config.prior == "exemplar" else 1,
        )
    assert len(fast_table1(Selection(precision="fp32", seeds=[7]))) == 16


def test_the_section_pairs_differences_by_seed(tmp_path):
    values = {("bype", 0): 24.5, ("bype", 1): 24.7, ("vamp", 0): 24.6, ("vamp", 1): 24.9, ("vamp", 2): 90.0}
    records = [record(chosen(*key), short, **(FULL if key[1] == 0 else {})) for key, short in values.items()]
    lines = section(records, tmp_path)
    row = next(line for line in lines if line.startswith("| vae | mnist | bype |"))
    expected = (
        "| vae | mnist | bype | 23.61 | 24.00 | +0.39 | 10000 | 24.60 | 0.14 | 2 | 25.00 | 60 | 10 | fp32 | EPYC |"
    )
    assert row == expected
    difference = next(line for line in lines if "bype - vamp" in line)
    assert difference.startswith("| vae | mnist | bype - vamp | -0.15 | 2 |")  # seed 2 has no pair


@pytest.mark.parametrize("records", [[], [{"experiment": "table1"}]])
def test_without_cells_there_is_no_section(tmp_path, records):
    assert section(records, tmp_path) == []
