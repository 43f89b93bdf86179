import pytest
import torch

from bype.distributions import affine, mixtures
from bype.distributions.mixtures import DiagonalMixture, IsotropicMixture


def case(kind, rows=700, components=2100, dim=3):
    g = torch.Generator().manual_seed(0)
    draw = {"generator": g, "dtype": torch.float64}
    z, loc = torch.randn(rows, dim, **draw) * 2, torch.randn(components, dim, **draw)
    scale = torch.rand(() if kind is IsotropicMixture else (components, dim), **draw) + 0.5
    log_weights = torch.randn(components, **draw).log_softmax(0)
    return [t.requires_grad_() for t in (z, loc, scale, log_weights)]


def value_and_gradients(kind, inputs):
    z, *parameters = inputs
    value = kind(*parameters).log_prob(z)
    weights = torch.linspace(-1, 2, len(value), dtype=value.dtype)
    return value.detach(), torch.autograd.grad(value @ weights, inputs)


@pytest.mark.parametrize("kind", [IsotropicMixture, DiagonalMixture])
def test_densities_and_gradients_in_tiles_are_those_of_the_whole_matrix(kind, monkeypatch):
    inputs = case(kind)  # neither size is a multiple of the tile's
    value, gradients = value_and_gradients(kind, inputs)
    monkeypatch.setattr(mixtures, "HELD_TERMS", 0)
    tiled, tiled_gradients = value_and_gradients(kind, inputs)
    torch.testing.assert_close(tiled, value, rtol=1e-12, atol=1e-12)
    for a, b in zip(tiled_gradients, gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)


def test_gradients_in_tiles_agree_with_finite_differences(monkeypatch):
    monkeypatch.setattr(mixtures, "HELD_TERMS", 0)
    monkeypatch.setattr(affine, "TILES", {"cpu": (2, 3)})
    inputs = case(IsotropicMixture, rows=5, components=7, dim=2)
    assert torch.autograd.gradcheck(lambda z, *parameters: IsotropicMixture(*parameters).log_prob(z), inputs)


def test_components_without_weight_have_no_gradient_in_tiles(monkeypatch):
    monkeypatch.setattr(mixtures, "HELD_TERMS", 0)
    monkeypatch.setattr(affine, "TILES", {"cpu": (2, 3)})
    z, loc, scale, log_weights = case(IsotropicMixture, rows=5, components=7, dim=2)
    left_out = log_weights.detach().clone()
    left_out[:3] = -torch.inf  # a whole tile
    value = IsotropicMixture(loc, scale, left_out).log_prob(z)
    torch.testing.assert_close(value, IsotropicMixture(loc[3:], scale, left_out[3:]).log_prob(z))
    (gradient,) = torch.autograd.grad(value.sum(), loc)
    assert gradient[:3].eq(0).all()
    assert gradient[3:].ne(0).all()


def test_no_matrix_over_all_rows_and_components_is_held():
    inputs = [t.detach().float().requires_grad_() for t in case(IsotropicMixture, rows=3000, components=5000)]
    held = []

    def pack(tensor):
        held.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        z, *parameters = inputs
        IsotropicMixture(*parameters).log_prob(z).sum().backward()
    assert max(held) == 3 * 5000, "the largest tensor kept for the backward pass is that of the means"
