import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import bype
from bype.core.config import Config
from bype.core.devices import versions
from bype.core.errors import InputError, TrainingError
from bype.core.tensors import read_tensors, write_tensors
from bype.evaluation.likelihood import log_likelihood
from bype.experiments import campaign, estimates, ledger, records, scores, training
from bype.experiments.catalog.registry import EXPERIMENTS, select_cells
from bype.experiments.cell import Cell, Selection
from bype.experiments.estimates import Estimate, Estimator, Measurement
from bype.experiments.records import settings_hash
from bype.runs.evaluations import Evaluations
from bype.runs.run import Run


def config(**options):
    given = {"prior": "bype", "n_components": 20, "latent_dim": 4, "hidden_dim": 16, "epochs": 4, "warmup": 2}
    return Config("digits", **(given | {"batch_size": 200, "coreset_interval": 2, "coreset_steps": 2} | options))


@pytest.fixture(autouse=True)
def small(monkeypatch):
    for module in (scores, estimates):
        monkeypatch.setattr(module, "SHORT_SAMPLES", 5)
        monkeypatch.setattr(module, "SHORT_ITEMS", 20)
    monkeypatch.setattr("bype.training.refitting.VALIDATION_ITEMS", 10)
    monkeypatch.setattr("bype.training.refitting.VALIDATION_DRAWS", 5)


def without_times(value):
    figures = {k: v for k, v in value["figures"].items() if not k.startswith("seconds")}
    return {k: v for k, v in value.items() if k != "seconds"} | {"figures": figures}


def test_a_cell_is_trained_scored_and_written(tmp_path):
    cell = Cell("trial", config(), "short", samples=8, every=5, refit=True)
    value = campaign.run_cell(cell, tmp_path / "ledger", tmp_path / "runs")
    where = tmp_path / "ledger" / f"{cell.id}.json"
    assert json.loads(where.read_text()) == value == ledger.read_cell(where)
    assert value.keys() == {
        "experiment", "set", "arch", "prior", "coreset", "precision", "seed", "protocol", "settings", "settings_hash",
        "versions", "device", "seconds", "curve", "figures",
    }  # fmt: skip
    assert len(value["curve"]) == 4
    figures = value["figures"]
    assert all(isinstance(v, int | float) for v in figures.values())
    assert (figures["nll_paper_samples"], figures["nll_paper_items"]) == (8, 36), "every fifth of 180"
    assert figures["nll_paper_every"] == 5
    assert "nll_paper_fifth" not in figures
    expected = {
        "val_loss_before_2", "val_loss_after_4", "coreset_outside_4", "seconds_coreset", "kl_prior", "nll_paper",
        "nll_paper_short", "nll_paper@all", "nll_paper_short@all", "samples@all",
    }  # fmt: skip
    assert expected <= figures.keys()
    assert figures["nll_paper"] != figures["nll_paper_short"]
    assert figures["val_loss_after_4"] == pytest.approx(value["curve"][3], abs=1e-4)
    # The run and its refit are kept: a cell that was cut off while it was scored does not train again.
    assert (tmp_path / "runs" / cell.id / "refit-all.json").exists()
    where.unlink()
    refitted = tmp_path / "runs" / cell.id / "refit-all.json"
    record = json.loads(refitted.read_text())
    assert 0 < record["seconds"] < figures["seconds_evaluation"]
    refitted.write_text(json.dumps(record | {"seconds": 5000.0}))
    again = campaign.run_cell(cell, tmp_path / "ledger", tmp_path / "runs")
    assert without_times(again) == without_times(value)
    assert again["figures"]["seconds_evaluation"] > 5000, "what an earlier call took for it counts"


def test_a_cell_that_another_process_has_finished_meanwhile_is_left_so(tmp_path, monkeypatch):
    cells = trial("standard", "vamp", epochs=1)
    folders, run_cell = (tmp_path / "ledger", tmp_path / "runs"), campaign.run_cell

    def run(cell, *args, **options):
        if cell is cells[0]:
            for other in cells[1:]:
                run_cell(other, *folders)
        return run_cell(cell, *args, **options)

    monkeypatch.setattr(campaign, "run_cell", run)
    scored, score = [], campaign.score
    monkeypatch.setattr(campaign, "score", lambda cell, *args: scored.append(cell) or score(cell, *args))
    assert len(campaign.run_cells(cells, *folders).finished) == 2
    assert scored == [cells[1], cells[0]]


