import copy
import math
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

import bype
from bype.core.errors import InputError, TrainingError
from bype.core.names import STRATEGIES
from bype.core.seeds import Stream
from bype.models.objectives import elbo
from bype.pseudocoreset.paper import Algorithm2
from bype.pseudocoreset.strategy import Strategy
from bype.training.optim import NormalizedAdam
from bype.training.trainer import Trainer
from bype.training.validation import validation_bound

PRIORS = ["standard", "vamp", "exemplar", "bype"]


def model_for(data, prior="bype", **options):
    return bype.build_model(
        data, prior=prior, **({"n_components": 8, "exemplars": 12, "latent_dim": 3, "hidden_dim": 16} | options)
    )


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("flat", [False, True])
def test_one_step_of_normalised_adam_is_the_formula(flat):
    torch.manual_seed(0)
    image = torch.randn(2, 3, 4, 5, dtype=torch.float64).to(memory_format=torch.channels_last)
    start = [torch.randn(3, 4, dtype=torch.float64), image, torch.randn((), dtype=torch.float64)]
    params = [torch.nn.Parameter(t.clone()) for t in start]
    optimizer = NormalizedAdam(params, lr=0.01)
    optimizer.flat = flat
    m, v = [torch.zeros_like(t) for t in start], [torch.zeros_like(t) for t in start]
    for t in range(1, 6):
        grads = [torch.randn_like(p) * 10**t for p in start]
        for p, g in zip(params, grads, strict=True):
            p.grad = g.clone()
        optimizer.step()
        for i, g in enumerate(grads):
            g = g / (g.norm() + 1e-7)
            m[i] = 0.9 * m[i] + 0.1 * g
            v[i] = 0.999 * v[i] + 0.001 * g**2
            start[i] = start[i] - 0.01 * (m[i] / (1 - 0.9**t)) / ((v[i] / (1 - 0.999**t)).sqrt() + 1e-8)
            torch.testing.assert_close(params[i].detach(), start[i])


def test_a_single_parameter_can_be_trained():
    p = torch.nn.Parameter(torch.ones(2))
    optimizer = NormalizedAdam([p], lr=0.5)
    p.grad = torch.tensor([3.0, 4.0])
    optimizer.step()
    assert p.tolist() == pytest.approx([0.5, 0.5])


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_step_with_a_bad_gradient_changes_nothing(bad, flat):
    p = [torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.ones(2))]
    optimizer = NormalizedAdam(p, lr=0.1)
    optimizer.flat = flat

    def step(value):
        p[0].grad, p[1].grad = torch.tensor([1.0, value, 1.0]), torch.ones(2)
        optimizer.step()

    step(1.0)
    before = [t.detach().clone() for t in p]
    state = copy.deepcopy(optimizer.state_dict()["state"])
    step(bad)
    assert optimizer.found_inf == 1
    assert all(torch.equal(a, b) for a, b in zip(before, p, strict=True))
    after = optimizer.state_dict()["state"]
    assert all(torch.equal(state[i][k], after[i][k]) for i in state for k in state[i])
    step(1.0)
    assert optimizer.found_inf == 0
    assert not torch.equal(before[0], p[0])


def test_dense_weights_are_initialised_as_requested():
    data = bype.from_arrays(torch.zeros(20, 20, 20).byte().numpy())
    for init, variance in (("he", 2 / 400), ("glorot", 2 / (400 + 300))):
        encoder = bype.build_model(data, prior="standard", init=init).encoder
        assert encoder.hidden[0].affine.weight.var().item() == pytest.approx(variance, rel=0.02)


def test_every_dense_layer_of_two_levels_is_initialised_as_requested():
    data = bype.from_arrays(torch.zeros(20, 20, 20).byte().numpy())
    layers = {}
    for init in ("he", "glorot"):
        model = bype.build_model(data, arch="hvae", prior="standard", init=init)
        layers[init] = {name: m for name, m in model.named_modules() if isinstance(m, torch.nn.Linear)}
    assert any(name.startswith("lower") for name in layers["he"])
    for name, he in layers["he"].items():
        n_in, n_out = he.in_features, he.out_features // (2 if name.endswith("affine") else 1)
        assert he.weight.var().item() == pytest.approx(2 / n_in, rel=0.1), name
        assert layers["glorot"][name].weight.var().item() == pytest.approx(2 / (n_in + n_out), rel=0.1), name


