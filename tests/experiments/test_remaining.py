"""The time of missing cells by the pace of the ledger."""

from dataclasses import replace

import pytest

from bype.core.config import Config
from bype.data.catalog import load
from bype.evaluation.classifier import ClassifierOptions
from bype.experiments import campaign
from bype.experiments.catalog import fig1, table2, table3
from bype.experiments.catalog.registry import EXPERIMENTS, select_cells
from bype.experiments.catalog.sources import network_of
from bype.experiments.cell import Cell, Selection, training_gflop
from bype.experiments.classifiers import baseline_path, kept_classifier, seconds_left
from bype.experiments.records import cell_record
from bype.experiments.remaining import Pace, device_in_words, missing


def record(config, seconds, device="a card", epochs=10, experiment="table1", protocol="paper"):
    return cell_record(
        experiment, config, protocol, epochs=[{"val_loss": 1.0}] * epochs, metrics={"epochs": epochs}, versions={},
        device=device, seconds=seconds,
    )  # fmt: skip


STANDARD = Config("mnist", prior="standard", batch_size=100, precision="fp32")


def test_gflop_of_an_epoch_are_counted_by_hand():
    # 500 steps of 0.6 GFLOP; with points 2.1; CIFAR10 has 400 steps of half as many again.
    assert training_gflop("mnist", "vae", "standard", 100) == pytest.approx(500 * 0.6)
    assert training_gflop("mnist", "vae", "bype", 100) == pytest.approx(500 * 2.1)
    assert training_gflop("cifar10", "vae", "bype", 100) == pytest.approx(400 * 2.1 * 1.5)
    # Batches of 200: 250 steps, each with twice the images and once the points.
    assert training_gflop("mnist", "vae", "bype", 200) == pytest.approx(250 * (2 * 0.6 + 1.5))


def test_the_pace_is_the_median_of_the_device_with_the_most_runs():
    gflop = 10 * 500 * 0.6
    done = [record(replace(STANDARD, seed=i), s * gflop) for i, s in enumerate((1.0, 2.0, 9.0))]
    done += [record(STANDARD, 1e9, device="another")]
    pace = Pace.of(done)
    assert pace.rate == pytest.approx(2.0)
    assert pace.device == "a card"
    assert Pace.of([]) is None


def test_a_training_run_is_counted_once_however_many_cells_start_from_it():
    pace = Pace(0.01, "a card")
    one, two = (select_cells(n, Selection(precision="fp32", seeds=(1,), dataset="mnist")) for n in ("fig1", "fig2"))
    assert network_of(one[0]).id == network_of(two[0]).id
    network = 0.01 * network_of(one[0]).gflop
    alone = [pace.seconds(cells) for cells in (one, two)]
    assert all(seconds > network for seconds in alone)
    assert pace.seconds(one + two) == pytest.approx(sum(alone) - network)


def test_what_table_2_and_table_3_measure_is_counted():
    pace = Pace(0.01, "a card")
    (timing,) = select_cells("table2", Selection(precision="fp32", dataset="mnist"))
    three_of_bype = 3 * 0.01 * training_gflop("mnist", "vae", "bype", 100)
    assert 5 * three_of_bype < pace.seconds([timing]) < 10 * three_of_bype, "six methods, Exemplar(25,000) the slowest"
    cells = select_cells("table3", Selection(precision="fp32", seeds=(0,)))
    left = {c.config.prior: table3.left(c, None, 0.01) for c in cells}
    # 100 epochs of 50,000 examples and 784 * 1024 + 1024^2 weights, forward and backward.
    alone = 0.01 * 6e-9 * (784 * 1024 + 1024**2) * 50_000 * 100
    methods = {"standard": 2, "vamp": 2, "exemplar": 3, "bype": 4}  # the first alone, the others with twice the images
    assert left == pytest.approx({prior: alone * (2 * n - 1) for prior, n in methods.items()})


def test_finished_epochs_of_a_classifier_are_left_out(tmp_path):
    data, options = load("digits"), ClassifierOptions(epochs=4, hidden_dim=8)
    path = baseline_path(tmp_path, "digits", options)
    whole = seconds_left(path, "digits", options, 1.0, alone=True)

    class StoppedError(Exception):
        pass

    def stop():
        raise StoppedError

    with pytest.raises(StoppedError):
        kept_classifier(path, data, None, options, stop)
    assert seconds_left(path, "digits", options, 1.0, alone=True) == pytest.approx(0.75 * whole)
    kept_classifier(path, data, None, options, lambda: None)
    assert seconds_left(path, "digits", options, 1.0, alone=True) == 0
    path.write_bytes(b"damaged")
    assert seconds_left(path, "digits", options, 1.0, alone=True) == whole


def test_finished_epochs_of_a_network_are_left_out(tmp_path):
    cell = Cell("trial", Config("digits", prior="standard", epochs=4, batch_size=100), "short", samples=None)
    pace = Pace(1.0, "a card")
    whole = pace.seconds([cell], tmp_path)
    (tmp_path / cell.id).mkdir()
    (tmp_path / cell.id / "metrics.jsonl").write_text('{"epoch": 1}\n')
    assert pace.seconds([cell], tmp_path) == pytest.approx(0.75 * whole)
    (tmp_path / cell.id / "last.json").write_text('{"finished": true}')
    assert pace.seconds([cell], tmp_path) == 0


def test_a_cell_is_not_missing_if_the_ledger_has_it_in_another_precision():
    cells = [Cell("table1", replace(STANDARD, seed=seed), "paper") for seed in (0, 1)]
    done = [record(replace(STANDARD, precision="bf16"), 1.0)]
    assert [c.config.seed for c in missing(cells, done)] == [1]
    assert len(missing(cells, [record(replace(STANDARD, lr=1e-3), 1.0)])) == 2
    assert len(missing(cells, [record(STANDARD, 1.0, protocol="short")])) == 2


def test_the_time_is_shown_before_cells_start(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(campaign, "run_cell", lambda *args, **options: None)
    monkeypatch.setattr(campaign, "_with_data", lambda cells, report: cells)
    cells = select_cells("table2", Selection(precision="fp32"))
    monkeypatch.setattr(campaign.ledger, "read", lambda folder: ([record(STANDARD, 100.0)], []))
    campaign.run_cells(cells, tmp_path / "ledger", tmp_path / "runs")
    err = capsys.readouterr().err
    assert "3 cells to run, roughly " in err
    assert all(f"{c.id}  roughly " in err for c in cells)
    assert err.count("at the pace of the ledger (a card)") == 4


def test_faces_have_no_classifier():
    (faces,) = select_cells("fig1", Selection(precision="fp32", dataset="celeba"))
    assert fig1.left(faces, None, 1.0) == 0


def test_one_thread_is_one():
    assert device_in_words("AMD EPYC, 1 threads") == "AMD EPYC, 1 thread"
    assert device_in_words("AMD EPYC, 2 threads") == "AMD EPYC, 2 threads"


def test_every_experiment_that_measures_says_what_is_left():
    assert {e.name for e in EXPERIMENTS.values() if e.measure is not None and e.left is None} == set()
    assert table2.EXPERIMENT.network is None
