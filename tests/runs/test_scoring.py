"""A scoring that is stopped goes on from where it was, to the same bits, and from nothing else."""

import json
import shutil

import pytest
import torch

import bype
import bype.evaluation
from bype.core.devices import versions
from bype.core.errors import kept_notes, notes_kept
from bype.core.tensors import read_tensors, write_tensors
from bype.evaluation.likelihood import log_likelihood
from bype.evaluation.metrics import evaluate, evaluate_under
from bype.priors.fitted import FittedMixture
from bype.runs.scoring import PartialScores, seconds_spent


class Stopped(BaseException):
    pass


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr(bype.evaluation.likelihood, "NOISE_ELEMENTS", 3 * 30 * 4)  # four of the items below at once


@pytest.fixture
def batches(monkeypatch):
    """The sizes of the batches that are scored."""
    sizes, iwae = [], bype.evaluation.likelihood.iwae

    def counted(model, x, *args, **options):
        sizes.append(len(x))
        return iwae(model, x, *args, **options)

    monkeypatch.setattr("bype.evaluation.likelihood.iwae", counted)
    return sizes


def model_for(data, **options):
    return bype.build_model(data, **({"prior": "bype", "n_components": 8, "latent_dim": 3, "hidden_dim": 16} | options))


def stop_after(n):
    def progress(done, total):
        if done >= n:
            raise Stopped

    return progress


@pytest.mark.parametrize("likelihood", ["mse", "bernoulli"])
def test_a_stopped_scoring_goes_on_to_the_same_bits(tiny, tmp_path, batches, likelihood):
    model, where = model_for(tiny, likelihood=likelihood), tmp_path / "part"
    images = tiny.train.first(30)
    whole = log_likelihood(model, images, 30)
    assert batches == [4] * 7 + [2]
    for done, left in ((0, 8), (1, 7), (19, 3), (30, 0)):
        with pytest.raises(Stopped):
            log_likelihood(model, images, 30, scoring=PartialScores(where, {}), progress=stop_after(done))
        batches.clear()
        part, calls = PartialScores(where, {}), []
        assert torch.equal(
            log_likelihood(model, images, 30, scoring=part, progress=lambda *at, to=calls: to.append(at)), whole
        ), done
        assert len(batches) == left
        assert calls[0] == (30 - 4 * left + 2 if left else 30, 30)
        assert calls[-1] == (30, 30)
        part.remove()
        assert not where.exists()


def test_a_part_of_anything_else_is_not_gone_on_with(tiny, tmp_path, batches):
    model, where = model_for(tiny), tmp_path / "part"
    images = tiny.train.first(20)

    def scored(what=(("networks", 1),), n=20, samples=30, seed=0):
        batches.clear()
        return log_likelihood(model, images.first(n), samples, seed=seed, scoring=PartialScores(where, dict(what)))

    scored()
    for change in ({"what": [("networks", 2)]}, {"n": 16}, {"samples": 29}, {"seed": 1}):
        fresh = scored(**change)
        assert sum(batches) == change.get("n", 20), change
        expected = log_likelihood(
            model, images.first(change.get("n", 20)), change.get("samples", 30), seed=change.get("seed", 0)
        )
        assert torch.equal(fresh, expected)
        scored()
        assert sum(batches) == 20, "and what it left is not gone on with either"
        scored()
        assert not batches


@pytest.mark.parametrize("content", [b"", b"text", None])
def test_a_damaged_part_is_of_no_use_and_no_harm(tiny, tmp_path, batches, content):
    model, where = model_for(tiny), tmp_path / "part"
    whole = log_likelihood(model, tiny.train, 30, scoring=PartialScores(where, {}))
    where.write_bytes(where.read_bytes()[:-9] if content is None else content)
    batches.clear()
    assert torch.equal(log_likelihood(model, tiny.train, 30, scoring=PartialScores(where, {})), whole)
    assert sum(batches) == len(tiny.train)
    assert len(read_tensors(where)[0]["values"]) == len(whole)


def test_where_nothing_can_be_written_scoring_ends_well(tiny, tmp_path):
    model = model_for(tiny)
    (tmp_path / "file").write_text("")
    part = PartialScores(tmp_path / "file" / "part", {})
    assert torch.equal(log_likelihood(model, tiny.test, 5, scoring=part), log_likelihood(model, tiny.test, 5))
    part.remove()


