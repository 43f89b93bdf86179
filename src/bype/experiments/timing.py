"""Epoch times of several priors, measured in turns in one process."""

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch

from bype.core.devices import seconds_now
from bype.core.precision import flush_denormals
from bype.core.torch_state import fixed_torch_state
from bype.training.trainer import Trainer

#: An epoch is measured in this many blocks of steps, in turns with the other trainers': what slows the machine down
#: for a while then slows down all of them.
BLOCKS = 10


@fixed_torch_state(grad=True)
def block_seconds(
    trainers: Mapping[str, Trainer], epochs: int, check: Callable[[], None] = lambda: None
) -> dict[str, list[float]]:
    """Seconds of each block of network steps, by trainer; the i-th blocks of all trainers are measured one after the
    other.

    Validation and step (ii) are not included. Before the first block, each trainer takes a few steps, so that one-off
    costs (allocations, CUDA graphs, cached encodings) are not measured.

    Args:
        trainers: The trainers, of the same data and batch size. Their networks are trained.
        epochs: The number of epochs of each.
        check: Called after each block; an exception that it raises ends the measurement.
    """
    seconds: dict[str, list[float]] = {name: [] for name in trainers}
    with flush_denormals():
        for trainer in trainers.values():
            trainer.steps.run(next(_begin_epoch(trainer))[: 3 * trainer.batch_size], 1.0)
        for _ in range(epochs):
            blocks: dict[str, Iterator[torch.Tensor]] = {}
            for i in range(BLOCKS):
                for name, trainer in trainers.items():
                    start = seconds_now(trainer.device)
                    if i == 0:
                        blocks[name] = _begin_epoch(trainer)
                    if (rows := next(blocks[name], None)) is not None:
                        trainer.steps.run(rows, 1.0)
                        seconds[name].append(seconds_now(trainer.device) - start)
                    check()
    return seconds


def update_seconds(trainer: Trainer) -> float:
    """Seconds of an update of the pseudocoreset, step (ii): the shorter of two, the first of which may include one-off
    costs.
    """
    elapsed = []
    with flush_denormals():
        trainer.model.eval()
        for _ in range(2):
            start = seconds_now(trainer.device)
            trainer.strategy.update(trainer.model, trainer.data.train, trainer.generator)
            elapsed.append(seconds_now(trainer.device) - start)
    return min(elapsed)


def epoch_seconds(blocks: Sequence[float], epochs: int) -> float:
    """The median over the epochs of the sum of their blocks."""
    per_epoch = len(blocks) // epochs
    return statistics.median(sum(blocks[i : i + per_epoch]) for i in range(0, len(blocks), per_epoch))


def _begin_epoch(trainer: Trainer) -> Iterator[torch.Tensor]:
    """Prepares an epoch; returns its rows in random order, in at most BLOCKS blocks of whole batches."""
    trainer.model.train()
    trainer.model.begin_epoch()
    order = torch.randperm(len(trainer.data.train), generator=trainer.generator, device=trainer.device)
    steps = -(-len(order) // trainer.batch_size)
    return iter(order.split(-(-steps // BLOCKS) * trainer.batch_size))
