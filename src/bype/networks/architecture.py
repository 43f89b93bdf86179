"""An architecture: the networks of a model."""

from typing import NamedTuple

from bype.networks.base import Decoder, Encoder
from bype.networks.lower import LowerEncoder, LowerPrior


class Networks(NamedTuple):
    """An architecture: an encoder and a decoder, and with two levels of latents two networks more."""

    encoder: Encoder
    decoder: Decoder
    lower_encoder: LowerEncoder | None = None  # q(z1|x,z2)
    lower_prior: LowerPrior | None = None  # p(z1|z2)
    components: int = 500  # M, unless the user or a small data set says otherwise
