"""Networks that return distributions: `encoder(x)` is q(z|x), `decoder(z)` is p(x|z)."""

from bype.networks.architecture import Networks
from bype.networks.base import Decoder, Encoder, NormalHeads
from bype.networks.conv import ConvDecoder, ConvEncoder
from bype.networks.likelihoods import Bernoulli, Gaussian, Likelihood, Logistic, MeanSquaredError
from bype.networks.lower import LowerEncoder, LowerPrior
from bype.networks.mlp import MLPDecoder, MLPEncoder
from bype.networks.residual import ResidualDecoder, ResidualEncoder
from bype.networks.two_level import TwoLevelMLPDecoder

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
