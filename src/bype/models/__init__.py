"""Models: an encoder, a decoder and a prior; the bounds on log p(x); building models from names."""

from bype.models.build import build_model, build_prior
from bype.models.checked import elbo, iwae
from bype.models.generation import Plates, interpolate, plates
from bype.models.objectives import ElboTerms
from bype.models.two_level import TwoLevelVAE
from bype.models.vae import VAE, Samples
from bype.models.wrap import wrap

__all__ = [
    "VAE",
    "ElboTerms",
    "Plates",
    "Samples",
    "TwoLevelVAE",
    "build_model",
    "build_prior",
    "elbo",
    "interpolate",
    "iwae",
    "plates",
    "wrap",
]
