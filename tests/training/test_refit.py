import copy
import csv
import json
import math
import re
import shutil
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

import bype
from bype.core.errors import InputError
from bype.distributions.em import MAX_CANDIDATES, best_scale, em_step, fit_em, log_prob_at_scales
from bype.distributions.mixtures import IsotropicMixture
from bype.training.refitting import refit


def silent(line):
    pass


def clusters(n=3000, seed=0):
    g = torch.Generator().manual_seed(seed)
    means = torch.tensor([[0.0, 0.0], [5.0, 0.0], [0.0, 5.0]])
    which = torch.multinomial(torch.tensor([0.5, 0.3, 0.2]), n, replacement=True, generator=g)
    return means, means[which] + 0.4 * torch.randn(n, 2, generator=g)


def test_em_finds_separated_clusters():
    means, z = clusters()
    # From several starts the best one: EM finds a local maximum.
    fits = [fit_em([z], 3, torch.Generator().manual_seed(s), report=silent) for s in range(8)]
    loc, log_weights, scale = max(
        fits, key=lambda f: IsotropicMixture(f[0], torch.tensor(f[2]), f[1]).log_prob(z).mean()
    )
    order = torch.cdist(means, loc).argmin(1)
    torch.testing.assert_close(loc[order], means, atol=0.05, rtol=0)
    torch.testing.assert_close(log_weights[order].exp(), torch.tensor([0.5, 0.3, 0.2]), atol=0.03, rtol=0)
    assert scale == pytest.approx(0.4, rel=0.03)


@pytest.mark.parametrize("n_components", [1, 7, 40])
def test_full_em_steps_never_lower_the_likelihood(n_components):
    _, z = clusters()
    z = z.double() * 3
    loc, log_weights, variance = (
        z[:n_components].clone(),
        torch.full((n_components,), 1 / n_components).log().double(),
        4.0,
    )
    values = []
    for _ in range(60):
        expected = IsotropicMixture(loc, torch.tensor(variance).double().sqrt(), log_weights).log_prob(z).mean().item()
        loc, log_weights, variance, value = em_step([z], loc, log_weights, variance)
        assert value == pytest.approx(expected, rel=1e-9), "the reported likelihood is that of the mixture"
        values.append(value)
    assert min(b - a for a, b in pairwise(values)) > -1e-10
    assert log_weights.exp().sum().item() == pytest.approx(1)
    if n_components == 1:
        torch.testing.assert_close(loc[0], z.mean(0))
        assert variance == pytest.approx(z.var(0, correction=0).mean().item())


@pytest.mark.parametrize("top", [0.001, 0.3, 1.0, 1.9, 50.0])
def test_the_best_scale_is_found_wherever_it_is(top):
    calls = []

    def bounds(scales):  # of x = top under N(0, s^2): its best s is top
        calls.extend(scales.tolist())
        return -scales.log() - 0.5 * (top / scales) ** 2

    assert best_scale(bounds, 1.0, torch.zeros((), dtype=torch.float64), print) == pytest.approx(top, rel=0.01)
    assert len(calls) <= MAX_CANDIDATES + 7
    assert len(calls) == len(set(calls))


def test_a_search_without_a_top_ends():
    assert best_scale(lambda s: s, 1.0, torch.zeros((), dtype=torch.float64), print) > 2


@pytest.mark.parametrize("scales", [[0.2, 1.0, 3.0], [0.5], [1.0, 0.5], [2.0**-1.5, 2**-0.5, 1.0, 2**0.5]])
def test_densities_at_several_scales_are_the_mixture_s(scales):
    g = torch.Generator().manual_seed(0)
    z, loc = torch.randn(50, 4, generator=g) + 30, torch.randn(1500, 4, generator=g) + 30
    log_weights = torch.randn(1500, generator=g).log_softmax(0)
    scales = torch.tensor(scales)
    for s, row in zip(scales, log_prob_at_scales(z, loc, log_weights, scales), strict=True):
        torch.testing.assert_close(row, IsotropicMixture(loc, s, log_weights).log_prob(z), rtol=1e-4, atol=1e-4)


@pytest.fixture(scope="module")
def digits_model():
    data = bype.load("digits")
    model = bype.build_model(data, likelihood="gaussian", n_components=20, latent_dim=8, hidden_dim=64, coreset="paper")
    bype.train(model, data, epochs=25, warmup=5, lr=2e-3, coreset_interval=100)
    return model, data


