"""The training runs of cells: each is a run folder that every cell with the same network uses."""

from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec

from bype.core.config import Config
from bype.runs.fitting import TrainedRun, fit
from bype.training.terminal import epochs

P = ParamSpec("P")


def checked(show: Callable[P, None], check: Callable[[], None]) -> Callable[P, None]:
    """Calls `show`, then `check`, which may raise an exception to stop."""

    def call(*args: P.args, **options: P.kwargs) -> None:
        show(*args, **options)
        check()

    return call


def train(name: str, config: Config, runs: Path, check: Callable[[], None]) -> TrainedRun:
    """Trains a cell's run, continues it, or loads it if it is finished; shows the epochs.

    Args:
        name: The cell's id, the name of the run folder.
        config: The options.
        runs: The folder of runs.
        check: Called after each epoch; an exception that it raises stops the training, which can be continued.

    Raises:
        RunExistsError: If another process is training it.
        TrainingError: If training gives non-finite values.
        InputError: If a file of the run is damaged, or its options are others.
    """
    with epochs(name) as show:
        return fit(config, runs / name, resume=True, on_epoch=checked(show, check), on_step=show.step)