def test_one_seed_gives_the_same_networks_under_every_prior_and_leaves_global_randomness_alone(tiny):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    models = [model_for(tiny, prior) for prior in PRIORS]
    assert torch.equal(torch.rand(3), expected)
    for model in models[1:]:
        assert same(models[0].encoder.state_dict(), model.encoder.state_dict())
        assert same(models[0].decoder.state_dict(), model.decoder.state_dict())


def test_pseudo_inputs_start_at_distinct_training_examples(tiny):
    u = model_for(tiny, n_components=48).prior.pseudo_inputs
    assert len(u.flatten(1).unique(dim=0)) == 48
    items = tiny.train.scaled().flatten(1)
    assert (torch.cdist(u.flatten(1), items).amin(1) < 1e-6).all()
    noise = (
        torch.cdist(model_for(tiny, "vamp").prior.pseudo_inputs.detach().flatten(1), items).amin(1) / 20**0.5
    ).mean()
    assert 0.007 < noise < 0.013, "the pseudo-inputs of vamp carry noise of 0.01"


def test_binarisation_changes_every_epoch_in_training_and_never_in_validation(tiny, monkeypatch):
    seen = {True: [], False: []}

    def spy(model, x, **options):
        seen[model.training].append(x)
        return elbo(model, x, **options)

    monkeypatch.setattr("bype.training.step.elbo", spy)
    monkeypatch.setattr("bype.training.validation.elbo", spy)
    trainer = Trainer(model_for(tiny, likelihood="bernoulli"), tiny, batch_size=48, seed=3)
    for _ in range(2):
        trainer.run_epoch()
    for x in seen[True] + seen[False]:
        assert set(x.unique().tolist()) == {0.0, 1.0}
    first, second = (x.flatten(1).sum(1).sort().values for x in seen[True])
    assert not torch.equal(first, second)
    assert torch.equal(*seen[False])


def test_the_loss_before_an_update_is_that_of_the_points_before_it(tiny):
    class Blacken(Strategy):
        def update(self, model, data, generator):
            self.before = trainer.validate()
            model.prior.pseudo_inputs.zero_()
            return {}

    trainer = Trainer(model_for(tiny), tiny, strategy=Blacken(), coreset_interval=1)
    info = trainer.run_epoch()
    assert info.coreset["val_loss_before_update"] == trainer.strategy.before != info.val_loss


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": 200.0}, r"epoch 1, before step \(ii\): expected a finite validation loss, got nan; .* a lower --lr"),
        (
            {"strategy": Algorithm2(steps=3, lr=math.inf)},
            r"epoch 1, step \(ii\): expected finite values in prior\.\w+, got \d+ of \d+ non-finite",
        ),
    ],
)
def test_step_two_after_divergence_ends_training_and_names_the_cause(tiny, options, message):
    trainer = Trainer(model_for(tiny, likelihood="gaussian"), tiny, coreset_interval=1, epochs=9, **options)
    with pytest.raises(TrainingError, match=message):
        list(trainer)


def test_a_huge_rate_of_step_two_leaves_points_and_weights_in_their_range(tiny):
    trainer = Trainer(model_for(tiny), tiny, coreset_interval=1, strategy=Algorithm2(steps=5, lr=1e20))
    trainer.run_epoch()
    weights, points = trainer.model.prior.weights, trainer.model.prior.pseudo_inputs
    assert weights.sum().item() == pytest.approx(48)
    assert weights.min() >= 0
    assert 0 <= points.min() <= points.max() <= 1


