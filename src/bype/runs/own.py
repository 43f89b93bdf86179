"""Runs of models that were made in Python, with networks of the user's own or by `bype.build_model`."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ParamSpec, overload

from bype.core.config import READING, Config, Options
from bype.core.errors import InputError
from bype.core.names import CUSTOM
from bype.data.coerce import DataLike
from bype.data.images import Dataset
from bype.models.vae import VAE
from bype.runs.fitting import OnEpoch, OnStep, TrainedRun
from bype.runs.fitting import fit as fit_config
from bype.runs.run import Run
from bype.training.terminal import epochs_in_notebooks
from bype.training.trackers.tracking import Tracker

P = ParamSpec("P")

#: The options that define where the data are and how they are read.
_DATA = ("set", "data_dir")


@overload
def fit(
    config: Config,
    /,
    path: str | Path | Run,
    *,
    resume: bool = False,
    on_epoch: OnEpoch | None = None,
    on_step: OnStep | None = None,
    trackers: Sequence[Tracker | str] = (),
    progress: bool | None = None,
    data: DataLike | None = None,
) -> TrainedRun: ...


@overload
def fit(
    model: VAE,
    /,
    data: DataLike,
    path: str | Path | Run,
    *,
    resume: bool = False,
    on_epoch: OnEpoch | None = None,
    on_step: OnStep | None = None,
    trackers: Sequence[Tracker | str] = (),
    progress: bool | None = None,
    **options: object,
) -> TrainedRun: ...


def fit(what: Config | VAE, /, *places: Any, progress: bool | None = None, **options: Any) -> TrainedRun:
    """Trains into a run folder and saves each epoch as it ends; on a GPU while the next one is computed.

    `fit(config, path)` trains the model that a config describes, as `bype train` does. `fit(model, data, path)` trains
    any other model in place, such as one with networks of your own (`bype.wrap`), and loads its best epoch into it.

    If training is interrupted after epochs were saved, the exception has a note that says so (`errors.kept_notes`).

    Args:
        what: The options, a `Config`; or a model. With `resume` the options must be those of the run, except for
            `device`, options that the run does not use, and `data_dir` and the path of a data set, which may be a new
            location of the same data; a model must have the run's classes and sizes, and its tensors are replaced.
        places: For a config `path`, the run folder; for a model `data`, in any form that `bype.train` takes, and
            `path`.
        progress: Show the epochs, as a bar or as lines on stderr; by default in notebooks only.
        options: `resume`, to continue from the folder's last checkpoint, if it has one; `on_epoch`, called after each
            epoch with its measurements and the trainer; `on_step`, called after each step; `trackers`, names or
            objects that receive each epoch (`tensorboard`, `mlflow`, `trackio`). For a config also `data`, if
            they are not read by its `set`. For a model the options of training by their names in `Config`: `epochs`,
            `warmup`, `patience`, `batch_size`, `lr`, `coreset_interval` and the others of step (ii), `precision`,
            `deterministic`, `seed`, `device`; and for data by path those of reading.

    Raises:
        RunExistsError: If the folder contains a run and `resume` is not set, or another process holds its lock.
        InputError: If an option or the data cannot be used, or an option is not the run's own.
        TrainingError: If values stop being finite.
    """
    with epochs_in_notebooks(progress) as show:
        if show is not None:
            options["on_epoch"] = _both(show, options.get("on_epoch"))
            options["on_step"] = _both(show.step, options.get("on_step"))
        if isinstance(what, Config):
            return fit_config(what, *places, **options)
        return _fit_model(what, *places, **options)


def _both(first: Callable[P, None], second: Callable[P, None] | None) -> Callable[P, None]:
    """Calls one function and then another, if there is one."""

    def call(*args: P.args, **kwargs: P.kwargs) -> None:
        first(*args, **kwargs)
        if second is not None:
            second(*args, **kwargs)

    return call


def _fit_model(
    model: VAE,
    data: DataLike,
    path: str | Path | Run,
    *,
    resume: bool = False,
    on_epoch: OnEpoch | None = None,
    on_step: OnStep | None = None,
    trackers: Sequence[Tracker | str] = (),
    **options: object,
) -> TrainedRun:
    own = str(data) if isinstance(data, str | Path) else model.checked_data(data)
    config = own_config(model, own, options)
    given = own if isinstance(own, Dataset) else None
    return fit_config(
        config, path, resume=resume, on_epoch=on_epoch, on_step=on_step, trackers=trackers, data=given, model=model
    )


def own_config(model: VAE, data: Dataset | str, options: Options) -> Config:
    """The config of a run of this model: its options of the model are the model's, where they have a name.

    Args:
        model: The model.
        data: Its data, or their name or path.
        options: The options of training and of step (ii), `seed` and `device`; for data by path also those of reading.

    Raises:
        InputError: If an option is unknown, belongs to the model, or is out of range.
    """
    fields = {f.name: f for f in dataclasses.fields(Config)}
    for name in options:
        if name not in fields or name in _DATA:
            raise InputError(f"fit: expected an option of training, got {name!r}")
        if fields[name].metadata["group"] == "model":
            raise InputError(f"fit: {name} belongs to the model, which is made already")
        if isinstance(data, Dataset) and name in READING:
            raise InputError(f"fit: {name} defines how data are read, which these are already")
    return Config(data.name if isinstance(data, Dataset) else data, **_model_options(model), **options)


def _model_options(model: VAE) -> Options:
    if model.description is not None:
        return dict(model.description["options"])
    points = model.prior.pseudocoreset
    return {
        "arch": CUSTOM,
        "prior": model.prior.name,
        "likelihood": model.decoder.likelihood.name,
        "latent_dim": model.encoder.latent_dim,
        "reencode": None if model.reencode == 1 else model.reencode,
        **({} if points is None else {"coreset": points.coreset, "n_components": len(points.pseudo_inputs)}),
    }
