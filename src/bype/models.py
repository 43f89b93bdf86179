"""The variational autoencoder: an encoder, a decoder and a prior."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from bype.conditionals.base import Decoder, Encoder
from bype.distributions import DiagonalNormal, IsotropicMixture, NormalMixture
from bype.priors import Prior


class Samples(NamedTuple):
    """Generated images, the latents they came from, and the component each latent came from."""

    images: Tensor  # (n, c, h, w), the means of p(x|z)
    latents: Tensor  # (n, D)
    components: Tensor | None  # (n,), None where the prior has no components


class Plates(NamedTuple):
    """Components of a prior, the image each is made of, and samples of each."""

    points: Tensor  # (k, c, h, w)
    images: Tensor  # (k, n, c, h, w), the means of p(x|z)
    components: Tensor  # (k,)
    shares: Tensor  # (k,), of the mixture


class VAE(nn.Module):
    """One level of latents: q(z|x), p(x|z) and p(z).

    Args:
        encoder: Returns q(z|x).
        decoder: Returns p(x|z).
        prior: Returns p(z), given the encoder.
    """

    def __init__(self, encoder: Encoder, decoder: Decoder, prior: Prior) -> None:
        super().__init__()
        self.encoder, self.decoder, self.prior = encoder, decoder, prior

    @property
    def binary(self) -> bool:
        """Whether the likelihood is of binary images, so that data are binarised."""
        return self.decoder.likelihood.binary

    @property
    def dtype(self) -> torch.dtype:
        """That of the networks' weights, and so of the images they take."""
        return next(self.parameters()).dtype

    def posterior_and_prior(
        self, x: Tensor, *, index: Tensor | None = None, generator: torch.Generator | None = None
    ) -> tuple[DiagonalNormal, Distribution]:
        """q(z|x) and the training step's p(z), by one pass of the encoder over [x; points].

        Args:
            x: Images, (B, c, h, w).
            index: Their rows in the training set, (B,), so that an exemplar prior leaves each row's own point out.
            generator: Where a prior's random choices come from.
        """
        points = self.prior.draw(index, generator)
        if points is None:
            return self.encoder(x), self.prior(self.encoder)
        features = self.encoder.features(torch.cat([x, points.images]))
        q = self.encoder.posterior(features[: len(x)])
        return q, self.prior.mixture(self.encoder, features[len(x) :], points.log_weights)

    @torch.no_grad()
    def sample(
        self,
        n: int,
        *,
        component: int | None = None,
        like: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Samples:
        """Ancestral generation (Algorithm 1): a component by its share, z from it, the mean of p(x|z).

        Args:
            n: How many images.
            component: Draw from this component of the prior alone.
            like: Draw from the component that this image (c, h, w) would make: N(mu(x), sigma^2 I) under a prior with
                a shared variance, q(z|x) otherwise.
            generator: Where the draws come from.

        Raises:
            ValueError: If the prior has no such component, or both `component` and `like` are given.
        """
        if component is not None and like is not None:
            raise ValueError("Expected `component` or `like`, but got both.")
        p = self.prior(self.encoder)
        m: Tensor | None = None
        if like is not None:
            q = self.encoder(like[None])
            single = DiagonalNormal(q.loc[0], p.scale if isinstance(p, IsotropicMixture) else q.scale[0])
            z = single.sample((n,), generator=generator)
        elif component is not None:
            if not isinstance(p, NormalMixture):
                raise ValueError(f"Expected a prior with components, but {type(self.prior).__name__} has none.")
            if not 0 <= component < p.n_components:
                raise ValueError(f"Expected a component from 0 to {p.n_components - 1}, but got {component}.")
            z = p.component(component).sample((n,), generator=generator)
            m = torch.full((n,), component, device=z.device)
        elif isinstance(p, NormalMixture):
            z, m = p.sample((n,), generator=generator, return_components=True)
        else:
            z = p.sample((n,), generator=generator)
        return Samples(self.decoder(z).mean, z, m)

    @torch.no_grad()
    def plates(self, n: int, n_points: int = 9, *, generator: torch.Generator | None = None) -> Plates:
        """Components drawn by their shares, without replacement, and n samples of each (Figure 1).

        Args:
            n: Samples of each component.
            n_points: How many components; fewer where fewer have a share.
            generator: Where the draws come from.

        Raises:
            ValueError: If the prior's components are not made of images.
        """
        p = self.prior(self.encoder)
        first = torch.zeros(1, dtype=torch.long, device=next(self.parameters()).device)
        if not isinstance(p, NormalMixture) or self.prior.points_at(first) is None:
            raise ValueError(f"Expected a prior made of points, but got {type(self.prior).__name__}.")
        shares = p.log_weights.exp()
        drawn = torch.multinomial(shares, min(n_points, int((shares > 0).sum())), generator=generator)
        points = self.prior.points_at(drawn)
        assert points is not None
        latents = torch.stack([p.component(m).sample((n,), generator=generator) for m in drawn.tolist()])
        return Plates(points, self.decoder(latents).mean, drawn, shares[drawn])

    @torch.no_grad()
    def reconstruct(self, x: Tensor) -> Tensor:
        """The mean of p(x|z) at the mean of q(z|x), (n, c, h, w)."""
        return self.decoder(self.encoder(x).loc).mean
