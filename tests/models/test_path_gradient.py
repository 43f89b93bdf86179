"""The gradient of log q(z|x) along the path of z: the same values, the same expectation, less noise."""

import numpy as np
import pytest
import torch

import bype
from bype.core.errors import InputError
from bype.distributions.normal import DiagonalNormal
from bype.models.objectives import elbo
from bype.training.trainer import Trainer

SMALL = {"n_components": 6, "exemplars": 10, "latent_dim": 3, "hidden_dim": 6}


def gradients(loc, scale, noise, path, log_p):
    """The gradients of log q(z) - log p(z) with respect to the mean and the scale, for each row of noise."""
    loc, scale = (t.expand(len(noise), -1).clone().requires_grad_() for t in (loc, scale))
    z, log_q = DiagonalNormal(loc, scale).rsample_and_log_prob(noise, path=path)
    return torch.autograd.grad((log_q - log_p(z)).sum(), (loc, scale))


def test_where_q_is_the_posterior_every_sample_has_gradient_zero():
    loc, scale = torch.tensor([0.3, -1.0]).double(), torch.tensor([0.5, 2.0]).double()
    noise = torch.randn(50, 2, generator=torch.Generator().manual_seed(0)).double()
    log_p = DiagonalNormal(loc, scale).log_prob
    for g in gradients(loc, scale, noise, True, log_p):
        assert torch.allclose(g, torch.zeros_like(g), atol=1e-12)
    assert max(g.abs().max() for g in gradients(loc, scale, noise, False, log_p)) > 1


def test_the_expectation_is_that_of_the_total_gradient():
    # By Gauss-Hermite quadrature, which is exact for these polynomials: log p is of degree 4.
    nodes, weights = np.polynomial.hermite_e.hermegauss(8)
    noise = torch.from_numpy(nodes)[:, None]
    weights = torch.from_numpy(weights / weights.sum())
    loc, scale = torch.tensor([0.7], dtype=torch.float64), torch.tensor([1.3], dtype=torch.float64)

    def log_p(z):
        return (-0.1 * z**4 + 0.3 * z**3 - z).sum(-1)

    means = [[float(weights @ g[:, 0]) for g in gradients(loc, scale, noise, path, log_p)] for path in (True, False)]
    assert means[0] == pytest.approx(means[1], abs=1e-12)
    own = gradients(loc, scale, noise, True, lambda z: 0 * z.sum(-1))
    entropy = [float(weights @ g[:, 0]) for g in own]
    assert entropy == pytest.approx([0, -1 / 1.3], abs=1e-12)  # of log q alone


@pytest.mark.parametrize("arch", ["vae", "hvae"])
@pytest.mark.parametrize("prior", ["standard", "vamp", "exemplar", "bype"])
def test_the_bound_has_the_same_value(tiny, arch, prior):
    model = bype.build_model(tiny, arch=arch, prior=prior, **SMALL).double()
    x, rows = tiny.train.first(8).scaled().double(), torch.arange(8)
    both = [elbo(model, x, index=rows, generator=torch.Generator().manual_seed(1), path=path) for path in (True, False)]
    assert torch.allclose(both[0].bound(), both[1].bound(), rtol=0, atol=1e-10)


@pytest.mark.parametrize("arch", ["vae", "hvae"])
def test_gradients_of_a_model_agree_on_average_and_those_of_the_decoder_exactly(tiny, arch):
    model = bype.build_model(tiny, arch=arch, prior="standard", likelihood="mse", **SMALL).double()
    x = tiny.train.first(4).scaled().double().repeat(2000, 1, 1, 1)
    grads = []
    for path in (True, False):
        model.zero_grad()
        elbo(model, x, generator=torch.Generator().manual_seed(1), path=path).bound().mean().backward()
        grads.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    encoders = 0
    for name, total in grads[1].items():
        if name.startswith("decoder"):
            assert torch.allclose(grads[0][name], total, atol=1e-12), name
        else:
            assert (grads[0][name] - total).norm() < 0.1 * total.norm() + 0.01, name
            encoders += not torch.equal(grads[0][name], total)
    assert encoders


def test_a_trainer_uses_the_gradient_that_it_is_told(tiny):
    weights = []
    for gradient in ("total", "path", "path"):
        model = bype.build_model(tiny, prior="bype", coreset="none", seed=0, **SMALL)
        Trainer(model, tiny, epochs=1, warmup=0, batch_size=20, gradient=gradient).run_epoch()
        weights.append(model.encoder.loc_head.weight.detach().clone())
    assert torch.equal(weights[1], weights[2])
    assert not torch.equal(weights[0], weights[1])
    with pytest.raises(InputError, match="gradient: expected one of total, path, got 'none'"):
        Trainer(model, tiny, gradient="none")
