"""Results do not depend on what the caller has set in torch, and those settings are as before afterwards."""

import contextlib
import json

import pytest
import torch

import bype
from bype.export import export_coreset
from bype.pseudocoreset import Algorithm2


@contextlib.contextmanager
def default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        assert torch.get_default_dtype() == dtype, "the caller's setting is as it was"
        torch.set_default_dtype(before)


@contextlib.contextmanager
def default_device(device):
    torch.set_default_device(device)
    try:
        yield
        assert torch.get_default_device().type == device
    finally:
        torch.set_default_device(None)


@contextlib.contextmanager
def matmul_precision(value):
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(value)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@contextlib.contextmanager
def deterministic():
    torch.use_deterministic_algorithms(True)
    try:
        yield
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)


KINDS = [("standard", "gaussian"), ("bype", "gaussian"), ("exemplar", "bernoulli")]
STATES = {
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "default dtype float64": lambda: default_dtype(torch.float64),
    "default dtype bfloat16": lambda: default_dtype(torch.bfloat16),
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "default device meta": lambda: default_device("meta"),
    "matmul precision": lambda: matmul_precision("medium"),
    "deterministic": deterministic,
}


def everything(tmp_path, prior, likelihood):
    """The results of the public functions, as tensors and numbers."""
    data = bype.load("digits")
    few = bype.from_arrays(data.test.stored().numpy(), data.test.labels, levels=17)
    model = bype.build_model(
        few, prior=prior, likelihood=likelihood, latent_dim=3, hidden_dim=16, n_components=8, exemplars=20
    )
    strategy = Algorithm2(steps=2) if prior == "bype" else None
    history = bype.train(model, few, epochs=2, warmup=1, batch_size=30, coreset_interval=1, strategy=strategy)
    generator = torch.Generator().manual_seed(0)
    x = few.test.scaled()
    results = {
        "losses": [info.val_loss for info in history],
        "weights": torch.cat([p.detach().flatten() for p in model.parameters()]).double().sum().item(),
        "evaluate": bype.evaluate(model, few, n_samples=5, ks=[3]),
        "log_likelihood": bype.log_likelihood(model, few.test, 5).tolist(),
        "iwae": bype.iwae(model, x, 5, generator=generator).tolist(),
        "elbo": [t.tolist() for t in bype.elbo(model, x, generator=generator)[:2]],
        "sample": model.sample(5, generator=generator).images.tolist(),
        "like": model.sample(3, like=x[0], generator=generator).images.tolist(),
        "reconstruct": model.reconstruct(x).tolist(),
        "interpolate": bype.interpolate(model, x[:2], x[2:4], 3).tolist(),
        "refit": bype.refit(model, few, points=9).log_scale.item(),
        "em": bype.refit(model, few, em=4).log_scale.item(),
    }
    if prior == "bype":
        results["plates"] = bype.plates(model, 3, 4, generator=generator).images.tolist()
        results["coreset"] = {k: v for k, v in export_coreset(model, few, tmp_path).items() if k != "out"}
    return json.loads(json.dumps(results))


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    return {kind: everything(tmp_path_factory.mktemp("plain"), *kind) for kind in KINDS}


@pytest.mark.parametrize(
    "kind", [("standard", "gaussian"), ("bype", "gaussian"), ("exemplar", "bernoulli")], ids="-".join
)
@pytest.mark.parametrize("state", STATES)
def test_every_result_has_the_same_bits_under_every_state(expected, tmp_path, state, kind):
    with STATES[state]():
        results = everything(tmp_path, *kind)
    assert results.keys() == expected[kind].keys()
    for name, value in results.items():
        if state in ("no_grad", "inference_mode") and name in ("iwae", "elbo") and kind[0] != "standard":
            # A bound whose gradient is asked for rounds otherwise: it keeps the affine form of the mixture.
            assert torch.tensor(value).allclose(torch.tensor(expected[kind][name]), rtol=1e-5, atol=1e-4), name
        else:
            assert value == expected[kind][name], name


@pytest.mark.parametrize("state", ["no_grad", "autocast", "default dtype float64"])
def test_a_bound_keeps_the_caller_s_grad_mode(tiny, state):
    model = bype.build_model(tiny, n_components=4, latent_dim=2, hidden_dim=8)
    x = tiny.test.scaled()
    with STATES[state]():
        bound = bype.iwae(model, x, 3)
        assert bound.requires_grad == (state != "no_grad")
        assert bound.dtype == torch.float32
    x = x.clone().requires_grad_()
    bype.elbo(model, x).bound().sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_a_model_built_under_inference_mode_can_be_trained(tiny):
    with torch.inference_mode():
        model = bype.build_model(tiny, n_components=4, latent_dim=2, hidden_dim=8)
    assert len(bype.train(model, tiny, epochs=1)) == 1


def test_frozen_parts_train(tiny):
    """With the decoder frozen there is no gradient to call it dead by."""
    model = bype.build_model(tiny, n_components=4, latent_dim=2, hidden_dim=8)
    model.decoder.requires_grad_(False)
    before = [p.clone() for p in model.decoder.parameters()]
    history = bype.train(model, tiny, epochs=2, warmup=1)
    assert history[1].loss < history[0].loss or len(history) == 2
    assert all(torch.equal(a, b) for a, b in zip(before, model.decoder.parameters(), strict=True))
