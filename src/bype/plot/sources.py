"""What a plot is made of: models and data of runs, paths and estimators; and the axes that it is drawn on."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from torch import Tensor

from bype.core.errors import InputError
from bype.data.images import Dataset
from bype.estimator import ByPEVAE
from bype.models.inputs import ImagesLike
from bype.models.vae import VAE
from bype.runs.fitting import TrainedRun
from bype.runs.run import LoadedRun, Run
from bype.viz.axes import library_defaults

if TYPE_CHECKING:  # matplotlib is imported when something is drawn
    from matplotlib.axes import Axes

#: Something trained: a run or its folder, a model, or a fitted estimator.
Source: TypeAlias = str | Path | Run | LoadedRun | TrainedRun | VAE | ByPEVAE
#: Values as a tensor or an array.
Array: TypeAlias = Tensor | np.ndarray


def drawn(ax: "Axes | None", size: tuple[float, float], draw: Callable[["Axes"], None]) -> "Axes":
    """Draws on these axes, or on those of a new figure in bype's style."""
    with ExitStack() as stack:
        if ax is None:
            stack.enter_context(library_defaults())
            from matplotlib import pyplot

            _, ax = pyplot.subplots(figsize=size, layout="tight")
        draw(ax)
    return ax


class Trained:
    """A model, and the data of its run, which are read when they are asked for.

    Args:
        source: A run, its folder, a model or a fitted estimator; a folder is loaded once.

    Raises:
        InputError: If it is none of these, or the run cannot be loaded.
    """

    def __init__(self, source: object) -> None:
        if isinstance(source, str | Path):
            source = Run.open(source)
        if isinstance(source, Run):
            source = source.load()
        self._run = source if isinstance(source, LoadedRun | TrainedRun) else None
        if isinstance(source, VAE):
            self.model = source
        elif isinstance(source, ByPEVAE):
            self.model = source.model_
        elif isinstance(source, LoadedRun):
            self.model = source.model
        elif isinstance(source, TrainedRun):
            self.model = source.trainer.model
        else:
            raise InputError(f"plot: expected a run, its folder, a model or arrays, got {type(source).__name__}")
        self.model.eval()

    @property
    def data(self) -> Dataset:
        """The data of the run.

        Raises:
            InputError: If there is no run, or its data are not found.
        """
        if self._run is None:
            raise InputError("plot: expected images or data, since a model by itself has none")
        return self._run.data

    def images(self, given: ImagesLike | None, n: int) -> Tensor:
        """The first n of these images, as the model takes them; by default of the test images of the run."""
        return self.model.as_images(self.data.test.first(n) if given is None else given)[:n]


def tensor(values: Array) -> Tensor:
    """Values as a tensor, without a gradient."""
    return values.detach() if isinstance(values, Tensor) else torch.from_numpy(np.asarray(values))


def run_of(source: object) -> Run | None:
    """The run itself, if there is one."""
    if isinstance(source, LoadedRun | TrainedRun):
        return source.run
    if isinstance(source, str | Path):
        return Run.open(source)
    return source if isinstance(source, Run) else None
