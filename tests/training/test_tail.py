"""The importance-weighted bound of the last epochs: its value, its gradient, its epochs, and which epoch is kept."""

import itertools
import math

import pytest
import torch

import bype
from bype.core.errors import InputError
from bype.core.recipes import RECIPES, training_options
from bype.core.seeds import Stream
from bype.models.objectives import elbo, importance_terms
from bype.training.schedule import Schedule
from bype.training.step import EpochSums
from bype.training.tail import Tail
from bype.training.trainer import Trainer
from bype.training.validation import validation_bound

SMALL = {"n_components": 6, "exemplars": 10, "latent_dim": 3, "hidden_dim": 6}
PRIORS = ["standard", "vamp", "exemplar", "bype"]


def seeded(seed=1):
    return torch.Generator().manual_seed(seed)


def a_model(data, arch="vae", prior="standard", **options):
    return bype.build_model(data, arch=arch, prior=prior, likelihood="gaussian", **SMALL, **options).double()


def a_trainer(data, prior="bype", **options):
    options = {"epochs": 20, "warmup": 2, "schedule": "linear", "importance": 3, "batch_size": 20, "lr": 0.01} | options
    model = bype.build_model(data, prior=prior, **SMALL)
    return Trainer(model, data, strategy="none" if prior == "bype" else None, **options)


