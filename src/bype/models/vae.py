"""The variational autoencoder: an encoder, a decoder and a prior.

Models with one and two levels of latents differ only in the methods `likelihood_terms`, `likelihood`, `generate` and
`reconstruct`. The objectives, step (ii), evaluation and generation call them with the latents of the prior.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from bype.core.display import Card, Described
from bype.core.errors import InputError
from bype.core.files import expand_path
from bype.core.names import class_name
from bype.core.numbers import whole
from bype.core.tensors import read_tensors, write_tensors
from bype.core.torch_state import fixed_torch_state
from bype.data.coerce import DataLike, as_dataset
from bype.data.images import Dataset, Images
from bype.distributions.mixtures import IsotropicMixture, NormalMixture
from bype.distributions.normal import DiagonalNormal
from bype.models.description import Description
from bype.models.inputs import ImagesLike, InputSpec, Picture, as_images, check_images, checked_images
from bype.networks.base import Decoder, Encoder
from bype.networks.layers import full_precision
from bype.priors.base import Prior

#: Latents decoded at once, so that memory does not grow with the number of samples.
DECODED_AT_ONCE = 1000


class Samples(NamedTuple):
    """Generated images, their latents, and the component that each latent was sampled from."""

    images: Tensor  # (n, c, h, w), the means of p(x|z)
    latents: Tensor  # (n, D)
    components: Tensor | None  # (n,), None if z was not sampled from the components of the prior


class LikelihoodTerms(NamedTuple):
    """The terms of log p(x|z) in nats, given latents z of the prior."""

    log_likelihood: Tensor  # log p(x|z); with two levels log p(x|z1,z2), z1 sampled from q(z1|x,z2)
    kl: Tensor | None = None  # with two levels log q(z1|x,z2) - log p(z1|z2)

    @property
    def log_weight(self) -> Tensor:
        """The logarithm of an unbiased estimate of p(x|z)."""
        return self.log_likelihood if self.kl is None else self.log_likelihood - self.kl


def load_state_checked(model: nn.Module, state: dict[str, Tensor], where: str) -> None:
    """Loads a state dict into a model after checking all names and shapes.

    Raises:
        InputError: If a name or a shape differs from the model's; the model is then unchanged.
    """
    own = model.state_dict()
    names = own.keys() | state.keys()
    differ = sorted(k for k in names if k not in own or k not in state or own[k].shape != state[k].shape)
    if differ:
        raise InputError(f"{where}: expected the tensors of this model, got others: {', '.join(differ[:3])} differ")
    model.load_state_dict(state)


class VAE(nn.Module, Described):
    """A variational autoencoder with one level of latents: q(z|x), p(x|z) and p(z).

    Args:
        encoder: Returns q(z|x).
        decoder: Returns p(x|z).
        prior: Returns p(z), given the encoder.
        reencode: The fraction of a prior's points that a training step encodes, chosen at random. The others use cached
            features, without a gradient, from the last time they were encoded: in an earlier step of the epoch, or at
            its start. It applies to priors with the same points at every step (VampPrior, pseudocoreset); 1 is exact.
            In `eval` mode, and so in validation and evaluation, all points are encoded.

    Raises:
        ValueError: If `reencode` is not above 0 and at most 1.
    """

    #: The dimension of the lower level z1; 0 with one level.
    lower_dim = 0
    #: The number of values of a stored pixel in the data that the model was built for; None for floats.
    levels: int | None = 256
    #: What `bype.build_model` was given; None for a model that was put together otherwise.
    description: Description | None = None

    def __init__(self, encoder: Encoder, decoder: Decoder, prior: Prior, *, reencode: float = 1.0) -> None:
        super().__init__()
        if not 0 < reencode <= 1:
            raise ValueError(f"reencode: expected above 0 and at most 1, got {reencode}")
        self.encoder, self.decoder, self.prior = encoder, decoder, prior
        self.reencode = reencode
        self.cached_features: Tensor | None
        # Not saved: it is recomputed at the start of every epoch, and checkpoints are written between epochs.
        self.register_buffer("cached_features", None, persistent=False)

    def card(self) -> Card:
        """What a notebook shows: sizes, likelihood, and the prior with its points."""
        prior = self.prior.card()
        facts: list[tuple[str, object]] = [
            ("images", " x ".join(map(str, self.decoder.shape))),
            ("latents", self.encoder.latent_dim),
            ("likelihood", type(self.decoder.likelihood).__name__),
            ("parameters", sum(p.numel() for p in self.parameters())),
            ("prior", prior.title),
            *((f"prior: {name}", value) for name, value in prior.facts),
        ]
        return Card(type(self).__name__, facts, prior.strip)

    @property
    def binary(self) -> bool:
        """Whether the likelihood is over binary images, so that the data are binarised."""
        return self.decoder.likelihood.binary

    def binarise(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The input of the model for images, (B, c, h, w).

        With a binary likelihood, pixels are sampled with their grey values as probabilities; otherwise x is returned.
        """
        return torch.bernoulli(x, generator=generator) if self.binary else x

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the networks' weights and of the images they take."""
        return next(self.parameters()).dtype

    def save(self, path: str | Path) -> None:
        """Writes the networks, points and weights to a safetensors file, which `bype.load_model` and `load` read.

        Raises:
            InputError: If the file cannot be written.
        """
        write_tensors(expand_path(path), self.state_dict(), {"model": self.metadata()})

    def metadata(self) -> dict[str, object]:
        """What a file says of the model besides its tensors, as a JSON object.

        The class names of likelihood and prior, the prior's metadata, and under `build` the description from which
        `bype.load_model` builds the model again; or, with networks of the user's own, their classes, as `module:Class`,
        and the shape and levels of the images.
        """
        if self.description is not None:
            return self._metadata() | {"build": self.description}
        parts = (("encoder", self.encoder.own_part), ("decoder", self.decoder.own_part))
        classes = {name: class_name(type(part)) for name, part in parts}
        return self._metadata() | {"classes": classes, "shape": list(self.decoder.shape), "levels": self.levels}

    def load(self, path: str | Path) -> Self:
        """Loads a file written by `save` into this model, which must have the same architecture; returns self.

        This model may have been built with other data, except with an exemplar prior, whose components are the training
        examples. The weights of a loaded pseudocoreset still sum to the N of the data they were trained on.

        Raises:
            InputError: If the file is missing, damaged, or from a different architecture, likelihood or prior; this
                model is then unchanged.
        """
        state, counters = read_tensors(expand_path(path))
        stored = counters.get("model")
        if not isinstance(stored, dict):
            raise InputError(f"{path}: expected a file written by VAE.save, got another checkpoint")
        return self.restore(state, stored, str(path))

    def restore(self, state: dict[str, Tensor], stored: Mapping[str, object], where: str) -> Self:
        """Loads tensors into this model after comparing the metadata they were saved with; returns self.

        Args:
            state: The state dict.
            stored: What `metadata` returned for the saved model.
            where: The file, for errors.

        Raises:
            InputError: If the tensors are from a different architecture, likelihood or prior; this model is then
                unchanged.
        """
        for name, value in self._metadata().items():
            restored = name in self.prior.restored_metadata and type(stored.get(name)) is type(value)
            if stored.get(name) != value and not restored:
                raise InputError(f"{where}: expected a model with {name} {value}, as this one, got {stored.get(name)}")
        load_state_checked(self, state, where)
        for name in self.prior.restored_metadata:
            setattr(self.prior, name, stored[name])
        return self

    def _metadata(self) -> dict[str, object]:
        """The class names of likelihood and prior, and the prior's metadata."""
        parts = {"likelihood": self.decoder.likelihood, "prior": self.prior}
        return {name: type(part).__name__ for name, part in parts.items()} | self.prior.metadata()

    def checked_data(self, data: DataLike) -> Dataset:
        """Data in any accepted form as a `Dataset` that the model can be used with (`bype.data.coerce.as_dataset`).

        Raises:
            InputError: If the data cannot be read, or the shape, levels or device of the images do not match the model.
        """
        spec = self.input_spec
        found = as_dataset(data, spec.device, shape=spec.shape, levels=spec.levels, table=spec.table)
        for images in found.splits.values():
            check_images(images, spec, found.name)
        return found

    def check_images(self, images: Images, name: str = "images") -> None:
        """Checks that the model can be used with these images.

        Args:
            images: The images.
            name: Their name in error messages.

        Raises:
            InputError: If the shape, levels or device of the images do not match the model.
        """
        check_images(images, self.input_spec, name)

    def check_finite(self) -> None:
        """Checks the networks, points and weights.

        Raises:
            InputError: If a value is NaN or infinite, with the name of its tensor.
        """
        for name, t in self.state_dict().items():
            if t.is_floating_point() and not t.isfinite().all():
                raise InputError(f"model: {name} has values that are not finite (a diverged or damaged model?)")

    @property
    def input_spec(self) -> InputSpec:
        """The images that the model takes."""
        likelihood, parameter = self.decoder.likelihood, next(self.parameters())
        return InputSpec(
            self.decoder.shape, parameter.dtype, parameter.device, self.levels, type(likelihood).__name__.lower(),
            likelihood.levels, likelihood.table,
        )  # fmt: skip

    def as_images(self, values: ImagesLike, name: str = "images") -> Tensor:
        """Images in any accepted form as the model takes them, (B, c, h, w) in [0, 1] (`bype.models.inputs.as_images`).

        Raises:
            InputError: If they do not fit the model.
        """
        return as_images(values, self.input_spec, name)

    def checked_images(self, values: ImagesLike, name: str = "images") -> Images:
        """The same as an `Images`, without copying one.

        Raises:
            InputError: If they do not fit the model.
        """
        return checked_images(values, self.input_spec, name)

    def posterior_and_prior(
        self, x: Tensor, *, index: Tensor | None = None, generator: torch.Generator | None = None
    ) -> tuple[DiagonalNormal, Distribution]:
        """q(z|x) and the p(z) of a training step, by one pass of the encoder over [x; points].

        Args:
            x: Images, (B, c, h, w).
            index: Their rows in the training set, (B,), so that an exemplar prior can leave out each row's own example.
            generator: The generator of the prior's random choices.
        """
        points = self.prior.step_points(index, generator)
        if points is None:
            return self.encoder(x), self.prior.step_prior(self.encoder, index, generator)
        images = points.images
        cache = self.cached_features if self.training else None
        if cache is not None:
            count = max(1, round(self.reencode * len(images)))
            chosen = torch.randperm(len(images), generator=generator, device=x.device)[:count]
            images = images[chosen]
        features = self.encoder.joined_features(x, images)
        own, features = features.split([len(x), len(images)])  # whose backward pass is one copy, unlike that of slices
        q = self.encoder.posterior(own)
        if cache is not None:
            fresh = features.to(cache.dtype)
            features = cache.index_copy(0, chosen, fresh)
            cache.index_copy_(0, chosen, fresh.detach())
        return q, self.prior.mixture(self.encoder, features, points.log_weights)

    @torch.no_grad()
    def begin_epoch(self) -> None:
        """Hook called before each training epoch: fills the caches that the training steps use."""
        self.prior.begin_epoch(self.encoder)
        points = self.prior.step_points() if self.reencode < 1 and self.prior.keeps_points else None
        features = None if points is None else full_precision(self.encoder.features(points.images))
        if features is None or self.cached_features is None:
            self.cached_features = features
        else:
            self.cached_features.copy_(features)  # in place, since a CUDA graph reads and writes this tensor

    def likelihood_terms(
        self,
        x: Tensor,
        z: Tensor,
        noise: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
        path: bool = False,
    ) -> LikelihoodTerms:
        """The terms of log p(x|z) in nats, with two levels at one sample of z1 for each z.

        Args:
            x: Images, (B, c, h, w).
            z: Latents, (\\*samples, B, D).
            noise: Standard normal numbers for the lower level, (\\*samples, B, lower_dim); drawn if None.
            generator: The generator of the noise.
            path: Whether the gradient of log q(z1|x,z2) is the one through z1 alone.
        """
        return LikelihoodTerms(self.decoder(z).log_prob(x))

    def likelihood(self, z: Tensor, n_draws: int = 1, *, generator: torch.Generator | None = None) -> Distribution:
        """p(x|z) for step (ii), the same distributions for all images, batch shape (S,).

        Args:
            z: Latents, (S, D).
            n_draws: With two levels, the number of samples of z1 for each z.
            generator: With two levels, the generator of z1.
        """
        return self.decoder(z)

    def generate(
        self,
        z: Tensor,
        noise: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
        sample_lower: bool = True,
    ) -> Tensor:
        """The mean of p(x|z), (\\*batch, c, h, w).

        Args:
            z: Latents, (\\*batch, D).
            noise: With two levels, standard normal numbers for z1, (\\*batch, lower_dim); drawn if None.
            generator: With two levels, the generator of z1.
            sample_lower: With two levels, whether z1 is sampled; otherwise it is the mean of p(z1|z2).
        """
        return self.decoder(z).mean

    @fixed_torch_state(grad=False)
    def sample(
        self,
        n: int,
        *,
        component: int | None = None,
        like: Picture | Images | None = None,
        prior: NormalMixture | DiagonalNormal | None = None,
        generator: torch.Generator | None = None,
    ) -> Samples:
        """Ancestral sampling (Algorithm 1): a component by its mixing weight, z from it, and the mean of p(x|z).

        With two levels, z is z2; z1 is then sampled from p(z1|z2), and the image is the mean of p(x|z1,z2).

        Args:
            n: The number of images.
            component: Sample z from this component of the prior only.
            like: Sample z from the component that this image, (c, h, w) or a PIL image, would have: N(mu(x), sigma^2 I)
                if the components of the prior share one variance, q(z|x) otherwise.
            prior: p(z), if the caller has already computed it; by default `model.prior(model.encoder)`.
            generator: The generator of all samples.

        Raises:
            ValueError: If the prior has no such component, or both `component` and `like` are given.
        """
        n = whole("n", n)
        if component is not None and like is not None:
            raise ValueError("component and like: expected at most one of them, got both")
        p = self.prior(self.encoder) if prior is None else prior
        m: Tensor | None = None
        if like is not None:
            x = self.as_images(like if isinstance(like, Images) else [like], "like")
            if len(x) != 1:
                raise InputError(f"like: expected one image, got {len(x)}")
            q = self.encoder(x)
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

    @fixed_torch_state(grad=False)
    def reconstruct(self, x: ImagesLike) -> Tensor:
        """The mean of p(x|z) at the mean of q(z|x), (n, c, h, w).

        Raises:
            InputError: If the images do not fit the model.
        """
        return self._reconstruct(self.as_images(x))

    def _reconstruct(self, x: Tensor) -> Tensor:
        return self.decoder(self.encoder(x).loc).mean
