"""Several runs that differ in their seeds only."""

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from bype.core import console
from bype.core.config import Config
from bype.core.errors import InputError, RunExistsError, TrainingError
from bype.core.numbers import MAX_INT

#: The most seeds of one command.
MAX_SEEDS = 1000

T = TypeVar("T")


def parse_seeds(text: str) -> list[int]:
    """The seeds of `0-4` or `0,2,5`, also mixed, in the order given.

    Raises:
        InputError: If the format is another, a seed is given twice, or there are more than 1000.

    >>> parse_seeds("0-2,7")
    [0, 1, 2, 7]
    """
    seeds: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"([0-9]{1,10})(?:-([0-9]{1,10}))?", part.strip(), re.ASCII)
        low, high = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not low <= high <= MAX_INT or high - low >= MAX_SEEDS - len(seeds):
            raise InputError(f"--seeds: expected at most {MAX_SEEDS} seeds, such as 0-4 or 0,2,5, got {text!r:.60}")
        seeds += range(low, high + 1)
    if len(set(seeds)) < len(seeds):
        raise InputError(f"--seeds: expected each seed once, got {text!r:.60}")
    return seeds


def seed_runs(config: Config, out: Path | None, seeds: list[int]) -> list[tuple[Config, Path]]:
    """The config and the folder of the run of each seed: `OUT-sSEED`, by default `runs/NAME`, which ends alike."""
    configs = [dataclasses.replace(config, seed=seed) for seed in seeds]
    return [(c, Path("runs") / c.name if out is None else out.with_name(f"{out.name}-s{c.seed}")) for c in configs]


def run_all(runs: list[tuple[Config, Path]], train: Callable[[Config, Path], T], *, resume: bool) -> list[T]:
    """Trains the runs one after another. A run that diverges does not end the others; its error is raised at the end.

    Args:
        runs: The config and the folder of each.
        train: Trains one run.
        resume: Whether the runs may exist.

    Raises:
        RunExistsError: If one exists, and `resume` is not set; nothing is trained then.
        TrainingError: If the training of some has failed; the message names the first.
    """
    for _, path in [] if resume else runs:
        if (path / "config.json").exists():
            raise RunExistsError(f"{path}: already contains a run; use --resume to continue it, or another --out")
    done: list[T] = []
    failed: list[TrainingError] = []
    for config, path in runs:
        try:
            done.append(train(config, path))
        except TrainingError as e:
            console.report(f"{path}: {e}")
            failed.append(e)
    if failed:
        raise TrainingError(f"{len(failed)} of {len(runs)} runs failed, the first: {failed[0]}") from failed[0]
    return done