@pytest.mark.parametrize("damage", ["torn", "missing", "gone", "bare", "no number"])
def test_a_cell_whose_epochs_are_not_all_recorded_is_refused(tmp_path, damage):
    (cell,) = trial("standard", epochs=3)
    training.fit(cell.config, tmp_path / "runs" / cell.id)
    where = tmp_path / "runs" / cell.id / "metrics.jsonl"
    lines = where.read_text().splitlines()
    damaged = {"torn": [lines[0], lines[1][:30], lines[2]], "missing": [lines[0], lines[2]], "gone": [],
               "bare": [f'{{"epoch": {e}}}' for e in (1, 2, 3)],
               "no number": [lines[0].replace('"val_loss": ', '"val_loss": "", "y": '), *lines[1:]]}  # fmt: skip
    damaged = damaged[damage]
    where.write_text("".join(line + "\n" for line in damaged))
    report = campaign.run_cells([cell], tmp_path / "ledger", tmp_path / "runs")
    assert (report.finished, report.refused) == ([], [cell.id])
    assert where.read_text().splitlines() == damaged, "and nothing of it is cut off"


def test_a_refit_of_that_name_that_is_another_is_refused(tmp_path):
    cell = Cell("trial", config(prior="standard", epochs=1), "short", samples=None, refit=True)
    run = training.fit(cell.config, tmp_path / "runs" / cell.id).run
    loaded = run.load("cpu")
    Evaluations(loaded).save_refit("all", bype.refit(loaded.model, loaded.data, points=10), method="points", seed=0)
    with pytest.raises(
        InputError, match=r"'all' to have the 1439 training examples as components, got \{.*'components': 10"
    ):
        campaign.run_cell(cell, tmp_path / "ledger", tmp_path / "runs")


def test_a_cell_scored_in_full_says_what_every_fifth_item_gives(tmp_path):
    (cell,) = trial("standard", epochs=1)
    figures = campaign.run_cell(cell, tmp_path / "ledger", tmp_path / "runs")["figures"]
    run = Run(tmp_path / "runs" / cell.id)
    loaded = run.load("cpu")
    log_p = log_likelihood(loaded.model, loaded.data.test, 5).double()
    assert figures["nll_paper"] == pytest.approx(-log_p.mean().item())
    assert figures["nll_paper_fifth"] == pytest.approx(-log_p[::5].mean().item())
    assert (figures["nll_paper_every"], figures["nll_paper_items"]) == (1, 179)


def test_outstanding_cells_are_those_the_ledger_lacks(tmp_path):
    everything = select_cells("step-two", Selection())
    assert len(everything) == len({c.id for c in everything}) == 15
    done = [{"experiment": "step-two", "settings_hash": settings_hash(everything[0].config), "protocol": "short"}]
    assert campaign.outstanding(everything, [done[0] | {"seed": 0}]) == everything[1:]
    assert campaign.outstanding(everything, [done[0] | {"seed": 9}]) == everything
    some = select_cells("step-two", Selection(seeds=[7], prior="bype", coreset="elbo"))
    assert [(c.config.seed, c.config.coreset) for c in some] == [(7, "elbo")]
    with pytest.raises(InputError, match="step-two: no cells with --prior standard"):
        select_cells("step-two", Selection(prior="standard"))


def test_table1_is_every_set_under_every_prior_by_the_paper_s_protocol():
    cells = select_cells("table1", Selection(device="cpu", seeds=range(5)))
    assert len(cells) == len({c.id for c in cells}) == 5 * 3 * 3 * 4
    for c in cells:
        assert (c.config.epochs, c.config.warmup, c.config.patience, c.config.lr) == (4000, 100, 50, 5e-4)
        assert (c.samples, c.every, c.refit) == (5000, 5 if c.config.prior == "exemplar" else 1, True)
    assert {c.config.coreset for c in cells if c.config.prior == "bype"} == {"paper"}
    asked = Selection(device="cpu", protocol="short", dataset="cifar10", prior="vamp", arch="vae")
    brief = select_cells("table1", asked)
    assert [(c.config.epochs, c.config.warmup, c.protocol) for c in brief] == [(30, 10, "short")]
    with pytest.raises(InputError, match="--protocol: expected paper or short, got 'long'"):
        select_cells("table1", Selection(protocol="long"))


@pytest.mark.parametrize("fast", [True, False])
def test_table1_on_a_cpu_is_in_bf16_only_where_that_is_fast(monkeypatch, run_cli, tmp_path, fast):
    monkeypatch.setattr("bype.core.precision.bf16_is_fast", lambda device: fast)
    used = "bf16" if fast else "fp32"
    assert {c.config.precision for c in select_cells("table1", Selection(device="cpu"))} == {used}
    words = ["reproduce", "table1", "--device", "cpu", "--list", "--ledger", tmp_path]
    code, _, err = run_cli(*words)
    assert (code, err) == (0, f"table1: precision {used}, the default on this device; --precision selects another\n")
    code, out, err = run_cli(*words, "--precision", "bf16")
    assert (code, err) == (0, ""), "as asked"
    assert out.count("-bf16-") == 36