def test_the_means_of_an_epoch_leave_out_skipped_examples(tiny, monkeypatch):
    trainer = Trainer(model_for(tiny, "standard"), tiny, batch_size=16, lr=0.0, seed=1)
    sums, steps = [], []
    network_step = trainer.steps.network_step

    def spoiled(index, beta):
        info = network_step(index, beta)
        if len(steps) == 1:
            trainer.optimizer.found_inf.fill_(1)
        else:
            sums.append(info)
        steps.append(index)
        return info

    monkeypatch.setattr(trainer.steps, "network_step", spoiled)
    info = trainer.run_epoch()
    assert info.skipped_steps == 1
    assert info.kl == pytest.approx(sum(s.kl.item() for s in sums) / 32, rel=1e-5)


@pytest.mark.parametrize("prior", PRIORS)
def test_training_lowers_the_validation_loss_and_keeps_the_best(tiny, prior):
    model = model_for(tiny, prior)
    trainer = Trainer(model, tiny, epochs=30, warmup=5, batch_size=16, lr=3e-3)
    start = trainer.validate()
    infos = list(trainer)
    assert infos[-1].val_loss < start - 1
    losses = [i.val_loss for i in infos]
    assert [i.best for i in infos] == [loss < min([float("inf"), *losses[:k]]) for k, loss in enumerate(losses)]
    trainer.load_best()
    assert trainer.validate() == min(losses), "the best state is the one that was scored"


def test_the_loss_is_its_parts_and_beta_rises_linearly(tiny):
    infos = list(Trainer(model_for(tiny), tiny, epochs=6, warmup=4, batch_size=20))
    assert [i.beta for i in infos] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    for i in infos:
        assert i.loss == pytest.approx(i.reconstruction + i.beta * i.kl)
    assert next(iter(Trainer(model_for(tiny), tiny, warmup=0))).beta == 1.0


def test_beta_changes_the_step(tiny):
    states = []
    for beta in (0.1, 1.0):
        trainer = Trainer(model_for(tiny), tiny)
        trainer.steps.network_step(torch.arange(20), beta)
        states.append(trainer.model.state_dict())
    assert not same(*states)


@pytest.mark.parametrize("prior", PRIORS)
def test_the_same_seed_gives_the_same_bits_and_another_seed_others(tiny, prior):
    def run(seed):
        trainer = Trainer(model_for(tiny, prior), tiny, epochs=3, warmup=2, batch_size=16, seed=seed)
        list(trainer)
        return trainer.state()[0]

    a, b, c = run(0), run(0), run(1)
    assert same(a, b)
    assert not same(a, c)


def test_validation_is_minus_the_bound_of_the_validation_examples(tiny):
    model = model_for(tiny)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        bound = elbo(
            model.eval(), tiny.validation.scaled(), prior=model.prior(model.encoder), generator=generator
        ).bound()
    assert validation_bound(model, tiny.validation, 5) == pytest.approx(bound.mean().item(), rel=1e-6)
    assert Trainer(model, tiny).validate() == -validation_bound(model, tiny.validation, Stream.VALIDATION)


def test_validation_noise_is_fixed(tiny):
    model = model_for(tiny)
    assert validation_bound(model, tiny.validation, 3) == validation_bound(model, tiny.validation, 3)
    assert validation_bound(model, tiny.validation, 3) != validation_bound(model, tiny.validation, 4)


def test_early_stopping_counts_after_the_warm_up(tiny):
    trainer = Trainer(model_for(tiny), tiny, epochs=100, warmup=6, patience=3)
    values = iter([5.0, 4.0, *[9.0] * 98])
    trainer.validate = lambda: next(values)
    infos = list(trainer)
    assert len(infos) == 9, "best at 2, warm-up to 6, three more"
    assert trainer.best_epoch == 2


def test_a_short_last_batch_counts_by_its_examples(tiny):
    # With a learning rate of 0 the networks do not change, so the mean over examples depends on the batch size
    # only through the noise; a mean of batch means would differ clearly.
    def loss(batch_size):
        return next(iter(Trainer(model_for(tiny, "standard"), tiny, batch_size=batch_size, lr=0.0, warmup=0))).loss

    assert loss(47) == pytest.approx(loss(48), rel=0.1)


