"""Likelihoods: what a decoder's image-shaped map means as a distribution over pixels."""

from abc import ABC, abstractmethod
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Distribution

from bype.distributions.pixels import DiscretizedLogistic, PixelBernoulli, PixelNormal, SquaredError


class Likelihood(nn.Module, ABC):
    """Maps a decoder's output (\\*batch, c, h, w) to p(x|z)."""

    #: Whether `log_prob` is that of a normalised density or probability, in nats.
    normalised = True
    #: Whether it gives the stored values themselves a probability, not a density.
    discrete = False
    #: Whether images are binarised, anew at each step in training.
    binary = False
    #: How many values a stored pixel must be able to take; None where any data will do.
    levels: int | None = None

    @classmethod
    def build(cls, shape: tuple[int, int, int]) -> Self:
        """The likelihood at its defaults, for images of shape (c, h, w)."""
        return cls()

    @abstractmethod
    def forward(self, image: Tensor) -> Distribution:
        """p(x|z), batch shape (\\*batch), event shape (c, h, w)."""


# Under normalised gradients a parameter moves by the learning rate at each step and no faster, whatever the gradient:
# this makes a scale's relative change ten times that, so that a data set of few steps an epoch gets there too.
SCALE_GAIN = 10.0


def _scale(raw: Tensor, floor: float) -> Tensor:
    return floor + F.softplus(SCALE_GAIN * raw)


def _raw_scale(scale: Tensor, floor: float) -> Tensor:
    """The inverse of `_scale`."""
    return (scale - floor).expm1().log() / SCALE_GAIN


class MeanSquaredError(Likelihood):
    r"""The paper's :math:`\log p(x \mid z) := -\lVert x - \hat{x} \rVert^2`.

    :math:`\hat{x}` is clamped to [1/512, 511/512], the range of 8-bit pixels (v + 1/2)/256.

    Source: Ai et al., 2021, section 5.1.
    """

    normalised = False

    def forward(self, image: Tensor) -> SquaredError:
        """The image is x-hat before its clamp."""
        return SquaredError(F.hardtanh(image, 1 / 512, 1 - 1 / 512))  # a clamp with one kernel for its gradient


class Gaussian(Likelihood):
    r"""Normal pixels about the decoder's output, :math:`\mathcal{N}(x \mid \hat{x}, \sigma^2)`.

    Args:
        scale: The standard deviation; where it is learned, its start.
        learned: Whether the scale is a parameter. It stays above 1/512, half an 8-bit step, so that pixels that never
            change cannot send the density to infinity.
        shape: None for one scalar scale; (c, h, w) for one per pixel.
    """

    floor = 1 / 512

    def __init__(self, scale: float = 0.5, *, learned: bool = True, shape: tuple[int, int, int] | None = None) -> None:
        super().__init__()
        if not scale > self.floor:
            raise ValueError(f"`scale` should be above 1/512, but got {scale}.")
        start = _raw_scale(torch.full(shape or (), scale), self.floor)
        self.raw_scale: Tensor
        if learned:
            self.raw_scale = nn.Parameter(start)
        else:
            self.register_buffer("raw_scale", start)

    @property
    def scale(self) -> Tensor:
        """The standard deviation, a scalar or (c, h, w)."""
        return _scale(self.raw_scale, self.floor)

    def forward(self, image: Tensor) -> PixelNormal:
        """The image is the mean."""
        return PixelNormal(image, self.scale)


class Bernoulli(Likelihood):
    """Binary pixels, the decoder's output being their log-odds; data are binarised dynamically."""

    discrete = True
    binary = True

    def forward(self, image: Tensor) -> PixelBernoulli:
        """The image is the logits."""
        return PixelBernoulli(image)


class Logistic(Likelihood):
    """Pixels of 256 levels: a logistic variable cut into bins, one learned scale per pixel, outer bins open.

    Args:
        shape: The shape (c, h, w) of an image.
        scale: The logistic scale at the start.
        levels: The number of bins.
    """

    discrete = True
    floor = 1e-4
    levels: int

    def __init__(self, shape: tuple[int, int, int], scale: float = 0.1, levels: int = 256) -> None:
        super().__init__()
        self.levels = levels
        self.raw_scale = nn.Parameter(_raw_scale(torch.full(shape, scale), self.floor))

    @classmethod
    def build(cls, shape: tuple[int, int, int]) -> Self:
        """One scale for each pixel of the shape, 256 levels."""
        return cls(shape)

    @property
    def scale(self) -> Tensor:
        """The logistic scale, (c, h, w)."""
        return _scale(self.raw_scale, self.floor)

    def forward(self, image: Tensor) -> DiscretizedLogistic:
        """The image is the location."""
        return DiscretizedLogistic(image, self.scale, self.levels)
