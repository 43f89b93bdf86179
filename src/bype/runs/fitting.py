"""Training into a run folder; each epoch is saved as it ends."""

from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import TypeAlias

from bype.core.config import Config, flag_name
from bype.core.devices import resolve_device
from bype.core.errors import InputError, RunExistsError, notes_kept
from bype.core.files import remove_partial
from bype.core.names import STRATEGIES
from bype.core.precision import resolve_precision
from bype.data.catalog import load
from bype.data.coerce import DataLike, as_dataset
from bype.data.images import Dataset
from bype.models.build import model_from
from bype.models.saved import registered_model
from bype.models.vae import VAE
from bype.runs.dataset import RunData
from bype.runs.extending import EXTENDABLE, changed, check_extension
from bype.runs.record import new_record
from bype.runs.run import RUN_FILES, Run, create_run, extend_run
from bype.runs.saving import Writer
from bype.training.epoch import EpochInfo
from bype.training.trackers.tracking import Tracker, make_trackers, tracking
from bype.training.trainer import Trainer


def trainer_from(config: Config, model: VAE, data: Dataset) -> Trainer:
    """The trainer that a config describes."""
    strategy = STRATEGIES[config.coreset].from_options(config)
    config = config.sized(len(data.train))
    return Trainer(model, data, **config.group("training"), strategy=strategy, seed=config.seed)


#: Called after each epoch.
OnEpoch: TypeAlias = Callable[[EpochInfo, Trainer], None]
#: Called after each network step with the trainer, the step and the number of steps of the epoch.
OnStep: TypeAlias = Callable[[Trainer, int, int], None]


class TrainedRun:
    """Returned by `fit`: the run, its data, the trainer with the best epoch's model, whether it was finished before.

    `kept` is for a note on a later interrupt (`errors.notes_kept`); None if no epoch was left to train.
    """

    def __init__(self, run: Run, data: Dataset, trainer: Trainer, *, was_finished: bool, kept: str | None) -> None:
        self.run, self.data, self.trainer, self.was_finished, self.kept = run, data, trainer, was_finished, kept


def _check_options(run: Run, config: Config) -> None:
    """Checks that the options are the run's own, except those that it does not use and those that name a place."""
    own = run.config
    free = {"device", "data_dir", "set", *EXTENDABLE, *own.unused()}
    if config.precision == "auto" and own.precision == resolve_precision("auto", resolve_device(config.device)):
        free.add("precision")  # the same, as runs of the first versions record it
    for f in fields(Config):
        recorded, given = getattr(own, f.name), getattr(config, f.name)
        if given != recorded and f.name not in free:
            own_value = f"no {flag_name(f)}" if recorded is None else f"{flag_name(f)} {recorded}"
            raise InputError(f"--resume {run.path}: expected {own_value}, the run's own, got {given}")


def _model(run: Run, config: Config, data: Dataset, model: VAE | None, *, existed: bool) -> VAE:
    """The model to train: the one given, of the run's classes; or else a new one."""
    recorded = run.record.get("model", {}) if existed else {}
    if model is None and "classes" in recorded:
        return registered_model(recorded, str(run.path))(data)
    if model is None:
        return model_from(config, data)
    if recorded and model.metadata().get("classes") != recorded.get("classes"):
        got = model.metadata().get("classes", "bype's own")
        raise InputError(f"--resume {run.path}: expected networks {recorded.get('classes', 'of bype')}, got {got}")
    return model.to(data.train.pixels.device)


def _check_empty(folder: Path) -> None:
    """Checks that a folder holds no files of a run, but for the lock of one that was killed before it wrote its config.

    Foreign files, such as the log of a scheduler, are left alone.
    """
    try:
        others = sorted(p.name for p in folder.iterdir() if p.name != "lock" and RUN_FILES.fullmatch(p.name))
    except OSError as e:
        raise InputError(f"{folder}: cannot be read as a folder ({e.strerror})") from None
    if others:
        raise RunExistsError(f"{folder}: contains {others[0]} of a run without its config.json; choose another folder")