def test_training_ends_and_names_the_tensor_when_nothing_is_finite(tiny):
    model = model_for(tiny)
    with torch.no_grad():
        model.decoder.output.bias.fill_(torch.nan)
    trainer = Trainer(model, tiny, batch_size=4)
    with pytest.raises(
        TrainingError, match=r"epoch 1, step 1: expected a finite .* 12 .*: parameter decoder\.output\.bias;"
    ):
        trainer.run_epoch()


def _spoil(trainer, steps):
    """Makes the gradients of these steps, counted from 1 over all epochs, infinite."""
    count, encoder = 0, next(p for n, p in trainer.model.named_parameters() if n.startswith("encoder"))
    plain = trainer.optimizer.step

    def step(*args, **kwargs):
        nonlocal count
        count += 1
        if count in steps:
            encoder.grad.fill_(torch.inf)
        return plain(*args, **kwargs)

    trainer.optimizer.step = step


@pytest.mark.parametrize(("precision", "cause"), [("fp32", "a lower --lr"), ("bf16", "try --precision fp32")])
def test_the_line_names_tensor_epoch_step_and_cause(tiny, precision, cause):
    trainer = Trainer(model_for(tiny), tiny, batch_size=4, precision=precision)  # 12 steps an epoch
    _spoil(trainer, {3, *range(15, 25)})
    assert trainer.run_epoch().skipped_steps == 1
    with pytest.raises(TrainingError, match=rf"epoch 2, step 15: .* 10 consecutive .* of encoder\..*{cause}"):
        trainer.run_epoch()


def test_a_row_of_skipped_steps_runs_over_the_end_of_an_epoch(tiny):
    trainer = Trainer(model_for(tiny), tiny, batch_size=4)
    _spoil(trainer, range(8, 18))
    assert trainer.run_epoch().skipped_steps == 5
    with pytest.raises(TrainingError, match=r"epoch 2, step 8: .* 10 consecutive non-finite steps"):
        trainer.run_epoch()


def test_a_decoder_whose_images_are_stuck_at_the_clamp_is_named_once(tiny, caplog):
    model = model_for(tiny, "standard")
    list(Trainer(model, tiny, epochs=2, warmup=1))
    assert not [r for r in caplog.records if "gradients" in r.getMessage()]
    caplog.clear()
    with torch.no_grad():
        model.decoder.output.bias.fill_(-1e3)
    list(Trainer(model, tiny, epochs=3, warmup=1))
    assert [r.getMessage()[:55] for r in caplog.records] == ["epoch 1: the decoder's gradients are all zero; if the o"]


def test_an_epoch_without_a_single_step_ends_training(tiny):
    trainer = Trainer(model_for(tiny), tiny, batch_size=48)
    _spoil(trainer, {1})
    with pytest.raises(TrainingError, match=r"epoch 1, step 1: .* got 1 consecutive non-finite step:"):
        trainer.run_epoch()


def test_a_validation_loss_that_is_not_finite_ends_training(tiny, monkeypatch):
    trainer = Trainer(model_for(tiny), tiny)
    monkeypatch.setattr(trainer, "validate", lambda: float("nan"))
    with pytest.raises(TrainingError, match="epoch 1, after the last step: expected a finite validation loss, got nan"):
        trainer.run_epoch()


def test_bf16_trains_close_to_fp32_and_keeps_parameters_in_float32(tiny):
    losses = []
    for precision in ("fp32", "bf16"):
        trainer = Trainer(model_for(tiny), tiny, epochs=10, warmup=3, batch_size=16, lr=3e-3, precision=precision)
        losses.append(list(trainer)[-1].val_loss)
        assert all(p.dtype == torch.float32 for p in trainer.model.parameters())
    assert losses[0] != losses[1], "bf16 must do something"
    assert losses[0] == pytest.approx(losses[1], rel=0.05)


