r"""How good samples are: the kernel distance, and precision and recall, in stated features.

The kernel distance is the unbiased estimate of

.. math:: MMD^2 = E\,k(x, x') + E\,k(y, y') - 2\,E\,k(x, y), \qquad k(a, b) = (a^\top b / d + 1)^3,

averaged over random subsets (Demystifying MMD GANs; Binkowski et al., 2018). Precision is the share of samples within
the k-nearest-neighbour manifold of the real images, recall that of real images within the manifold of the samples
(Improved precision and recall metric; Kynkaanniemi et al., 2019). The conventions are those of torch-fidelity.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from bype.core.errors import InputError
from bype.core.numbers import whole
from bype.core.sampling import random_subset
from bype.core.seeds import Stream
from bype.core.torch_state import fixed_torch_state
from bype.data.coerce import DataLike
from bype.data.images import Dataset, Images
from bype.evaluation.features import FEATURES, fit_features
from bype.models.vae import VAE
from bype.priors.base import Prior

SUBSETS, SUBSET_SIZE, SUBSET_SEED = 100, 1000, 2020
NEIGHBOURS = 3
#: Items of each kind that are compared, at most.
MAX_ITEMS = 10_000
#: Rows of a matrix of distances that are held at once.
TILE = 1000


class KernelDistance(NamedTuple):
    """The kernel distance over random subsets."""

    mean: float
    sd: float  # over the subsets, of the population (divided by their number)


def kernel_distance(
    samples: Tensor, real: Tensor, *, subsets: int = SUBSETS, subset_size: int = SUBSET_SIZE, seed: int = SUBSET_SEED
) -> KernelDistance:
    """The kernel distance between two sets of features; 0 in the mean if both are of one distribution.

    It can be slightly negative. With the same seed and subset size it is torch-fidelity's, computed in float64.

    Args:
        samples: Features of the samples, (n, d).
        real: Features of the real images, (m, d).
        subsets: The number of subsets.
        subset_size: The size of a subset, drawn without replacement.
        seed: Seed of the subsets.

    Raises:
        InputError: If the features do not fit each other, or there are fewer rows than `subset_size`.
    """
    _check_features(samples, real)
    subsets, subset_size = whole("subsets", subsets, 1), whole("subset_size", subset_size, 2)
    if subset_size > min(len(samples), len(real)):
        raise InputError(
            f"subset_size: expected at most the number of features, {min(len(samples), len(real))}, got {subset_size}"
        )
    x, y = (features.detach().double().cpu() for features in (samples, real))
    draws, values = np.random.RandomState(seed), []
    for _ in range(subsets):
        a = x[torch.from_numpy(draws.choice(len(x), subset_size, replace=False))]
        b = y[torch.from_numpy(draws.choice(len(y), subset_size, replace=False))]
        values.append(_mmd2(a, b))
    return KernelDistance(float(np.mean(values)), float(np.std(values)))


def _mmd2(x: Tensor, y: Tensor) -> float:
    """The unbiased estimate of MMD^2 between as many rows of each."""
    m, d = x.shape
    xx, yy, xy = (((a @ b.T) / d + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))
    within = xx.sum() - xx.trace() + yy.sum() - yy.trace()
    return float(within / (m * (m - 1)) - 2 * xy.mean())


class PrecisionRecall(NamedTuple):
    """Precision and recall, from 0 to 1."""

    precision: float
    recall: float


@fixed_torch_state(grad=False)
def precision_recall(samples: Tensor, real: Tensor, k: int = NEIGHBOURS) -> PrecisionRecall:
    """Precision and recall of samples, by the k-nearest-neighbour manifolds of both sets.

    The manifold of a set is the union of the balls around its points that reach to the k-th nearest other point.

    Args:
        samples: Features of the samples, (n, d).
        real: Features of the real images, (m, d).
        k: The number of neighbours.

    Raises:
        InputError: If the features do not fit each other, or there are no more than k rows.
    """
    _check_features(samples, real)
    k = whole("k", k, 1)
    if k >= min(len(samples), len(real)):
        raise InputError(f"k: expected fewer neighbours than features, {min(len(samples), len(real))}, got {k}")
    x, y = samples.double(), real.double()
    return PrecisionRecall(_share_within(x, y, k), _share_within(y, x, k))


def _share_within(points: Tensor, manifold: Tensor, k: int) -> float:
    """The share of points within the manifold of others."""
    radii = torch.cat([torch.cdist(part, manifold).kthvalue(k + 1).values for part in manifold.split(TILE)])
    inside = [(torch.cdist(part, manifold) <= radii).any(1) for part in points.split(TILE)]
    return torch.cat(inside).double().mean().item()


def _check_features(samples: Tensor, real: Tensor) -> None:
    if samples.dim() != 2 or real.dim() != 2 or samples.shape[1] != real.shape[1]:
        raise InputError(f"features: expected (n, d) and (m, d), got {tuple(samples.shape)} and {tuple(real.shape)}")
    for name, features in (("samples", samples), ("real", real)):
        if not features.isfinite().all():
            raise InputError(f"features of {name}: expected finite values, got NaN or infinity")


@fixed_torch_state(grad=None)
def sample_quality(
    model: VAE,
    data: DataLike,
    *,
    features: Sequence[str] | None = None,
    prior: Prior | None = None,
    n_items: int | None = None,
    seed: int = 0,
    report: Callable[[str], None] | None = None,
) -> dict[str, float | int]:
    """How close a model's samples are to test items, beside the same figures for as many real training items.

    Samples, test items and training items are equally many. The features are fitted on the training items that are not
    compared, so that those are new to them as the test items are.

    Args:
        model: The model; its samples are the means of p(x|z), as those of `VAE.sample`.
        data: The data that it was trained on, in any form that `bype.train` takes.
        features: Of `pca`, `classifier` and `inception` (`bype.evaluation.features`); by default `pca`, and
            `classifier` where there are labels of two or more classes.
        prior: Sample z from this prior instead of the model's.
        n_items: The number of items of each kind; by default as many as there are test items, at most half of the
            training items, and at most 10,000.
        seed: Seed of the samples, of the choice of items and of the features.
        report: Called with a line of text before each kind of features.

    Returns:
        For each FEATURES `kid_FEATURES`, the kernel distance, and `kid_sd_FEATURES`; `precision_FEATURES` and
        `recall_FEATURES`, in percent; each again with `_training` for the training items. `quality_items` and
        `quality_subset`, the numbers of items and of items in a subset; `quality_classifier_accuracy`, of the
        classifier on validation items, in percent.

    Raises:
        InputError: If the data do not fit the model, there are too few items, features are unknown or need labels that
            are missing, or the weights of `inception` cannot be had.
    """
    data = model.checked_data(data)
    model.check_finite()
    names = _feature_names(features, data)
    most = min(len(data.test), len(data.train) // 2, MAX_ITEMS)
    n = most if n_items is None else whole("n_items", n_items, 1)
    least = 2 * (NEIGHBOURS + 1)
    if most < least:
        raise InputError(
            f"sample quality: expected at least {least} test items and {2 * least} training items, got "
            f"{len(data.test)} and {len(data.train)} in {data.name}"
        )
    if not least <= n <= most:
        raise InputError(
            f"sample quality: expected from {least} to {most} items, as the test and training items of "
            f"{data.name} allow, got {n}"
        )
    generator = torch.Generator().manual_seed(seed + Stream.QUALITY)
    device = data.train.pixels.device
    order = torch.randperm(len(data.train), generator=generator).to(device)
    test = data.test[random_subset(len(data.test), n, generator).to(device)]
    training, rest = data.train[order[:n].sort().values], data.train[order[n:].sort().values]
    samples = _samples(model, prior, n, seed, data)
    subset = min(SUBSET_SIZE, n // 2)
    figures: dict[str, float | int] = {"quality_items": n, "quality_subset": subset}
    for name in sorted(names, key=lambda name: name != "inception"):  # the one that may fail, before the others
        if report is not None:
            report(name)
        fitted = fit_features(name, replace(data, train=rest), seed)
        figures |= fitted.figures
        real = fitted(test)
        for suffix, images in (("", samples), ("_training", training)):
            figures |= _figures(fitted(images), real, subset, name, suffix)
    return figures


def _samples(model: VAE, prior: Prior | None, n: int, seed: int, data: Dataset) -> Images:
    """Means of p(x|z) for samples z of the prior, clamped to [0, 1]."""
    model.eval()
    own = model.prior
    generator = torch.Generator(data.train.pixels.device).manual_seed(seed + Stream.QUALITY)
    try:
        model.prior = own if prior is None else prior
        drawn = model.sample(n, generator=generator).images
    finally:
        model.prior = own
    return Images(drawn.float().clamp(0, 1))


def _figures(samples: Tensor, real: Tensor, subset: int, name: str, suffix: str) -> dict[str, float]:
    distance = kernel_distance(samples, real, subset_size=subset)
    shares = precision_recall(samples, real)
    return {
        f"kid_{name}{suffix}": distance.mean,
        f"kid_sd_{name}{suffix}": distance.sd,
        f"precision_{name}{suffix}": 100 * shares.precision,
        f"recall_{name}{suffix}": 100 * shares.recall,
    }


def _feature_names(given: Sequence[str] | None, data: Dataset) -> list[str]:
    if given is None:
        labels = data.train.labels
        return ["pca"] if labels is None or len(labels.unique()) < 2 else ["pca", "classifier"]
    names = list(dict.fromkeys(given))
    if not names or (unknown := [name for name in names if name not in FEATURES]):
        got = repr(unknown[0]) if names else "none"
        raise InputError(f"features: expected one or more of {', '.join(FEATURES)}, got {got}")
    return names