def test_finished_cells_are_listed_with_their_main_metric(committed_ledger, cli_json, run_cli):
    words = ["reproduce", "trunk", "--device", "cpu", "--ledger", committed_ledger, "--list"]
    code, out, err = run_cli(*words)
    assert (code, out) == (0, "")
    done = {
        c.id: ledger.read_cell(committed_ledger / f"{c.id}.json")
        for c in select_cells("trunk", Selection(device="cpu"))
    }
    short = {name: d["figures"]["nll_paper_short"] for name, d in done.items()}
    assert err.splitlines() == [f"{name}  done, nll_paper_short {v:.2f}" for name, v in short.items()]
    listed = cli_json(*words)
    assert (listed["outstanding"], listed["done"]) == ([], {name: {"nll_paper_short": v} for name, v in short.items()})


def test_the_names_of_cells_are_those_before_precision_followed_the_device(committed_ledger):
    """A cell names its precision: `auto` would hide it, and change every name."""
    fp32 = config(precision="fp32")
    cell = Cell("trial", config(precision="auto"), "short")
    assert config().precision == "auto"
    assert cell == Cell("trial", fp32, "short")
    assert (cell.config.precision, cell.id) == ("fp32", records.cell_id("trial", fp32, "short"))
    names = {name: {c.id for c in select_cells(name, Selection(device="cpu"))} for name in EXPERIMENTS}
    asked = {c.id for c in select_cells("table1", Selection(device="cpu", precision="bf16"))}
    committed = {p.stem for p in committed_ledger.glob("*-s0-*.json")}
    old = [c for c in committed if c.startswith("table1") and "-paper-bf16-paper-" in c]
    assert old
    assert asked.issuperset(old)
    for name in ("trunk", "step-two", "step-two-settings", "reencode"):
        assert all("-fp32-" in c or "-bf16-" in c for c in names[name])
    assert names["trunk"] <= committed


def test_the_committed_ledger_is_whole_and_holds_the_trunk(committed_ledger):
    done, left_out = ledger.read(committed_ledger)
    assert not left_out
    assert campaign.outstanding(select_cells("trunk", Selection(device="cpu")), done) == []


@pytest.mark.parametrize("parts", [1, 2, 5, 7])
def test_shards_are_a_partition_whatever_is_done(parts):
    cells = select_cells("table1", Selection(device="cpu", seeds=range(2)))
    shares = [campaign.shard(cells, i + 1, parts) for i in range(parts)]
    assert sorted(c.id for share in shares for c in share) == sorted(c.id for c in cells)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert campaign.shard(list(reversed(cells)), 1, parts) == shares[0]


def trial(*priors, **options):
    return [Cell("trial", config(prior=p, **options), "short", samples=5) for p in priors]


