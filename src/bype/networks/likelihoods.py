"""Likelihoods: they map a decoder's image-shaped output to a distribution over pixels."""

from abc import ABC, abstractmethod
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Distribution

from bype.core.names import CUSTOM
from bype.data.tables import TableSpec
from bype.distributions.pixels import DiscretizedLogistic, PixelBernoulli, PixelNormal, SquaredError


class Likelihood(nn.Module, ABC):
    """Maps a decoder's output (\\*batch, c, h, w) to p(x|z)."""

    #: Its name among the registered likelihoods.
    name: str = CUSTOM
    #: Whether `log_prob` is a normalised log-density or log-probability, in nats.
    normalised = True
    #: Whether `log_prob` is a log-probability of the stored values, not a log-density.
    discrete = False
    #: Whether images are binarised; in training they are re-sampled at every step.
    binary = False
    #: The number of pixel levels that the data must have; None if any data are accepted.
    levels: int | None = None
    #: The columns, of a likelihood of tables.
    table: TableSpec | None = None

    @classmethod
    def build(cls, shape: tuple[int, int, int]) -> Self:
        """Builds the likelihood with its default settings, for images of shape (c, h, w)."""
        return cls()

    @abstractmethod
    def forward(self, image: Tensor) -> Distribution:
        """p(x|z), batch shape (\\*batch), event shape (c, h, w)."""


# With normalised gradients a parameter moves by at most the learning rate per step, whatever its gradient. This factor
# makes the relative change of a scale ten times that, so that it converges on small data sets with few steps per epoch.
SCALE_GAIN = 10.0


def scale_of(raw: Tensor, floor: float) -> Tensor:
    """The scale of a parameter, above `floor`."""
    return floor + F.softplus(SCALE_GAIN * raw)


def raw_scale_of(scale: Tensor, floor: float) -> Tensor:
    """The inverse of `scale_of`."""
    return (scale - floor).expm1().log() / SCALE_GAIN


class MeanSquaredError(Likelihood):
    r"""The paper's :math:`\log p(x \mid z) := -\lVert x - \hat{x} \rVert^2`.

    :math:`\hat{x}` is clamped to [1/512, 511/512], the range of 8-bit pixels (v + 1/2)/256.

    Source: Ai et al., 2021, section 5.1.
    """

    name = "mse"
    normalised = False

    def forward(self, image: Tensor) -> SquaredError:
        """p(x|z); `image` is x-hat before it is clamped."""
        return SquaredError(F.hardtanh(image, 1 / 512, 1 - 1 / 512))  # a clamp whose backward pass is one kernel


class Gaussian(Likelihood):
    r"""Normal pixels around the decoder's output, :math:`\mathcal{N}(x \mid \hat{x}, \sigma^2)`.

    Args:
        scale: The standard deviation, or its initial value if it is learned.
        learned: Whether the scale is a parameter. It stays above 1/512, half an 8-bit step, so that constant pixels
            cannot make the density infinite.
        shape: None for one scalar scale; (c, h, w) for one scale per pixel.

    Raises:
        ValueError: If `scale` is not above 1/512.
    """

    name = "gaussian"
    floor = 1 / 512

    def __init__(self, scale: float = 0.5, *, learned: bool = True, shape: tuple[int, int, int] | None = None) -> None:
        super().__init__()
        if not scale > self.floor:
            raise ValueError(f"scale: expected a value above 1/512, got {scale}")
        start = raw_scale_of(torch.full(shape or (), scale), self.floor)
        self.raw_scale: Tensor
        if learned:
            self.raw_scale = nn.Parameter(start)
        else:
            self.register_buffer("raw_scale", start)

    @property
    def scale(self) -> Tensor:
        """The standard deviation, a scalar or (c, h, w)."""
        return scale_of(self.raw_scale, self.floor)

    def forward(self, image: Tensor) -> PixelNormal:
        """p(x|z); `image` is the mean."""
        return PixelNormal(image, self.scale)


class Bernoulli(Likelihood):
    """Binary pixels with the decoder's output as their log-odds; the data are binarised dynamically."""

    name = "bernoulli"
    discrete = True
    binary = True

    def forward(self, image: Tensor) -> PixelBernoulli:
        """p(x|z); `image` is the logits."""
        return PixelBernoulli(image)


class Logistic(Likelihood):
    """Discretised logistic pixels with 256 levels by default, one learned scale per pixel and open outer bins.

    Args:
        shape: The shape (c, h, w) of an image.
        scale: The initial logistic scale.
        levels: The number of bins.
    """

    name = "logistic"
    discrete = True
    floor = 1e-4
    levels: int

    def __init__(self, shape: tuple[int, int, int], scale: float = 0.1, levels: int = 256) -> None:
        super().__init__()
        self.levels = levels
        self.raw_scale = nn.Parameter(raw_scale_of(torch.full(shape, scale), self.floor))

    @classmethod
    def build(cls, shape: tuple[int, int, int]) -> Self:
        """Builds the likelihood with 256 levels and one scale per pixel of `shape`, (c, h, w)."""
        return cls(shape)

    @property
    def scale(self) -> Tensor:
        """The logistic scale, (c, h, w)."""
        return scale_of(self.raw_scale, self.floor)

    def forward(self, image: Tensor) -> DiscretizedLogistic:
        """p(x|z); `image` is the location."""
        return DiscretizedLogistic(image, self.scale, self.levels)
