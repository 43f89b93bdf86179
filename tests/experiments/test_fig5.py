"""Figure 5: ByPE and Exemplar at equal M."""

import pytest

from bype.core.errors import InputError
from bype.experiments import ledger
from bype.experiments.catalog import fig5, step_two, trunk
from bype.experiments.catalog.registry import select_cells
from bype.experiments.cell import Selection
from bype.experiments.page import render
from bype.experiments.records import cell_record


def record(cell, nll):
    return cell_record(
        cell.experiment, cell.config, cell.protocol, epochs=[{"val_loss": nll}], device="none", seconds=1.0,
        metrics={"nll_paper_short": nll, "val_loss": nll, "epochs": 1, "seconds_evaluation": 0.5}, versions={},
    )  # fmt: skip


def nll_of(cell):
    """100/M, and 1 more for exemplars; the second seed adds 0.5."""
    m = cell.config.n_components if cell.config.prior == "bype" else cell.config.exemplars
    return 20 + 100 / m + (cell.config.prior == "exemplar") + 0.5 * cell.config.seed


@pytest.fixture(params=["short", "fast"])
def protocol(request):
    return request.param


@pytest.fixture
def folder(tmp_path, protocol):
    for cell in select_cells("fig5", Selection(seeds=(0, 1), protocol=protocol)):
        ledger.write_cell(tmp_path / "ledger", record(cell, nll_of(cell)), cell.id)
    return tmp_path / "ledger"


def test_by_the_recipe_m_500_is_that_of_table_1():
    cells = select_cells("fig5", Selection(protocol="fast", seeds=(0, 1)))
    assert len(cells) == 2 * 2 * 5
    table = {c.id for c in select_cells("fast-table1", Selection())}
    assert {c.id for c in cells if c.experiment != "fig5"} <= table
    with pytest.raises(InputError, match="--protocol: expected short or fast, got 'paper'"):
        select_cells("fig5", Selection(protocol="paper"))


def test_each_m_is_run_for_both_priors_and_m_500_is_that_of_other_experiments():
    cells = select_cells("fig5", Selection())
    sizes = {(c.config.prior, c.config.n_components if c.config.prior == "bype" else c.config.exemplars) for c in cells}
    assert sizes == {(prior, m) for prior in fig5.PRIORS for m in fig5.COMPONENTS}
    assert len(cells) == len(sizes)
    others = {c.id for select in (step_two.step_two, trunk.baseline) for c in select(Selection(seeds=(0,)))}
    assert {c.id for c in cells if 500 in (c.config.n_components, c.config.exemplars) and c.id in others} == {
        c.id for c in cells if c.experiment != "fig5"
    }


def test_differences_are_those_at_equal_m_and_seed(folder, protocol):
    cells, _ = ledger.read(folder)
    differences = fig5.differences(cells, protocol)
    assert list(differences) == list(fig5.COMPONENTS)
    assert all(d.mean == pytest.approx(-1) and d.n == 2 for d in differences.values())


def test_the_section_has_a_row_per_m_and_a_picture(folder, protocol):
    lines = render(folder).read_text().splitlines()
    assert "| 50 | 22.25 | 23.25 | -1.00 | 2 | -1.00 to -1.00 |" in lines
    assert (folder.parent / f"fig5-{protocol}.png").exists()


def test_an_m_that_is_not_run_is_marked(folder, protocol):
    for path in folder.glob("fig5-mnist-vae-exemplar*"):
        if '"exemplars": 50,' in path.read_text():
            path.unlink()
    assert "| 50 | 22.25 | not run |  |  |  |" in render(folder).read_text().splitlines()