def fit(
    config: Config,
    path: str | Path | Run,
    *,
    resume: bool = False,
    on_epoch: OnEpoch | None = None,
    on_step: OnStep | None = None,
    trackers: Sequence[Tracker | str] = (),
    data: DataLike | None = None,
    model: VAE | None = None,
) -> TrainedRun:
    """Trains into a run folder and saves each epoch as it ends, or while the next one is computed (`Writer`).

    If training is interrupted after epochs were saved, the exception has a note that says so (`errors.kept_notes`).

    Args:
        config: The options. With `resume` they must be those of the run, except for `device`, options that the run does
            not use, `data_dir` and the path of a data set, which may be a new location of the same data, and `epochs`
            and `patience`, which extend the run and are recorded in its `config.json`.
        path: The run folder.
        resume: Continue from the folder's last checkpoint, if it has one. A run that is extended ends bit-equal to one
            that had the new `epochs` and `patience` from the start, on the same machine and device.
        on_epoch: Called after each epoch; however this function ends, that epoch is saved.
        on_step: Called after each network step with the trainer, the step and the number of steps of the epoch.
        trackers: Names (`tensorboard`, `mlflow`, `trackio`) or objects that receive each epoch, with pictures.
        data: The data in any form that `bype.train` takes, if they are not read by the config's `set`; with `resume`,
            those of the run.
        model: The model, if it is not built from the config; its best epoch is loaded into it.

    Raises:
        RunExistsError: If the folder contains a run and `resume` is not set, or another process holds its lock.
        InputError: If an option or the data cannot be used, or an option is not the run's own.
        TrainingError: If values stop being finite.
    """
    run, made = path if isinstance(path, Run) else Run(path), make_trackers(trackers)
    existed = run.exists
    if existed and not resume:
        raise RunExistsError(f"{run.path}: already contains a run; use --resume to continue it, or another --out")
    if run.path.exists() and not existed:
        _check_empty(run.path)
    if existed:
        config = config.sized_as(run.config)
        _check_options(run, config)
        if data is None:
            run.dataset.follow(config)
    device, in_memory = resolve_device(config.device), data is not None
    if existed:
        own = RunData(run.dataset, device, data).value
    else:
        own = (load(config.set, config.data_dir, **config.reading) if data is None else as_dataset(data)).to(device)
    config = config.sized(len(own.train))
    model = _model(run, config, own, model, existed=existed)
    trainer = trainer_from(config, model, own)
    if on_step is not None:
        trainer.steps.on_step = partial(on_step, trainer)
    with run.lock():
        if run.exists and not existed:
            raise RunExistsError(f"{run.path}: another process has just created a run there")
        remove_partial(run.path)
        if not existed:
            unit = "nats" if model.decoder.likelihood.normalised else "paper"
            record = new_record(config, own, unit, trainer.precision, model.metadata(), in_memory=in_memory)
            create_run(run, record)
        elif changed(run.config, config):
            epoch = run.checkpoints.epoch
            check_extension(run.config, config, epoch, str(run.path))
            extend_run(run, config, epoch)
        if run.checkpoints.exists:
            run.checkpoints.restore(trainer)
            run.metrics.cut(trainer.epoch)
        elif existed:
            run.metrics.cut(0)
        was_finished = trainer.finished
        writer = Writer(run, device)
        with notes_kept([writer]), writer, tracking(made, run.path, config.to_dict(), trainer.epoch) as tracked:
            for info in trainer:
                writer.write(info, trainer.snapshot)
                tracked.epoch(info, trainer)
                if on_epoch is not None:
                    on_epoch(info, trainer)
            trainer.load_best()
    return TrainedRun(run, own, trainer, was_finished=was_finished, kept=writer.kept)
