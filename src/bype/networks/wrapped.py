"""Plain modules as encoders and decoders."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bype.core.errors import InputError, first_line
from bype.distributions.normal import DiagonalNormal
from bype.networks.base import LOG_VARIANCE_RANGE, Decoder, Encoder
from bype.networks.layers import full_precision
from bype.networks.likelihoods import Likelihood

TRIED = 2  # images or latents that a module is tried with


class FeatureEncoder(Encoder):
    r"""q(z|x) from a module that maps images to features; two linear layers map these to :math:`\mu` and log v.

    Args:
        network: Maps images (n, c, h, w) to (n, \*).
        n_features: The number of values that it returns for an image.
        latent_dim: The dimension D of z.
    """

    def __init__(self, network: nn.Module, n_features: int, latent_dim: int) -> None:
        super().__init__(n_features, latent_dim)
        self.network = network

    @property
    def own_part(self) -> nn.Module:
        """The module."""
        return self.network

    def features(self, x: Tensor) -> Tensor:
        """The output of the module, flattened, (n, n_features)."""
        return self.network(x).flatten(1)


class MomentEncoder(Encoder):
    r"""q(z|x) from a module that maps images to the pair :math:`(\mu, \log v)`; log v is clamped to [-6, 2].

    Args:
        network: Maps images (n, c, h, w) to a pair of tensors (n, D).
        latent_dim: The dimension D of z.
    """

    def __init__(self, network: nn.Module, latent_dim: int) -> None:
        nn.Module.__init__(self)  # it has its own heads
        self.network, self.latent_dim = network, latent_dim

    @property
    def own_part(self) -> nn.Module:
        """The module."""
        return self.network

    def features(self, x: Tensor) -> Tensor:
        """The mean and the log-variance, joined, (n, 2D)."""
        return torch.cat([part.flatten(1) for part in self.network(x)], 1)

    def loc(self, features: Tensor) -> Tensor:
        """The mean of q(z|x), (n, D)."""
        return full_precision(features[..., : self.latent_dim])

    def posterior(self, features: Tensor) -> DiagonalNormal:
        """q(z|x), batch shape (n,)."""
        log_variance = F.hardtanh(full_precision(features[..., self.latent_dim :]), *LOG_VARIANCE_RANGE)
        return DiagonalNormal(self.loc(features), (0.5 * log_variance).exp())


class ModuleDecoder(Decoder):
    r"""p(x|z) from a module.

    Args:
        network: Maps latents (n, D) to (n, \*) with c h w values for each.
        shape: The shape (c, h, w) of an image.
        likelihood: Maps its output to p(x|z).
    """

    def __init__(self, network: nn.Module, shape: tuple[int, int, int], likelihood: Likelihood) -> None:
        super().__init__(shape, likelihood)
        self.network = network

    @property
    def own_part(self) -> nn.Module:
        """The module."""
        return self.network

    def image(self, z: Tensor) -> Tensor:
        """The output of the module, flattened, (n, c h w)."""
        return self.network(z).flatten(1)


def as_encoder(network: nn.Module, shape: tuple[int, int, int], latent_dim: int) -> Encoder:
    """An encoder from a module, which is tried on two black images.

    Args:
        network: An `Encoder`, or a module that maps images (n, c, h, w) to features (n, \\*) or to the pair of the mean
            and the log-variance of q(z|x), (n, D) each.
        shape: The shape (c, h, w) of an image.
        latent_dim: The dimension D of z.

    Raises:
        InputError: If the module fails, or returns something else.
    """
    x = torch.zeros(TRIED, *shape)
    if isinstance(network, Encoder):
        loc = _tried(lambda x: network.loc(network.features(x)), network, x, "encoder")
        if not isinstance(loc, Tensor) or loc.shape != (TRIED, latent_dim):
            raise InputError(f"encoder: expected means of shape (n, {latent_dim}), got {_shown(loc)}")
        return network
    out = _tried(network, network, x, "encoder")
    if isinstance(out, tuple | list):
        if len(out) != 2 or not all(isinstance(o, Tensor) and o.shape == (TRIED, latent_dim) for o in out):
            raise InputError(
                f"encoder: expected features, or the pair of mean and log-variance of shape (n, {latent_dim}) each, "
                f"got {_shown(out)}"
            )
        return MomentEncoder(network, latent_dim)
    if not isinstance(out, Tensor) or out.dim() < 2 or len(out) != TRIED:
        raise InputError(f"encoder: expected features of shape (n, ...), got {_shown(out)}")
    return FeatureEncoder(network, out[0].numel(), latent_dim)


def as_decoder(network: nn.Module, shape: tuple[int, int, int], latent_dim: int, likelihood: Likelihood) -> Decoder:
    """A decoder from a module, which is tried on two latents of zero.

    Args:
        network: A `Decoder`, or a module that maps latents (n, D) to (n, \\*) with c h w values for each.
        shape: The shape (c, h, w) of an image.
        latent_dim: The dimension D of z.
        likelihood: Maps the output of a module to p(x|z); a `Decoder` has its own.

    Raises:
        InputError: If the module fails, or returns something else.
    """
    decoder = network if isinstance(network, Decoder) else ModuleDecoder(network, shape, likelihood)
    if decoder.shape != shape:
        raise InputError(f"decoder: expected images {shape}, got {decoder.shape}")
    out = _tried(decoder.image, network, torch.zeros(TRIED, latent_dim), "decoder")
    if not isinstance(out, Tensor) or out.numel() != TRIED * math.prod(shape) or len(out) != TRIED:
        raise InputError(f"decoder: expected {math.prod(shape)} values for each latent, got {_shown(out)}")
    return decoder


def _tried(function: Callable[[Tensor], object], network: nn.Module, x: Tensor, name: str) -> object:
    """What a function of a network returns for x, in `eval` mode; the network is unchanged."""
    parameter = next(network.parameters(), x)
    training = [m for m in network.modules() if m.training]
    network.eval()
    try:
        with torch.no_grad():
            return function(x.to(parameter.device, parameter.dtype))
    except (RuntimeError, TypeError, ValueError, IndexError, AttributeError) as e:
        raise InputError(
            f"{name}: {type(network).__name__} fails on an input of shape {tuple(x.shape)}: {first_line(e)}"
        ) from e
    finally:
        for m in training:
            m.training = True


def _shown(out: object) -> str:
    if isinstance(out, tuple | list):
        return f"({', '.join(_shown(o) for o in out)})"
    return f"shape {tuple(out.shape)}" if isinstance(out, Tensor) else type(out).__name__
