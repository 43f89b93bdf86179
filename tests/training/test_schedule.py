"""Learning-rate schedules and weight averaging."""

import math

import pytest
import torch

import bype
from bype.core.errors import InputError
from bype.models.vae import VAE
from bype.training.averaging import WeightAverage
from bype.training.optim import NormalizedAdam
from bype.training.schedule import Schedule
from bype.training.trainer import Trainer

SMALL = {"n_components": 6, "exemplars": 10, "latent_dim": 3, "hidden_dim": 6}


def trainer(data, prior="bype", coreset="none", **options):
    model = bype.build_model(data, prior=prior, coreset=coreset, **SMALL)
    return Trainer(model, data, strategy=coreset if prior == "bype" else None, batch_size=20, **options)


def test_factors_are_the_formulas():
    cosine, linear = Schedule("cosine", 8), Schedule("linear", 8)
    assert [cosine.factor(t) for t in (0, 4, 8)] == pytest.approx([1, 0.5, 0])
    assert cosine.factor(2) == pytest.approx((1 + math.sqrt(0.5)) / 2)
    assert [linear.factor(t) for t in (0, 2, 8, 9)] == [1, 0.75, 0, 0]
    assert [Schedule("constant", 8, 4).factor(t) for t in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]
    assert Schedule("linear", 8, 4).factor(1) == 0.5 * 7 / 8
    with pytest.raises(InputError, match="schedule: expected one of constant, linear, cosine, got 'step'"):
        Schedule("step")


def test_every_group_has_its_rate_times_the_factor_at_every_step(tiny, monkeypatch):
    seen = []

    def record(self, *args, **options):
        seen.append([group["lr"] for group in self.param_groups])

    monkeypatch.setattr(NormalizedAdam, "step", record)
    own = trainer(tiny, coreset="elbo", epochs=4, warmup=0, lr=0.01, schedule="cosine", lr_warmup=1)
    for _ in own:
        pass
    per_epoch = own.steps_per_epoch
    assert len(seen) == 4 * per_epoch
    for t, rates in enumerate(seen):
        factor = min(1, (t + 1) / per_epoch) * (1 + math.cos(math.pi * t / (4 * per_epoch))) / 2
        assert rates == pytest.approx([0.01 * factor, 1e-3 * factor])


def test_a_constant_rate_is_never_set(tiny, monkeypatch):
    monkeypatch.setattr(NormalizedAdam, "scale_rates", lambda *_: pytest.fail("set"))
    trainer(tiny, epochs=2, warmup=0).run_epoch()


def test_the_average_is_its_formula_and_forgets_the_initial_weights(tiny):
    model = bype.build_model(tiny, prior="standard", **SMALL).double()
    average = WeightAverage(model, 0.9)
    p, expected = model.encoder, {k: v.clone() for k, v in average.tensors.items()}
    for t in range(1, 120):
        with torch.no_grad():
            for q in p.parameters():
                q.add_(0.01 * t)
        average.update(t - 1)
        d = min(0.9, t / (t + 9))
        expected = {k: d * v + (1 - d) * model.get_parameter(k) for k, v in expected.items()}
    for name, value in expected.items():
        torch.testing.assert_close(average.tensors[name], value)


@pytest.mark.parametrize("coreset", ["none", "paper", "elbo"])
def test_averaging_does_not_change_training(tiny, coreset):
    options = {"coreset": coreset, "epochs": 4, "warmup": 1, "coreset_interval": 2, "lr": 0.01}
    plain, averaged = trainer(tiny, **options), trainer(tiny, averaging=0.9, **options)
    plain_losses, averaged_losses = ([info.val_loss for info in t] for t in (plain, averaged))
    own, other = plain.state()[0], averaged.state()[0]
    assert all(torch.equal(value, other[name]) for name, value in own.items())
    assert plain_losses != averaged_losses


@pytest.mark.parametrize("coreset", ["paper", "elbo"])
def test_the_best_model_is_the_average_with_the_points_it_was_validated_with(tiny, coreset):
    own = trainer(tiny, coreset=coreset, epochs=4, warmup=0, coreset_interval=2, lr=0.01, averaging=0.9)
    losses = [info.val_loss for info in own]
    assert own.average is not None
    if own.best_epoch == own.epoch:
        for name, value in own.average.tensors.items():
            torch.testing.assert_close(own.best_state[name], value)
    own.load_best()
    own.average = None  # validate the model as it is
    assert own.validate() == min(losses)
    weights = own.model.prior.pseudocoreset.weights
    torch.testing.assert_close(weights.sum(), weights.new_tensor(float(len(tiny.train))))
    if coreset == "elbo":
        torch.testing.assert_close(weights, len(tiny.train) * own.model.prior.log_weights.softmax(0))


def test_after_validation_the_model_has_its_own_weights_again_even_after_an_error(tiny, monkeypatch):
    own = trainer(tiny, coreset="elbo", epochs=3, warmup=0, averaging=0.9)
    own.run_epoch()
    before = {k: v.clone() for k, v in own.model.state_dict().items()}
    own.validate()
    with own.average.applied():
        assert not torch.equal(own.model.state_dict()["prior.log_scale"], before["prior.log_scale"])
    monkeypatch.setattr("bype.training.trainer.validation_bound", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        own.validate()
    assert all(torch.equal(value, before[name]) for name, value in own.model.state_dict().items())


def test_a_rate_that_falls_to_zero_trains_to_the_end_and_an_average_stops_early(tiny, monkeypatch):
    losses = iter([3.0, 2.0, *[2.5] * 20])
    monkeypatch.setattr(Trainer, "validate", lambda _: next(losses))
    assert len(list(trainer(tiny, epochs=8, warmup=0, patience=2, schedule="cosine"))) == 8
    losses = iter([3.0, 2.0, *[2.5] * 20])
    assert len(list(trainer(tiny, epochs=8, warmup=0, patience=2, averaging=0.9))) == 4


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"schedule": "step"}, "schedule: expected one of"),
        ({"averaging": 1.0}, "averaging: expected below 1, got 1.0"),
        ({"averaging": -0.1}, "averaging: expected a number of at least 0"),
        ({"lr_warmup": -1}, "lr_warmup: expected"),
    ],
)
def test_schedules_out_of_range_are_refused(tiny, option, message):
    with pytest.raises(InputError, match=message):
        trainer(tiny, **option)


def test_train_takes_a_recipe_and_single_options_override_it(tiny, monkeypatch):
    seen = {}
    monkeypatch.setattr(Trainer, "__iter__", lambda self: seen.update(vars(self)) or iter(()))
    model: VAE = bype.build_model(tiny, prior="standard", **SMALL)
    bype.train(model, tiny, recipe="fast", lr=0.02, epochs=50)
    assert (seen["schedule"].kind, seen["epochs"], seen["warmup"]) == ("linear", 50, 10)
    assert seen["optimizer"].param_groups[0]["lr"] == 0.02
    bype.train(model, tiny, recipe="paper")
    assert (seen["schedule"].kind, seen["epochs"], seen["warmup"]) == ("constant", 4000, 100)
    with pytest.raises(InputError, match="--recipe: expected one of paper, fast, got 'slow'"):
        bype.train(model, tiny, recipe="slow")
