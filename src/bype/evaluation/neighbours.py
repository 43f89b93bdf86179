"""Nearest neighbours: accuracy of their vote, and the nearest training examples of images."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from bype.core.errors import InputError
from bype.core.numbers import whole
from bype.core.torch_state import fixed_torch_state
from bype.data.coerce import DataLike
from bype.data.images import Images
from bype.evaluation.latents import latent_batches, latents
from bype.models.inputs import ImagesLike
from bype.models.vae import VAE

KNN = (3, 5, 7, 9, 11, 13, 15)
#: Training examples that are compared with all queries at once.
BATCH = 1000


def knn_accuracy(
    base: Tensor, base_labels: Tensor, query: Tensor, query_labels: Tensor, ks: Sequence[int] = KNN
) -> dict[int, float]:
    """Accuracy of K-nearest-neighbour classification with Euclidean distance, for each K, in percent.

    In a tied vote the smallest label wins.

    Args:
        base: The reference points, (n, D).
        base_labels: Their labels, (n,).
        query: The points to classify, (m, D).
        query_labels: Their labels, (m,).
        ks: The numbers of neighbours K.

    Returns:
        The accuracy for each K.

    Raises:
        InputError: If a K is not between 1 and n.
    """
    from sklearn.neighbors import NearestNeighbors

    check_ks(ks, len(base))
    search = NearestNeighbors(n_neighbors=max(ks), algorithm="brute").fit(base.cpu().numpy())
    classes, numbered = np.unique(base_labels.cpu().numpy(), return_inverse=True)  # in order, for ties
    near = numbered[search.kneighbors(query.cpu().numpy(), return_distance=False)]
    truth = query_labels.cpu().numpy()
    votes = np.zeros((len(near), len(classes)), np.int64)
    accuracy, rows, counted = {}, np.arange(len(near)), 0
    for k in sorted(ks):
        for column in near.T[counted:k]:
            votes[rows, column] += 1
        counted = k
        accuracy[k] = float(100 * (classes[votes.argmax(1)] == truth).mean())
    return {k: accuracy[k] for k in ks}


def check_ks(ks: Sequence[int], n: int) -> None:
    """Raises an InputError unless there is at least one K and each is between 1 and n."""
    if not ks or not all(1 <= k <= n for k in ks):
        raise InputError(f"k: expected numbers from 1 to {n}, the number of reference examples, got {list(ks)}")


class Nearest(NamedTuple):
    """The nearest training examples of each image, the nearest first."""

    rows: Tensor  # (n, k), int64, rows of the training split
    distances: Tensor  # (n, k), Euclidean


class Neighbours(NamedTuple):
    """The nearest training examples of images, in latent space and in pixel space."""

    latent: Nearest  # by the means of q(z|x)
    pixel: Nearest  # by the pixels in [0, 1]


@fixed_torch_state(grad=False)
def neighbours(
    model: VAE, data: DataLike, images: ImagesLike, k: int = 8, *, seed: int = 0, train_latents: Tensor | None = None
) -> Neighbours:
    """The k training examples nearest to each image, in latent space and in pixel space.

    Memory does not grow with the size of the training split.

    Args:
        model: The model.
        data: The data in any form that `bype.train` takes; the neighbours are of its training split.
        images: The images, in any form that `bype.iwae` takes.
        k: The number of neighbours.
        seed: Seed of the binarisation, under a binary likelihood.
        train_latents: The posterior means of the training split, (N, D), if they are known (`bype.embed`).

    Raises:
        InputError: If the data or images do not fit the model, or k is not between 1 and the number of training
            examples.
    """
    data = model.checked_data(data)
    k = whole("k", k, 1)
    check_ks([k], len(data.train))
    images = model.checked_images(images)  # once: a data set may transform its items at random
    pixels = images.scaled(dtype=model.dtype)
    means = latents(model, images, seed)
    base = latent_batches(model, data.train, BATCH, seed) if train_latents is None else train_latents.split(BATCH)
    return Neighbours(
        _nearest(base, means.double(), k),
        nearest_by_pixels(pixels.double(), data.train, k),
    )


def nearest_by_pixels(points: Tensor, images: Images, k: int) -> Nearest:
    """The k images nearest to each point (M, c, h, w), by Euclidean distance over the pixels.

    Of points in float64 without cancellation; of others by a matrix product, which is faster.
    """
    return _nearest((x.flatten(1) for x in images.batches(BATCH)), points.flatten(1), k)


def _nearest(base: Iterable[Tensor], query: Tensor, k: int) -> Nearest:
    """The k nearest among batches of vectors (B, D) to each query (n, D); of equally near ones the first."""
    exact = query.dtype == torch.float64
    mode = "donot_use_mm_for_euclid_dist" if exact else "use_mm_for_euclid_dist_if_necessary"
    best = query.new_full((len(query), 0), torch.inf)
    rows = torch.zeros(len(query), 0, dtype=torch.long, device=query.device)
    first = 0
    for batch in base:
        distances = torch.cdist(query, batch.to(query.dtype), compute_mode=mode)
        here = torch.arange(first, first + len(batch), device=query.device).expand(len(query), -1)
        both, ids = torch.cat([best, distances], 1), torch.cat([rows, here], 1)
        order = both.sort(dim=1, stable=True).indices[:, :k]
        best, rows = both.gather(1, order), ids.gather(1, order)
        first += len(batch)
    return Nearest(rows, best.float())
