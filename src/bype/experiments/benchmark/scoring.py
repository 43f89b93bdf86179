"""Scoring by importance sampling under each prior."""

import torch

from bype.data.images import Dataset
from bype.evaluation.likelihood import log_likelihood
from bype.experiments.benchmark.epochs import Kind, as_in_training
from bype.experiments.benchmark.floors import Sizes, runner, scoring_products
from bype.experiments.benchmark.measure import Progress, Task, alternate, ratio
from bype.experiments.benchmark.records import Row, Scale
from bype.models.build import build_model
from bype.models.vae import VAE

PRIORS = {"standard": Kind("standard"), "bype": Kind("bype"), "vamp": Kind("vamp"), "exemplar": Kind("exemplar")}
#: Latents of a product: about as many as scoring takes at once, and a divisor of the number of samples.
ROWS = 1000


def scoring_rows(data: Dataset, scale: Scale, progress: Progress | None = None) -> list[Row]:
    """A row for each prior: an item's importance-weighted bound beside its products, decoding and the mixture."""
    device = data.train.pixels.device
    with as_in_training(), torch.no_grad():
        tasks = {name: _task(name, data, scale, device) for name in PRIORS}
        times = alternate(tasks, scale.rounds, device, progress)
    rows = []
    for name, own in times.items():
        row = Row.of("scoring", name, own, ratio(own.work, own.floor))
        row.figures["hours_of_10000_items"] = row.figures["seconds"] * 10_000 / 3600
        rows.append(row)
    return rows


def _task(name: str, data: Dataset, scale: Scale, device: torch.device) -> Task:
    """Blocks of scored items; the components' means are encoded once, before, as in an evaluation."""
    kind = PRIORS[name]
    model: VAE = build_model(
        data, prior=kind.prior, coreset=kind.coreset, n_components=scale.components, exemplars=scale.components
    ).eval()
    prior = model.prior(model.encoder)
    images = data.test.first(scale.scored)
    components = {"standard": 0, "exemplar": len(data.train)}.get(name, scale.components)
    sizes = Sizes()
    features = 2 * sizes.latent if name == "vamp" else sizes.latent  # the squares too, if each has its own variance
    products = runner(scoring_products(sizes, ROWS, components, features), device)
    repeats = -(-scale.samples * scale.scored // ROWS)

    def floor() -> None:
        for _ in range(repeats):
            products()

    return Task(lambda: log_likelihood(model, images, scale.samples, prior=prior), scale.scored, floor)
