"""Run folders: a config, a line of metrics an epoch, the last and the best checkpoint.

Checkpoints are safetensors with a JSON beside them; nothing is pickled. A checkpoint holds one epoch boundary, and
nothing of time, path or process: the same training gives the same bytes.
"""

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from bype.core.config import Config
from bype.core.devices import device_model, versions
from bype.core.errors import InputError, first_line
from bype.core.files import expand_path, is_partial, locked, read_json, write_json, write_text
from bype.core.tensors import FORMAT, read_checkpoint, read_tensors, write_tensors
from bype.data.catalog import PUBLISHED, is_image_collection, load
from bype.data.images import Dataset
from bype.models.build import model_from
from bype.models.vae import VAE, load_state_checked
from bype.training.epoch import EpochInfo
from bype.training.state import Snapshot
from bype.training.trainer import Trainer

#: What bype writes into a run's folder.
RUN_FILES = re.compile(
    r"(config|evaluation)\.json|metrics\.jsonl|last\.(safetensors|json)|best\.safetensors|(refit|scoring)-.*\.(safetensors|json)|lock"
)


class Run:
    """One run folder.

    Args:
        path: The folder.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = expand_path(path)

    @property
    def exists(self) -> bool:
        """Whether the folder holds a run."""
        return (self.path / "config.json").exists()

    def is_blank(self) -> bool:
        """Whether the folder holds nothing but what a run leaves that ended before its config was written.

        Raises:
            InputError: If it is no folder that can be read.
        """
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
        options = config.to_dict()
        if config.data_dir is not None:  # found again from another folder too, as the set itself below
            options["data_dir"] = _resolved(config.data_dir)
        record = {
            "format": FORMAT,
            "options": options,
            "unused": config.unused(),
            "unit": unit,
            "data_sum": data.checksum(),
            "versions": versions(),
            "device": device_model(data.train.pixels.device),
        }
        if config.set not in PUBLISHED:
            record["set_path"] = _resolved(config.set)
        write_json(self.path / "config.json", record)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Holds the folder for this process; the system lets go of it when the process ends, however it ends.

        Raises:
            RunExistsError: If another process holds it.
            InputError: If the folder cannot be made or written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise InputError(f"{self.path / 'lock'}: expected to write it, got {e.strerror}") from None
        with locked(self.path / "lock", f"{self.path}: expected a free run folder, got one in use by a process"):
            yield

    # Metrics

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl; a last line that a kill has torn is left out.

        Raises:
            InputError: If another line is damaged.
        """
        lines: list[dict[str, Any]] = []
        where = self.path / "metrics.jsonl"
        texts = where.read_text(encoding="utf-8", errors="replace").splitlines() if where.exists() else []
        for number, text in enumerate(texts, 1):
            line = _epoch_line(text)
            if line is not None:
                lines.append(line)
            elif number < len(texts):
                raise InputError(
                    f"{where}, line {number}: expected an epoch's figures, got {text!r:.60}; mend it, or move the file "
                    "away to go on without"
                )
        return lines

    def append_metrics(self, info: EpochInfo) -> None:
        """Adds an epoch's line.

        Raises:
            InputError: If it cannot be written.
        """
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

    def save(self, epoch: Snapshot) -> None:
        """Writes the checkpoint of an epoch, and where it was the best one, best.safetensors.

        The last checkpoint goes first, once there is a best one at all: a process killed between the two leaves one
        that holds the best epoch's model itself, which `restore` then finds there.

        Raises:
            InputError: If it cannot be written.
        """
        tensors, counters, finished, best = epoch
        where_best = self.path / "best.safetensors"
        if first := best is not None and not where_best.exists():
            write_tensors(where_best, best, {"epoch": counters["best_epoch"]})
        # The counters travel inside the file too: the two files of a checkpoint are moved one after the other, and only
        # the tensors' file counts.
        write_tensors(self.path / "last.safetensors", tensors, counters)
        write_json(self.path / "last.json", {"format": FORMAT, "finished": finished, **counters})
        if best is not None and not first:
            write_tensors(where_best, best, {"epoch": counters["best_epoch"]})

    @property
    def has_checkpoint(self) -> bool:
        """Whether an epoch was saved."""
        return (self.path / "last.safetensors").exists()

    @property
    def finished(self) -> bool:
        """Whether training has come to its end, by the last checkpoint's record."""
        where = self.path / "last.json"
        return where.exists() and read_json(where).get("finished") is True

    def restore(self, trainer: Trainer) -> None:
        """Puts the last checkpoint into a trainer; for who holds the folder's lock.

        Raises:
            InputError: If a file is missing, damaged, or of another run.
        """
        where, where_best = self.path / "last.safetensors", self.path / "best.safetensors"
        tensors, counters = read_tensors(where)
        # Killed between the two files, a run has its best epoch in the last checkpoint alone.
        is_best = counters.get("best_epoch") == counters.get("epoch")
        best, about = read_tensors(where_best) if where_best.exists() or not is_best else ({}, {})
        if is_best and about.get("epoch") != counters["epoch"]:
            best = {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}
            write_tensors(where_best, best, {"epoch": counters["epoch"]})
        try:
            trainer.load_state(tensors, counters, best)
        except (KeyError, RuntimeError, TypeError, ValueError) as e:
            raise InputError(f"{where}: expected a checkpoint of this run, got another ({first_line(e)})") from None

    def load_data(self, device: torch.device | str = "cpu", name: str | None = None) -> Dataset:
        """The run's data set, checked to be the one it was trained on; or another one by name.

        Raises:
            InputError: If there is no run, its data are not where they were, or others are there.
        """
        config, record = self.config(), self._record()
        if name is not None and not self.is_set(name):
            resize = config.resize if is_image_collection(str(name)) else None
            return load(str(name), config.data_dir, resize=resize).to(device)
        path = record.get("set_path")
        place = path if isinstance(path, str) and os.path.exists(path) else config.set
        if isinstance(path, str) and not os.path.exists(expand_path(place)):
            raise InputError(
                f"{path}: expected the data that {self.path} was trained on, got nothing there; if it has moved, "
                f"`bype train NEWPLACE --out {self.path} --resume` tells the run"
            )
        data = replace(load(place, config.data_dir, resize=config.resize), name=config.set)
        if data.checksum() != record["data_sum"]:
            raise InputError(f"{place}: expected the data that {self.path} was trained on, got other values")
        return data.to(device)

    def is_set(self, name: str) -> bool:
        """Whether a set's name, or the path of a file or folder, is what the run has recorded.

        Raises:
            InputError: If there is no run.
        """
        own, path = self.config().set, self._record().get("set_path")
        if name in PUBLISHED or own in PUBLISHED or path is None:
            return name == own
        return _resolved(name) == path

    def follow_data(self, config: Config) -> str | None:
        """Takes over where a config says that the run's data lie now; returns that place if it is another than before.

        Raises:
            InputError: If what is there are other data than the run was trained on.
            RunExistsError: If a process is at work in the folder.
        """
        name, root = config.set, config.data_dir
        own, record = self.config(), self._record()
        if name not in PUBLISHED or not PUBLISHED[name].files or root is None or _same(root, own.data_dir):
            root = None  # none is given in which the set could lie elsewhere
        if root is None and self.is_set(name):
            return None
        if name != own.set and (name in PUBLISHED or own.set in PUBLISHED):
            raise InputError(f"--resume {self.path}: expected SET {own.set}, the run's own, got {name}")
        if load(name, root or own.data_dir, resize=own.resize).checksum() != record["data_sum"]:
            raise InputError(f"{name}: expected the data that {self.path} was trained on, got other values")
        if root is not None:
            record["options"]["data_dir"] = _resolved(root)
        if name not in PUBLISHED:
            record["set_path"] = _resolved(name)
        with self.lock():
            write_json(self.path / "config.json", record)
        return root or name

    def load_model(self, data: Dataset) -> VAE:
        """The best epoch's model, ready for evaluation.

        Args:
            data: The data set the run was trained on.

        Raises:
            InputError: If no epoch was saved, or the file is damaged or of another model.
        """
        where = self.path / "best.safetensors"
        model = model_from(self.config(), data)
        load_state_checked(model, read_tensors(where)[0], str(where))
        return model.eval()

    def networks(self) -> dict[str, Any]:
        """Which networks the best checkpoint holds, its epoch and its sum: figures and refits belong to one.

        Raises:
            InputError: If there is no run, no epoch was saved, or the file is damaged.
        """
        self._record()
        _, counters, total = read_checkpoint(self.path / "best.safetensors")
        return {"epoch": counters.get("epoch"), "sum": total}


def _epoch_line(text: str) -> dict[str, Any] | None:
    """A line of metrics.jsonl, or None where it is none."""
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return line if isinstance(line, dict) and isinstance(line.get("epoch"), int) else None


def _same(place: str, other: str | None) -> bool:
    return other is not None and _resolved(place) == _resolved(other)


def _resolved(name: str) -> str:
    return str(expand_path(name).resolve())
