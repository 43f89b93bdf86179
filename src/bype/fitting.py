"""Training into a run folder, each epoch saved as it ends."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path
from typing import Self

from bype.build import model_from
from bype.config import Config, flag_of
from bype.data import Dataset, load
from bype.devices import device_of
from bype.errors import InputError, RunExistsError
from bype.files import remove_partial
from bype.models import VAE
from bype.pseudocoreset import STRATEGIES, Paper, Published, Strategy
from bype.runs import Run
from bype.training import EpochInfo, Snapshot, Trainer

#: Devices beside which a checkpoint is written in a thread.
SAVES_IN_THREAD = ("cuda",)


_saved = False


def saved() -> bool:
    """Whether this process has saved an epoch."""
    return _saved


def strategy_from(config: Config) -> Strategy:
    """The strategy that a config describes."""
    if config.coreset == "paper":
        given = {
            "steps": config.coreset_steps,
            "lr": config.coreset_lr,
            "n_samples": config.coreset_samples,
            "z1_draws": config.coreset_z1,
        }
        return Paper(**{k: v for k, v in given.items() if v is not None})  # type: ignore[arg-type]
    if config.coreset == "published":
        return Published(config.batch_size, config.coreset_samples, config.coreset_z1 or 1)
    return STRATEGIES[config.coreset]()


def trainer_from(config: Config, model: VAE, data: Dataset) -> Trainer:
    """The trainer that a config describes."""
    return Trainer(
        model,
        data,
        epochs=config.epochs,
        warmup=config.warmup,
        patience=config.patience,
        batch_size=config.batch_size,
        lr=config.lr,
        strategy=strategy_from(config),
        coreset_interval=config.coreset_interval,
        precision=config.precision,
        deterministic=config.deterministic,
        seed=config.seed,
    )


class TrainedRun:
    """What `fit` returns: the run, its data, the model at its best epoch, and whether anything was left to train."""

    def __init__(self, run: Run, data: Dataset, trainer: Trainer, *, was_finished: bool) -> None:
        self.run, self.data, self.trainer, self.was_finished = run, data, trainer, was_finished


class _Writer:
    """Saves epochs as they end: at once, or in a thread while the next epoch is computed.

    A thread is for a GPU, whose epochs of a small network take about as long as to write 15 MB to a disk. While an
    epoch is computed one other at most is under way, and leaving the context waits for it.
    """

    def __init__(self, run: Run, *, in_thread: bool) -> None:
        self.run = run
        self.pool = ThreadPoolExecutor(1, "bype-save") if in_thread else None
        self.pending: deque[Future[None]] = deque()
        self.failed = False

    def write(self, info: EpochInfo, epoch: Snapshot) -> None:
        """Saves an epoch, or hands it over and raises what went wrong with the one before."""
        if self.pool is None:
            self._save(info, epoch)
        else:  # handed over first: a signal that comes while we wait loses nothing
            self.pending.append(self.pool.submit(self._save, info, epoch))
            self._wait(1)

    def _save(self, info: EpochInfo, epoch: Snapshot) -> None:
        if self.failed:  # a line of metrics is missing: what follows it would not be whole
            return
        try:
            self.run.append_metrics(info)
            self.run.save(epoch)
            global _saved
            _saved = True
        except BaseException:
            self.failed = True
            raise

    def _wait(self, left: int) -> None:
        """Until no more than `left` epochs are under way."""
        while len(self.pending) > left:
            self.pending[0].result()
            self.pending.popleft()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        try:
            self._wait(0)
        finally:
            if self.pool is not None:
                self.pool.shutdown()


def _check_options(run: Run, config: Config) -> None:
    """Refuses options that are not the run's own; those that it does not use, or that say where, may differ."""
    own = run.config()
    free = {"device", "data_dir", "set", *own.unused()}
    for f in fields(Config):
        recorded, given = getattr(own, f.name), getattr(config, f.name)
        if given != recorded and f.name not in free:
            own_value = f"no {flag_of(f)}" if recorded is None else f"{flag_of(f)} {recorded}"
            raise InputError(f"--resume {run.path}: expected {own_value}, the run's own, got {given}")


def fit(
    config: Config,
    path: str | Path,
    *,
    resume: bool = False,
    on_epoch: Callable[[EpochInfo, Trainer], None] | None = None,
) -> TrainedRun:
    """Trains into a run folder, saving each epoch as it ends; on a GPU while the next one is computed.

    Args:
        config: The options; with `resume` they must be those of the run, but for `device`, those that the run does not
            use, and `data_dir` and the path of a set, which may say that the same data lie elsewhere now.
        path: The run folder.
        resume: Go on from the folder's last checkpoint, if it has one.
        on_epoch: Called after each epoch; when this function ends, in whatever way, that epoch is saved.

    Raises:
        RunExistsError: If the folder holds a run and `resume` is not set, or another process holds it.
        InputError: If an option or the data is not usable, or an option is not the run's own.
        TrainingError: If values stop being finite.
    """
    run = Run(path)
    existed = run.exists
    if existed and not resume:
        raise RunExistsError(f"{run.path}: expected no run there, got one; give --resume to go on, or another --out")
    if run.path.exists() and not existed and not run.is_blank():
        raise RunExistsError(f"{run.path}: expected an empty or new folder, got one with files that are no run")
    if existed:
        _check_options(run, config)
        run.follow_data(config)
    device = device_of(config.device)
    data = run.load_data(device) if existed else load(config.set, config.data_dir, resize=config.resize).to(device)
    model = model_from(config, data)
    trainer = trainer_from(config, model, data)
    with run.lock():
        if run.exists and not existed:
            raise RunExistsError(f"{run.path}: expected no run there, got one that another process has just made")
        remove_partial(run.path)
        if not existed:
            run.create(config, data, "nats" if model.decoder.likelihood.normalised else "paper")
        if run.has_checkpoint:
            run.restore(trainer)
            run.cut_metrics(trainer.epoch)
        elif existed:
            run.cut_metrics(0)
        was_finished = trainer.finished
        with _Writer(run, in_thread=device.type in SAVES_IN_THREAD) as writer:
            for info in trainer:
                writer.write(info, trainer.snapshot())
                if on_epoch is not None:
                    on_epoch(info, trainer)
    trainer.load_best()
    return TrainedRun(run, data, trainer, was_finished=was_finished)
