"""Training steps and epochs under each prior."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch

from bype.core.names import STRATEGIES
from bype.core.precision import flush_denormals
from bype.core.torch_state import fixed_torch_state
from bype.data.images import Dataset
from bype.experiments.benchmark.floors import Points, Sizes, runner, training_products
from bype.experiments.benchmark.measure import Progress, Task, alternate, clock, ratio
from bype.experiments.benchmark.records import Row, Scale
from bype.models.build import build_model
from bype.training.trainer import Trainer

#: Neighbours of each example under the exemplar prior with retrieval.
NEIGHBOURS = 5
#: The method that the others are compared with.
REFERENCE = "bype, step (i)"


class Kind(NamedTuple):
    """A way to train."""

    prior: str
    coreset: str = "none"
    reencode: float = 1.0
    retrieve: int | None = None


KINDS = {
    "standard": Kind("standard"),
    REFERENCE: Kind("bype"),
    "bype, half of the points encoded": Kind("bype", reencode=0.5),
    "bype, a fifth of the points encoded": Kind("bype", reencode=0.2),
    "bype, `elbo`": Kind("bype", "elbo"),
    "vamp": Kind("vamp"),
    "exemplar": Kind("exemplar"),
    f"exemplar, all items, {NEIGHBOURS} neighbours": Kind("exemplar", retrieve=NEIGHBOURS),
}


def points(kind: Kind, scale: Scale) -> Points:
    """What a kind's prior adds to the products of a step."""
    if kind.retrieve is not None:
        return Points(min(scale.batch * kind.retrieve, scale.items), cached=scale.items)
    encoded = 0 if kind.prior == "standard" else max(1, round(kind.reencode * scale.components))
    learned = kind.prior == "vamp" or kind.coreset == "elbo"
    from_cache = scale.components - encoded if kind.reencode < 1 else 0
    return Points(encoded, gradient=learned, variance=kind.prior == "vamp", features=from_cache)


def make_trainer(kind: Kind, data: Dataset, scale: Scale) -> Trainer:
    """A trainer with the MLP networks, ready for the steps of an epoch."""
    model = build_model(
        data, prior=kind.prior, coreset=kind.coreset, n_components=scale.components,
        exemplars=scale.components if kind.retrieve is None else len(data.train), retrieve=kind.retrieve,
        reencode=kind.reencode if kind.reencode < 1 else None,
    )  # fmt: skip
    strategy = STRATEGIES[kind.coreset]() if kind.prior == "bype" else None
    trainer = Trainer(model, data, batch_size=scale.batch, precision=scale.precision, strategy=strategy)
    model.train()
    model.begin_epoch()
    return trainer


def step_task(trainer: Trainer, scale: Scale, added: Points) -> Task:
    """Blocks of network steps, beside their products."""
    order = torch.randperm(len(trainer.data.train), device=trainer.device)[: scale.steps * scale.batch]
    products = runner(training_products(Sizes(), scale.batch, added), trainer.device, trainer.precision)

    def floor() -> None:
        for _ in range(scale.steps):
            products()

    return Task(lambda: trainer.steps.run(order, 1.0), scale.steps, floor)


@contextmanager
def as_in_training() -> Iterator[None]:
    """Torch's settings as in an epoch of training."""
    with fixed_torch_state(grad=True), flush_denormals():
        yield


def epoch_rows(data: Dataset, scale: Scale, progress: Progress | None = None) -> list[Row]:
    """A row for each kind: a step beside its products and the reference's step, an epoch's start, validation, update.

    `seconds_epoch` is that of the start and of all steps.
    """
    device = data.train.pixels.device
    with as_in_training():
        trainers = {name: make_trainer(kind, data, scale) for name, kind in KINDS.items()}
        tasks = {name: step_task(t, scale, points(KINDS[name], scale)) for name, t in trainers.items()}
        times = alternate(tasks, scale.rounds, device, progress)
        rows = []
        for name, trainer in trainers.items():
            own = times[name]
            row = Row.of("epochs", name, own, ratio(own.work, own.floor))
            row.compare("over_bype", ratio(own.work, times[REFERENCE].work))
            row.figures |= _once_an_epoch(trainer, device)
            steps = -(-scale.items // scale.batch)
            row.figures["seconds_epoch"] = row.figures["seconds"] * steps + row.figures["seconds_start"]
            rows.append(row)
        rows.append(_update_row(data, scale, device))
    return rows


def _once_an_epoch(trainer: Trainer, device: torch.device) -> dict[str, float]:
    """The seconds of what happens once in an epoch: its start, which fills caches, and validation."""
    _, now = clock(device)
    begin = now()
    trainer.model.begin_epoch()
    start = now()
    trainer.validate()
    return {"seconds_start": start - begin, "seconds_validation": now() - start}


def _update_row(data: Dataset, scale: Scale, device: torch.device) -> Row:
    """Step (ii) by strategy `paper`: the shorter of two updates, the first of which may include one-off costs."""
    trainer = make_trainer(Kind("bype", "paper"), data, scale)
    _, now = clock(device)
    seconds = []
    trainer.model.eval()
    for _ in range(2):
        start = now()
        trainer.strategy.update(trainer.model, data.train, trainer.generator)
        seconds.append(now() - start)
    return Row("epochs", "step (ii), `paper`, an update", {"seconds": min(seconds)})
