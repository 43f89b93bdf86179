"""Run folders: a config, a line of metrics an epoch, the last and the best checkpoint, and figures.

Checkpoints are safetensors with a JSON beside them; nothing is pickled. A checkpoint holds one epoch boundary, and
nothing of time, path or process: the same training gives the same bytes.
"""

import json
import os
import platform
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import bype
from bype.build import build_model
from bype.checkpoints import FORMAT, read_tensors, write_tensors
from bype.config import Config
from bype.data import KNOWN, Dataset, is_album, load
from bype.errors import InputError, RunExistsError, first_line
from bype.files import is_partial, read_json, remove_partial, write_json, write_text
from bype.models import VAE
from bype.priors import FittedMixture
from bype.pseudocoreset import STRATEGIES, Paper, Published, Strategy
from bype.training import EpochInfo, Trainer


class Run:
    """One run folder.

    Args:
        path: The folder.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @property
    def exists(self) -> bool:
        """Whether the folder holds a run."""
        return (self.path / "config.json").exists()

    def is_blank(self) -> bool:
        """Whether the folder holds nothing but what a run leaves that ended before its config was written."""
        try:
            return all(p.name == "lock" or is_partial(p) for p in self.path.iterdir())
        except OSError as e:
            raise InputError(f"{self.path}: expected a folder, got {e.strerror}") from None

    def config(self) -> Config:
        """The run's options.

        Raises:
            InputError: If there is no run, or its config is of another version or has unknown options.
        """
        return Config.from_dict(self._record()["options"], str(self.path / "config.json"))

    def _record(self) -> dict[str, Any]:
        where = self.path / "config.json"
        if not where.exists():
            raise InputError(f"{self.path}: expected a run folder with a config.json, got none")
        record = read_json(where)
        if record.get("format") != FORMAT:
            raise InputError(f"{where}: expected format {FORMAT}, got {record.get('format')!r}")
        if not isinstance(record.get("options"), dict) or not isinstance(record.get("data_sum"), str):
            raise InputError(f"{where}: expected the keys 'options' and 'data_sum', got a file without them")
        return record

    def create(self, config: Config, data: Dataset, unit: str) -> None:
        """Writes config.json."""
        record = {
            "format": FORMAT,
            "options": config.to_dict(),
            "unused": config.unused(),
            "unit": unit,
            "data_sum": data.checksum(),
            "versions": versions(),
            "device": device_model(data.train.pixels.device),
        }
        if config.set not in KNOWN:  # a path: found again from another folder too
            record["set_path"] = str(Path(config.set).expanduser().resolve())
        write_json(self.path / "config.json", record)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Holds the folder for this process; the system lets go of it when the process ends, however it ends.

        Raises:
            RunExistsError: If another process holds it.
        """
        import fcntl

        where = self.path / "lock"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            handle = os.open(where, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as e:
            raise InputError(f"{where}: expected to write it, got {e.strerror}") from None
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise RunExistsError(f"{self.path}: expected a free run folder, got one in use by a process") from None
            yield
        finally:
            os.close(handle)

    # Metrics

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl; a torn last line is left out."""
        lines = []
        where = self.path / "metrics.jsonl"
        if where.exists():
            for text in where.read_text(encoding="utf-8", errors="replace").splitlines():
                try:
                    line = json.loads(text)
                except (ValueError, RecursionError):
                    break
                if not isinstance(line, dict) or not isinstance(line.get("epoch"), int):
                    break
                lines.append(line)
        return lines

    def append_metrics(self, info: EpochInfo) -> None:
        """Adds an epoch's line."""
        try:
            with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as f:
                f.write(json.dumps(info.to_dict(), allow_nan=False) + "\n")
                f.flush()
                os.fsync(f.fileno())
        except OSError as e:
            raise InputError(f"{self.path / 'metrics.jsonl'}: expected to write it, got {e.strerror}") from None

    def cut_metrics(self, epoch: int) -> None:
        """Removes the lines of epochs after the checkpoint's, which will be run again."""
        kept = [line for line in self.metrics() if line["epoch"] <= epoch]
        write_text(self.path / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in kept))

    # Checkpoints

    def save(self, trainer: Trainer, *, best: bool) -> None:
        """Writes the checkpoint of the epoch that just ended; where it was the best one, best.safetensors first."""
        if best:
            write_tensors(self.path / "best.safetensors", trainer.best_state, {"epoch": trainer.best_epoch})
        tensors, counters = trainer.state()
        # The counters travel inside the file too: the two files of a checkpoint are moved one after the other, and only
        # the tensors' file counts.
        write_tensors(self.path / "last.safetensors", tensors, counters)
        write_json(self.path / "last.json", {"format": FORMAT, "finished": trainer.finished, **counters})

    @property
    def has_checkpoint(self) -> bool:
        """Whether an epoch was saved."""
        return (self.path / "last.safetensors").exists()

    def restore(self, trainer: Trainer) -> None:
        """Puts the last checkpoint into a trainer."""
        tensors, counters = read_tensors(self.path / "last.safetensors")
        best, _ = read_tensors(self.path / "best.safetensors")
        where = self.path / "last.safetensors"
        try:
            trainer.load_state(tensors, counters, best)
        except (KeyError, RuntimeError, TypeError, ValueError) as e:
            raise InputError(f"{where}: expected a checkpoint of this run, got another ({first_line(e)})") from None

    def load_data(self, device: torch.device | str = "cpu", name: str | None = None) -> Dataset:
        """The run's data set, checked to be the one it was trained on; or another one by name.

        Raises:
            InputError: If the set differs from the one the run was trained on.
        """
        config, record = self.config(), self._record()
        if name not in (None, config.set):
            resize = config.resize if is_album(str(name)) else None
            return load(str(name), config.data_dir, resize=resize).to(device)
        path = record.get("set_path")
        place = path if isinstance(path, str) and os.path.exists(path) else config.set
        data = replace(load(place, config.data_dir, resize=config.resize), name=config.set)
        if data.checksum() != record["data_sum"]:
            raise InputError(f"{config.set}: expected the data that {self.path} was trained on, got other values")
        return data.to(device)

    def load_model(self, data: Dataset) -> VAE:
        """The best epoch's model, ready for evaluation.

        Args:
            data: The data set the run was trained on.
        """
        config = self.config()
        model = model_from(config, data)
        where = self.path / "best.safetensors"
        state, _ = read_tensors(where)
        try:
            model.load_state_dict(state)
        except RuntimeError as e:
            raise InputError(
                f"{where}: expected the tensors of this run's model, got others ({first_line(e)})"
            ) from None
        return model.eval()

    # Refitted priors

    def save_refit(self, name: str, prior: FittedMixture, *, method: str, seed: int) -> dict[str, Any]:
        """Writes refit-NAME.safetensors and refit-NAME.json, and returns what the latter says.

        Args:
            name: What to call it.
            prior: The prior.
            method: `points` or `em`.
            seed: The seed it was made with.

        Raises:
            RunExistsError: If the run has a refit of that name.
            InputError: If the name is not letters, digits, `.`, `_` and `-`.
        """
        self.check_refit_name(name)
        tensors = dict(prior.state_dict())
        if prior.items is not None:
            tensors["items"] = prior.items
        write_tensors(self.path / f"refit-{name}.safetensors", tensors, {})
        sigma = prior.log_scale.exp().item()
        record = {"name": name, "components": len(prior.loc), "method": method, "sigma": sigma, "seed": seed}
        write_json(self.path / f"refit-{name}.json", {"format": FORMAT, **record})
        return record

    def has_refit(self, name: str) -> bool:
        """Whether the run has a refit of that name; its record is written last."""
        return (self.path / f"refit-{name}.json").exists()

    def check_refit_name(self, name: str) -> None:
        """Refuses a name that makes no file name, or is taken."""
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
            raise InputError(f"--name: expected letters, digits, '.', '_' and '-', got {name!r}")
        if self.has_refit(name):
            raise RunExistsError(f"{self.path}: expected no refit {name!r} there, got one; choose another --name")

    def load_refit(self, name: str, data: Dataset) -> FittedMixture:
        """The refit of that name, on the device of the data.

        Raises:
            InputError: If there is none, or its file is damaged.
        """
        where = self.path / f"refit-{name}.safetensors"
        if not where.exists():
            have = sorted(p.name[len("refit-") : -len(".json")] for p in self.path.glob("refit-*.json"))
            raise InputError(
                f"--with: expected one of the run's refits ({', '.join(have) or 'none yet'}), got {name!r}"
            )
        tensors, _ = read_tensors(where)
        items, device = tensors.pop("items", None), data.train.pixels.device
        try:
            images = None if items is None else data.train
            if items is not None and (items.min() < 0 or items.max() >= len(data.train)):
                raise ValueError("items out of range")
            prior = FittedMixture(**tensors, images=images, items=None if items is None else items.to(device))
        except (TypeError, ValueError, RuntimeError) as e:
            raise InputError(f"{where}: expected a refitted prior, got other tensors ({first_line(e)})") from None
        return prior.to(device)