def test_a_cell_that_cannot_be_run_keeps_no_other_from_it(tmp_path, monkeypatch, capsys, run_cli):
    cells = trial("standard", "vamp", "exemplar", "bype", epochs=2)
    monkeypatch.setenv("BYPE_DATA", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    elsewhere = Cell("trial", Config("cifar10", epochs=2), "short")
    fit = training.fit

    def fragile(config, *args, **options):
        if config.prior == "vamp":
            raise TrainingError("epoch 1: expected a finite validation loss, got nan")
        return fit(config, *args, **options)

    monkeypatch.setattr(training, "fit", fragile)
    with Run(tmp_path / "runs" / cells[2].id).lock():
        report = campaign.run_cells([*cells, elsewhere], tmp_path / "ledger", tmp_path / "runs")
    assert (set(report.finished), report.failed) == ({cells[0].id, cells[3].id}, [cells[1].id])
    assert set(report.not_started) == {cells[2].id, elsewhere.id}
    said = capsys.readouterr().err
    assert f"{cells[1].id}  failed: epoch 1: expected a finite validation loss" in said
    assert f"{cells[2].id}: in use by another process" in said
    assert "cifar10: data set not found; skipping its cells" in said
    with pytest.raises(InputError, match=r"data set cifar10: .* not found"):
        campaign.run_cells([elsewhere], tmp_path / "ledger", tmp_path / "runs")
    monkeypatch.setattr("bype.cli.reproduce.select_cells", lambda name, selection: cells)
    code, out, err = run_cli("reproduce", "trunk", "--ledger", tmp_path / "ledger", "--runs", tmp_path / "runs")
    assert (code, out) == (3, f"trunk: 1 cells run, 1 left, {tmp_path / 'ledger'}\n"), err
    assert err.splitlines()[-1] == "bype: trunk: 1 of 2 cells failed to train"


def test_a_cell_that_gives_up_while_it_is_measured_keeps_no_other_from_it(tmp_path, monkeypatch):
    cells, measure = trial("standard", "vamp", epochs=2), estimates.measure

    def fragile(cell):
        if cell.config.prior == "standard":
            raise TrainingError("epoch 1: expected a finite validation loss, got nan")
        return measure(cell)

    monkeypatch.setattr(estimates, "measure", fragile)
    report = campaign.run_cells(cells, tmp_path / "ledger", tmp_path / "runs", budget=600)
    assert (report.finished, report.failed) == ([cells[1].id], [cells[0].id])


def test_a_cell_is_one_process_s_while_it_is_scored_too(tmp_path, monkeypatch):
    (cell,) = trial("standard", epochs=2)
    inner = []

    def evaluate(*args, **options):
        inner.append(campaign.run_cells([cell], tmp_path / "ledger", tmp_path / "runs"))
        return scored(*args, **options)

    scored = scores.evaluate
    monkeypatch.setattr(scores, "evaluate", evaluate)
    assert campaign.run_cells([cell], tmp_path / "ledger", tmp_path / "runs").finished == [cell.id]
    assert [r.not_started for r in inner] == [[cell.id]]


def test_shards_merge_by_copying(tmp_path):
    cells = trial("standard", "vamp", "bype", epochs=2)
    for part in (1, 2):
        campaign.run_cells(campaign.shard(cells, part, 2), tmp_path / f"ledger-{part}", tmp_path / "runs")
    merged = tmp_path / "ledger"
    merged.mkdir()
    for part in (1, 2):
        for path in (tmp_path / f"ledger-{part}").iterdir():
            path.rename(merged / path.name)
    done, left_out = ledger.read(merged)
    assert (len(done), left_out) == (3, [])
    assert campaign.outstanding(cells, done) == []


def test_damaged_and_foreign_files_are_named_and_left_out(tmp_path, capsys):
    cells = trial("standard", "vamp", epochs=2)
    campaign.run_cells(cells, tmp_path, tmp_path / "runs")
    good, other = (tmp_path / f"{c.id}.json" for c in cells)
    whole = good.read_text()
    spoiled = {
        "truncated": whole[: len(whole) // 2],
        "foreign": '{"name": "package", "version": 1}',
        "list": "[1, 2]",
        "renamed": whole,
        "empty": "",
    }
    for name, text in spoiled.items():
        (tmp_path / f"{name}.json").write_text(text)
    value = json.loads(other.read_text())
    value["settings"]["lr"] = 1.0
    other.write_text(json.dumps(value))
    done, left_out = ledger.read(tmp_path)
    assert [d["prior"] for d in done] == ["standard"]
    assert len(left_out) == 6
    assert all(any(name in line for line in left_out) for name in (*spoiled, other.name))
    # A cell whose file is damaged counts as not done, and its new file takes the place of the old.
    report = campaign.run_cells(cells, tmp_path, tmp_path / "runs")
    assert report.finished == [cells[1].id]
    assert f"skipped: {other}" in capsys.readouterr().err
    assert ledger.read_cell(other)["settings"]["lr"] == 5e-4


@pytest.mark.parametrize("key", ["figures", "curve"])
def test_a_cell_with_a_number_that_is_none_is_left_out(tmp_path, key):
    (cell,) = trial("standard", epochs=1)
    value = campaign.run_cell(cell, tmp_path, tmp_path / "runs")
    if key == "curve":
        value["curve"][0] = None
    else:
        value["figures"]["val_loss"] = "low"
    (tmp_path / f"{cell.id}.json").write_text(json.dumps(value))
    with pytest.raises(InputError, match=f"expected only finite numbers in '{key}'"):
        ledger.read_cell(tmp_path / f"{cell.id}.json")


def test_a_damaged_refit_of_a_cell_is_named(tmp_path):
    cell = Cell("trial", config(prior="standard", epochs=1), "short", samples=None, refit=True)
    campaign.run_cell(cell, tmp_path / "ledger", tmp_path / "runs")
    (tmp_path / "ledger" / f"{cell.id}.json").unlink()
    refitted = tmp_path / "runs" / cell.id / "refit-all.safetensors"
    refitted.write_bytes(refitted.read_bytes()[:-40])
    with pytest.raises(InputError, match=re.escape(str(refitted))):
        campaign.run_cell(cell, tmp_path / "ledger", tmp_path / "runs")


# Estimates and budgets


def done_like(cell, **changes):
    value = {
        "settings_hash": settings_hash(cell.config), "protocol": cell.protocol, "device": "here",
        "seconds": 130.0, "figures": {"epochs": 10, "seconds_evaluation": 30.0},
    }  # fmt: skip
    return value | changes


def test_an_estimate_is_the_ledger_s_where_it_has_a_like(tmp_path, monkeypatch):
    monkeypatch.setattr(estimates, "device_model", lambda device: "here")
    (cell,) = trial("standard", epochs=1)
    like = [done_like(cell), done_like(cell, seconds=150.0), done_like(cell, device="elsewhere", seconds=9e9)]
    assert Estimator(like, tmp_path).estimate(cell) == (140.0, "ledger")
    # Epochs that the run has already are not counted again.
    run = tmp_path / cell.id
    run.mkdir()
    (run / "metrics.jsonl").write_text('{"epoch": 1}\n' * 4)
    assert Estimator(like[:1], tmp_path).estimate(cell) == (90.0, "ledger")
    # Nor is what it took to score what is kept.
    what = {"versions": versions()}
    write_tensors(run / "scoring-test-5-s0.safetensors", {}, {"what": what, "seconds": 12.0})
    (run / "scoring-test-8-s0.safetensors").write_text("damaged")
    assert Estimator(like[:1], tmp_path).estimate(cell) == (78.0, "ledger")
    write_tensors(run / "scoring-test-8-s0.safetensors", {}, {"what": what, "seconds": 40.0})
    assert Estimator(like[:1], tmp_path).estimate(cell) == (60.0, "ledger")
    # One that stopped early has no epochs left, whatever others took.
    (run / "last.json").write_text('{"finished": true}')
    (run / "scoring-test-8-s0.safetensors").unlink()
    assert Estimator(like[:1], tmp_path).estimate(cell) == (18.0, "ledger")


def test_an_estimate_is_measured_where_the_ledger_has_none(tmp_path, monkeypatch):
    (cell,) = trial("exemplar", epochs=300)
    monkeypatch.setattr(estimates, "measure", lambda cell: Measurement(2.0, 7.0, "5 steps"))
    assert Estimator([], tmp_path).estimate(cell) == (607.0, "5 steps")
    stopped = [done_like(cell, settings_hash="other", figures={"epochs": e}) for e in (40, 50, 90)]
    assert Estimator(stopped, tmp_path).estimate(cell) == (107.0, "5 steps")
    (long,) = trial("exemplar", epochs=4000)
    assert Estimator([], tmp_path).estimate(long).seconds == 2.0 * estimates.ASSUMED_EPOCHS + 7.0


def test_an_estimate_from_a_few_steps_is_called_rough(monkeypatch):
    assert str(Estimate(120_000.0, "ledger")) == "about 33.3 h (ledger)"
    assert str(Estimate(120_000.0, "5 steps")) == "roughly 33.3 h (from 5 steps)"
    cell = Cell("trial", config(prior="standard"), "short", samples=None)
    for own, source in ((1.0, "5 steps"), (0.5, "5 steps on a busy machine")):  # this thread's share of its core
        with monkeypatch.context() as patch:
            patch.setattr(time, "thread_time", lambda own=own, clock=time.perf_counter: own * clock())
            assert estimates.measure(cell, n_latents=10).source == source


def test_the_shortest_of_several_times_is_used(monkeypatch):
    """Others on the machine only ever lengthen a step."""
    moments = iter([0.0, 9.0, 10.0, 15.0, 20.0, 22.0, 30.0, 34.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(moments))
    assert estimates._seconds(lambda: None, torch.device("cpu")) == 2.0


def test_what_is_measured_is_scaled_to_the_whole(monkeypatch):
    """With a clock that says a second whatever is done."""
    n_train, n_test = (len(part) for part in (bype.load("digits").train, bype.load("digits").test))
    seconds = iter(range(10**6))
    monkeypatch.setattr("bype.training.trainer.seconds_now", lambda device: float(next(seconds)))
    monkeypatch.setattr(estimates, "_seconds", lambda work, device: float(work() is not None))
    options = {"batch_size": 20, "coreset_interval": 10}
    for coreset, update in (("none", 0.0), ("paper", 1.0)):
        cell = Cell("trial", config(coreset=coreset, **options), "short", samples=40, refit=True)
        epoch, evaluation, source = estimates.measure(cell, steps=5, n_latents=100)
        assert source in ("5 steps", "5 steps on a busy machine")
        assert epoch == pytest.approx(n_train / 100 + 1 + update / 10)
        # A second for 200 draws: 5 of 20 items and 40 of all under the own prior and again under the refit, and a
        # second for 200 densities of those, and of the search for sigma.
        scored = 5 * 20 + 40 * n_test
        searched = estimates.VALIDATION_ITEMS * estimates.VALIDATION_DRAWS * estimates.SIGMA_CANDIDATES
        assert evaluation == pytest.approx((scored + scored + scored + searched) / 200)
    short = Cell("trial", config(**options), "short", samples=None)
    assert estimates.measure(short, n_latents=100)[1] == pytest.approx(5 * 20 / 200)
    fifth = Cell("trial", config(**options), "short", samples=40, every=5)
    assert estimates.measure(fifth, n_latents=100)[1] == pytest.approx((5 * 20 + 40 * -(-n_test // 5)) / 200)


def test_the_cheapest_cells_run_first_and_only_those_that_fit(tmp_path, monkeypatch, capsys):
    cells = trial("exemplar", "bype", "standard", "vamp", epochs=1)
    cost = {"standard": 5.0, "bype": 50.0, "vamp": 500.0, "exemplar": 1.0}
    now, ran, estimated = [0.0], [], []

    def estimate(self, cell):
        estimated.append(cell.config.prior)
        return Estimate(cost[cell.config.prior], "5 steps")

    def run(cell, *_, **__):
        ran.append(cell.config.prior)
        now[0] += cost[cell.config.prior]

    monkeypatch.setattr(Estimator, "estimate", estimate)
    monkeypatch.setattr(campaign, "run_cell", run)
    report = campaign.run_cells(cells, tmp_path, tmp_path, budget=60.0, clock=lambda: now[0])
    assert ran == ["standard", "bype"]
    assert estimated == ["standard", "bype", "vamp"], "what ranks above one that did not fit is not measured"
    assert len(report.not_started) == 2
    assert "not started: roughly 8 min (from 5 steps), 5 s left" in capsys.readouterr().err
    now[0] = 0.0
    campaign.run_cells(cells, tmp_path, tmp_path, budget=54.0, clock=lambda: now[0])
    assert ran == ["standard", "bype", "standard"]
    # One of which a part is done is measured even so.
    (tmp_path / cells[3].id).mkdir()
    (tmp_path / cells[3].id / "config.json").write_text("{}")
    now[0] = 0.0
    campaign.run_cells(cells, tmp_path, tmp_path, budget=54.0, clock=lambda: now[0])
    assert (ran[3:], estimated[6:]) == (["standard"], ["bype", "vamp"])
    ran.pop()
    estimated.clear()
    campaign.run_cells(cells, tmp_path, tmp_path)
    assert ran[3:] == ["standard", "bype", "vamp", "exemplar"], "without a budget nothing is estimated"
    assert not estimated


def test_a_cell_stopped_while_it_is_scored_goes_on_from_there(tmp_path, monkeypatch):
    """Each call has a budget for four batches of ten items; the whole is forty-odd."""
    monkeypatch.setattr(Estimator, "estimate", lambda *_: Estimate(0.0, "measured"))
    monkeypatch.setattr("bype.evaluation.likelihood.NOISE_ELEMENTS", 8 * 4 * 10)
    cell = Cell("trial", config(prior="standard", epochs=1), "short", samples=8, refit=True)
    expected = campaign.run_cell(cell, tmp_path / "unbroken", tmp_path / "runs-unbroken")
    folders, scored, calls = (tmp_path / "ledger", tmp_path / "runs"), [], 0
    iwae = bype.evaluation.likelihood.iwae

    def counted(model, x, *args, **options):
        now[0] += 1.0
        scored.append(len(x))
        return iwae(model, x, *args, **options)

    monkeypatch.setattr("bype.evaluation.likelihood.iwae", counted)
    now = [0.0]
    while not (report := campaign.run_cells([cell], *folders, budget=3.5, clock=lambda: now[0])).finished:
        assert report.begun == [cell.id]
        calls, now[0] = calls + 1, 0.0
        assert calls < 99
    n = len(bype.load("digits").test)
    assert sum(scored) == 20 + n + 20 + n, "nothing twice"
    assert calls == 2 * (2 + -(-n // 10)) // 4
    assert without_times(ledger.read_cell(folders[0] / f"{cell.id}.json")) == without_times(expected)
    assert not list((folders[1] / cell.id).glob("scoring-*"))


def test_what_fits_no_budget_is_done_in_parts_if_asked(tmp_path, monkeypatch):
    cells = trial("standard", "bype", epochs=4)
    monkeypatch.setattr(Estimator, "estimate", lambda *_: Estimate(100.0, "measured"))
    folders, calls = (tmp_path / "ledger", tmp_path / "runs"), 0

    def call(partial):
        ticks = iter(range(1000))
        return campaign.run_cells(cells, *folders, budget=5.5, partial=partial, clock=lambda: float(next(ticks)))

    assert len(call(False).not_started) == 2
    assert not (tmp_path / "runs").exists()
    report = call(True)
    assert report.begun == [cells[0].id], "the cheapest"
    assert report.not_started == [cells[1].id], "nothing is left of the budget"
    while not report.finished:
        report, calls = call(True), calls + 1
        assert calls < 9
    assert report.finished == [cells[0].id]


def test_a_cell_whose_files_are_damaged_keeps_no_other_from_being_run(tmp_path, monkeypatch, run_cli):
    cells = trial("standard", "bype", epochs=1)
    folders = tmp_path / "ledger", tmp_path / "runs"
    run = tmp_path / "runs" / cells[0].id
    training.fit(cells[0].config, run)
    (run / "last.safetensors").write_bytes(b"x" * 99)
    report = campaign.run_cells(cells, *folders)
    assert (report.refused, report.finished) == ([cells[0].id], [cells[1].id])
    monkeypatch.setattr("bype.cli.reproduce.select_cells", lambda name, selection: cells)
    code, _, err = run_cli("reproduce", "trunk", "--ledger", folders[0], "--runs", folders[1])
    assert code == 2
    assert f"{cells[0].id}  refused: {run / 'last.safetensors'}: expected" in err
    assert err.splitlines()[-1] == "bype: trunk: 1 of 1 cells have files that cannot be used"


def test_a_ledger_that_cannot_be_written_is_refused_before_anything_is_trained(tmp_path, run_cli):
    (tmp_path / "ledger").write_text("a file")
    for words in (["--list"], []):
        code, _, err = run_cli("reproduce", "trunk", "--ledger", tmp_path / "ledger", "--runs", tmp_path / "r", *words)
        assert code == 2
        assert "ledger: expected a folder of finished cells, got a file" in err
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o555)
    if os.access(folder, os.W_OK):
        folder = Path("/proc/self/ledger")  # where root cannot write either
    with pytest.raises(InputError, match="cannot be written"):
        campaign.run_cells(trial("standard", epochs=1), folder, tmp_path / "r")
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"prior": "foo"}, {"arch": "mlp"}, {"coreset": "bar"}, {"curve": []}, {"curve": [1e308]},
        {"figures": {}}, {"figures": {"nll_paper_short": 1.0, "epochs": 0, "val_loss": 1.0}},
        {"figures": {"nll_paper_short": 10**400, "epochs": 1, "val_loss": 1.0}},
    ],
)  # fmt: skip
def test_an_odd_cell_is_left_out_of_the_page(tmp_path, change):
    from bype.experiments.page import render

    folder = tmp_path / "results" / "ledger"
    config_, figures = config(prior="standard"), {"nll_paper_short": 1.0, "epochs": 4, "val_loss": 2.0}
    value = records.cell_record(
        "trunk", config_, "short", epochs=[{"val_loss": 2.0}], metrics=figures, versions={}, device="here", seconds=1.0
    )
    value = json.loads(json.dumps(value)) | change
    ledger.write_cell(folder, value, records.record_id(value))
    assert "Skipped files, damaged or not cells: trunk-digits" in render(folder).read_text()


def test_ranks_are_in_the_order_of_what_was_timed():
    """Quiet epochs of MNIST on a CPU: standard 4.1 s, bype 9.7, exemplar 9.6 and 2 to validate, vamp 12.4."""
    cells = select_cells("table1", Selection(device="cpu"))
    rank = {(c.config.arch, c.config.set, c.config.prior): c.rank for c in cells}
    assert rank["vae", "mnist", "standard"] < rank["vae", "mnist", "bype"] < rank["vae", "mnist", "vamp"]
    assert rank["vae", "cifar10", "exemplar"] < rank["convhvae", "mnist", "standard"]
    assert rank["vae", "mnist", "bype"] < rank["vae", "cifar10", "bype"]


def test_a_cell_that_outlasts_the_budget_goes_on_at_the_next_call(tmp_path, monkeypatch):
    (cell,) = trial("bype", epochs=6)
    expected = campaign.run_cell(cell, tmp_path / "unbroken", tmp_path / "runs-unbroken")
    monkeypatch.setattr(Estimator, "estimate", lambda *_: Estimate(0.0, "measured"))
    ticks = iter(range(1000))
    folders = tmp_path / "ledger", tmp_path / "runs"
    report = campaign.run_cells([cell], *folders, budget=3.5, clock=lambda: float(next(ticks)))
    assert (report.begun, report.finished) == ([cell.id], [])
    trained = len((tmp_path / "runs" / cell.id / "metrics.jsonl").read_text().splitlines())
    assert 0 < trained < 6
    assert not list((tmp_path / "ledger").glob("*"))
    assert campaign.run_cells([cell], *folders).finished == [cell.id]
    assert without_times(ledger.read_cell(tmp_path / "ledger" / f"{cell.id}.json")) == without_times(expected)


def _two_cells(folder, runs, *, killed=False):
    """In a process of its own: two cells, and where it is to be killed, that amid the scoring of the first."""
    scores.SHORT_SAMPLES, scores.SHORT_ITEMS = 5, 20
    bype.evaluation.likelihood.NOISE_ELEMENTS = 50 * 4 * 10  # ten items at once
    if killed:
        bype.runs.scoring.SAVED_EVERY = 0
        save, saved = bype.runs.scoring.PartialScores.save, []

        def save_and_die(self):
            save(self)
            saved.append(self)
            if len(saved) == 15:
                os.kill(os.getpid(), signal.SIGKILL)

        bype.runs.scoring.PartialScores.save = save_and_die
    options = {"n_components": 20, "latent_dim": 4, "hidden_dim": 16, "epochs": 10, "warmup": 2, "batch_size": 100}
    cells = [Config("digits", prior=prior, coreset="none", **options) for prior in ("bype", "standard")]
    Estimator.estimate = lambda *_: Estimate(0.0, "measured")
    campaign.run_cells([Cell("trial", c, "short", samples=50) for c in cells], folder, runs)


def test_killed_in_a_cell_and_started_again_the_ledger_is_that_of_an_unbroken_run(tmp_path, start):
    def begin(name, **options):
        return start(_two_cells, tmp_path / name, tmp_path / f"runs-{name}", **options)

    def finish(process):
        process.join(400)
        return process.exitcode

    assert finish(begin("unbroken")) == 0
    process, lines = begin("killed"), 0
    deadline = time.monotonic() + 300
    while lines < 3 and process.is_alive() and time.monotonic() < deadline:
        lines = sum(len(p.read_text().splitlines()) for p in tmp_path.glob("runs-killed/*/metrics.jsonl"))
        time.sleep(0.005)
    process.kill()
    assert finish(process) == -signal.SIGKILL, "it must be killed on its way"
    assert finish(begin("killed", killed=True)) == -signal.SIGKILL
    (part,) = tmp_path.glob("runs-killed/*/scoring-test-50xall-s0.safetensors")
    assert 0 < len(read_tensors(part)[0]["values"]) < 179
    assert finish(begin("killed")) == 0
    assert not list(tmp_path.glob("runs-killed/*/scoring-*"))
    ours, theirs = (ledger.read(tmp_path / name) for name in ("killed", "unbroken"))
    assert ours[1] == theirs[1] == []
    assert list(map(without_times, ours[0])) == list(map(without_times, theirs[0]))
    assert len(ours[0]) == 2


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("9m", 540), ("1h30m", 5400), ("2h", 7200), ("1m5s", 65)]
)
def test_budgets_are_read(text, seconds):
    assert estimates.parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "9 m", "-5", "1.5h", "9x", "30m1h", "٣m", "9" * 400 + "h", "9" * 5000])
def test_other_budgets_are_refused(text):
    with pytest.raises(InputError, match="--budget: expected a time like 90s, 9m or 1h30m"):
        estimates.parse_duration(text)


def test_the_script_for_a_gpu_refuses_other_budgets(root, tmp_path):
    script, env = root / "scripts" / "gpu.sh", os.environ | {"PYTHON": sys.executable}
    begun = {}
    for budget in ("abc", "9x", ""):  # side by side, for each imports torch
        command = ["bash", str(script), budget, str(tmp_path / "out")]
        begun[budget] = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for budget, process in begun.items():
        _, err = process.communicate(timeout=120)
        assert (process.returncode, len(err.splitlines())) == (2, 1), err
        assert f"BUDGET: expected a time like 90s, 9m or 1h30m, got {budget!r}" in err
    assert not (tmp_path / "out").exists()


def test_experiments_are_of_the_contract_s_names():
    assert set(EXPERIMENTS) >= {"table1", "table2", "fig5", "step-two", "step-two-settings", "reencode", "trunk"}
