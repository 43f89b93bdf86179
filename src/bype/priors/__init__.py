"""Priors over the latent z: a standard normal, and mixtures whose components are encoded points.

A prior is a module; calling it with an encoder returns p(z), a distribution with event shape (D,). The encoder is an
argument, so that only the model owns it. In a training step, the prior first returns the points to encode
(`step_points`), the model encodes them together with its batch, and the prior builds p(z) from their features
(`mixture`).
"""

from bype.priors.base import (
    ComponentPoints,
    PointEncoder,
    Points,
    Prior,
    PriorOptions,
    SharedScalePrior,
    WeightedPoints,
)
from bype.priors.exemplar import ExemplarPrior
from bype.priors.fitted import FittedMixture
from bype.priors.pseudocoreset import PseudocoresetPrior
from bype.priors.standard import StandardPrior
from bype.priors.vamp import VampPrior

__all__ = [
    "ComponentPoints",
    "ExemplarPrior",
    "FittedMixture",
    "PointEncoder",
    "Points",
    "Prior",
    "PriorOptions",
    "PseudocoresetPrior",
    "SharedScalePrior",
    "StandardPrior",
    "VampPrior",
    "WeightedPoints",
]
