"""Figure 4: kNN accuracy by K, from the cells of Table 1."""

import pytest
from test_render import write

from bype.core.errors import InputError
from bype.experiments import ledger
from bype.experiments.catalog import fig4
from bype.experiments.catalog.registry import ALL, EXPERIMENTS, select_cells
from bype.experiments.catalog.sources import FAST, PAPER
from bype.experiments.cell import Selection
from bype.experiments.page import render

KS = range(3, 16, 2)


def write_accuracies(folder, source, prior, seed, set_="mnist", **options):
    figures = {f"knn_{k}": 90 + k / 10 + seed for k in KS}
    figures |= {"nll_paper_short": 25.0, "nll_paper": 24.0, "nll_paper_items": 10_000, "val_loss": 27.0, "epochs": 9}
    figures |= {"seconds_evaluation": 1.0}
    write(folder, source.experiment, prior, seed, figures, protocol=source.protocol, set_=set_, **options)


@pytest.mark.parametrize(("protocol", "table"), [(None, "fast-table1"), ("fast", "fast-table1"), ("paper", "table1")])
def test_its_cells_are_those_of_the_tables(protocol, table):
    cells = select_cells("fig4", Selection(precision="fp32", protocol=protocol))
    assert len(cells) == 2 * 4 * 3
    assert {c.experiment for c in cells} == {table}
    of_table = {c.id: c for c in select_cells(table, Selection(precision="fp32", seeds=(0, 1, 2)))}
    assert all(of_table[c.id] == c for c in cells)


def test_other_protocols_are_refused():
    with pytest.raises(InputError, match="--protocol: expected paper or fast, got 'short'"):
        select_cells("fig4", Selection(protocol="short"))


def test_the_two_sources_share_no_table_and_no_chart(tmp_path):
    folder = tmp_path / "ledger"
    for prior in ("standard", "bype"):
        for seed in (0, 1):
            write_accuracies(folder, FAST, prior, seed)
        write_accuracies(folder, PAPER, prior, 5)
    cells, skipped = ledger.read(folder)
    assert not skipped
    assert fig4.accuracies(cells, FAST)["mnist"]["bype"][3] == [90.3, 91.3]
    assert fig4.accuracies(cells, PAPER)["mnist"]["bype"][3] == [95.3]
    lines = render(folder).read_text().splitlines()
    assert "| mnist | bype | 2 | 90.80 | 91.00 | 91.20 | 91.40 | 91.60 | 91.80 | 92.00 |" in lines
    assert "| mnist | bype | 1 | 95.30 | 95.50 | 95.70 | 95.90 | 96.10 | 96.30 | 96.50 |" in lines
    assert {p.name for p in tmp_path.glob("fig4-*.png")} == {"fig4-paper.png", "fig4-fast.png"}


def test_other_strategies_and_networks_are_left_out(tmp_path):
    folder = tmp_path / "ledger"
    write_accuracies(folder, PAPER, "bype", 0, coreset="none")
    write_accuracies(folder, PAPER, "bype", 0, arch="hvae")
    cells, _ = ledger.read(folder)
    assert fig4.accuracies(cells, PAPER) == {}
    assert "## Figure 4" not in render(folder).read_text()


def test_all_is_every_cell_of_every_experiment_once():
    cells = select_cells(ALL, Selection(precision="fp32"))
    ids = [c.id for c in cells]
    assert len(ids) == len(set(ids))
    for name, experiment in EXPERIMENTS.items():
        chosen = Selection(precision="fp32" if "precision" in experiment.options else None)
        assert {c.id for c in select_cells(name, chosen)} <= set(ids), name


def test_all_passes_options_to_the_experiments_that_use_them():
    cells = select_cells(ALL, Selection(precision="bf16", dataset="mnist", seeds=[7]))
    assert {c.config.seed for c in cells} == {7}
    assert {c.config.precision for c in cells if c.experiment == "table1"} == {"bf16"}
    assert {c.config.precision for c in cells if c.experiment == "step-two"} == {"fp32"}
    with pytest.raises(InputError, match="reproduce all: no cells with --dataset digits"):
        select_cells(ALL, Selection(dataset="digits"))
