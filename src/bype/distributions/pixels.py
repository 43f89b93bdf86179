"""Distributions over images x; the event is the last three axes, (c, h, w)."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Distribution

from bype.distributions.base import LOG_2PI, Event
from bype.distributions.columns import MixedColumns


class _Pixels(Event):
    def __init__(self, loc: Tensor) -> None:
        self.loc = loc
        super().__init__(loc.shape[:-3], loc.shape[-3:])

    @property
    def mean(self) -> Tensor:
        """The mean image, shape (\\*batch, c, h, w)."""
        return self.loc


def _pixel_sum(t: Tensor) -> Tensor:
    return t.flatten(-3).sum(-1)


def _log_sigmoid(t: Tensor) -> Tensor:
    if torch.compiler.is_exporting():  # ONNX has the sigmoid and its logarithm only, which is -inf below -88
        return t.clamp(max=0) - t.abs().neg().exp().log1p()
    return F.logsigmoid(t)


class SquaredError(_Pixels):
    r"""The paper's reconstruction term, :math:`\log p(x \mid z) := -\lVert x - \hat{x} \rVert^2`.

    It is the log-density of a normal with variance 1/2, without its constant: add :math:`-\tfrac{d}{2} \log \pi` to get
    the log-density in nats. Samples are drawn from that normal.

    Args:
        loc: The mean image, shape (\*batch, c, h, w).
    """

    @property
    def variance(self) -> Tensor:
        """1/2 for every pixel, shape (\\*batch, c, h, w)."""
        return torch.full_like(self.loc, 0.5)

    def log_prob(self, value: Tensor) -> Tensor:
        """The negative squared distance, shape (\\*batch)."""
        value, loc = torch.broadcast_tensors(value, self.loc)
        return -_pixel_sum(F.mse_loss(loc, value, reduction="none"))

    def sample(self, sample_shape: Sequence[int] = (), *, generator: torch.Generator | None = None) -> Tensor:
        """Samples of the normal with variance 1/2, shape (\\*sample_shape, \\*batch, c, h, w)."""
        return PixelNormal(self.loc, self.loc.new_tensor(0.5**0.5)).sample(sample_shape, generator=generator)


class PixelNormal(_Pixels):
    r"""Independent normal pixels, :math:`\sum_i \log \mathcal{N}(x_i \mid \hat{x}_i, \sigma_i^2)`.

    Args:
        loc: The mean image, shape (\*batch, c, h, w).
        scale: The standard deviation, a scalar or one per pixel (c, h, w).
    """

    def __init__(self, loc: Tensor, scale: Tensor) -> None:
        self.scale = scale
        super().__init__(loc)

    @property
    def variance(self) -> Tensor:
        """The variance of every pixel, shape (\\*batch, c, h, w)."""
        return self.scale.square().expand_as(self.loc)

    def log_prob(self, value: Tensor) -> Tensor:
        """The log-density in nats, shape (\\*batch)."""
        log_scale = self.scale.log().expand(self.event_shape).sum()
        squares = _pixel_sum(((value - self.loc) / self.scale).square())
        return -0.5 * squares - log_scale - 0.5 * self.event_shape.numel() * LOG_2PI

    def sample(self, sample_shape: Sequence[int] = (), *, generator: torch.Generator | None = None) -> Tensor:
        """Samples, shape (\\*sample_shape, \\*batch, c, h, w)."""
        shape = torch.Size(sample_shape) + self.loc.shape
        noise = torch.randn(shape, generator=generator, dtype=self.loc.dtype, device=self.loc.device)
        return self.loc + self.scale * noise


class PixelBernoulli(_Pixels):
    r"""Independent binary pixels, :math:`\sum_i x_i \log p_i + (1 - x_i) \log(1 - p_i)`.

    For a value between 0 and 1 the same formula gives the expectation over its binarisation.

    Args:
        logits: The log-odds, shape (\*batch, c, h, w).
    """

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits
        super().__init__(logits)

    @property
    def mean(self) -> Tensor:
        """The probability of a one, shape (\\*batch, c, h, w)."""
        return self.logits.sigmoid()

    def log_prob(self, value: Tensor) -> Tensor:
        """The log-probability in nats, shape (\\*batch)."""
        return _pixel_sum(value * self.logits - F.softplus(self.logits))

    def sample(self, sample_shape: Sequence[int] = (), *, generator: torch.Generator | None = None) -> Tensor:
        """Samples, zeros and ones, shape (\\*sample_shape, \\*batch, c, h, w)."""
        probability = self.mean.expand(torch.Size(sample_shape) + self.logits.shape)
        return torch.bernoulli(probability, generator=generator)


class DiscretizedLogistic(_Pixels):
    r"""Independent pixels, each a logistic variable discretised into bins; the two outer bins are open.

    .. math::
        p(v) = \mathrm{sigmoid}((v + 1)/(L s) - \hat{x}/s) - \mathrm{sigmoid}(v/(L s) - \hat{x}/s),
        \qquad v = 0, \dots, L - 1, \quad x = (v + 1/2)/L

    with the first term replaced by 1 at v = L - 1 and the second by 0 at v = 0. For the arguments a < b of the two
    sigmoids, the logarithm of the difference is computed as
    :math:`\log \mathrm{sigmoid}(b) + \log \mathrm{sigmoid}(-a) + \log(1 - e^{a-b})`, which has no cancellation.

    Source: Improved variational inference with inverse autoregressive flow (Kingma et al., 2016), Appendix.

    Args:
        loc: The location, shape (\*batch, c, h, w).
        scale: The logistic scale s > 0, a scalar or one per pixel (c, h, w).
        levels: The number of bins L.
    """

    def __init__(self, loc: Tensor, scale: Tensor, levels: int = 256) -> None:
        self.scale, self.levels = scale, levels
        super().__init__(loc)

    @property
    def mean(self) -> Tensor:
        """The location, clamped to the range of the bin centres, shape (\\*batch, c, h, w)."""
        return self.loc.clamp(0.5 / self.levels, 1 - 0.5 / self.levels)

    def log_prob(self, value: Tensor) -> Tensor:
        """The log-probability of the bins that contain `value` in nats, shape (\\*batch)."""
        half = 0.5 / self.levels
        lower, upper = (value - half - self.loc) / self.scale, (value + half - self.loc) / self.scale
        inside = torch.log(-torch.expm1(-2 * half / self.scale))
        first, last = value < 2 * half, value > 1 - 2 * half
        log_upper = _log_sigmoid(upper).masked_fill(last, 0.0)
        log_lower = _log_sigmoid(-lower).masked_fill(first, 0.0)
        return _pixel_sum(log_upper + log_lower + inside.expand_as(value).masked_fill(first | last, 0.0))

    def sample(self, sample_shape: Sequence[int] = (), *, generator: torch.Generator | None = None) -> Tensor:
        """Samples, as the centres of their bins, shape (\\*sample_shape, \\*batch, c, h, w)."""
        shape = torch.Size(sample_shape) + self.loc.shape
        u = torch.rand(shape, generator=generator, dtype=self.loc.dtype, device=self.loc.device)
        x = self.loc + self.scale * torch.logit(u, eps=1e-7)
        return ((x * self.levels).floor().clamp(0, self.levels - 1) + 0.5) / self.levels


class EqualMixture(Event):
    r"""Mixture of pixel distributions with equal mixing weights, :math:`\log \frac{1}{L} \sum_l p_l(x)`.

    Args:
        components: The distributions, batch shape (L, \*batch), event shape (c, h, w).
    """

    def __init__(self, components: Distribution) -> None:
        self.components = components
        super().__init__(components.batch_shape[1:], components.event_shape)

    @property
    def mean(self) -> Tensor:
        """The average of the components' means, shape (\\*batch, c, h, w)."""
        return self.components.mean.mean(0)

    def log_prob(self, value: Tensor) -> Tensor:
        """The log-density or log-probability in nats, shape (\\*batch)."""
        log_probs = self.components.log_prob(value)
        return log_probs.logsumexp(0) - math.log(len(log_probs))


def linear_in_x(p: Distribution) -> tuple[Tensor, Tensor] | None:
    r"""eta and A of a pixel distribution with :math:`\log p(x) = \langle x, \eta \rangle - A + c(x)`.

    eta has the shape (\*batch, c, h, w), A the shape (\*batch); c depends on x only. Returns None for a distribution
    that does not have this form.
    """
    if isinstance(p, MixedColumns):
        return p.linear_form()
    if isinstance(p, SquaredError):
        return 2 * p.loc, _pixel_sum(p.loc.square())
    if isinstance(p, PixelNormal):
        eta = p.loc / p.scale.square()
        return eta, 0.5 * _pixel_sum(p.loc * eta)
    if isinstance(p, PixelBernoulli):
        return p.logits, _pixel_sum(F.softplus(p.logits))
    return None