def model_from(config: Config, data: Dataset) -> VAE:
    """The model that a config describes, as it starts."""
    return build_model(
        data,
        arch=config.arch,
        prior=config.prior,
        likelihood=config.likelihood,
        n_components=config.n_components,
        latent_dim=config.latent_dim,
        hidden_dim=config.hidden_dim,
        exemplars=config.exemplars,
        retrieve=config.retrieve,
        coreset=config.coreset,
        init=config.init,  # type: ignore[arg-type]
        reencode=config.reencode,
        seed=config.seed,
    )


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
        seed=config.seed,
    )


class TrainedRun:
    """What `fit` returns: the run, its data, the model at its best epoch, and whether anything was left to train."""

    def __init__(self, run: Run, data: Dataset, trainer: Trainer, *, was_finished: bool) -> None:
        self.run, self.data, self.trainer, self.was_finished = run, data, trainer, was_finished


def fit(
    config: Config,
    path: str | Path,
    *,
    resume: bool = False,
    on_epoch: Callable[[EpochInfo, Trainer], None] | None = None,
) -> TrainedRun:
    """Trains into a run folder, saving each epoch as it ends.

    Args:
        config: The options; with `resume` they must be those of the run.
        path: The run folder.
        resume: Go on from the folder's last checkpoint, if it has one.
        on_epoch: Called after each epoch is saved.

    Raises:
        RunExistsError: If the folder holds a run and `resume` is not set, or another process holds it.
        InputError: If an option or the data is not usable.
        TrainingError: If values stop being finite.
    """
    run = Run(path)
    existed = run.exists
    if existed and not resume:
        raise RunExistsError(f"{run.path}: expected no run there, got one; give --resume to go on, or another --out")
    if run.path.exists() and not existed and not run.is_blank():
        raise RunExistsError(f"{run.path}: expected an empty or new folder, got one with files that are no run")
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
        for info in trainer:
            run.append_metrics(info)
            run.save(trainer, best=info.best)
            if on_epoch is not None:
                on_epoch(info, trainer)
    trainer.load_best()
    return TrainedRun(run, data, trainer, was_finished=was_finished)


def device_of(name: str) -> torch.device:
    """The device that `auto`, `cpu` or `cuda` means here.

    Raises:
        InputError: If there is no CUDA device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("--device: expected a CUDA device, got none on this machine")
    return torch.device(name)


def device_model(device: torch.device) -> str:
    """The device's model name."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return f"{line.split(':', 1)[1].strip()}, {torch.get_num_threads()} threads"
    except OSError:
        pass
    return f"{platform.machine()}, {torch.get_num_threads()} threads"


def versions() -> dict[str, str]:
    """The versions a result depends on."""
    import numpy

    return {
        "bype": bype.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
    }