@pytest.mark.parametrize(
    ("epochs", "warmup", "lines"),
    [
        (3, 3, []),
        (3, 0, []),
        (3, 100, ["warmup 100: longer than the run of 3 epochs, so that the kept epoch has beta < 1 (at most 0.03); "]),
        (5, 5, ["warmup 5: the kept epoch 2 is within the warm-up and has beta 0.4 < 1; "]),
    ],
)
def test_a_kept_epoch_within_the_warm_up_is_warned_of_in_one_line(tiny, monkeypatch, caplog, epochs, warmup, lines):
    losses = iter([5.0, 1.0, 2.0, 3.0, 4.0] if epochs == 5 else [3.0, 2.0, 1.0])
    monkeypatch.setattr(Trainer, "validate", lambda self: next(losses))
    trainer = Trainer(model_for(tiny, prior="standard"), tiny, epochs=epochs, warmup=warmup)
    for _ in range(2):  # the second time it is finished
        assert len(list(trainer)) in (epochs, 0)
    assert [r.getMessage() for r in caplog.records if "mse" not in r.getMessage()] == [
        f"{line}choose a lower --warmup" for line in lines
    ]


@pytest.mark.parametrize("fast", [True, False])
def test_bf16_without_instructions_for_it_is_warned_of_in_one_line(tiny, monkeypatch, caplog, fast):
    monkeypatch.setattr("bype.training.trainer.bf16_is_fast", lambda device: fast)
    for precision in ("auto", "fp32", "bf16"):
        Trainer(model_for(tiny), tiny, precision=precision)
    lines = [r.getMessage() for r in caplog.records]
    slow = "precision bf16: this processor has no bfloat16 instructions, so that it is many times slower than fp32"
    assert lines == [] if fast else [slow]


def test_options_out_of_range_are_refused(tiny):
    with pytest.raises(InputError, match="tf32: expected a CUDA device"):
        Trainer(model_for(tiny), tiny, precision="tf32")
    with pytest.raises(InputError, match="batch_size"):
        Trainer(model_for(tiny), tiny, batch_size=0)
    with pytest.raises(InputError, match="expected data of 256 levels, got 17 levels in digits"):
        bype.build_model(bype.load("digits"), likelihood="logistic")
    with pytest.raises(InputError, match="between 1 and the 48 training examples"):
        model_for(tiny, n_components=49)


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli", "logistic"])
def test_other_likelihoods_train(tiny, prior, likelihood):
    trainer = Trainer(model_for(tiny, prior, likelihood=likelihood), tiny, epochs=8, warmup=2, batch_size=16, lr=3e-3)
    infos = list(trainer)
    assert infos[-1].val_loss < infos[0].val_loss


def test_a_checkpoint_of_another_device_type_continues_with_other_noise(tiny, caplog):
    one, two = (Trainer(model_for(tiny, "standard"), tiny, epochs=3, warmup=1) for _ in range(2))
    one.run_epoch()
    tensors, counters = one.state()
    tensors = {k: v.detach().clone() for k, v in tensors.items()}
    tensors["random.generator"] = torch.zeros(16, dtype=torch.uint8)  # as long as a GPU's
    two.load_state(tensors, counters, one.best_state)
    assert "another device type" in caplog.text
    assert two.generator.initial_seed() == two.seed + two.epoch + Stream.OTHER_DEVICE
    infos = one.run_epoch(), two.run_epoch()
    assert infos[0].epoch == infos[1].epoch == 2
    assert infos[0].loss != infos[1].loss
    again = Trainer(model_for(tiny, "standard"), tiny, epochs=3, warmup=1)
    again.load_state(tensors, counters, one.best_state)
    assert again.run_epoch().loss == infos[1].loss


def test_retrieval_with_all_exemplars_is_exact_and_with_few_is_another_run(tiny):
    states = {}
    for retrieve in (None, 12, 2):
        trainer = Trainer(model_for(tiny, "exemplar", retrieve=retrieve), tiny, epochs=2, batch_size=16)
        list(trainer)
        states[retrieve] = trainer.model.state_dict()
    assert same(states[None], states[12])
    assert not same(states[None], states[2])


@pytest.mark.parametrize("user", ["nothing", "legacy", "matmul", "all"])
def test_products_are_full_float32_unless_tf32_is_requested(start, tmp_path, user):
    process = start(_products, user)
    process.join(120)
    assert process.exitcode == 0, (tmp_path / "log").read_text()


