"""The base classes of encoders and decoders."""

from abc import ABC, abstractmethod
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Distribution

from bype.distributions.normal import DiagonalNormal
from bype.networks.layers import full_precision
from bype.networks.likelihoods import Likelihood

LOG_VARIANCE_RANGE = (-6.0, 2.0)


class NormalHeads(nn.Module):
    r"""Maps features to a normal :math:`\mathcal{N}(\mu, \mathrm{diag}\,v)` by two linear layers.

    log v is clamped to [-6, 2].

    Args:
        n_features: The width of the features.
        latent_dim: The dimension D of the normal.
    """

    def __init__(self, n_features: int, latent_dim: int) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.loc_head = nn.Linear(n_features, latent_dim)
        self.log_variance_head = nn.Linear(n_features, latent_dim)

    def loc(self, features: Tensor) -> Tensor:
        """The mean of the normal, shape (\\*batch, D)."""
        return full_precision(self.loc_head(features))

    def posterior(self, features: Tensor) -> DiagonalNormal:
        """The normal, batch shape (\\*batch), event shape (D,)."""
        # hardtanh is a clamp whose backward pass is one kernel.
        log_variance = F.hardtanh(full_precision(self.log_variance_head(features)), *LOG_VARIANCE_RANGE)
        return DiagonalNormal(self.loc(features), (0.5 * log_variance).exp())


class Encoder(NormalHeads, ABC):
    r"""The posterior :math:`q(z \mid x) = \mathcal{N}(z \mid \mu(x), \mathrm{diag}\,v(x))`, log v clamped to [-6, 2].

    A subclass implements `features`. The mean network is shared with the priors (Eq. 10-11), which call `features` and
    `loc` on their own points; the isotropic ones do not use the variance. With two levels this is q(z2|x).

    Args:
        n_features: The width of the output of `features`.
        latent_dim: The dimension D of z.
    """

    @property
    def own_part(self) -> nn.Module:
        """The part that the user wrote: this encoder, or the module that it wraps."""
        return self

    @abstractmethod
    def features(self, x: Tensor) -> Tensor:
        """The input of both heads: maps (n, c, h, w) to (n, n_features)."""

    def joined_features(self, x: Tensor, points: Tensor) -> Tensor:
        """The features of the images [x; points], (B + M, n_features), by one pass.

        Nothing needs the gradient of x, so that an encoder may leave it out.
        """
        return self.features(torch.cat([x, points]))

    def forward(self, x: Tensor) -> DiagonalNormal:
        """q(z|x) for images (n, c, h, w), batch shape (n,), event shape (D,)."""
        return self.posterior(self.features(x))

    @torch.no_grad()
    def means(self, batches: Iterable[Tensor]) -> Tensor:
        """The means of q(z|x) for batches of images, (n, D), without a gradient."""
        return torch.cat([self.loc(self.features(x)) for x in batches])


class Decoder(nn.Module, ABC):
    """The likelihood p(x|z): a network that maps z to an image-shaped output, which a `Likelihood` interprets.

    With two levels this is p(x|z1,z2), and z is the concatenation of both latents, z1 first.

    Args:
        shape: The shape (c, h, w) of an image.
        likelihood: Maps the network's output to p(x|z).
    """

    def __init__(self, shape: tuple[int, int, int], likelihood: Likelihood) -> None:
        super().__init__()
        self.shape, self.likelihood = shape, likelihood

    @property
    def own_part(self) -> nn.Module:
        """The part that the user wrote: this decoder, or the module that it wraps."""
        return self

    @abstractmethod
    def image(self, z: Tensor) -> Tensor:
        """The network's output: maps (n, D) to (n, c*h*w) or (n, c, h, w)."""

    def forward(self, z: Tensor) -> Distribution:
        """p(x|z) for latents (\\*batch, D), batch shape (\\*batch), event shape (c, h, w)."""
        image = full_precision(self.image(z.reshape(-1, z.shape[-1])))
        return self.likelihood(image.view(*z.shape[:-1], *self.shape))
