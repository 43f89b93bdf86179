"""ConvHVAE: two levels of latents, gated convolutions without any other activation."""

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from bype.networks.architecture import Networks
from bype.networks.base import Decoder, Encoder
from bype.networks.layers import GatedConv2d, GatedLinear, channels_last, halved, in_chunks
from bype.networks.likelihoods import Likelihood
from bype.networks.lower import LowerEncoder, LowerPrior
from bype.networks.two_level import JoinedLatents

# Channels, kernel size and stride of each layer.
TOP_LAYERS = ((32, 7, 1), (32, 3, 2), (64, 5, 1), (64, 3, 2), (6, 3, 1))
LOWER_LAYERS = ((32, 3, 1), (32, 3, 2), (64, 3, 1), (64, 3, 2), (6, 3, 1))
DECODER_CHANNELS, DECODER_LAYERS = 64, 4


class ConvFeatures(nn.Module):
    """Gated convolutions, flattened; with the paper's layers 6 channels at 1/4 of the height and width, rounded up.

    Args:
        shape: The shape (c, h, w) of an image.
        layers: Channels, kernel size and stride of each layer.
    """

    def __init__(self, shape: tuple[int, int, int], layers: Sequence[tuple[int, int, int]]) -> None:
        super().__init__()
        convolutions, channels, size, floats = [], shape[0], shape[1:], 0
        for out, kernel_size, stride in layers:
            convolutions.append(GatedConv2d(channels, out, kernel_size, stride))
            channels, size = out, halved(size, int(stride == 2))
            floats += 3 * out * math.prod(size)  # both halves of the gated layer and their product
        self.layers = nn.Sequential(*convolutions, nn.Flatten())
        #: Width of the output.
        self.width = channels * math.prod(size)
        self._floats = floats

    def forward(self, x: Tensor) -> Tensor:
        """Maps (n, c, h, w) to (n, width)."""
        return in_chunks(self.layers, channels_last(x), self._floats)


def conv_image(shape: tuple[int, int, int]) -> tuple[nn.Module, int]:
    """ConvHVAE's network for x in q(z1|x,z2), and the width of its output."""
    network = ConvFeatures(shape, LOWER_LAYERS)
    return network, network.width


class ConvEncoder(Encoder):
    """q(z2|x) by five gated convolutions, flattened into the heads (294 features at 28x28, 384 at 32x32).

    Args:
        shape: The shape (c, h, w) of an image.
        latent_dim: The dimension D of z2.
    """

    def __init__(self, shape: tuple[int, int, int], latent_dim: int = 40) -> None:
        convolutions = ConvFeatures(shape, TOP_LAYERS)
        super().__init__(convolutions.width, latent_dim)
        self.convolutions = convolutions

    def features(self, x: Tensor) -> Tensor:
        """The output of the last layer, flattened, (n, n_features)."""
        return self.convolutions(x)


class ConvDecoder(Decoder):
    """p(x|z1,z2): a gated layer for each latent, one to an image-sized map, four gated 3x3 convolutions and a 1x1.

    Args:
        shape: The shape (c, h, w) of an image.
        likelihood: Maps the output to p(x|z1,z2).
        hidden_dim: The width of the dense layers.
        latent_dim: The dimension of z1 and of z2.
    """

    def __init__(
        self, shape: tuple[int, int, int], likelihood: Likelihood, hidden_dim: int = 300, latent_dim: int = 40
    ) -> None:
        super().__init__(shape, likelihood)
        self.latents = JoinedLatents(hidden_dim, latent_dim, latent_dim)
        self.joined = GatedLinear(2 * hidden_dim, math.prod(shape))
        channels = [shape[0], *[DECODER_CHANNELS] * DECODER_LAYERS]
        self.convolutions = nn.Sequential(
            *(GatedConv2d(i, o, 3) for i, o in pairwise(channels)),
            nn.Conv2d(DECODER_CHANNELS, shape[0], 1),
        )
        self._floats = (3 * DECODER_CHANNELS * DECODER_LAYERS + 4 * shape[0]) * math.prod(shape[1:])

    def image(self, z: Tensor) -> Tensor:
        """The output of the 1x1 convolution, (n, c, h, w)."""
        return in_chunks(self._image, z, self._floats)

    def _image(self, z: Tensor) -> Tensor:
        start = self.joined(self.latents(z)).view(-1, *self.shape)
        return self.convolutions(channels_last(start))


def build(shape: tuple[int, int, int], likelihood: Likelihood, hidden_dim: int, latent_dim: int) -> Networks:
    """Builds the networks of `convhvae`."""
    encoder = ConvEncoder(shape, latent_dim)
    decoder = ConvDecoder(shape, likelihood, hidden_dim, latent_dim)
    lower = LowerEncoder(*conv_image(shape), hidden_dim, latent_dim, latent_dim)
    return Networks(encoder, decoder, lower, LowerPrior(hidden_dim, latent_dim, latent_dim))
