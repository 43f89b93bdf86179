"""The metrics of a trained model on a data set."""

import math
from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.distributions import Distribution

from bype.core.errors import InputError
from bype.core.seeds import Stream
from bype.core.torch_state import fixed_torch_state
from bype.data.coerce import DataLike
from bype.data.images import Dataset, Images
from bype.evaluation.divergences import prior_divergences
from bype.evaluation.latents import active_units, latents, silhouette
from bype.evaluation.likelihood import PartialScores, Progress, log_likelihood
from bype.evaluation.neighbours import KNN, check_ks, knn_accuracy
from bype.models.objectives import elbo, kl_by_level
from bype.models.observing import model_inputs
from bype.models.vae import VAE
from bype.priors.base import Prior

# Metrics by name: floats, counts, and under "knn" the accuracy for each K.
Metrics = dict[str, Any]

T = TypeVar("T", float, Tensor)


def in_nats(model: VAE, log_p: T, n_pixels: int) -> T:
    """Converts log-likelihoods from the unit of the likelihood to nats.

    Under `mse`, log p(x|z) := -||x - xhat||^2 is a normal density of variance 1/2 without its constant
    -d/2 log(pi); this adds the constant. Other likelihoods are normalised already.

    Args:
        model: The model.
        log_p: Log-likelihoods, in the unit of the likelihood.
        n_pixels: The number of values d of an image.
    """
    return log_p if model.decoder.likelihood.normalised else log_p - 0.5 * n_pixels * math.log(math.pi)


def likelihood_metrics(model: VAE, log_p: Tensor, data: Dataset, suffix: str = "") -> dict[str, float]:
    """Metrics made of log-likelihoods: `nll_nats`, under `mse` also `nll_paper`, and `bpd` if the data have levels.

    Args:
        model: The model.
        log_p: The log-likelihoods of the examples, (n,), in the unit of the likelihood.
        data: The data.
        suffix: Appended to the names.

    Returns:
        Means over the examples: `nll_paper` in the paper's unit, `nll_nats` in nats, `bpd` in bits per dimension.
    """
    metrics = {}
    mean, n_pixels = log_p.double().mean().item(), math.prod(data.shape)
    if not model.decoder.likelihood.normalised:
        metrics[f"nll_paper{suffix}"] = -mean
    nll = -in_nats(model, mean, n_pixels)
    metrics[f"nll_nats{suffix}"] = nll
    if (bits := bits_per_dimension(model, nll, n_pixels, data.levels)) is not None:
        metrics[f"bpd{suffix}"] = bits
    return metrics


def bits_per_dimension(model: VAE, nll: T, n_pixels: int, levels: int | None) -> T | None:
    """Bits per dimension of negative log-likelihoods in nats.

    NLL/(d ln 2) of probabilities; of densities that + log2(levels), a density per bin. None for densities of data
    without levels.
    """
    bits = nll / (n_pixels * math.log(2))
    if model.decoder.likelihood.discrete:
        return bits
    return None if levels is None else bits + math.log2(levels)


@fixed_torch_state(grad=False)
def evaluate(
    model: VAE,
    data: DataLike,
    *,
    split: str = "test",
    n_samples: int = 5000,
    n_items: int | None = None,
    ks: Sequence[int] | None = None,
    seed: int = 0,
    trained_on: bool = True,
    scoring: PartialScores | None = None,
    progress: Progress | None = None,
) -> Metrics:
    """Computes all metrics of a model on one split; metrics that do not apply are left out.

    Args:
        model: The model.
        data: The data, in any form that `bype.train` takes. The reference points of kNN are its training and validation
            examples, except those of `split`.
        split: `train`, `validation`, `test`, or `all`.
        n_samples: Importance samples S per example.
        n_items: Use only the first `n_items` examples for the log-likelihood; by default all.
        ks: Numbers of neighbours K; by default those of 3, 5, ..., 15 that are at most the number of reference points.
            An empty sequence leaves `knn` out: its cost grows with the product of both sets' sizes.
        seed: Seed of the noise.
        trained_on: Whether the model was trained on this data; if not, `kl_prior` is left out.
        scoring: Storage for partial log-likelihoods, as in `log_likelihood`.
        progress: Called with the number of scored examples and the total.

    Returns:
        `nll_nats`, `nll_paper` and `bpd` (`likelihood_metrics`); `samples` and `items`, their numbers; `elbo_nats` and
        its parts (`bound_metrics`); `active_units`; `silhouette` of the classes, from -1 to 1; `kl_prior` and
        `kl_prior_reverse` in nats; `knn`, accuracies in percent by K.

    Raises:
        InputError: If the data do not fit the model (`VAE.checked_data`), or an option is out of range.
    """
    data = model.checked_data(data)
    images = _checked_part(model, data, split, n_samples, n_items)
    scored = images.first(n_items)
    if ks:  # fail before the long evaluation
        check_ks(ks, sum(map(len, _reference(data, split))))
    p = model.eval().prior(model.encoder)
    log_p = log_likelihood(model, scored, n_samples, prior=p, seed=seed, scoring=scoring, progress=progress)
    metrics: Metrics = likelihood_metrics(model, log_p, data)
    metrics |= {"samples": n_samples, "items": len(scored)}
    metrics |= bound_metrics(model, images, p, math.prod(data.shape), seed)
    means = latents(model, images, seed)
    if len(means) > 1:  # the variance needs two examples
        metrics["active_units"] = active_units(means)
    separation = None if images.labels is None else silhouette(means, images.labels, seed)
    if separation is not None:
        metrics["silhouette"] = separation
    if trained_on and model.prior.pseudocoreset is not None:
        metrics |= prior_divergences(model, data.train, seed)
    if knn := knn_of_split(model, data, split, ks, seed=seed, means=means):
        metrics["knn"] = knn
    return metrics


