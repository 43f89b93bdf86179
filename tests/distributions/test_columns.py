"""The distribution of a table's rows, against torch's own distributions column by column."""

import math

import pytest
import torch
from torch.distributions import Bernoulli, Normal, OneHotCategorical

from bype.distributions.columns import ColumnLayout, MixedColumns
from bype.distributions.pixels import linear_in_x

SPAN, SD = torch.tensor([12.0, 30.0], dtype=torch.float64), (2.0, 0.1)
LAYOUT = ColumnLayout([0, 4], [1], [(2, 4), (5, 8)], SPAN, math.fsum(map(math.log, SD)))


@pytest.fixture
def p():
    generator = torch.Generator().manual_seed(0)
    output = torch.randn(6, 1, 1, 8, generator=generator, dtype=torch.float64)
    return MixedColumns(output, torch.tensor([0.3, 1.5], dtype=torch.float64), LAYOUT)


def test_the_density_is_that_of_torch_in_the_units_of_the_table(p):
    x = p.sample((3,), generator=torch.Generator().manual_seed(1))
    assert x.shape == (3, 6, 1, 1, 8)
    out, flat = p.output.flatten(1), x.flatten(2)
    expected = Bernoulli(logits=out[:, 1]).log_prob(flat[..., 1])
    for start, stop in LAYOUT.groups:
        expected = expected + OneHotCategorical(logits=out[:, start:stop]).log_prob(flat[..., start:stop])
    for i, (place, sd) in enumerate(zip(LAYOUT.normal, SD, strict=True)):
        value = (flat[..., place] - 0.5) * SPAN[i] * sd + 7.0  # a column of mean 7
        own = Normal(7.0 + sd * out[:, place], sd * p.scale[i])
        expected = expected + own.log_prob(value)
    torch.testing.assert_close(p.log_prob(x), expected, rtol=1e-12, atol=1e-10)


def test_the_density_is_linear_in_the_row_up_to_a_term_free_of_z(p):
    eta, a = linear_in_x(p)
    x, y = p.sample((2,), generator=torch.Generator().manual_seed(2))[:, 0]
    linear = [(eta * row).flatten(1).sum(1) - a for row in (x, y)]
    rest = [p.log_prob(row) - value for row, value in zip((x, y), linear, strict=True)]
    for values in rest:  # the same for all z
        torch.testing.assert_close(values, values[:1].expand_as(values), rtol=0, atol=1e-10)


def test_the_gradient_is_that_of_finite_differences(p):
    x = p.sample(generator=torch.Generator().manual_seed(3))

    def density(output, scale):
        return MixedColumns(output, scale, LAYOUT).log_prob(x)

    inputs = (p.output.clone().requires_grad_(), p.scale.clone().requires_grad_())
    assert torch.autograd.gradcheck(density, inputs)


def test_samples_have_the_mean_and_one_category(p):
    x = p.sample((20_000,), generator=torch.Generator().manual_seed(4))
    torch.testing.assert_close(x.mean(0), p.mean, atol=0.02, rtol=0)
    for start, stop in LAYOUT.groups:
        assert torch.equal(x[..., start:stop].sum(-1), torch.ones_like(x[..., 0]))


def test_a_column_of_one_category_always_has_it():
    layout = ColumnLayout([], [], [(0, 1), (1, 3)], torch.ones(0), 0.0)
    p = MixedColumns(torch.randn(4, 1, 1, 3), torch.ones(0), layout)
    assert p.sample((5,))[..., 0].eq(1).all()
