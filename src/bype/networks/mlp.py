"""The paper's MLP VAE: two gated dense layers each in encoder and decoder."""

import math
from typing import cast

import torch
from torch import Tensor, nn

from bype.networks.architecture import Networks
from bype.networks.base import Decoder, Encoder
from bype.networks.layers import GatedLinear, gated_mlp
from bype.networks.likelihoods import Likelihood


class MLPEncoder(Encoder):
    """q(z|x) by two gated dense layers.

    Args:
        shape: The shape (c, h, w) of an image.
        hidden_dim: The width of both hidden layers.
        latent_dim: The dimension D of z.
    """

    def __init__(self, shape: tuple[int, int, int], hidden_dim: int = 300, latent_dim: int = 40) -> None:
        super().__init__(hidden_dim, latent_dim)
        self.hidden = gated_mlp(math.prod(shape), hidden_dim, hidden_dim)

    def rows(self, x: Tensor) -> Tensor:
        """The input of the first layer, (n, pixels)."""
        return x.flatten(1)

    def features(self, x: Tensor) -> Tensor:
        """The output of the second hidden layer, (n, hidden_dim)."""
        return self.hidden(self.rows(x))

    def joined_features(self, x: Tensor, points: Tensor) -> Tensor:
        """The features of the images [x; points], (B + M, hidden_dim), without the gradient of x if points have one."""
        if x.requires_grad or not (points.requires_grad and torch.is_grad_enabled()):
            return super().joined_features(x, points)
        first = cast(GatedLinear, self.hidden[0])
        return self.hidden[1:](first.joined(self.rows(x), self.rows(points)))


class MLPDecoder(Decoder):
    """p(x|z) by two gated dense layers and a linear output.

    Args:
        shape: The shape (c, h, w) of an image.
        likelihood: Maps the output to p(x|z).
        hidden_dim: The width of both hidden layers.
        latent_dim: The dimension D of z.
    """

    def __init__(
        self, shape: tuple[int, int, int], likelihood: Likelihood, hidden_dim: int = 300, latent_dim: int = 40
    ) -> None:
        super().__init__(shape, likelihood)
        self.hidden = gated_mlp(latent_dim, hidden_dim, hidden_dim)
        self.output = nn.Linear(hidden_dim, math.prod(shape))

    def image(self, z: Tensor) -> Tensor:
        """The linear output, (n, c*h*w)."""
        return self.output(self.hidden(z))


def build(shape: tuple[int, int, int], likelihood: Likelihood, hidden_dim: int, latent_dim: int) -> Networks:
    """Builds the networks of `vae`."""
    encoder = MLPEncoder(shape, hidden_dim, latent_dim)
    return Networks(encoder, MLPDecoder(shape, likelihood, hidden_dim, latent_dim))
