"""The lower of two levels of latents: q(z1|x,z2) and p(z1|z2), for any image network.

The top level z2 has an `Encoder`, q(z2|x), and the data-dependent prior; z1 is between z2 and the image.
"""

import torch
from torch import Tensor, nn

from bype.distributions.normal import DiagonalNormal
from bype.networks.base import NormalHeads
from bype.networks.layers import GatedLinear, gated_mlp


class LowerEncoder(NormalHeads):
    """q(z1|x,z2): a network for x and a gated layer of the same width for z2, joined by another gated layer.

    Args:
        image: The network for x; maps (n, c, h, w) to (n, width).
        width: The width of its output.
        hidden_dim: The width of the joining layer.
        top_dim: The dimension of z2.
        latent_dim: The dimension of z1.
    """

    def __init__(
        self, image: nn.Module, width: int, hidden_dim: int = 300, top_dim: int = 40, latent_dim: int = 40
    ) -> None:
        super().__init__(hidden_dim, latent_dim)
        self.image = image
        self.top = GatedLinear(top_dim, width)
        self.joined = GatedLinear(2 * width, hidden_dim)

    def forward(self, x: Tensor, z: Tensor) -> DiagonalNormal:
        """q(z1|x,z2) for images (b, c, h, w) and z2 (\\*samples, b, top_dim), batch shape (\\*samples, b)."""
        top = self.top(z)
        image = self.image(x).to(top.dtype).expand_as(top)
        return self.posterior(self.joined(torch.cat([image, top], -1)))


class LowerPrior(NormalHeads):
    """p(z1|z2) by two gated layers.

    Args:
        hidden_dim: The width of both hidden layers.
        top_dim: The dimension of z2.
        latent_dim: The dimension of z1.
    """

    def __init__(self, hidden_dim: int = 300, top_dim: int = 40, latent_dim: int = 40) -> None:
        super().__init__(hidden_dim, latent_dim)
        self.hidden = gated_mlp(top_dim, hidden_dim, hidden_dim)

    def forward(self, z: Tensor) -> DiagonalNormal:
        """p(z1|z2) for z2 (\\*batch, top_dim), batch shape (\\*batch)."""
        return self.posterior(self.hidden(z))
