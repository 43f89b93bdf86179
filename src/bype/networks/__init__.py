"""Networks that return a distribution: `encoder(x)` is q(z|x), `decoder(z)` is p(x|z)."""

from bype.networks.base import Decoder, Encoder, Networks, NormalHeads
from bype.networks.conv import ConvDecoder, ConvEncoder
from bype.networks.likelihoods import Bernoulli, Gaussian, Likelihood, Logistic, MeanSquaredError
from bype.networks.mlp import MLPDecoder, MLPEncoder
from bype.networks.residual import ResidualDecoder, ResidualEncoder
from bype.networks.two_level import LowerEncoder, LowerPrior, TwoLevelMLPDecoder

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
    "Networks",
    "NormalHeads",
    "ResidualDecoder",
    "ResidualEncoder",
    "TwoLevelMLPDecoder",
]
