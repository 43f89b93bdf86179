"""HVAE: two levels of latents with gated dense layers."""

import math

import torch
from torch import Tensor, nn

from bype.networks.architecture import Networks
from bype.networks.base import Decoder
from bype.networks.layers import GatedLinear
from bype.networks.likelihoods import Likelihood
from bype.networks.lower import LowerEncoder, LowerPrior
from bype.networks.mlp import MLPEncoder


def dense_image(shape: tuple[int, int, int], width: int) -> tuple[nn.Module, int]:
    """HVAE's network for x in q(z1|x,z2), one gated layer, and the width of its output."""
    return nn.Sequential(nn.Flatten(), GatedLinear(math.prod(shape), width)), width


class JoinedLatents(nn.Module):
    """Applies a gated layer to each of z1 and z2 and concatenates the outputs.

    Args:
        hidden_dim: The width of each layer.
        lower_dim: The dimension of z1.
        top_dim: The dimension of z2.
    """

    def __init__(self, hidden_dim: int, lower_dim: int, top_dim: int) -> None:
        super().__init__()
        self.widths = (lower_dim, top_dim)
        self.lower, self.top = GatedLinear(lower_dim, hidden_dim), GatedLinear(top_dim, hidden_dim)

    def forward(self, z: Tensor) -> Tensor:
        """Maps the concatenated z1 and z2, (n, lower_dim + top_dim), to (n, 2 hidden_dim)."""
        lower, top = z.split(self.widths, -1)
        return torch.cat([self.lower(lower), self.top(top)], -1)


class TwoLevelMLPDecoder(Decoder):
    """HVAE's p(x|z1,z2): a gated layer for each latent, one that joins them, and a linear output.

    Args:
        shape: The shape (c, h, w) of an image.
        likelihood: Maps the output to p(x|z1,z2).
        hidden_dim: The width of all hidden layers.
        latent_dim: The dimension of z1 and of z2.
    """

    def __init__(
        self, shape: tuple[int, int, int], likelihood: Likelihood, hidden_dim: int = 300, latent_dim: int = 40
    ) -> None:
        super().__init__(shape, likelihood)
        self.latents = JoinedLatents(hidden_dim, latent_dim, latent_dim)
        self.joined = GatedLinear(2 * hidden_dim, hidden_dim)
        self.output = nn.Linear(hidden_dim, math.prod(shape))

    def image(self, z: Tensor) -> Tensor:
        """The linear output, (n, c*h*w)."""
        return self.output(self.joined(self.latents(z)))


def build(shape: tuple[int, int, int], likelihood: Likelihood, hidden_dim: int, latent_dim: int) -> Networks:
    """Builds the networks of `hvae`."""
    encoder = MLPEncoder(shape, hidden_dim, latent_dim)
    decoder = TwoLevelMLPDecoder(shape, likelihood, hidden_dim, latent_dim)
    lower = LowerEncoder(*dense_image(shape, hidden_dim), hidden_dim, latent_dim, latent_dim)
    return Networks(encoder, decoder, lower, LowerPrior(hidden_dim, latent_dim, latent_dim))
