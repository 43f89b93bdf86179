"""Times of several pieces of work, measured in turns, and their ratios.

On a machine that also does other work only ratios of adjacent blocks say something: what slows the machine down for a
while slows down both.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch

from bype.core.devices import seconds_now

#: Shows progress: the number of blocks done, and their total.
Progress = Callable[[int, int], None]


class Task(NamedTuple):
    """Work that is measured in blocks."""

    block: Callable[[], object]
    units: int  # steps, or items, in a block
    floor: Callable[[], object] | None = None  # the block's matrix products alone


class Times(NamedTuple):
    """Seconds per unit, a number for each block; the i-th blocks of all tasks were measured next to each other."""

    work: list[float]
    floor: list[float]


class Ratio(NamedTuple):
    """The median of ratios of adjacent blocks, and their quartiles."""

    median: float
    low: float
    high: float


def clock(device: torch.device) -> tuple[str, Callable[[], float]]:
    """The name of the clock for a device, and a function that reads it, in seconds.

    With one thread on a CPU it is `processor`, the processor's time of this process, in which other processes count
    little; else `wall`, on CUDA after the work that the device has been given.
    """
    if device.type == "cpu" and torch.get_num_threads() == 1:
        return "processor", time.process_time
    return "wall", lambda: seconds_now(device)


def alternate(
    tasks: Mapping[str, Task], rounds: int, device: torch.device, progress: Progress | None = None
) -> dict[str, Times]:
    """Measures a block of each task and of its floor, in turns, `rounds` times; the first round is not counted."""
    _, now = clock(device)
    times = {name: Times([], []) for name in tasks}

    def seconds(block: Callable[[], object], units: int) -> float:
        start = now()
        block()
        return (now() - start) / units

    for i in range(rounds + 1):
        for name, task in tasks.items():
            work = seconds(task.block, task.units)
            floor = None if task.floor is None else seconds(task.floor, task.units)
            if i:
                times[name].work.append(work)
                if floor is not None:
                    times[name].floor.append(floor)
        if progress is not None:
            progress(i + 1, rounds + 1)
    return times


def ratio(work: Sequence[float], other: Sequence[float]) -> Ratio:
    """The ratio of two series of blocks that were measured next to each other.

    >>> ratio([2.0, 3.0, 8.0, 4.0, 2.0], [1.0, 1.0, 2.0, 2.0, 1.0])
    Ratio(median=2.0, low=2.0, high=3.0)
    """
    ratios = sorted(a / b for a, b in zip(work, other, strict=True))
    return Ratio(statistics.median(ratios), ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4])
