"""An architecture: the networks of a model."""

from typing import NamedTuple

from bype.networks.base import Decoder, Encoder
from bype.networks.lower import LowerEncoder, LowerPrior


class Networks(NamedTuple):
    """The encoder and decoder of a model, and with two levels of latents the two networks of the lower level."""

    encoder: Encoder
    decoder: Decoder
    lower_encoder: LowerEncoder | None = None  # q(z1|x,z2)
    lower_prior: LowerPrior | None = None  # p(z1|z2)
    components: int = 500  # the default number of components M, reduced on small data sets