@pytest.mark.parametrize("arch", ["vae", "hvae"])
@pytest.mark.parametrize("prior", PRIORS)
def test_with_one_sample_the_bound_and_its_gradient_are_those_of_the_elbo(tiny, arch, prior):
    model = a_model(tiny, arch, prior)
    x, rows = tiny.train.first(8).scaled().double(), torch.arange(8)
    one = importance_terms(model, x, 1, index=rows, generator=seeded())
    plain = elbo(model, x, index=rows, generator=seeded())
    torch.testing.assert_close(one.bound(), plain.bound(), rtol=0, atol=1e-10)
    torch.testing.assert_close(one.log_likelihood, plain.log_likelihood, rtol=0, atol=1e-10)
    wanted = [p for p in model.parameters() if p.requires_grad]
    own, other = (torch.autograd.grad(t.bound().sum(), wanted, allow_unused=True) for t in (one, plain))
    for a, b in zip(own, other, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_the_bound_is_the_logarithm_of_the_mean_weight_and_its_gradient_weights_the_samples(tiny):
    model, x, s = a_model(tiny), tiny.train.first(4).scaled().double(), 6
    terms = importance_terms(model, x, s, generator=seeded())
    noise = torch.randn(s, 4, 3, generator=seeded(), dtype=torch.float64)
    q = model.encoder(x)
    z = q.loc + q.scale * noise
    normal = torch.distributions.Normal
    log_w = normal(0, 1).log_prob(z).sum(-1) - normal(q.loc, q.scale).log_prob(z).sum(-1)
    likelihood = model.decoder(z)
    log_w = log_w + normal(likelihood.loc, likelihood.scale).log_prob(x).sum((-3, -2, -1))
    torch.testing.assert_close(terms.bound(), log_w.exp().mean(0).log())
    weights = log_w.softmax(0).detach()
    wanted = list(model.parameters())
    own = torch.autograd.grad(terms.bound().sum(), wanted)
    expected = torch.autograd.grad((weights * log_w).sum(), wanted)
    for a, b in zip(own, expected, strict=True):
        torch.testing.assert_close(a, b)


def test_the_terms_of_two_levels_add_up(tiny):
    model, x = a_model(tiny, "hvae", "vamp"), tiny.train.first(4).scaled().double()
    terms = importance_terms(model, x, 4, generator=seeded())
    assert terms.kl_z1 is not None
    assert terms.kl_z1.shape == (4,)
    torch.testing.assert_close(terms.bound(), terms.log_likelihood - terms.kl)


def test_more_samples_give_a_higher_bound_on_average(tiny):
    model = a_model(tiny)
    x = tiny.train.first(4).scaled().double()
    means = [
        sum(importance_terms(model, x, s, generator=seeded(r)).bound().sum().item() for r in range(300))
        for s in (1, 3, 9)
    ]
    assert all(a < b for a, b in itertools.pairwise(means))


@pytest.mark.parametrize("retrieve", [None, 2])
def test_a_retrieved_mixture_takes_several_samples_of_each_row(tiny, retrieve):
    model = a_model(tiny, prior="exemplar", retrieve=retrieve)
    model.train()
    model.begin_epoch()
    x, rows = tiny.train.first(5).scaled().double(), torch.arange(5)
    _, p = model.posterior_and_prior(x, index=rows, generator=seeded())
    z = torch.randn(3, 5, 3, generator=seeded(2), dtype=torch.float64)
    torch.testing.assert_close(p.log_prob(z), torch.stack([p.log_prob(latents) for latents in z]))


def test_the_tail_is_the_last_tenth_without_the_warm_up():
    def tail(samples, epochs, warmup):
        return [Tail(samples, epochs, warmup).samples_in(epoch) for epoch in range(1, epochs + 1)]

    assert tail(5, 100, 20) == [1] * 90 + [5] * 10
    assert tail(5, 10, 2) == [1] * 9 + [5]
    assert tail(5, 20, 19) == [1] * 19 + [5]
    assert tail(5, 20, 25) == tail(1, 20, 2) == [1] * 20
    assert tail(5, 4, 0) == [1] * 4


def test_steps_take_the_bound_of_their_epoch(tiny, monkeypatch):
    seen = []
    own = a_trainer(tiny)
    monkeypatch.setattr(type(own.steps), "run", lambda self, *a: seen.append(self.samples) or _sums(own))
    for _ in own:
        pass
    assert seen == [1] * 18 + [3] * 2


def _sums(own):
    return EpochSums(0.0, 0.0, 0.0, len(own.data.train), [False])


@pytest.mark.parametrize("averaging", [0.0, 0.9])
@pytest.mark.parametrize("prior", PRIORS)
def test_the_tail_keeps_the_epoch_whose_importance_weighted_bound_is_highest(tiny, prior, averaging):
    own = a_trainer(tiny, prior, averaging=averaging)
    infos, states = [], {}
    for info in own:
        infos.append(info)
        states[info.epoch] = own.best_state if info.best else None
    before, tail = infos[:18], infos[18:]
    assert all("val_loss_importance" not in info.to_dict() for info in before)
    best = min(before, key=lambda info: info.val_loss)
    losses = {best.epoch: loss_of(own, states[best.epoch], 3)}
    losses |= {info.epoch: info.to_dict()["val_loss_importance"] for info in tail}
    assert own.best_epoch == min(losses, key=losses.__getitem__)
    assert own.best_val_loss == infos[own.best_epoch - 1].val_loss, "still minus the ELBO"
    assert loss_of(own, own.best_state, 3) == losses[own.best_epoch]
    assert loss_of(own, own.best_state, 1) == own.best_val_loss


def loss_of(own, state, samples):
    own.model.load_state_dict(state)
    return -validation_bound(own.model, own.data.validation, own.seed + Stream.VALIDATION, samples=samples)


def test_an_earlier_epoch_stays_the_best_if_the_tail_is_worse(tiny, monkeypatch):
    own = a_trainer(tiny, epochs=10)
    for _ in range(9):
        own.run_epoch()
    kept, best = {k: v.clone() for k, v in own.best_state.items()}, own.best_epoch
    monkeypatch.setattr(own, "_validation_loss", lambda samples=1: 1e6)
    info = own.run_epoch()
    assert not info.best
    assert own.best_epoch == best
    assert all(torch.equal(value, kept[name]) for name, value in own.best_state.items())


def test_comparing_with_the_best_leaves_the_model_as_it_is(tiny):
    own = a_trainer(tiny)
    own.run_epoch()
    own.run_epoch()
    before = {k: v.clone() for k, v in own.model.state_dict().items()}
    assert math.isfinite(own._loss_of_best(3))
    assert all(torch.equal(value, before[name]) for name, value in own.model.state_dict().items())


def test_a_run_without_a_known_end_has_no_tail(tiny):
    with pytest.raises(InputError, match="importance: expected 1 with a constant learning rate"):
        a_trainer(tiny, schedule="constant")
    with pytest.raises(InputError, match="importance: expected a whole number from 1"):
        a_trainer(tiny, importance=0)
    assert Tail.of(1, 10, 0, Schedule()).samples_in(10) == 1


def test_a_recipe_with_a_tail_takes_a_constant_rate_without_it():
    assert RECIPES["fast"].options["importance"] > 1
    assert training_options("fast", 1000, {})["importance"] == RECIPES["fast"].options["importance"]
    assert training_options("fast", 1000, {"schedule": "constant"})["importance"] == 1
    assert bype.Config("digits", recipe="fast", schedule="constant").importance == 1
