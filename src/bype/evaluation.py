"""Figures of a trained model: log-likelihood, active units, nearest-neighbour accuracy."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution

from bype.data import Dataset, Images
from bype.distributions import IsotropicMixture
from bype.errors import InputError
from bype.floats import flush_denormals, product_precision
from bype.models import VAE
from bype.objectives import elbo, iwae, kl_by_level
from bype.priors import Prior, PseudocoresetPrior
from bype.scoring import Scoring

KNN = (3, 5, 7, 9, 11, 13, 15)
ACTIVE_VARIANCE = 0.01
# Offset from the seed, so that evaluation shares no noise with training or validation.
EVALUATION_STREAM = 2_000_003
# Elements of noise held at once.
NOISE_ELEMENTS = 2**23

BINARISED_AT_ONCE = 500

Progress = Callable[[int, int], None]  # items done, items in all


def observed(model: VAE, images: Images, seed: int, batch_size: int = 500) -> Iterator[Tensor]:
    """The images in batches as the model sees them: scaled, and binarised by `seed` under a binary likelihood."""
    generator = torch.Generator(images.pixels.device).manual_seed(seed)
    # Always drawn as many at a time: a GPU's draws depend on how many there are.
    for x in images.batches(BINARISED_AT_ONCE, dtype=model.dtype):
        yield from model.observe(x, generator).split(batch_size)


@torch.no_grad()
@product_precision(tf32=False)
def log_likelihood(
    model: VAE,
    images: Images,
    n_samples: int,
    *,
    prior: Distribution | None = None,
    seed: int = 0,
    scoring: Scoring | None = None,
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
    generator = torch.Generator(images.pixels.device).manual_seed(seed + EVALUATION_STREAM)
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
        for x in observed(model, images, seed, size):
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


@torch.no_grad()
@product_precision(tf32=False)
def latents(model: VAE, images: Images, seed: int = 0) -> Tensor:
    """The means of q(z|x), (n, D)."""
    model.eval()
    return model.encoder.means(observed(model, images, seed))


def active_units(means: Tensor) -> int:
    """The number of latents whose posterior mean has a variance above 0.01 over the items, means (n, D).

    Source: Importance weighted autoencoders (Burda et al., 2016), section 5.2.
    """
    return int((means.var(0) > ACTIVE_VARIANCE).sum())


def knn_accuracy(
    base: Tensor, base_labels: Tensor, query: Tensor, query_labels: Tensor, ks: Sequence[int] = KNN
) -> dict[int, float]:
    """Accuracy in percent of the vote of the K nearest, Euclidean, for each K; a tie goes to the smaller label.

    Args:
        base: Where neighbours are looked for, (n, D).
        base_labels: Their labels, (n,).
        query: The items to classify, (m, D).
        query_labels: Their labels, (m,).
        ks: The numbers of neighbours.

    Raises:
        InputError: If a K is not between 1 and n.
    """
    from sklearn.neighbors import NearestNeighbors

    _check_ks(ks, len(base))
    search = NearestNeighbors(n_neighbors=max(ks), algorithm="brute").fit(base.cpu().numpy())
    near = base_labels.cpu().numpy()[search.kneighbors(query.cpu().numpy(), return_distance=False)]
    truth = query_labels.cpu().numpy()
    classes = int(max(base_labels.max(), query_labels.max())) + 1
    votes = np.zeros((len(near), classes), np.int64)
    accuracy, rows, counted = {}, np.arange(len(near)), 0
    for k in sorted(ks):
        for column in near.T[counted:k]:
            votes[rows, column] += 1
        counted = k
        accuracy[k] = float(100 * (votes.argmax(1) == truth).mean())
    return {k: accuracy[k] for k in ks}


def _check_ks(ks: Sequence[int], n: int) -> None:
    if not ks or not all(1 <= k <= n for k in ks):
        raise InputError(f"k: expected numbers from 1 to {n}, the items to look among, got {list(ks)}")


def in_nats(model: VAE, log_p: float | Tensor, n_pixels: int) -> Any:
    """A log-likelihood in nats of a normalised density: `mse` lacks the constant -d/2 log(pi) of its normal."""
    return log_p if model.decoder.likelihood.normalised else log_p - 0.5 * n_pixels * math.log(math.pi)


def likelihood_figures(model: VAE, log_p: Tensor, data: Dataset, suffix: str = "") -> dict[str, float]:
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
    scoring: Scoring | None = None,
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
        _check_ks(ks, sum(map(len, rest)))
    p = model.eval().prior(model.encoder)
    log_p = log_likelihood(model, scored, n_samples, prior=p, seed=seed, scoring=scoring, progress=progress)
    figures: dict[str, Any] = likelihood_figures(model, log_p, data)
    figures |= {"samples": n_samples, "items": len(scored)}
    figures |= bound_figures(model, images, p, math.prod(data.shape), seed)
    means = latents(model, images, seed)
    if len(means) > 1:  # of one item there is no variance
        figures["active_units"] = active_units(means)
    if trained_on and isinstance(model.prior, PseudocoresetPrior):
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
    scoring: Scoring | None = None,
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
    figures: dict[str, Any] = likelihood_figures(model, log_p, data, f"@{name}")
    return figures | {f"samples@{name}": n_samples, f"items@{name}": len(scored)}


def _checked_part(model: VAE, data: Dataset, split: str, n_samples: int, n_items: int | None) -> Images:
    """The part of the data that is asked for, the options checked."""
    if n_samples < 1 or (n_items is not None and n_items < 1):
        raise InputError(f"samples, items: expected at least 1, got {n_samples}, {n_items}")
    model.check_data(data)
    return data.part(split)


@torch.no_grad()
def prior_divergences(model: VAE, training: Images, seed: int = 0, n_draws: int = 10_000) -> dict[str, float]:
    r"""`kl_prior`, :math:`KL(p(z|U,w) \| p(z|X))`, and `kl_prior_reverse`, nats, by draws from the first argument.

    Both are mixtures of Eq. 12's form with the model's sigma: over the pseudo-points with their weights, and over all
    training items with equal ones.

    Args:
        model: A model with a pseudocoreset prior.
        training: The training set X.
        seed: Seed of the draws.
        n_draws: How many draws each estimate takes.
    """
    generator = torch.Generator(training.pixels.device).manual_seed(seed + EVALUATION_STREAM)
    coreset: IsotropicMixture = model.eval().prior(model.encoder)
    loc = model.encoder.means(training.batches(500, dtype=model.dtype))  # grey, as a prior's points are
    exemplar = IsotropicMixture(loc, coreset.scale, loc.new_full((len(loc),), 1 / len(loc)).log())

    def divergence(p: IsotropicMixture, q: IsotropicMixture) -> float:
        z = p.sample((n_draws,), generator=generator)
        return (p.log_prob(z) - q.log_prob(z)).double().mean().item()

    return {"kl_prior": divergence(coreset, exemplar), "kl_prior_reverse": divergence(exemplar, coreset)}


def bound_figures(model: VAE, images: Images, p: Distribution, n_pixels: int, seed: int) -> dict[str, float]:
    """`elbo_nats`, under `mse` also `elbo_paper`, and its parts, means per item over one draw of z each.

    With two levels also the KL term of each.
    """
    generator = torch.Generator(images.pixels.device).manual_seed(seed + EVALUATION_STREAM)
    terms = [elbo(model, x, prior=p, generator=generator) for x in observed(model, images, seed)]
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
