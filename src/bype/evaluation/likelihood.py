"""The importance-weighted log-likelihood of images."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.distributions import Distribution

from bype.core.errors import InputError
from bype.core.precision import flush_denormals, product_precision
from bype.core.seeds import Stream
from bype.data.images import Images
from bype.models.objectives import iwae
from bype.models.observing import model_inputs
from bype.models.vae import VAE

# Elements of noise held at once.
NOISE_ELEMENTS = 2**23


Progress = Callable[[int, int], None]  # items done, items in all


class PartialScores(Protocol):
    """Where the scores of a long evaluation are saved as they are computed, so that it can be resumed."""

    def load(self, generator: torch.Generator, settings: Mapping[str, Any], /) -> Tensor | None:
        """The scores so far, (n,), with the generator advanced to their end; None where there are none."""

    def keep(self, values: Sequence[Tensor], generator: torch.Generator, /) -> None:
        """Records the scores so far; they are written now and then."""

    def save(self) -> None:
        """Writes what is recorded and not written yet."""


@torch.no_grad()
@product_precision(tf32=False)
def log_likelihood(
    model: VAE,
    images: Images,
    n_samples: int,
    *,
    prior: Distribution | None = None,
    seed: int = 0,
    scoring: PartialScores | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """The importance-weighted bound on log p(x) of every image, (n,), in the unit of the likelihood.

    The prior's components are encoded once. The noise is drawn item after item from one seed: the first n items get the
    same figures whether or not more follow, and so does every model with the same latent dimension.

    Args:
        model: The model.
        images: The images; under a binary likelihood they are binarised, once, by the seed.
        n_samples: Importance samples S per item.
        prior: p(z), by default the model's.
        seed: Seed of the noise.
        scoring: Where the part that is done is kept; one that was stopped goes on from there, to the same bits.
        progress: Called with the items done and the items in all, before the first one and after each batch.

    Raises:
        InputError: If the images do not fit the model (`VAE.check_images`), or there is not one sample.
    """
    if n_samples < 1:
        raise InputError(f"samples: expected at least 1, got {n_samples}")
    model.check_images(images)
    model.eval()
    generator = torch.Generator(images.pixels.device).manual_seed(seed + Stream.EVALUATION)
    p = model.prior(model.encoder) if prior is None else prior
    size = max(1, min(500, NOISE_ELEMENTS // (n_samples * (model.encoder.latent_dim + model.lower_dim))))
    given = {"samples": n_samples, "seed": seed, "items": len(images), "at_once": size}
    earlier = None if scoring is None else scoring.load(generator, given)
    bounds: list[Tensor] = [] if earlier is None else [earlier]
    done = 0 if earlier is None else len(earlier)
    seen = 0
    try:
        if progress is not None:
            progress(done, len(images))
        for x in model_inputs(model, images, seed, size):
            seen += len(x)
            if seen <= done:
                continue
            with flush_denormals():
                bounds.append(iwae(model, x, n_samples, prior=p, generator=generator))
            done = seen
            if scoring is not None:
                scoring.keep(bounds, generator)
            if progress is not None:
                progress(done, len(images))
    finally:
        if scoring is not None:
            scoring.save()
    return torch.cat(bounds)
