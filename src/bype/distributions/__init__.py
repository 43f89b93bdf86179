"""Distributions over latents and pixels, as `torch.distributions` objects. Every `log_prob` is in nats."""

from bype.distributions.affine import LOG2_E, TILES, tiles
from bype.distributions.base import LOG_2PI
from bype.distributions.mixtures import DiagonalMixture, IsotropicMixture, NormalMixture
from bype.distributions.normal import DiagonalNormal
from bype.distributions.pixels import (
    DiscretizedLogistic,
    EqualMixture,
    PixelBernoulli,
    PixelNormal,
    SquaredError,
    linear_in_x,
)

__all__ = [
    "LOG2_E",
    "LOG_2PI",
    "TILES",
    "DiagonalMixture",
    "DiagonalNormal",
    "DiscretizedLogistic",
    "EqualMixture",
    "IsotropicMixture",
    "NormalMixture",
    "PixelBernoulli",
    "PixelNormal",
    "SquaredError",
    "linear_in_x",
    "tiles",
]