def _products(user):
    """Runs in a new process, whose settings are the defaults."""
    from bype.core.precision import product_precision

    backends = torch.backends
    parts = [backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn]
    parts += [backends.mkldnn.matmul, backends.mkldnn.conv]

    def settings():
        return [part.fp32_precision for part in parts]

    if user == "legacy":
        torch.set_float32_matmul_precision("high")
    if user == "matmul":
        backends.cuda.matmul.fp32_precision = "tf32"
    if user == "all":
        backends.fp32_precision = "tf32"
    before = settings()
    with product_precision(tf32=True):
        assert settings() == ["tf32"] * 3 + ["ieee"] * 2, settings()
        with product_precision(tf32=False):
            assert settings() == ["ieee"] * 5, settings()
        assert settings() == ["tf32"] * 3 + ["ieee"] * 2, settings()
    assert settings() == before, settings()
    backends.fp32_precision = "ieee"
    if user in ("nothing", "all"):  # settings inherited from the parent are inherited again
        assert backends.cuda.matmul.fp32_precision == "ieee"
    data = bype.load("digits")
    model = bype.build_model(data, n_components=5, latent_dim=2, hidden_dim=8)
    bype.train(model, data, epochs=1, warmup=0)
    bype.evaluate(model, data, n_samples=1)


def test_training_and_scoring_leave_the_process_as_it_was(tiny):
    from bype.evaluation.likelihood import log_likelihood

    model = model_for(tiny)
    Trainer(model, tiny).run_epoch()
    log_likelihood(model, tiny.test, 2)
    assert sys.float_info.min / 2 > 0, "denormals are not flushed any more"


def test_a_deterministic_run_uses_deterministic_algorithms_only_in_its_steps(tiny, monkeypatch):
    seen = []

    class Seen(Algorithm2):
        def update(self, model, data, generator):
            seen.append(torch.are_deterministic_algorithms_enabled())
            return super().update(model, data, generator)

    for deterministic in (True, False):
        trainer = Trainer(
            model_for(tiny), tiny, deterministic=deterministic, strategy=Seen(steps=1), coreset_interval=1
        )
        after_step = trainer.model.prior.after_step
        monkeypatch.setattr(
            trainer.model.prior,
            "after_step",
            lambda f=after_step: [seen.append(torch.are_deterministic_algorithms_enabled()), f()],
        )
        trainer.run_epoch()
        assert len(seen) > 1
        assert set(seen) == {deterministic}
        assert not torch.are_deterministic_algorithms_enabled()
        seen.clear()


def test_an_operation_that_is_not_deterministic_is_named(tiny, monkeypatch):
    def refuse(index, beta):
        raise RuntimeError("cumsum_cuda_kernel does not have a deterministic implementation\nbut you set ...")

    trainer = Trainer(model_for(tiny), tiny, deterministic=True)
    monkeypatch.setattr(trainer.steps, "network_step", refuse)
    with pytest.raises(bype.InputError, match="got one that is not: cumsum_cuda_kernel does not have a deterministic"):
        trainer.run_epoch()

    def cublas(index, beta):
        raise RuntimeError(
            "Deterministic behavior was enabled ... CuBLAS ... set CUBLAS_WORKSPACE_CONFIG=:4096:8, deterministic"
        )

    monkeypatch.setattr(trainer.steps, "network_step", cublas)
    with pytest.raises(bype.InputError, match="set CUBLAS_WORKSPACE_CONFIG=:4096:8 in the environment before the"):
        trainer.run_epoch()
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("coreset", STRATEGIES)
def test_a_model_is_trained_by_the_strategy_it_was_built_for(tiny, coreset):
    model = model_for(tiny, coreset=coreset)
    before = model.prior.pseudo_inputs.detach().clone()
    assert type(Trainer(model, tiny).strategy) is STRATEGIES[coreset]
    bype.train(model, tiny, epochs=2, warmup=0, coreset_interval=1)
    assert torch.equal(model.prior.pseudo_inputs, before) == (coreset == "none")


