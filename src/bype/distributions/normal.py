"""The normal distribution with a diagonal covariance, over latents z (D,)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from bype.distributions.base import LOG_2PI, Event


class DiagonalNormal(Event):
    r"""Normal distribution with a diagonal covariance, :math:`\mathcal{N}(z \mid \mu, \mathrm{diag}(\sigma^2))`.

    Args:
        loc: The mean, shape (\*batch, D).
        scale: The standard deviations, of a shape that broadcasts with `loc`.

    >>> import torch
    >>> DiagonalNormal(torch.zeros(2), torch.ones(2)).log_prob(torch.zeros(2)).round(decimals=4)
    tensor(-1.8379)
    """

    has_rsample = True

    def __init__(self, loc: Tensor, scale: Tensor) -> None:
        self.loc, self.scale = loc, scale
        super().__init__(loc.shape[:-1], loc.shape[-1:])

    @property
    def mean(self) -> Tensor:
        """The mean, shape (\\*batch, D)."""
        return self.loc

    @property
    def variance(self) -> Tensor:
        """The variances, shape (\\*batch, D)."""
        return self.scale.square().expand_as(self.loc)

    def entropy(self) -> Tensor:
        """The entropy, nats, shape (\\*batch)."""
        return self.scale.expand_as(self.loc).log().sum(-1) + 0.5 * self.event_shape[0] * (1 + LOG_2PI)

    def rsample(self, sample_shape: Sequence[int] = (), *, generator: torch.Generator | None = None) -> Tensor:
        """Reparametrised samples, shape (\\*sample_shape, \\*batch, D)."""
        shape = torch.Size(sample_shape) + self.loc.shape
        noise = torch.randn(shape, generator=generator, dtype=self.loc.dtype, device=self.loc.device)
        return torch.addcmul(self.loc, self.scale, noise)

    def rsample_and_log_prob(
        self, noise: Tensor | None = None, *, generator: torch.Generator | None = None, path: bool = False
    ) -> tuple[Tensor, Tensor]:
        r"""Reparametrised samples z and log N(z), computed from the noise, without standardising z again.

        Args:
            noise: Standard normal numbers, (\*samples, \*batch, D); drawn if None, one z per batch element.
            generator: The generator of the noise.
            path: Whether the gradient of the log-density is the one through z alone. The part that is left out,
                :math:`\nabla_{\mu, \sigma} \log \mathcal{N}(z)` at a fixed z, has expectation 0, so that the
                gradient has the same expectation, with less noise the closer N is to the density it is compared with.
                Source: Sticking the landing (Roeder et al., 2017), https://arxiv.org/abs/1703.09194

        Returns:
            z, with the shape of `noise`, and its log-density in nats, with that shape without the last axis. Without
            `path` the gradient of the log-density is the total one, with z a function of both parameters. With respect
            to the mean it is zero, since the direct part and the part through z cancel, and none is recorded.
        """
        if noise is None:
            noise = torch.randn(self.loc.shape, generator=generator, dtype=self.loc.dtype, device=self.loc.device)
        scale = self.scale.expand_as(self.loc)
        if path:
            z = torch.addcmul(self.loc, scale, noise)
            return z, DiagonalNormal(self.loc.detach(), self.scale.detach()).log_prob(z)
        log_prob = -0.5 * noise.square().sum(-1) - scale.log().sum(-1) - 0.5 * self.event_shape[0] * LOG_2PI
        return torch.addcmul(self.loc, scale, noise), log_prob

    def sample(self, sample_shape: Sequence[int] = (), *, generator: torch.Generator | None = None) -> Tensor:
        """Samples without a gradient, shape (\\*sample_shape, \\*batch, D)."""
        with torch.no_grad():
            return self.rsample(sample_shape, generator=generator)

    def log_prob(self, value: Tensor) -> Tensor:
        """log N(value) in nats, with the shape of `value` without its last axis."""
        scale = self.scale.expand_as(self.loc)
        standardised = (value - self.loc) / scale
        return -0.5 * standardised.square().sum(-1) - scale.log().sum(-1) - 0.5 * self.event_shape[0] * LOG_2PI
