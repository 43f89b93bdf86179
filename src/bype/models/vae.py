"""The variational autoencoder: an encoder, a decoder and a prior.

One and two levels of latents differ only in the methods `likelihood_terms`, `likelihood`, `generate` and
`reconstruct`, which the objectives, step (ii), evaluation and generation call with the latents of the prior.
"""

from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from bype.core.errors import InputError
from bype.core.files import expand_path
from bype.core.tensors import read_tensors, write_tensors
from bype.data.images import Dataset, Images
from bype.distributions.mixtures import IsotropicMixture, NormalMixture
from bype.distributions.normal import DiagonalNormal
from bype.networks.base import Decoder, Encoder
from bype.networks.layers import full_precision
from bype.priors.base import Prior

#: Latents whose images are made at once, so that memory does not depend on how many are asked for.
DECODED_AT_ONCE = 1000


class Samples(NamedTuple):
    """Generated images, the latents they came from, and the component each latent came from."""

    images: Tensor  # (n, c, h, w), the means of p(x|z)
    latents: Tensor  # (n, D)
    components: Tensor | None  # (n,), None where the prior has no components


class LikelihoodTerms(NamedTuple):
    """What the rest of a model says of images, given the latents z that the prior is over."""

    log_likelihood: Tensor  # log p(x|z); of two levels log p(x|z1,z2), z1 drawn from q(z1|x,z2)
    kl: Tensor | None = None  # of two levels log q(z1|x,z2) - log p(z1|z2)

    @property
    def log_weight(self) -> Tensor:
        """The log of an unbiased estimate of p(x|z)."""
        return self.log_likelihood if self.kl is None else self.log_likelihood - self.kl


def load_state_checked(model: nn.Module, state: dict[str, Tensor], where: str) -> None:
    """Puts tensors by name into a model, all or none.

    Raises:
        InputError: If a name or a shape is not the model's.
    """
    own = model.state_dict()
    names = own.keys() | state.keys()
    differ = sorted(k for k in names if k not in own or k not in state or own[k].shape != state[k].shape)
    if differ:
        raise InputError(f"{where}: expected the tensors of this model, got others: {', '.join(differ[:3])} differ")
    model.load_state_dict(state)


