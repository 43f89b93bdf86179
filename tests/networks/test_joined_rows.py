"""The rows [x; points] of a first layer: all gradients but the one that nothing needs."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from bype.data.tables import Column, TableSpec
from bype.networks.mlp import MLPEncoder
from bype.networks.tables import TableEncoder

SHAPE, HIDDEN, D, B, M = (1, 3, 4), 5, 2, 7, 6


def images(n, seed, dtype):
    return torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(seed)).to(dtype)


def an_encoder(dtype=torch.float64):
    torch.manual_seed(0)
    return MLPEncoder(SHAPE, HIDDEN, D).to(dtype)


def gradients(encoder, features, x, points):
    weights = torch.linspace(-1, 2, features.numel()).view_as(features)
    wanted = [*encoder.hidden.parameters(), points] + [t for t in (x,) if t.requires_grad]
    return torch.autograd.grad((weights * features.float().square()).sum(), wanted)


@pytest.mark.parametrize("learned", [True, False])
@pytest.mark.parametrize("bf16", [False, True])
def test_features_and_gradients_are_those_of_the_concatenated_rows(learned, bf16):
    dtype = torch.float32 if bf16 else torch.float64
    encoder, x, points = an_encoder(dtype), images(B, 1, dtype), images(M, 2, dtype).requires_grad_()
    given = points if learned else points.detach()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        joined, plain = encoder.joined_features(x, given), encoder.features(torch.cat([x, given]))
    assert joined.dtype == plain.dtype
    assert torch.equal(joined, plain)
    if learned:
        for own, other in zip(*(gradients(encoder, f, x, points) for f in (joined, plain)), strict=True):
            assert own.dtype == other.dtype
            torch.testing.assert_close(own, other, rtol=2e-2 if bf16 else 1e-12, atol=1e-6)


def test_the_gradient_passes_finite_differences():
    encoder, x, points = an_encoder(), images(2, 1, torch.float64), images(3, 2, torch.float64).requires_grad_()

    def features(points, *_):
        return encoder.joined_features(x, points)

    assert torch.autograd.gradcheck(features, (points, *encoder.hidden.parameters()))


def test_an_image_whose_gradient_is_wanted_has_it():
    encoder, points = an_encoder(), images(M, 2, torch.float64).requires_grad_()
    x = images(B, 1, torch.float64).requires_grad_()
    pairs = zip(
        gradients(encoder, encoder.joined_features(x, points), x, points),
        gradients(encoder, encoder.features(torch.cat([x, points])), x, points),
        strict=True,
    )
    assert all(torch.equal(own, other) for own, other in pairs)


def test_the_product_for_the_gradient_of_x_is_left_out():
    encoder, x, points = an_encoder(), images(B, 1, torch.float64), images(M, 2, torch.float64).requires_grad_()
    counts = []
    for features in (encoder.joined_features, lambda x, points: encoder.features(torch.cat([x, points]))):
        with FlopCounterMode(display=False) as counter:
            features(x, points).square().sum().backward()
        counts.append(counter.get_total_flops())
    assert counts[1] - counts[0] == 2 * B * 12 * 2 * HIDDEN


def test_rows_of_a_table_are_standardised_first():
    table = TableSpec((Column("a", "normal", span=3.0), Column("b", "binary")))
    encoder = TableEncoder(table, HIDDEN, D).double()
    x, points = (torch.rand(n, *table.shape, dtype=torch.float64) for n in (B, M))
    points.requires_grad_()
    assert torch.equal(encoder.joined_features(x, points), encoder.features(torch.cat([x, points])))
    assert torch.equal(encoder.features(x), encoder.hidden(torch.tensor([3.0, 2.0]) * (x.flatten(1) - 0.5)))