def test_what_a_killed_process_loses_is_what_came_after_the_last_writing(tiny, tmp_path, monkeypatch):
    now, where = [0.0], tmp_path / "part"
    monkeypatch.setattr("bype.runs.scoring.time.monotonic", lambda: now[0])
    kept = []

    def progress(done, total):
        now[0] += 12.0
        kept.append(len(read_tensors(where)[0]["values"]) if where.exists() else 0)

    what = {"versions": versions()}
    log_likelihood(model_for(tiny), tiny.train.first(30), 30, scoring=PartialScores(where, what), progress=progress)
    assert kept == [0, 0, 0, 12, 12, 12, 24, 24, 24], "written every 30 seconds, here at 36 and 72"
    assert seconds_spent(tmp_path) == 0, "not a run's"
    shutil.move(where, tmp_path / "scoring-test-30-s0.safetensors")
    assert seconds_spent(tmp_path) == 108.0
    part = PartialScores(tmp_path / "scoring-test-30-s0.safetensors", what)
    log_likelihood(model_for(tiny), tiny.train.first(30), 30, scoring=part)
    assert part.earlier == 108.0
    monkeypatch.setattr("bype.runs.scoring.versions", lambda: {"source": "later"})
    assert seconds_spent(tmp_path) == 0, "nor one of another version, which nothing goes on with"


def test_the_time_of_all_pieces_is_added_up(tiny, tmp_path, monkeypatch):
    now, where = [0.0], tmp_path / "part"
    monkeypatch.setattr("bype.runs.scoring.time.monotonic", lambda: now[0])
    for stops, expected in ((8, 5.0), (16, 10.0), (24, 15.0)):
        part = PartialScores(where, {})

        def progress(done, total, stops=stops):
            if done >= stops:
                now[0] += 5.0
                raise Stopped

        now[0] += 1000.0  # between two processes
        with pytest.raises(Stopped):
            log_likelihood(model_for(tiny), tiny.train.first(30), 30, scoring=part, progress=progress)
        assert read_tensors(where)[1]["seconds"] == expected
        now[0] += 1000.0
    assert part.earlier == 10.0


def test_what_was_kept_is_noted_on_the_exception_until_it_is_removed(tiny, tmp_path):
    model, text = model_for(tiny), "partial scores are saved; run the same command again to continue"
    (tmp_path / "file").write_text("")

    @notes_kept(parts := [])
    def stopped(remove=False):
        log_likelihood(model, tiny.test, 5, scoring=parts[0])
        if remove:
            parts[0].remove()
        raise Stopped

    def notes(part, **options):
        parts[:] = [part]
        with pytest.raises(Stopped) as error:
            stopped(**options)
        return kept_notes(error.value)

    assert notes(PartialScores(tmp_path / "file" / "part", {})) == [], "it could not be written"
    assert notes(PartialScores(tmp_path / "part", {})) == [text], "nothing is under way any more, and it is kept"
    assert notes(PartialScores(tmp_path / "part", {})) == [], "this process has written none of it"
    (tmp_path / "part").unlink()
    assert notes(PartialScores(tmp_path / "part", {}), remove=True) == []
    with pytest.raises(Stopped) as error, notes_kept([part := PartialScores(tmp_path / "part", {})]):
        log_likelihood(model, tiny.test, 5, scoring=part, progress=stop_after(4))
    assert kept_notes(error.value) == [text]


@pytest.fixture
def run(trained, tmp_path):
    shutil.copytree(trained["bype"], tmp_path / "run")
    return bype.Run(tmp_path / "run")


def test_a_run_s_scorings_have_a_file_each(run):
    given = [{}, {"items": 9}, {"every": 5}, {"seed": 1}, {"samples": 6}, {"split": "validation"}]
    paths = {bype.Evaluations(run).partial_scores(**({"split": "test", "samples": 5} | what)).path for what in given}
    assert len(paths) == len(given)