class VAE(nn.Module):
    """One level of latents: q(z|x), p(x|z) and p(z).

    Args:
        encoder: Returns q(z|x).
        decoder: Returns p(x|z).
        prior: Returns p(z), given the encoder.
        reencode: The share of a prior's points that a training step encodes, drawn at random; the others lend their
            features, without a gradient, from the last time they were encoded: an earlier step of the epoch, or its
            start. It applies to priors with the same points at every step (VampPrior, pseudocoreset); 1 is exact.
            In `eval` mode, so in validation and evaluation, all is exact.

    Raises:
        ValueError: If `reencode` is not above 0 and at most 1.
    """

    #: The dimension of the latents below those that the prior is over.
    lower_dim = 0

    def __init__(self, encoder: Encoder, decoder: Decoder, prior: Prior, *, reencode: float = 1.0) -> None:
        super().__init__()
        if not 0 < reencode <= 1:
            raise ValueError(f"Expected `reencode` above 0 and at most 1, but got {reencode}.")
        self.encoder, self.decoder, self.prior = encoder, decoder, prior
        self.reencode = reencode
        self.cached_features: Tensor | None
        # Not saved: it is made anew at the start of every epoch, and a checkpoint holds an epoch boundary.
        self.register_buffer("cached_features", None, persistent=False)

    @property
    def binary(self) -> bool:
        """Whether the likelihood is of binary images, so that data are binarised."""
        return self.decoder.likelihood.binary

    def binarise(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Images as the model sees them, (B, c, h, w): under a binary likelihood drawn from their grey values."""
        return torch.bernoulli(x, generator=generator) if self.binary else x

    @property
    def dtype(self) -> torch.dtype:
        """That of the networks' weights, and so of the images they take."""
        return next(self.parameters()).dtype

    def save(self, path: str | Path) -> None:
        """Writes weights, points and shares as a safetensors file; `load` reads it into a model built alike.

        Raises:
            InputError: If the file cannot be written.
        """
        write_tensors(expand_path(path), self.state_dict(), {"model": self._metadata()})

    def load(self, path: str | Path) -> Self:
        """Takes over what `save` wrote, into a model built alike, and returns it.

        The data it was built on may be others, unless the prior is made of them: the weights of a pseudocoreset go on
        to stand for the items they stood for.

        Raises:
            InputError: If the file is missing, damaged, or of a model built otherwise; the model is then as it was.
        """
        state, counters = read_tensors(expand_path(path))
        facts, own = counters.get("model"), self._metadata()
        if not isinstance(facts, dict):
            raise InputError(f"{path}: expected a model that VAE.save wrote, got another file")
        for name, value in own.items():
            brought = name in self.prior.restored_metadata and type(facts.get(name)) is type(value)
            if facts.get(name) != value and not brought:
                raise InputError(f"{path}: expected a model with {name} {value}, as this one, got {facts.get(name)}")
        load_state_checked(self, state, str(path))
        for name in self.prior.restored_metadata:
            setattr(self.prior, name, facts[name])
        return self

    def _metadata(self) -> dict[str, Any]:
        """What tells this model from others beside its tensors."""
        kinds = {"likelihood": self.decoder.likelihood, "prior": self.prior}
        return {name: type(part).__name__ for name, part in kinds.items()} | self.prior.metadata()

    def check_data(self, data: Dataset) -> None:
        """Refuses data that the model cannot take.

        Raises:
            InputError: If the images' shape, their levels or their device are not the model's.
        """
        for images in data.splits.values():
            self.check_images(images, data.name)

    def check_images(self, images: Images, name: str = "images") -> None:
        """Refuses images that the model cannot take, as `check_data` does.

        Args:
            images: The images.
            name: What to call them.

        Raises:
            InputError: If their shape, their levels or their device are not the model's.
        """
        if images.shape != self.decoder.shape:
            raise InputError(f"{name}: expected images {self.decoder.shape}, got {images.shape}")
        levels = self.decoder.likelihood.levels
        if levels not in (None, images.levels):
            likelihood = type(self.decoder.likelihood).__name__.lower()
            got = "floats" if images.levels is None else f"{images.levels} levels"
            raise InputError(f"likelihood {likelihood}: expected data of {levels} levels, got {got} in {name}")
        own, theirs = next(self.parameters()).device, images.pixels.device
        if own != theirs:
            raise InputError(f"{name}: expected data on the model's device, {own}, got {theirs}; data.to({str(own)!r})")

    def posterior_and_prior(
        self, x: Tensor, *, index: Tensor | None = None, generator: torch.Generator | None = None
    ) -> tuple[DiagonalNormal, Distribution]:
        """q(z|x) and the training step's p(z), by one pass of the encoder over [x; points].

        Args:
            x: Images, (B, c, h, w).
            index: Their rows in the training set, (B,), so that an exemplar prior leaves each row's own point out.
            generator: Where a prior's random choices come from.
        """
        points = self.prior.step_points(index, generator)
        if points is None:
            return self.encoder(x), self.prior(self.encoder)
        images = points.images
        cache = self.cached_features if self.training else None
        if cache is not None:
            count = max(1, round(self.reencode * len(images)))
            chosen = torch.randperm(len(images), generator=generator, device=x.device)[:count]
            images = images[chosen]
        features = self.encoder.features(torch.cat([x, images]))
        q, features = self.encoder.posterior(features[: len(x)]), features[len(x) :]
        if cache is not None:
            fresh = features.to(cache.dtype)
            features = cache.index_copy(0, chosen, fresh)
            cache.index_copy_(0, chosen, fresh.detach())
        return q, self.prior.mixture(self.encoder, features, points.log_weights)

    @torch.no_grad()
    def begin_epoch(self) -> None:
        """Called before each epoch of training: encodes what its steps take from a cache."""
        self.prior.begin_epoch(self.encoder)
        points = self.prior.step_points() if self.reencode < 1 and self.prior.keeps_points else None
        features = None if points is None else full_precision(self.encoder.features(points.images))
        if features is None or self.cached_features is None:
            self.cached_features = features
        else:
            self.cached_features.copy_(features)  # in place: a recorded step knows no other tensor

    def likelihood_terms(
        self, x: Tensor, z: Tensor, noise: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> LikelihoodTerms:
        """log p(x|z), and of two levels one draw of what the lower one adds.

        Args:
            x: Images, (B, c, h, w).
            z: Latents, (\\*samples, B, D).
            noise: Standard normal numbers for the lower level, (\\*samples, B, lower_dim); by default drawn.
            generator: Where they are drawn from.
        """
        return LikelihoodTerms(self.decoder(z).log_prob(x))

    def likelihood(self, z: Tensor, n_draws: int = 1, *, generator: torch.Generator | None = None) -> Distribution:
        """p(x|z) as step (ii) needs it: the same for all images, batch shape (S,).

        Args:
            z: Latents, (S, D).
            n_draws: Draws of the lower level for each, where there is one.
            generator: Where they are drawn from.
        """
        return self.decoder(z)

    def generate(self, z: Tensor, *, generator: torch.Generator | None = None, sample_lower: bool = True) -> Tensor:
        """The mean image at latents z (\\*batch, D), (\\*batch, c, h, w).

        Args:
            z: The latents.
            generator: Where the lower level is drawn from, where there is one.
            sample_lower: Whether to sample it; otherwise it is its mean.
        """
        return self.decoder(z).mean

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

        Of two levels this is z2; then z1 from p(z1|z2), and the mean of p(x|z1,z2).

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
        images = torch.cat([self.generate(part, generator=generator) for part in z.split(DECODED_AT_ONCE)])
        return Samples(images, z, m)

    @torch.no_grad()
    def reconstruct(self, x: Tensor) -> Tensor:
        """The mean of p(x|z) at the mean of q(z|x), (n, c, h, w)."""
        return self.decoder(self.encoder(x).loc).mean
