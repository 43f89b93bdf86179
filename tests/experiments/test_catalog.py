"""Experiments that are added from outside the package."""

import subprocess
import sys
from dataclasses import replace

import pytest

import bype
from bype.core.config import Config
from bype.core.errors import InputError
from bype.experiments import campaign, ledger, scores
from bype.experiments.catalog.registry import EXPERIMENTS, register_experiment, select_cells
from bype.experiments.cell import Cell, Experiment, Selection
from bype.experiments.page import render
from bype.experiments.records import cell_record, record_id


def tiny_cells(selection):
    """A standard prior on the digits."""
    options = {"latent_dim": 2, "hidden_dim": 8, "epochs": 2, "warmup": 1, "batch_size": 500}
    return [
        Cell("tiny", Config("digits", prior="standard", seed=seed, **options), "short", samples=None)
        for seed in selection.seeds or (0, 1)
    ]


def tiny_section(records, folder):
    mine = [r for r in records if r["experiment"] == "tiny"]
    return ["## Tiny", "", *(f"- seed {r['seed']}: {r['figures']['nll_paper_short']:.2f}" for r in mine), ""]


def refuse_seed_7(record):
    if record["seed"] == 7:
        raise InputError("expected another seed than 7")


TINY = Experiment(
    "tiny", "A standard prior on the digits.", tiny_cells, shown={"short": ("nll_paper_short",)},
    check=refuse_seed_7, section=tiny_section,
)  # fmt: skip


@pytest.fixture(autouse=True)
def registry(monkeypatch):
    monkeypatch.setattr(EXPERIMENTS, "_added", {})
    monkeypatch.setattr(scores, "SHORT_SAMPLES", 5)
    monkeypatch.setattr(scores, "SHORT_ITEMS", 20)


def test_an_experiment_from_outside_is_run_and_has_its_section(tmp_path, run_cli, capsys):
    folders = tmp_path / "ledger", tmp_path / "runs"
    assert bype.register_experiment("tiny", TINY) is TINY
    cells = select_cells("tiny", Selection())
    assert campaign.run_cells(cells, *folders).finished == [c.id for c in cells]
    text = render(folders[0]).read_text()
    done, left_out = ledger.read(folders[0])
    capsys.readouterr()
    values = [f"{d['figures']['nll_paper_short']:.2f}" for d in done]
    assert not left_out
    assert text.endswith(f"## Tiny\n\n- seed 0: {values[0]}\n- seed 1: {values[1]}\n\n")
    assert "## Table 1" in text, "beside bype's own sections"
    where = ["--ledger", folders[0], "--runs", folders[1]]
    code, out, err = run_cli("reproduce", "tiny", "--seeds", "0-2", "--list", *where)
    assert (code, out) == (0, f"{tiny_cells(Selection(seeds=[2]))[0].id}\n"), err
    lines = [f"{c.id}  done, nll_paper_short {v}" for c, v in zip(cells, values, strict=True)]
    first, *rest = err.splitlines()
    assert first.startswith("tiny: 1 cell left, roughly ")
    assert rest == lines, "the finished ones, each with its main metric"


def test_its_records_are_checked_as_bype_s_own(tmp_path):
    (cell,) = tiny_cells(Selection(seeds=[0]))
    own = {"metrics": {"nll_paper_short": 1.0}, "epochs": [{"val_loss": 1.0}]}

    def read(seed=0, **changes):
        config = replace(cell.config, seed=seed)
        record = cell_record("tiny", config, "short", **own | changes, versions={}, device="here", seconds=1.0)
        return ledger.read_cell(ledger.write_cell(tmp_path, record, record_id(record)))

    assert read(seed=7, metrics={}, epochs=[])["experiment"] == "tiny", "unknown, and so not checked"
    register_experiment("tiny", TINY)
    assert read()["seed"] == 0
    with pytest.raises(InputError, match=r"tiny-digits.*-s7-.*\.json: expected another seed than 7"):
        read(seed=7)
    with pytest.raises(InputError, match=r"\.json: expected a cell with the metric 'nll_paper_short'"):
        read(metrics={})
    with pytest.raises(InputError, match="expected a curve of validation losses, got none"):
        read(epochs=[])


def test_a_ledger_of_an_unknown_experiment_is_read(tmp_path):
    cells = tiny_cells(Selection(seeds=[0]))
    campaign.run_cells(cells, tmp_path / "ledger", tmp_path / "runs")
    done, left_out = ledger.read(tmp_path / "ledger")
    assert ([d["experiment"] for d in done], left_out) == (["tiny"], [])
    assert campaign.outstanding(cells, done) == []
    text = render(tmp_path / "ledger").read_text()
    assert "from the 1 cells" in text
    assert "tiny" not in text


def test_a_function_of_a_selection_is_an_experiment_without_a_section():
    assert register_experiment("tiny")(tiny_cells) is tiny_cells
    assert EXPERIMENTS["tiny"] == Experiment("tiny", "A standard prior on the digits.", tiny_cells)
    assert [c.config.seed for c in select_cells("tiny", Selection(seeds=[3]))] == [3]
    with pytest.raises(InputError, match=r"--protocol: an option of table1, table3, fig.* only, got 'paper' with tiny"):
        select_cells("tiny", Selection(protocol="paper"))


def test_names_are_checked():
    with pytest.raises(InputError, match="experiment 'trunk': the name is taken by bype"):
        register_experiment("trunk")(tiny_cells)
    with pytest.raises(InputError, match="experiment 'small': expected an experiment with this name, got 'tiny'"):
        register_experiment("small", TINY)
    with pytest.raises(InputError, match="experiment 'all': the name stands for all experiments"):
        register_experiment("all")(tiny_cells)


def test_every_experiment_has_its_registered_name_and_a_summary():
    assert {name: e.name for name, e in EXPERIMENTS.items()} == {name: name for name in EXPERIMENTS}
    assert all(e.summary.endswith(".") for e in EXPERIMENTS.values())


def test_the_names_of_experiments_need_no_torch():
    code = "import sys, bype.experiments.catalog.registry as r; print(*r.EXPERIMENTS, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [*EXPERIMENTS, "False"]
