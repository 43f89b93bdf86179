"""Networks that return a distribution: `encoder(x)` is q(z|x), `decoder(z)` is p(x|z)."""

from bype.conditionals.base import Decoder, Encoder, NormalHeads
from bype.conditionals.celeba import ResidualDecoder, ResidualEncoder
from bype.conditionals.conv import ConvDecoder, ConvEncoder
from bype.conditionals.likelihoods import Bernoulli, Gaussian, Likelihood, Logistic, MeanSquaredError
from bype.conditionals.mlp import MLPDecoder, MLPEncoder
from bype.conditionals.two_level import LowerEncoder, LowerPrior, TwoLevelMLPDecoder

__all__ = [
    "Bernoulli",
    "ConvDecoder",
    "ConvEncoder",
    "Decoder",
    "Encoder",
    "Gaussian",
    "Likelihood",
    "Logistic",
    "LowerEncoder",
    "LowerPrior",
    "MLPDecoder",
    "MLPEncoder",
    "MeanSquaredError",
    "NormalHeads",
    "ResidualDecoder",
    "ResidualEncoder",
    "TwoLevelMLPDecoder",
]
