"""The metrics of a trained model on a data set."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from bype.core.errors import InputError
from bype.core.precision import product_precision
from bype.core.seeds import Stream
from bype.data.images import Dataset, Images
from bype.evaluation.divergences import prior_divergences
from bype.evaluation.latents import active_units, latents
from bype.evaluation.likelihood import PartialScores, Progress, log_likelihood
from bype.evaluation.neighbours import KNN, check_ks, knn_accuracy
from bype.models.objectives import elbo, kl_by_level
from bype.models.observing import model_inputs
from bype.models.vae import VAE
from bype.priors.base import Prior


def in_nats(model: VAE, log_p: float | Tensor, n_pixels: int) -> Any:
    """A log-likelihood in nats of a normalised density: `mse` lacks the constant -d/2 log(pi) of its normal."""
    return log_p if model.decoder.likelihood.normalised else log_p - 0.5 * n_pixels * math.log(math.pi)


def likelihood_metrics(model: VAE, log_p: Tensor, data: Dataset, suffix: str = "") -> dict[str, float]:
    """`nll_nats`, under `mse` also `nll_paper`, and `bpd` where the data have levels, of the items' log-likelihoods."""
    figures = {}
    mean, n_pixels = log_p.double().mean().item(), math.prod(data.shape)
    if not model.decoder.likelihood.normalised:
        figures[f"nll_paper{suffix}"] = -mean
    nll = -float(in_nats(model, mean, n_pixels))
    figures[f"nll_nats{suffix}"] = nll
    bits = nll / (n_pixels * math.log(2))
    if model.decoder.likelihood.discrete:
        figures[f"bpd{suffix}"] = bits
    elif data.levels is not None:
        figures[f"bpd{suffix}"] = bits + math.log2(data.levels)
    return figures


@torch.no_grad()
@product_precision(tf32=False)
def evaluate(
    model: VAE,
    data: Dataset,
    *,
    split: str = "test",
    n_samples: int = 5000,
    n_items: int | None = None,
    ks: Sequence[int] | None = None,
    seed: int = 0,
    trained_on: bool = True,
    scoring: PartialScores | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Every figure of a model on one split; one that does not apply is absent.

    Args:
        model: The model.
        data: The data; kNN looks for neighbours among those of its training and validation items that are not scored.
        split: `train`, `validation`, `test`, or `all` of them.
        n_samples: Importance samples S per item.
        n_items: Only the first so many items for the log-likelihood, all by default.
        ks: Numbers of neighbours; by default 3, 5, ..., 15, as far as there are so many to look among.
        seed: Seed of the noise.
        trained_on: Whether the model was trained on this data; `kl_prior` is left out where it was not.
        scoring: Where the part of the log-likelihoods that is done is kept, as `log_likelihood` has it.
        progress: Called with the items done and the items in all.

    Raises:
        InputError: If the data do not fit the model (`VAE.check_data`), or an option is out of range.
    """
    images = _checked_part(model, data, split, n_samples, n_items)
    scored = images.first(n_items)
    rest = [data.splits[name] for name in ("train", "validation") if split not in (name, "all")]
    if ks is not None:  # before hours of scoring
        check_ks(ks, sum(map(len, rest)))
    p = model.eval().prior(model.encoder)
    log_p = log_likelihood(model, scored, n_samples, prior=p, seed=seed, scoring=scoring, progress=progress)
    figures: dict[str, Any] = likelihood_metrics(model, log_p, data)
    figures |= {"samples": n_samples, "items": len(scored)}
    figures |= bound_metrics(model, images, p, math.prod(data.shape), seed)
    means = latents(model, images, seed)
    if len(means) > 1:  # of one item there is no variance
        figures["active_units"] = active_units(means)
    if trained_on and model.prior.pseudocoreset is not None:
        figures |= prior_divergences(model, data.train, seed)
    if images.labels is not None and rest and all(r.labels is not None for r in rest):
        base = torch.cat([latents(model, r, seed) for r in rest])
        labels = torch.cat([r.labels for r in rest if r.labels is not None])
        ks = [k for k in KNN if k <= len(base)] if ks is None else ks
        if ks:
            figures["knn"] = knn_accuracy(base, labels, means, images.labels, ks)
    return figures


@torch.no_grad()
@product_precision(tf32=False)
def evaluate_under(
    model: VAE,
    data: Dataset,
    prior: Prior,
    name: str,
    *,
    split: str = "test",
    n_samples: int = 5000,
    n_items: int | None = None,
    seed: int = 0,
    scoring: PartialScores | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """The log-likelihood under another prior than the model's: `nll_nats@NAME` and its like.

    Args:
        model: The model.
        data: The data.
        prior: The prior, such as a refitted one.
        name: Its name.
        split: `train`, `validation`, `test`, or `all` of them.
        n_samples: Importance samples S per item.
        n_items: Only the first so many items, all by default.
        seed: Seed of the noise: that of `evaluate` gives both priors the same draws.
        scoring: Where the part that is done is kept, as `log_likelihood` has it.
        progress: Called with the items done and the items in all.

    Raises:
        InputError: If the data do not fit the model, or an option is out of range.
    """
    scored = _checked_part(model, data, split, n_samples, n_items).first(n_items)
    p = prior(model.eval().encoder)
    log_p = log_likelihood(model, scored, n_samples, prior=p, seed=seed, scoring=scoring, progress=progress)
    figures: dict[str, Any] = likelihood_metrics(model, log_p, data, f"@{name}")
    return figures | {f"samples@{name}": n_samples, f"items@{name}": len(scored)}


def _checked_part(model: VAE, data: Dataset, split: str, n_samples: int, n_items: int | None) -> Images:
    """The part of the data that is asked for, the options checked."""
    if n_samples < 1 or (n_items is not None and n_items < 1):
        raise InputError(f"samples, items: expected at least 1, got {n_samples}, {n_items}")
    model.check_data(data)
    return data.part(split)


def bound_metrics(model: VAE, images: Images, p: Distribution, n_pixels: int, seed: int) -> dict[str, float]:
    """`elbo_nats`, under `mse` also `elbo_paper`, and its parts, means per item over one draw of z each.

    With two levels also the KL term of each.
    """
    generator = torch.Generator(images.pixels.device).manual_seed(seed + Stream.EVALUATION)
    terms = [elbo(model, x, prior=p, generator=generator) for x in model_inputs(model, images, seed)]
    reconstruction = -torch.cat([t.log_likelihood for t in terms]).double().mean().item()
    kl = torch.cat([t.kl for t in terms]).double().mean().item()
    lower = [t.kl_z1 for t in terms if t.kl_z1 is not None]
    bound = -reconstruction - kl
    figures = {} if model.decoder.likelihood.normalised else {"elbo_paper": bound}
    return figures | {
        "elbo_nats": float(in_nats(model, bound, n_pixels)),
        "reconstruction": reconstruction,
        "kl": kl,
        **(kl_by_level(kl, torch.cat(lower).double().mean().item()) if lower else {}),
    }
