"""Metrics in words: title, unit and meaning."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from bype.core.numbers import readable


class Metric(NamedTuple):
    """A metric of a run as a page shows it."""

    name: str
    value: str
    unit: str
    meaning: str


LOSS = "unit of the loss"  # replaced by the run's own
LOWER, HIGHER = "Lower is better.", "Higher is better."

#: Unit and meaning of each metric, in the order of a page.
MEANINGS = {
    "nll_paper": (
        "the paper's unit",
        "Importance-weighted bound on the negative log-likelihood per example, with log p(x|z) = -||x - xhat||^2, the "
        "squared error over all pixels, which is not a normalised density: for comparison with the paper. " + LOWER,
    ),
    "nll_nats": (
        "nats per example",
        "Importance-weighted bound on the negative log-likelihood per example, of a normalised density or probability. "
        + LOWER,
    ),
    "bpd": ("bits per dimension", "The same, per pixel value and in bits. " + LOWER),
    "elbo_nats": ("nats per example", "Evidence lower bound on the log-likelihood. " + HIGHER),
    "elbo_paper": ("the paper's unit", "The same bound with the unnormalised squared error. " + HIGHER),
    "reconstruction": (LOSS, "Reconstruction term: -log p(x|z) at z from q(z|x)."),
    "kl": (LOSS, "KL term: how far the posteriors q(z|x) are from the prior."),
    "kl_z1": (LOSS, "KL term of the lower latents z1."),
    "kl_z2": (LOSS, "KL term of the upper latents z2."),
    "active_units": ("dimensions", "Latent dimensions whose posterior mean varies over the examples (above 0.01)."),
    "kl_prior": ("nats", "KL divergence from the aggregate posterior to the prior. " + LOWER),
    "kl_prior_reverse": ("nats", "KL divergence from the prior to the aggregate posterior. " + LOWER),
    "silhouette": ("", "How well the classes separate among the latents, from -1 to 1. " + HIGHER),
    "samples": ("", "Importance samples per example behind the log-likelihood."),
    "items": ("", "Examples that the log-likelihood is a mean over."),
    "seed": ("", "Seed of the evaluation's noise."),
}


def metrics_in_words(metrics: Mapping[str, object], loss_unit: str) -> Sequence[Metric]:
    """The numbers of an evaluation, with their units and meanings; `METRIC@NAME` is the metric under a refit.

    Args:
        metrics: Values by name; what is no number is left out.
        loss_unit: The unit of the losses.
    """
    order = {name: i for i, name in enumerate(MEANINGS)}
    rows = []
    for name in sorted(metrics, key=lambda n: (n.partition("@")[2], order.get(n.partition("@")[0], len(order)), n)):
        value, (base, _, refit) = metrics[name], name.partition("@")
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        unit, meaning = MEANINGS.get(base, ("", ""))
        rows.append(
            Metric(
                name,
                readable(value),
                loss_unit if unit == LOSS else unit,
                meaning + (f" Under the refit prior {refit}." if refit else ""),
            )
        )
    return rows
