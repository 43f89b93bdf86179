"""Posterior means: of images, active units, how well they separate classes, a map of them."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from bype.core.errors import InputError
from bype.core.sampling import random_subset
from bype.core.torch_state import fixed_torch_state
from bype.data.images import Images
from bype.models.inputs import ImagesLike
from bype.models.observing import model_inputs
from bype.models.vae import VAE

ACTIVE_VARIANCE = 0.01
#: Examples that the silhouette is computed on, at most: its cost grows with their square.
SILHOUETTE_ITEMS = 10_000
#: The libraries that can make a map.
TSNE_LIBRARIES = ("sklearn", "opentsne")


@fixed_torch_state(grad=False)
def latents(model: VAE, images: Images, seed: int = 0) -> Tensor:
    """The means of q(z|x), (n, D); with two levels those of q(z2|x).

    Args:
        model: The model.
        images: The images.
        seed: Seed of the binarisation, under a binary likelihood.
    """
    model.eval()
    return model.encoder.means(model_inputs(model, images, seed))


def latent_batches(model: VAE, images: Images, batch_size: int, seed: int = 0) -> Iterator[Tensor]:
    """The same as `latents`, a batch (B, D) at a time, so that they need not fit into memory."""
    model.eval()
    for x in model_inputs(model, images, seed, batch_size):
        yield _means(model, x)


@fixed_torch_state(grad=False)
def _means(model: VAE, x: Tensor) -> Tensor:
    return model.encoder.means([x])


def embed(model: VAE, images: ImagesLike, *, seed: int = 0) -> Tensor:
    """The latents of images: the means of q(z|x), (n, D), with two levels those of q(z2|x).

    Args:
        model: The model.
        images: The images, in any form that `bype.iwae` takes.
        seed: Seed of the binarisation, under a binary likelihood.

    Raises:
        InputError: If the images do not fit the model.
    """
    return latents(model, model.checked_images(images), seed)


def active_units(means: Tensor) -> int:
    """The number of active units: latent dimensions whose posterior mean has a variance above 0.01 over the examples.

    Source: Importance weighted autoencoders (Burda et al., 2016), section 5.2.

    Args:
        means: The posterior means, (n, D).
    """
    return int((means.var(0) > ACTIVE_VARIANCE).sum())


def silhouette(means: Tensor, labels: Tensor, seed: int = 0) -> float | None:
    """The mean silhouette, from -1 to 1: how much nearer examples are to their own class than to the next.

    For each example (b - a) / max(a, b), with a the mean Euclidean distance to the others of its class and b the
    smallest mean distance to another class (Rousseeuw, 1987). Of more than 10,000 examples, 10,000 are chosen at
    random.

    Args:
        means: The posterior means, (n, D).
        labels: Their labels, (n,).
        seed: Seed of the choice.

    Returns:
        The silhouette; None if there are fewer than two classes, or as many as examples.
    """
    from sklearn.metrics import silhouette_score

    if len(means) > SILHOUETTE_ITEMS:
        generator = torch.Generator().manual_seed(seed)
        rows = random_subset(len(means), SILHOUETTE_ITEMS, generator).to(means.device)
        means, labels = means[rows], labels[rows]
    if not 2 <= len(labels.unique()) < len(labels):
        return None
    return float(silhouette_score(means.double().cpu().numpy(), labels.cpu().numpy()))


def tsne(means: Tensor, seed: int, by: str = "sklearn") -> Tensor:
    """A map of latents by t-SNE, (n, 2).

    Perplexity 30, or a third of n - 1 where that is less; started from the first two principal components. Distances
    between clusters, their sizes and densities on the map have no meaning. Of openTSNE the approximation is chosen by
    the number of latents; it takes time in proportion to it, scikit-learn's a little more.

    Args:
        means: The posterior means, (n, D).
        seed: Seed of the optimisation.
        by: The library: `sklearn`, or `opentsne`, which is an extra.

    Raises:
        InputError: If there are fewer than four latents, or the library is unknown or missing.
    """
    if by not in TSNE_LIBRARIES:
        raise InputError(f"map: expected t-SNE by {' or '.join(TSNE_LIBRARIES)}, got {by!r}")
    if len(means) < 4:
        raise InputError(f"map: expected at least four images, got {len(means)}")
    perplexity = min(30.0, (len(means) - 1) / 3)
    start = "pca" if means.shape[1] > 1 else "random"
    x = means.float().cpu().numpy()
    if by == "opentsne":
        return _by_opentsne(x, perplexity, start, seed)
    from sklearn.manifold import TSNE

    method = TSNE(perplexity=perplexity, init=start, random_state=seed, n_jobs=1)
    return torch.from_numpy(method.fit_transform(x))


def _by_opentsne(x: np.ndarray, perplexity: float, start: str, seed: int) -> Tensor:
    try:
        from openTSNE import TSNE
    except ImportError:
        raise InputError("t-SNE by opentsne: needs openTSNE: pip install 'bype[opentsne]'") from None
    places = TSNE(perplexity=perplexity, initialization=start, random_state=seed, n_jobs=1).fit(x)
    return torch.from_numpy(np.asarray(places, np.float32).copy())


def in_two_dimensions(means: Tensor, seed: int) -> tuple[Tensor, str]:
    """Latents (n, D) in two dimensions, and how: themselves, or by t-SNE."""
    if means.shape[1] == 2:
        return means, "as they are"
    if means.shape[1] == 1:
        return torch.cat([means, torch.zeros_like(means)], 1), "in one dimension"
    return tsne(means, seed), "in two dimensions by t-SNE, which keeps neighbours together but no distances"