def test_refit_leaves_the_networks_alone_and_raises_the_validation_bound(digits_model):
    from bype.evaluation.likelihood import log_likelihood

    model, data = digits_model
    before = {k: v.clone() for k, v in model.state_dict().items()}
    fitted = {
        name: refit(model, data, **o) for name, o in {"all": {}, "some": {"points": 100}, "em": {"em": 30}}.items()
    }
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert [len(p.loc) for p in fitted.values()] == [1439, 100, 30]

    def bound(prior, images):
        return log_likelihood(model, images, 100, prior=None if prior is None else prior(model.encoder)).mean().item()

    own = bound(None, data.validation)
    assert bound(fitted["all"], data.validation) > own + 0.3
    assert bound(fitted["em"], data.validation) > own
    assert fitted["some"].points_at(torch.tensor([0])).shape == (1, 1, 8, 8)
    assert fitted["em"].points_at(torch.tensor([0])) is None
    moved = copy.deepcopy(fitted["some"]).to("meta")
    assert {t.device.type for t in (moved.points_at(torch.tensor([0], device="meta")), *moved.buffers())} == {"meta"}
    # The chosen sigma has a higher validation bound than its neighbours.
    chosen = fitted["all"].log_scale.item()
    values = []
    for factor in (0.6, 1.0, 1.6):
        fitted["all"].log_scale.fill_(chosen + math.log(factor))
        values.append(bound(fitted["all"], data.validation))
    fitted["all"].log_scale.fill_(chosen)
    assert values[1] == max(values)


@pytest.mark.parametrize(
    "options", [{"points": 0}, {"points": 5000}, {"em": 0}, {"em": 10_000}, {"em": 3, "points": 3}]
)
def test_counts_that_do_not_fit_are_refused(digits_model, options):
    with pytest.raises(InputError, match="expected"):
        refit(*digits_model, **options)


