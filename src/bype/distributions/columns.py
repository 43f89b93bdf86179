"""Distributions over the rows of a table, stored as images (1, 1, D) with values in [0, 1]."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from bype.distributions.base import LOG_2PI, Event


class ColumnLayout:
    """Which of the D stored values belong to real, binary and categorical columns.

    Args:
        normal: The places of the real columns.
        binary: The places of the binary columns.
        groups: For each categorical column, the places [start, stop) of its categories.
        offset: The standardised value of a real column at which 0.5 is stored is 0; a stored value t means the
            standardised value z = span (t - 1/2). `span` has one entry per real column, (len(normal),).
        log_jacobian: The sum of the logarithms of the standard deviations: log p(x) = log p(z) - log_jacobian in the
            units of the table.
    """

    def __init__(
        self,
        normal: Sequence[int],
        binary: Sequence[int],
        groups: Sequence[tuple[int, int]],
        span: Tensor,
        log_jacobian: float,
    ) -> None:
        self.normal, self.binary, self.groups = list(normal), list(binary), list(groups)
        self.span, self.log_jacobian = span, log_jacobian


class MixedColumns(Event):
    r"""Independent columns given z: normal, Bernoulli and categorical.

    .. math:: \sum_i \log \mathcal{N}(z_i \mid m_i, s_i^2) - \log \mathrm{sd}_i
        + \sum_j x_j l_j - \log(1 + e^{l_j}) + \sum_k \langle x_k, l_k \rangle - \log \sum_c e^{l_{k,c}}

    The first term is the density of the real columns in the units of the table: z is the standardised value, and sd its
    standard deviation. Categorical columns are stored with a one at their category and zeros elsewhere.

    Args:
        output: Means of standardised values, log-odds and unnormalised log-probabilities, (\\*batch, 1, 1, D).
        scale: The standard deviations s of the standardised real columns, (n_normal,).
        layout: The columns.
    """

    def __init__(self, output: Tensor, scale: Tensor, layout: ColumnLayout) -> None:
        self.output, self.scale, self.layout = output, scale, layout
        super().__init__(output.shape[:-3], output.shape[-3:])

    def _flat(self, t: Tensor) -> Tensor:
        return t.flatten(-3)

    @property
    def mean(self) -> Tensor:
        """The stored value of the mean, probabilities for binary and categorical columns, (\\*batch, 1, 1, D)."""
        output, layout = self._flat(self.output), self.layout
        mean = torch.empty_like(output)
        mean[..., layout.normal] = 0.5 + output[..., layout.normal] / layout.span
        mean[..., layout.binary] = output[..., layout.binary].sigmoid()
        for start, stop in layout.groups:
            mean[..., start:stop] = output[..., start:stop].softmax(-1)
        return mean.view_as(self.output)

    def log_prob(self, value: Tensor) -> Tensor:
        """The log-density in the units of the table, nats, shape (\\*batch)."""
        eta, a = self.linear_form()
        x = self._flat(value)
        z = self.layout.span * (x[..., self.layout.normal] - 0.5)
        constant = -0.5 * (z / self.scale).square().sum(-1) - self.scale.log().sum()
        constant = constant - 0.5 * len(self.layout.normal) * LOG_2PI - self.layout.log_jacobian
        return (x * self._flat(eta)).sum(-1) - a + constant

    def linear_form(self) -> tuple[Tensor, Tensor]:
        r"""eta (\\*batch, 1, 1, D) and A (\\*batch) with log p(x) = <x, eta> - A + c(x), c free of z."""
        output, layout = self._flat(self.output), self.layout
        precision = self.scale.square().reciprocal()
        normal, binary = output[..., layout.normal], output[..., layout.binary]
        eta = output.clone()
        eta[..., layout.normal] = layout.span * precision * normal
        a = 0.5 * ((normal.square() + layout.span * normal) * precision).sum(-1) + F.softplus(binary).sum(-1)
        for start, stop in layout.groups:
            a = a + output[..., start:stop].logsumexp(-1)
        return eta.view_as(self.output), a

    def sample(self, sample_shape: Sequence[int] = (), *, generator: torch.Generator | None = None) -> Tensor:
        """Samples as stored, shape (\\*sample_shape, \\*batch, 1, 1, D)."""
        output = self._flat(self.output)
        output = output.expand(torch.Size(sample_shape) + output.shape)
        layout, x = self.layout, torch.zeros_like(output)
        normal = output[..., layout.normal]
        noise = torch.randn(normal.shape, generator=generator, dtype=output.dtype, device=output.device)
        x[..., layout.normal] = 0.5 + (normal + self.scale * noise) / layout.span
        x[..., layout.binary] = torch.bernoulli(output[..., layout.binary].sigmoid(), generator=generator)
        for start, stop in layout.groups:
            p = output[..., start:stop].softmax(-1)
            chosen = torch.multinomial(p.reshape(-1, stop - start), 1, generator=generator)
            x[..., start:stop] = F.one_hot(chosen[:, 0], stop - start).view_as(p).to(x.dtype)
        return x.view(*x.shape[:-1], *self.output.shape[-3:])


def log_sum(values: Sequence[float]) -> float:
    """The sum of the logarithms of positive numbers."""
    return math.fsum(math.log(v) for v in values)
