"""The importance-weighted log-likelihood of images."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.distributions import Distribution

from bype.core.numbers import whole
from bype.core.precision import flush_denormals
from bype.core.seeds import Stream
from bype.core.torch_state import fixed_torch_state
from bype.models.inputs import ImagesLike
from bype.models.objectives import iwae
from bype.models.observing import model_inputs
from bype.models.vae import VAE

# Maximum number of noise elements in memory.
NOISE_ELEMENTS = 2**23


Progress = Callable[[int, int], None]  # number of examples scored, total number of examples


class PartialScores(Protocol):
    """Storage for the partial scores of a long evaluation, so that it can be resumed."""

    def load(self, generator: torch.Generator, settings: Mapping[str, object], /) -> Tensor | None:
        """Returns the saved scores, (n,), and restores the generator's state after them; None if there are none.

        Args:
            generator: The generator of the noise; its state is set.
            settings: The settings that the saved scores must have been computed with.
        """

    def keep(self, values: Sequence[Tensor], generator: torch.Generator, /) -> None:
        """Records all scores so far; writes them from time to time."""

    def save(self) -> None:
        """Writes recorded scores that are not written yet."""


@fixed_torch_state(grad=False)
def log_likelihood(
    model: VAE,
    images: ImagesLike,
    n_samples: int,
    *,
    prior: Distribution | None = None,
    seed: int = 0,
    scoring: PartialScores | None = None,
    progress: Progress | None = None,
) -> Tensor:
    r"""The importance-weighted bound on log p(x) for every image (`bype.models.objectives.iwae`).

    .. math:: \log \frac{1}{S} \sum_{s=1}^S \frac{p(x|z_s) p(z_s)}{q(z_s|x)}, \qquad z_s \sim q(z|x)

    The prior's components are encoded once. The noise is drawn from one seed, one example after another: the scores of
    the first n examples do not depend on how many follow, and all models with the same latent dimension use the same
    noise.

    Source: Importance weighted autoencoders (Burda et al., 2016), https://arxiv.org/abs/1509.00519

    Args:
        model: The model.
        images: The images, in any form that `bype.iwae` takes. Under a binary likelihood they are binarised once, by
            the seed.
        n_samples: Importance samples S per example.
        prior: p(z); by default the model's.
        seed: Seed of the noise.
        scoring: Storage for partial scores. An interrupted evaluation resumes from them, with bit-identical results.
        progress: Called with the number of scored examples and the total, before the first and after each batch.

    Returns:
        The bounds, (n,), in the unit of the likelihood (nats, or the paper's).

    Raises:
        InputError: If the images do not fit the model (`VAE.check_images`), or `n_samples` is less than 1.
    """
    n_samples, seed = whole("samples", n_samples, 1), whole("seed", seed)
    images = model.checked_images(images)
    model.eval()
    generator = torch.Generator(images.pixels.device).manual_seed(seed + Stream.EVALUATION)
    p = model.prior(model.encoder) if prior is None else prior
    size = max(1, min(500, NOISE_ELEMENTS // (n_samples * (model.encoder.latent_dim + model.lower_dim))))
    settings = {"samples": n_samples, "seed": seed, "items": len(images), "at_once": size}
    earlier = None if scoring is None else scoring.load(generator, settings)
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
