"""Network steps on training items that are read again in each epoch."""

import torch
from torch import Tensor

from bype.core.errors import InputError
from bype.core.precision import product_precision
from bype.data.images import Dataset, FreshReadings, Images, scale
from bype.models.vae import VAE
from bype.training.averaging import WeightAverage
from bype.training.optim import NormalizedAdam
from bype.training.schedule import Schedule
from bype.training.step import EpochSums, LocalSteps


class FreshSteps(LocalSteps):
    """Runs the network steps of an epoch on new readings of the training items, eagerly.

    The seed of their transforms is drawn from the generator of the training noise, so that a resumed run reads the same
    as an uninterrupted one.

    Args:
        model: The model, on the device of the images.
        images: The first reading of the training set, which has the scale of the others.
        fresh: The new readings.
        optimizer: The model's optimiser.
        generator: The random generator of all noise.
        batch_size: Examples per step, where batches are read by rows.
        precision: `fp32`, `tf32` or `bf16`.
        schedule: The learning rate over the steps of the run.
        average: The average of the weights, updated after each step; None for none.
        path: Whether the gradient of log q(z|x) is the one through z alone.
    """

    def __init__(
        self,
        model: VAE,
        images: Images,
        fresh: FreshReadings,
        optimizer: NormalizedAdam,
        generator: torch.Generator,
        *,
        batch_size: int,
        precision: str,
        schedule: Schedule,
        average: WeightAverage | None,
        path: bool,
    ) -> None:
        super().__init__(
            model,
            images,
            optimizer,
            generator,
            batch_size=batch_size,
            precision=precision,
            graph=False,
            schedule=schedule,
            average=average,
            path=path,
        )
        self.fresh = fresh
        self._lines = self._lines.new_zeros(fresh.steps(batch_size), self._lines.shape[1])

    def run(self, order: Tensor, beta: float, first: int = 0) -> EpochSums:
        """Takes the steps of one epoch."""
        batches, total = order.split(self.batch_size), len(self._lines)
        device = self.generator.device
        seed = int(torch.randint(2**31, (), generator=self.generator, device=device))
        self._beta.fill_(beta)
        self._line.zero_()
        sizes: list[int] = []
        with product_precision(tf32=self.precision == "tf32"):
            for stored in self.fresh.epoch(batches, seed):
                if len(sizes) == total:
                    raise InputError(f"training data: expected {total} batches, their length, got more")
                grey = scale(torch.from_numpy(stored).to(device), self.images.levels, self.model.dtype)
                index = batches[len(sizes)] if self.fresh.knows_rows else None
                self._set_rate(first + len(sizes))
                self._store(self._step_on(grey, index, self._beta))
                sizes.append(len(stored))
                self._end_step(first, len(sizes), total)
        if not sizes:
            raise InputError(f"training data: expected {total} batches, their length, got none; can it be read twice?")
        return self._sums(sizes)


def steps_per_epoch(data: Dataset, batch_size: int) -> int:
    """The number of network steps of an epoch."""
    return -(-len(data.train) // batch_size) if data.fresh is None else data.fresh.steps(batch_size)


def steps_for(
    model: VAE,
    data: Dataset,
    optimizer: NormalizedAdam,
    generator: torch.Generator,
    *,
    batch_size: int,
    precision: str,
    graph: bool,
    schedule: Schedule,
    average: WeightAverage | None,
    path: bool,
) -> LocalSteps:
    """The network steps on a data set: on its training images, or on new readings of them.

    Raises:
        InputError: If the prior identifies training items by their rows, and the batches do not tell them.
    """
    if data.fresh is None:
        return LocalSteps(
            model,
            data.train,
            optimizer,
            generator,
            batch_size=batch_size,
            precision=precision,
            graph=graph,
            schedule=schedule,
            average=average,
            path=path,
        )
    if model.prior.needs_rows and not data.fresh.knows_rows:
        raise InputError(
            f"{data.name}: the exemplar prior leaves out each item's own component, and an iterable of batches does "
            "not tell which items it yields; pass the map-style data set itself, or fresh=False"
        )
    return FreshSteps(
        model,
        data.train,
        data.fresh,
        optimizer,
        generator,
        batch_size=batch_size,
        precision=precision,
        schedule=schedule,
        average=average,
        path=path,
    )
