"""The benchmark: its floors are the products of the steps, its figures those of the blocks."""

import json
from importlib.metadata import PackageNotFoundError

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from bype.core.errors import InputError
from bype.experiments.benchmark import epochs, peers, suite
from bype.experiments.benchmark.floors import Points, Sizes, runner, scoring_products, training_products
from bype.experiments.benchmark.measure import Task, alternate, clock, ratio
from bype.experiments.benchmark.records import Row, Scale, rows_of
from bype.experiments.benchmark.tables import tables

CPU = torch.device("cpu")
TINY = Scale(items=200, batch=20, components=10, samples=50, scored=1, steps=2, rounds=1)


@pytest.fixture(scope="module")
def data():
    return suite.noise(TINY, CPU)


def flops_of(work):
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


@pytest.mark.parametrize(("points", "gflop"), [(Points(500), 2.1), (Points(500, gradient=True), 2.6)])
def test_a_step_of_the_paper_has_the_products_that_the_floor_counts(points, gflop):
    assert round(sum(p.flops for p in training_products(Sizes(), 100, points)) / 1e9, 1) == gflop


@pytest.mark.parametrize(
    "points", [Points(), Points(30), Points(30, gradient=True, variance=True), Points(7, cached=50)]
)
def test_the_floor_computes_the_products_it_lists(points):
    products = training_products(Sizes(), 20, points)
    assert flops_of(runner(products, CPU)) == sum(p.flops for p in products)
    products = scoring_products(Sizes(), 64, 30, 80)
    assert (
        flops_of(runner(products, CPU))
        == sum(p.flops for p in products)
        == 2 * 64 * (40 * 600 + 300 * 600 + 300 * 784 + 80 * 30)
    )


@pytest.mark.parametrize("name", epochs.KINDS)
def test_the_floor_of_a_step_is_the_step_s_products(data, name):
    # A step has these, and those of the mixture's density: B x M components of D or 2 D features, three times. The
    # gradient of the images beside learned points is left out.
    kind = epochs.KINDS[name]
    trainer = epochs.make_trainer(kind, data, TINY)
    order = torch.arange(TINY.batch)
    own = flops_of(lambda: trainer.steps.run(order, 1.0))
    points = epochs.points(kind, TINY)
    floor = sum(p.flops for p in training_products(Sizes(), TINY.batch, points))
    if kind.retrieve is None:
        density = 0 if kind.prior == "standard" else 3 * 2 * TINY.batch * TINY.components * 40
        assert own == floor + density * (2 if kind.prior == "vamp" else 1)
    else:
        assert own <= 1.1 * floor


def test_blocks_alternate_and_the_first_round_is_not_counted():
    seen = []
    tasks = {
        "a": Task(lambda: seen.append("a"), 2, lambda: seen.append("floor of a")),
        "b": Task(lambda: seen.append("b"), 1),
    }
    rounds = []
    times = alternate(tasks, 3, CPU, lambda done, total: rounds.append((done, total)))
    assert seen == ["a", "floor of a", "b"] * 4
    assert [len(times["a"].work), len(times["a"].floor), len(times["b"].work), len(times["b"].floor)] == [3, 3, 3, 0]
    assert rounds == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_a_ratio_is_that_of_adjacent_blocks():
    # A machine that is ten times slower for a while changes no ratio.
    assert ratio([2.0, 20.0, 2.0, 2.0], [1.0, 10.0, 1.0, 1.0]) == (2.0, 2.0, 2.0)


def test_seconds_are_of_a_unit_and_the_clock_of_one_thread_leaves_out_others(monkeypatch):
    now = iter(range(0, 100, 10))
    monkeypatch.setattr("bype.experiments.benchmark.measure.clock", lambda device: ("steps of ten", lambda: next(now)))
    times = alternate({"a": Task(lambda: None, 4)}, 2, CPU)
    assert times["a"].work == [2.5, 2.5]
    with suite.torch_threads(1):
        assert clock(CPU)[0] == "processor"
    with suite.torch_threads(2):
        assert clock(CPU)[0] == "wall"


def test_a_benchmark_is_written_shown_and_read_again(run_cli, cli_json, tmp_path):
    parts = []
    with suite.torch_threads(1):
        result = suite.run(["epochs", "scoring"], TINY, CPU, on_rows=parts.append)
    assert [len(p["rows"]) for p in parts] == [len(epochs.KINDS) + 1, len(epochs.KINDS) + 5]
    assert (result["threads"], result["clock"]) == (1, "processor")
    assert result["versions"].keys() >= {"bype", "torch", "python"}
    assert result["scale"]["items"] == 200
    by_name = {row["name"]: row for row in result["rows"]}
    bype = by_name[epochs.REFERENCE]
    assert bype["over_bype"] == 1
    assert bype["over_floor_low"] <= bype["over_floor"] <= bype["over_floor_high"]
    assert bype["seconds_epoch"] == pytest.approx(bype["seconds"] * 10 + bype["seconds_start"])
    path = tmp_path / "bench.json"
    path.write_text(json.dumps(result))
    code, shown, _ = run_cli("bench", "--show", path)
    assert code == 0
    assert cli_json("bench", "--show", path) == result
    table = tables(rows_of(result, "here"))
    assert table in shown
    assert table.count("\n| ") == len(epochs.KINDS) + 4 + 2
    assert "| vamp |" in table


def test_a_table_has_the_figures_in_milliseconds():
    row = Row("epochs", "standard", {"seconds": 0.012345, "seconds_floor": 0.01})
    row.compare("over_floor", ratio([1.25, 1.5, 1.75], [1, 1, 1]))
    assert "| standard | 12.35 | 10.00 | 1.50 (1.25 to 1.75) |  |  |  |  |" in tables([row])


def test_the_peers_are_measured_beside_ours(data, tmp_path):
    pytest.importorskip("pythae")
    before = torch.get_rng_state()
    rows = peers.peer_rows(data, TINY)
    assert torch.equal(torch.get_rng_state(), before)
    assert [row.name for row in rows] == ["pythae VAE", "pythae VAMP"]
    assert all(row.figures["over_ours"] > 0 and row.figures["over_bype"] > 0 for row in rows)
    assert "pythae VAMP" in tables(rows)


def test_peers_that_are_not_installed_name_the_extra(monkeypatch):
    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(peers, "version", missing)
    with pytest.raises(InputError, match=r"pip install 'bype\[bench\]'"):
        suite.run(["peers"], TINY, CPU)
    groups, line = suite.chosen(None)
    assert "peers" not in groups
    assert "epochs" in groups
    assert "pip install 'bype[bench]'" in line


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--only", "nothing"], "--only: expected names from epochs, scoring, peers, got 'nothing'"),
        (["--out", "bench.txt"], "--out: expected a name that ends in .json, got bench.txt"),
        (["--precision", "half"], "precision"),
        (["--show", "missing.json"], "missing.json"),
    ],
)
def test_bad_options_are_named(run_cli, words, message):
    code, _, err = run_cli("bench", *words)
    assert code == 2
    assert message in err


def test_a_file_of_something_else_is_refused(run_cli, tmp_path):
    path = tmp_path / "other.json"
    path.write_text('{"rows": []}')
    code, _, err = run_cli("bench", "--show", path)
    assert code == 2
    assert f"{path}: expected a file written by `bype bench --out`, got another" in err
