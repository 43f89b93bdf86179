"""Networks that return a distribution: `encoder(x)` is q(z|x), `decoder(z)` is p(x|z)."""

from bype.conditionals.base import Decoder, Encoder
from bype.conditionals.likelihoods import LIKELIHOODS, Bernoulli, Gaussian, Likelihood, Logistic, MeanSquaredError
from bype.conditionals.mlp import MLPDecoder, MLPEncoder

__all__ = [
    "LIKELIHOODS",
    "Bernoulli",
    "Decoder",
    "Encoder",
    "Gaussian",
    "Likelihood",
    "Logistic",
    "MLPDecoder",
    "MLPEncoder",
    "MeanSquaredError",
]