def test_a_trainer_takes_a_strategy_by_name_if_it_fits_the_prior(tiny):
    assert type(Trainer(model_for(tiny), tiny, strategy="published").strategy) is STRATEGIES["published"]
    for coreset, strategy, message in (
        ("paper", "elbo", r"strategy elbo: expected a prior built with coreset elbo, got coreset paper"),
        ("elbo", STRATEGIES["none"](), "coreset paper, none or published"),
        ("paper", "papers", "expected one of paper, none, published, elbo, got 'papers'"),
    ):
        with pytest.raises(InputError, match=message):
            Trainer(model_for(tiny, coreset=coreset), tiny, strategy=strategy)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"precision": "fp16"}, "precision: expected one of auto, fp32, tf32, bf16, got 'fp16'"),
        ({"coreset_interval": 0}, "coreset_interval: expected a whole number from 1 to 2.31, got 0"),
        ({"patience": 0}, "patience: expected a whole number from 1"),
        ({"epochs": 2.5}, "epochs: expected a whole number from 1 to 2.31, got 2.5"),
        ({"epochs": True}, "epochs: expected a whole number"),
        ({"seed": 2**64}, "seed: expected a whole number"),
        ({"lr": "1e-3"}, "lr: expected a number of at least 0, got '1e-3'"),
        ({"strategy": STRATEGIES["none"]}, "strategy: expected one of paper, none, published, elbo or a Strategy"),
        ({"lr": -1e-3}, "lr: expected a number of at least 0"),
        ({"lr": math.nan}, "lr: expected a number of at least 0"),
    ],
)
def test_options_out_of_range_are_refused_before_training(tiny, option, message):
    with pytest.raises(InputError, match=message):
        Trainer(model_for(tiny), tiny, **option)


def test_numpy_s_numbers_are_numbers(tiny):
    trainer = Trainer(model_for(tiny), tiny, epochs=np.int64(1), lr=np.float32(1e-3))
    assert len(list(trainer)) == 1


def test_data_that_do_not_fit_the_model_are_refused_by_name(tiny):
    g = torch.Generator().manual_seed(0)
    floats = bype.from_arrays(torch.rand(60, 4, 5, generator=g), name="floats")
    wide = bype.from_arrays(torch.rand(60, 5, 4, generator=g), name="wide")
    more = bype.from_arrays(torch.rand(90, 4, 5, generator=g), name="more")
    turned = replace(tiny, train=replace(tiny.train, pixels=tiny.train.pixels.flip(0)))
    for model, data, message in (
        (model_for(tiny), wide, r"wide: expected images \(1, 4, 5\), got \(1, 5, 4\)"),
        (model_for(tiny, likelihood="logistic"), floats, "expected data of 256 levels, got floats in floats"),
        (model_for(tiny), more, "more: expected the 48 training items of the prior, got 72"),
        (model_for(tiny, "exemplar"), more, "more: expected the 48 training items of the prior, got 72 others"),
        (model_for(tiny, "exemplar"), turned, "tiny: expected the 48 training items of the prior, got 48 others"),
    ):
        with pytest.raises(InputError, match=message):
            Trainer(model, data)
    Trainer(model_for(tiny, "exemplar"), replace(tiny, train=tiny.train.first(20)))
    Trainer(model_for(floats, "exemplar").double(), replace(floats, train=replace(floats.train)))
    with pytest.raises(InputError, match="expected data of 256 levels, got floats in floats"):
        bype.evaluate(model_for(tiny, likelihood="logistic"), floats, n_samples=1)
    for option in ({"latent_dim": 0}, {"hidden_dim": 0}, {"init": "zeros"}):
        with pytest.raises(InputError, match=f"{next(iter(option))}: expected"):
            model_for(tiny, **option)


def test_building_a_model_leaves_every_global_stream_as_it_was(tiny, monkeypatch):
    seeded = []
    monkeypatch.setattr(
        torch.cuda, "manual_seed_all", seeded.append
    )  # torch.manual_seed calls it, immediately or later
    before = torch.get_rng_state()
    a, b = model_for(tiny, seed=3), model_for(tiny, seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    assert seeded == []
    assert same(a.state_dict(), b.state_dict())
    assert not same(a.state_dict(), model_for(tiny, seed=4).state_dict())