@pytest.mark.parametrize("change", ["networks", "versions", "every", "refit", None])
def test_a_run_s_scoring_is_of_its_networks_versions_items_and_refit(run, batches, monkeypatch, change):
    """Kept under one name, it is gone on with if nothing has changed, and begun anew if anything has."""
    data = run.dataset.load()
    model, results = run.checkpoints.load_model(data), bype.Evaluations(run)
    results.save_refit("q", bype.refit(model, data, points=20), method="points", seed=0)

    def score(every=1):
        results = bype.Evaluations(run)
        part = results.partial_scores("test", samples=30, refit="q", every=every)
        part.path = run.path / "scoring-one.safetensors"
        batches.clear()
        prior = results.refits.load("q", data)(model.encoder)
        log_likelihood(model, data.test.first(8), 30, prior=prior, scoring=part)
        return sum(batches)

    assert score() == 8
    if change == "networks":
        where = run.path / "best.safetensors"
        tensors, counters = read_tensors(where)
        write_tensors(where, tensors | {"prior.log_scale": tensors["prior.log_scale"] + 1}, counters)
        (run.path / "refit-q.json").unlink()
        results = bype.Evaluations(run)
        results.save_refit("q", bype.refit(model, data, points=20), method="points", seed=0)
    elif change == "refit":
        (run.path / "refit-q.json").unlink()
        results.save_refit("q", bype.refit(model, data, points=21), method="points", seed=0)
    elif change == "versions":
        monkeypatch.setattr("bype.runs.evaluations.versions", lambda: {"source": "another"})
    assert score(5 if change == "every" else 1) == (8 if change else 0)


def test_a_shorter_look_leaves_a_longer_scoring_be(cli_json, run):
    results = bype.Evaluations(run)
    data = run.dataset.load()
    part = results.partial_scores("test", samples=30)
    with pytest.raises(Stopped):
        log_likelihood(run.checkpoints.load_model(data), data.test, 30, scoring=part, progress=stop_after(12))
    before = part.path.read_bytes()
    cli_json("evaluate", run.path, "--samples", 30, "--items", 5)
    assert part.path.read_bytes() == before


def test_parts_of_earlier_networks_are_removed(run):
    results, data = bype.Evaluations(run), run.dataset.load()
    own, stale = (
        results.partial_scores("test", samples=3),
        PartialScores(run.path / "scoring-old.safetensors", {"networks": {}}),
    )
    for part in (own, stale):
        log_likelihood(run.checkpoints.load_model(data), data.test.first(4), 3, scoring=part)
    results.add({"split": "test", "seed": 0})
    assert own.path.exists()
    assert not stale.path.exists()


def test_evaluate_hands_it_on(tiny, tmp_path, batches):
    model = model_for(tiny)
    mixture = FittedMixture(torch.zeros(2, 3), torch.tensor([0.5, 0.5]).log(), torch.zeros(()))
    for score in (evaluate, lambda *a, **b: evaluate_under(*a, mixture, "two", **b)):
        given = {"n_samples": 30, "scoring": PartialScores(tmp_path / "part", {"score": str(score)})}
        figures = score(model, tiny, **given)
        batches.clear()
        assert score(model, tiny, **given) == figures
        assert not batches


def test_an_interrupted_command_goes_on_and_leaves_nothing(cli_json, run_cli, trained, tmp_path, monkeypatch):
    run, expected = tmp_path / "run", tmp_path / "expected"
    for folder in (run, expected):
        shutil.copytree(trained["bype"], folder)
    for words in ([], ["--with", "all"]):
        if words:
            cli_json("refit", run, "--name", "all")
            cli_json("refit", expected, "--name", "all")
        given = ["--samples", 30, "--items", 25, *words]
        iwae, calls = bype.evaluation.likelihood.iwae, []

        def interrupted(*args, iwae=iwae, calls=calls, **options):
            calls.append(args)
            if len(calls) == 4:
                raise KeyboardInterrupt
            return iwae(*args, **options)

        with monkeypatch.context() as patched:
            patched.setattr("bype.evaluation.likelihood.iwae", interrupted)
            code, out, err = run_cli("evaluate", run, *given)
        assert (code, out) == (130, "")
        assert "partial scores are saved; run the same command again to continue" in err
        (part,) = run.glob("scoring-*")
        done = len(read_tensors(part)[0]["values"])
        with monkeypatch.context() as patched:
            patched.setattr(
                bype.evaluation.likelihood, "iwae", lambda *a, c=calls, f=iwae, **b: c.append(a) or f(*a, **b)
            )
            calls.clear()
            cli_json("evaluate", run, *given)
        assert sum(len(args[1]) for args in calls) == 25 - done
        cli_json("evaluate", expected, *given)
        ours, theirs = (json.loads((folder / "evaluation.json").read_text()) for folder in (run, expected))
        assert ours == theirs
        assert not list(run.glob("scoring-*"))