def test_refit_evaluate_and_sample_by_name(cli_json, run_cli, trained, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(trained["bype"], run)
    made = cli_json("refit", run, "--name", "all")
    assert made["components"] == 1439
    cli_json("refit", run, "--name", "em5", "--em", 5)
    own = cli_json("evaluate", run, "--samples", 10, "--items", 40)
    under = cli_json("evaluate", run, "--samples", 10, "--items", 40, "--with", "all")
    (record,) = json.loads((run / "evaluation.json").read_text())["scored"]
    assert record["nll_paper"] == own["nll_paper"]
    assert record["nll_paper@all"] == under["nll_paper@all"]
    assert under["nll_paper@all"] != own["nll_paper"]
    cli_json("sample", run, "--with", "all", "--out", tmp_path / "x.npz", "--n", 300)
    with np.load(tmp_path / "x.npz") as arrays:
        assert arrays["components"].max() > 20, "more components than the run's 20"
    cli_json("sample", run, "--with", "all", "--out", tmp_path / "x.png", "--plates")
    for args, code, message in [
        (["refit", run, "--name", "all"], 4, "choose another --name"),
        (["refit", run, "--name", "../x"], 2, "--name: expected letters"),
        (["refit", run, "--name", "b", "--points", "many"], 2, "expected all or a number"),
        (["evaluate", run, "--with", "none"], 2, "expected one of the run's refits (all, em5), got 'none'"),
        (["sample", run, "--with", "em5", "--plates", "--out", tmp_path / "y.png"], 2, "a prior made of points"),
    ]:
        got, _, err = run_cli(*args)
        assert (got, message in err, err.count("\n")) == (code, True, 1), err


def test_a_prior_with_a_scale_for_each_latent_can_be_refitted(digits_model):
    model, data = digits_model
    prior = bype.build_model(data, prior="exemplar", latent_dim=8).prior
    prior.log_scale = torch.nn.Parameter(torch.linspace(-1, 1, 8))
    own, model.prior = model.prior, prior
    try:
        fitted = refit(model, data, points=30)
    finally:
        model.prior = own
    assert fitted.log_scale.shape == ()
    assert fitted.log_scale.isfinite()


def test_a_refit_belongs_to_the_networks_it_was_made_for(cli_json, run_cli, tmp_path):
    run = tmp_path / "run"
    train = ("train", "digits", "--components", 5, "--hidden-dim", 16, "--latent-dim", 4, "--warmup", 1, "--out", run)
    cli_json(*train, "--epochs", 2)
    cli_json("refit", run, "--name", "all", "--points", 50)
    cli_json("evaluate", run, "--samples", 2, "--items", 9, "--with", "all")
    # As after a run whose options allowed more epochs was stopped, refitted, and resumed.
    config = json.loads((run / "config.json").read_text())
    config["options"]["epochs"] = 6
    (run / "config.json").write_text(json.dumps(config))
    assert cli_json("train", "digits", "--out", run, "--resume")["best_epoch"] > 2
    for command in (["evaluate"], ["sample", "--out", tmp_path / "x.png"]):
        code, _, err = run_cli(command[0], run, *command[1:], "--with", "all")
        assert (code, "got one of epoch 2; make it again" in err, err.count("\n")) == (2, True, 1), err
    metrics = cli_json("evaluate", run, "--samples", 2, "--items", 9)
    record = json.loads((run / "evaluation.json").read_text())
    assert record["networks"]["epoch"] > 2
    assert record["scored"] == [{k: v for k, v in metrics.items() if k != "run"}], "the earlier metrics are gone"
    cli_json("refit", run, "--name", "all", "--points", 60)  # may be replaced now, but only once
    under = cli_json("evaluate", run, "--samples", 2, "--items", 9, "--with", "all")
    assert json.loads((run / "evaluation.json").read_text())["scored"][0]["nll_paper@all"] == under["nll_paper@all"]
    assert run_cli("refit", run, "--name", "all")[0] == 4


def test_metrics_of_a_refit_that_is_replaced_are_dropped(trained, tmp_path):
    from bype.runs.evaluations import Evaluations
    from bype.runs.run import Run

    shutil.copytree(trained["bype"], tmp_path / "run")
    run = Run(tmp_path / "run")
    loaded = run.load("cpu")
    results = Evaluations(loaded)
    prior = refit(loaded.model, loaded.data, points=20)
    results.save_refit("few", prior, method="points", seed=0)
    results.add({"split": "test", "seed": 0, "nll_nats": 1.0, "nll_nats@few": 2.0})
    (run.path / "refit-few.json").unlink()
    results.save_refit("few", prior, method="points", seed=0)
    assert results.read() == [{"split": "test", "seed": 0, "nll_nats": 1.0}]


def test_coreset_as_files(cli_json, run_cli, trained, tmp_path):
    made = cli_json("coreset", trained["bype"], "--out", tmp_path / "c")
    points = np.load(tmp_path / "c" / "points.npy", allow_pickle=False)
    assert points.shape == (20, 1, 8, 8)
    with (tmp_path / "c" / "weights.csv").open() as f:
        lines = list(csv.DictReader(f))
    assert len(lines) == made["points"] == 20
    weights = [float(line["weight"]) for line in lines]
    assert weights == sorted(weights, reverse=True)
    assert sum(weights) == pytest.approx(1439, rel=1e-4)
    data = bype.load("digits")
    for line in lines:  # three epochs without step (ii): each point equals a training example
        item = int(line["nearest_item"])
        np.testing.assert_allclose(points[int(line["point"])], data.train.scaled(slice(item, item + 1))[0], atol=1e-6)
        assert int(line["nearest_label"]) == data.train.labels[item]
        assert float(line["distance"]) < 1e-5
    assert (tmp_path / "c" / "gallery.png").stat().st_size > 1000
    code, _, err = run_cli("coreset", trained["vamp"], "--out", tmp_path / "d")
    assert (code, "expected a model with prior bype, got VampPrior" in err) == (2, True)


@pytest.mark.parametrize("options", [{"points": 20}, {"em": 3}])
def test_examples_are_binarised_with_a_separate_stream(tiny, options, monkeypatch):
    model, seeds = bype.build_model(tiny, likelihood="bernoulli", n_components=6, latent_dim=3, hidden_dim=8), []

    def model_inputs(model, images, seed, *args, **options):
        seeds.append(seed)
        return bype.models.observing.model_inputs(model, images, seed, *args, **options)

    monkeypatch.setattr(bype.training.refitting, "model_inputs", model_inputs)
    refit(model, tiny, seed=5, **options)
    assert seeds
    assert not {0, 5} & set(seeds), "the seed itself is used for the noise"


@pytest.mark.parametrize("options", [{}, {"em": 3}])
def test_a_refit_never_uses_the_test_examples(tiny, options):
    model = bype.build_model(tiny, n_components=6, latent_dim=3, hidden_dim=8)

    def fitted(**changes):
        other = {name: replace(getattr(tiny, name), pixels=255 - getattr(tiny, name).pixels) for name in changes}
        return refit(model, replace(tiny, **other), **options).state_dict()

    own = fitted()
    assert all(torch.equal(value, own[name]) for name, value in fitted(test=True).items())
    assert fitted(validation=True)["log_scale"] != own["log_scale"], "sigma is chosen on validation examples"
    assert not torch.equal(fitted(train=True)["loc"], own["loc"])


def test_points_are_the_examples_at_their_rows(tiny):
    model = bype.build_model(tiny, n_components=6, latent_dim=3, hidden_dim=8)
    fitted = refit(model, tiny, points=20)
    index = torch.tensor([0, 7, 19])
    assert fitted.items.tolist() != list(range(20))
    torch.testing.assert_close(model.encoder(fitted.points_at(index)).loc, fitted.loc[index])


def test_em_and_the_choice_of_sigma_see_other_noise():
    """Otherwise components lie on the samples that sigma is chosen on, and the bound is too optimistic."""
    from bype.evaluation.likelihood import log_likelihood

    data = bype.from_arrays(torch.randint(0, 256, (120, 5, 4), generator=torch.Generator().manual_seed(0)).byte())
    model = bype.build_model(data, n_components=6, latent_dim=12, hidden_dim=8)
    lines = []
    fitted = refit(model, data, em=90, report=lines.append)
    reported = float(re.search(r"bound (\S+)", lines[-1])[1])
    again = log_likelihood(model, data.validation, 500, prior=fitted(model.encoder), seed=9).mean().item()
    assert reported == pytest.approx(again, abs=0.5)


def test_a_flat_top_has_a_best_scale():
    def bounds(scales):
        return (scales.log().abs() < 1).double() - 1

    found = best_scale(bounds, 1.0, torch.zeros((), dtype=torch.float64), print)
    assert abs(math.log(found)) < 1