def _reference(data: Dataset, split: str) -> list[Images]:
    """The splits that the neighbours of a split's examples are of."""
    return [data.splits[name] for name in ("train", "validation") if split not in (name, "all")]


def knn_of_split(
    model: VAE,
    data: Dataset,
    split: str,
    ks: Sequence[int] | None = None,
    *,
    seed: int = 0,
    means: Tensor | None = None,
) -> dict[int, float]:
    """kNN accuracies of a split by K, in percent, as `evaluate` computes them; none without labels.

    Args:
        model: The model.
        data: The data. The reference points are its training and validation examples, except those of `split`.
        split: `train`, `validation`, `test`, or `all`, which has no reference points.
        ks: Numbers of neighbours K; by default those of 3, 5, ..., 15 that are at most the number of reference points.
        seed: Seed of the binarisation, under a binary likelihood.
        means: The latents of the split, if the caller has them.
    """
    images, rest = data.part(split), _reference(data, split)
    labels = [r.labels for r in rest if r.labels is not None]
    ks = [k for k in KNN if k <= sum(map(len, rest))] if ks is None else ks
    if not ks or images.labels is None or len(labels) < len(rest):
        return {}
    base = torch.cat([latents(model, r, seed) for r in rest])
    query = latents(model, images, seed) if means is None else means
    return knn_accuracy(base, torch.cat(labels), query, images.labels, ks)


@fixed_torch_state(grad=False)
def evaluate_under(
    model: VAE,
    data: DataLike,
    prior: Prior,
    name: str,
    *,
    split: str = "test",
    n_samples: int = 5000,
    n_items: int | None = None,
    seed: int = 0,
    scoring: PartialScores | None = None,
    progress: Progress | None = None,
) -> Metrics:
    """Computes the log-likelihood metrics under a prior other than the model's, with names such as `nll_nats@NAME`.

    Args:
        model: The model.
        data: The data, in any form that `bype.train` takes.
        prior: The prior, such as a refitted one.
        name: The name of the prior.
        split: `train`, `validation`, `test`, or `all`.
        n_samples: Importance samples S per example.
        n_items: Use only the first `n_items` examples; by default all.
        seed: Seed of the noise. With the same seed, `evaluate` uses the same noise.
        scoring: Storage for partial log-likelihoods, as in `log_likelihood`.
        progress: Called with the number of scored examples and the total.

    Raises:
        InputError: If the data do not fit the model, or an option is out of range.
    """
    data = model.checked_data(data)
    scored = _checked_part(model, data, split, n_samples, n_items).first(n_items)
    p = prior(model.eval().encoder)
    log_p = log_likelihood(model, scored, n_samples, prior=p, seed=seed, scoring=scoring, progress=progress)
    metrics: Metrics = likelihood_metrics(model, log_p, data, f"@{name}")
    return metrics | {f"samples@{name}": n_samples, f"items@{name}": len(scored)}


def _checked_part(model: VAE, data: Dataset, split: str, n_samples: int, n_items: int | None) -> Images:
    """Checks the options and returns the selected split."""
    if n_samples < 1 or (n_items is not None and n_items < 1):
        raise InputError(f"samples, items: expected at least 1, got {n_samples} and {n_items}")
    model.check_finite()
    return data.part(split)


def bound_metrics(model: VAE, images: Images, p: Distribution, n_pixels: int, seed: int) -> dict[str, float]:
    """The evidence lower bound and its parts, means over the images with one sample of z each.

    Args:
        model: The model.
        images: The images.
        p: The prior p(z).
        n_pixels: The number of values d of an image.
        seed: Seed of the noise.

    Returns:
        `elbo_nats` in nats; under `mse` also `elbo_paper`; `reconstruction` and `kl`, in the unit of the likelihood,
        and with two levels the KL term of each, `kl_z1` and `kl_z2`.
    """
    generator = torch.Generator(images.pixels.device).manual_seed(seed + Stream.EVALUATION)
    terms = [elbo(model, x, prior=p, generator=generator) for x in model_inputs(model, images, seed)]
    reconstruction = -torch.cat([t.log_likelihood for t in terms]).double().mean().item()
    kl = torch.cat([t.kl for t in terms]).double().mean().item()
    lower = [t.kl_z1 for t in terms if t.kl_z1 is not None]
    bound = -reconstruction - kl
    metrics = {} if model.decoder.likelihood.normalised else {"elbo_paper": bound}
    return metrics | {
        "elbo_nats": in_nats(model, bound, n_pixels),
        "reconstruction": reconstruction,
        "kl": kl,
        **(kl_by_level(kl, torch.cat(lower).double().mean().item()) if lower else {}),
    }
