"""The network of the published code for faces: residual blocks of weight-normalised convolutions and ELU."""

import math

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from bype.networks.architecture import Networks
from bype.networks.base import Decoder, Encoder
from bype.networks.layers import channels_last, halved, in_chunks
from bype.networks.likelihoods import Likelihood

WIDE, NARROW, BLOCKS, LATENT_CHANNELS = 96, 48, 6, 6


def conv3x3(in_channels: int, out_channels: int, stride: int = 1) -> nn.Module:
    """A weight-normalised 3x3 convolution; padding preserves height and width, except for the stride."""
    return weight_norm(nn.Conv2d(in_channels, out_channels, 3, stride, padding=1))


class ResidualBlock(nn.Module):
    """x + conv3x3(ELU(x)).

    Args:
        channels: The number of channels of x.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convolution = conv3x3(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (n, channels, h, w) to the same shape."""
        return x + self.convolution(F.elu(x))


def _blocks(channels: int) -> list[nn.Module]:
    return [ResidualBlock(channels) for _ in range(BLOCKS)]


def _floats_of_blocks(channels: int, size: tuple[int, int]) -> int:
    """Floats per image that six blocks and the preceding convolution with ELU keep for the backward pass."""
    return (2 * BLOCKS + 2) * channels * math.prod(size)


class ResidualEncoder(Encoder):
    """q(z|x) by convolutions of stride 2 to 48 and 96 channels, each with six residual blocks, and one to 6 channels.

    At 64x64 the features are 6x16x16.

    Args:
        shape: The shape (c, h, w) of an image.
        latent_dim: The dimension D of z.
    """

    def __init__(self, shape: tuple[int, int, int], latent_dim: int = 40) -> None:
        half, quarter = halved(shape[1:]), halved(shape[1:], 2)
        super().__init__(LATENT_CHANNELS * math.prod(quarter), latent_dim)
        self.convolutions = nn.Sequential(
            conv3x3(shape[0], NARROW, 2), nn.ELU(), *_blocks(NARROW),
            conv3x3(NARROW, WIDE, 2), nn.ELU(), *_blocks(WIDE),
            conv3x3(WIDE, LATENT_CHANNELS), nn.ELU(), nn.Flatten(),
        )  # fmt: skip
        self._floats = _floats_of_blocks(NARROW, half) + _floats_of_blocks(WIDE, quarter)

    def features(self, x: Tensor) -> Tensor:
        """The output of the last convolution, flattened, (n, n_features)."""
        return in_chunks(self.convolutions, channels_last(x), self._floats)


class _Upsample(nn.Module):
    """Nearest-neighbour upsampling to a given size: twice the size, minus one if the target size is odd."""

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, self.size, mode="nearest")


class ResidualDecoder(Decoder):
    """p(x|z): a dense layer to 6 channels at a quarter of the size, then two upsamplings with six residual blocks each.

    Args:
        shape: The shape (c, h, w) of an image.
        likelihood: Maps the output to p(x|z).
        latent_dim: The dimension D of z.
    """

    def __init__(self, shape: tuple[int, int, int], likelihood: Likelihood, latent_dim: int = 40) -> None:
        super().__init__(shape, likelihood)
        half, self._quarter = halved(shape[1:]), halved(shape[1:], 2)
        self.dense = nn.Linear(latent_dim, LATENT_CHANNELS * math.prod(self._quarter))
        self.convolutions = nn.Sequential(
            _Upsample(half), conv3x3(LATENT_CHANNELS, WIDE), nn.ELU(), *_blocks(WIDE),
            _Upsample(shape[1:]), conv3x3(WIDE, NARROW), nn.ELU(), *_blocks(NARROW),
            conv3x3(NARROW, shape[0]),
        )  # fmt: skip
        self._floats = _floats_of_blocks(WIDE, half) + _floats_of_blocks(NARROW, shape[1:])
        self._floats += WIDE * math.prod(shape[1:])  # the second upsampling

    def image(self, z: Tensor) -> Tensor:
        """The output of the last convolution, (n, c, h, w)."""
        return in_chunks(self._image, z, self._floats)

    def _image(self, z: Tensor) -> Tensor:
        return self.convolutions(channels_last(self.dense(z).view(-1, LATENT_CHANNELS, *self._quarter)))


def build(shape: tuple[int, int, int], likelihood: Likelihood, hidden_dim: int, latent_dim: int) -> Networks:
    """Builds the networks of `celeba`, which have no hidden dense layer; M = 240 as in the published code."""
    encoder = ResidualEncoder(shape, latent_dim)
    return Networks(encoder, ResidualDecoder(shape, likelihood, latent_dim), components=240)
