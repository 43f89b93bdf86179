"""Run folders: a config, a line of metrics an epoch, the last and the best checkpoint, and figures.

Checkpoints are safetensors with a JSON beside them; nothing is pickled. A checkpoint holds one epoch boundary, and
nothing of time, path or process: the same training gives the same bytes.
"""

import json
import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from bype.build import model_from
from bype.checkpoints import FORMAT, read_checkpoint, read_tensors, write_tensors
from bype.config import Config
from bype.data import KNOWN, Dataset, is_album, load
from bype.devices import device_model, versions
from bype.errors import InputError, RunExistsError, first_line
from bype.files import is_partial, locked, path_of, read_json, write_json, write_text
from bype.models import VAE, take_tensors
from bype.priors import FittedMixture
from bype.training import EpochInfo, Snapshot, Trainer


class Run:
    """One run folder.

    Args:
        path: The folder.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = path_of(path)

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
        if config.set not in KNOWN:
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
            resize = config.resize if is_album(str(name)) else None
            return load(str(name), config.data_dir, resize=resize).to(device)
        path = record.get("set_path")
        place = path if isinstance(path, str) and os.path.exists(path) else config.set
        if isinstance(path, str) and not os.path.exists(path_of(place)):
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
        if name in KNOWN or own in KNOWN or path is None:
            return name == own
        return _resolved(name) == path

    def follow_data(self, config: Config) -> str | None:
        """Takes over where a config says that the run's data lie now; returns that place if it is another than before.

        Raises:
            InputError: If what is there are other data than the run was trained on.
            RunExistsError: If a process is at work in the folder.
        """
        given, own = config.data_dir, self.config().data_dir
        in_a_root = config.set in KNOWN and bool(KNOWN[config.set].files)
        elsewhere = in_a_root and given is not None and (own is None or _resolved(given) != _resolved(own))
        if not elsewhere and self.is_set(config.set):
            return None
        self.move_data(config.set, given if elsewhere else None)
        return given if elsewhere else config.set

    def move_data(self, name: str, data_dir: str | None = None) -> None:
        """Tells the run that its data lie elsewhere now: its own set at another path, a published one in another root.

        Raises:
            InputError: If what is there are other data than the run was trained on.
            RunExistsError: If a process is at work in the folder.
        """
        config, record = self.config(), self._record()
        if name != config.set and (name in KNOWN or config.set in KNOWN):
            raise InputError(f"--resume {self.path}: expected SET {config.set}, the run's own, got {name}")
        if load(name, data_dir or config.data_dir, resize=config.resize).checksum() != record["data_sum"]:
            raise InputError(f"{name}: expected the data that {self.path} was trained on, got other values")
        if data_dir is not None:
            record["options"]["data_dir"] = _resolved(data_dir)
        if name not in KNOWN:
            record["set_path"] = _resolved(name)
        with self.lock():
            write_json(self.path / "config.json", record)

    def load_model(self, data: Dataset) -> VAE:
        """The best epoch's model, ready for evaluation.

        Args:
            data: The data set the run was trained on.

        Raises:
            InputError: If no epoch was saved, or the file is damaged or of another model.
        """
        where = self.path / "best.safetensors"
        model = model_from(self.config(), data)
        take_tensors(model, read_tensors(where)[0], str(where))
        return model.eval()

    def networks(self) -> dict[str, Any]:
        """Which networks the best checkpoint holds, its epoch and its sum: figures and refits belong to one.

        Raises:
            InputError: If there is no run, no epoch was saved, or the file is damaged.
        """
        self._record()
        _, counters, total = read_checkpoint(self.path / "best.safetensors")
        return {"epoch": counters.get("epoch"), "sum": total}

    # Figures

    def figures(self) -> list[dict[str, Any]]:
        """What evaluation.json says of the networks as they are now: an entry for each split and seed.

        Raises:
            InputError: If the file is damaged.
        """
        where = self.path / "evaluation.json"
        if not where.exists():
            return []
        record = read_json(where)
        if record.get("networks") != self.networks():
            return []  # of an earlier best epoch: training went on since
        scored = record.get("scored")
        if not isinstance(scored, list) or not all(isinstance(entry, dict) for entry in scored):
            raise InputError(f"{where}: expected a list of figures under 'scored', got another file; remove it")
        return scored

    def add_figures(self, figures: dict[str, Any], networks: dict[str, Any]) -> bool:
        """Puts figures into evaluation.json, beside those of other splits, seeds and refits; returns whether it did.

        Figures of more samples and items are not replaced by those of fewer: they may have taken hours.

        Args:
            figures: With the keys `split` and `seed`; what has another value under a name already is replaced.
            networks: What was scored, as `networks()` said before; if training has gone on since, nothing is written.

        Raises:
            InputError: If the file is damaged or cannot be written, or the networks are others by now.
        """
        with locked(self.path):
            self._check_networks(networks)
            rest, own = [], {}
            for entry in self.figures():
                if (entry.get("split"), entry.get("seed")) == (figures["split"], figures["seed"]):
                    own = entry
                else:
                    rest.append(entry)
            if _scored(own, figures) > _scored(figures, figures):
                return False
            self._write_figures([*rest, own | figures], networks)
        return True

    def _check_networks(self, networks: dict[str, Any]) -> None:
        if networks != self.networks():
            raise InputError(
                f"{self.path}: expected the networks of epoch {networks['epoch']}, which this was made for, got later "
                "ones; nothing is recorded"
            )

    def _write_figures(self, scored: list[dict[str, Any]], networks: dict[str, Any]) -> None:
        scored = sorted(scored, key=lambda e: (str(e.get("split")), str(e.get("seed"))))
        write_json(self.path / "evaluation.json", {"format": FORMAT, "networks": networks, "scored": scored})

    # Refitted priors

    def save_refit(
        self, name: str, prior: FittedMixture, networks: dict[str, Any], *, method: str, seed: int
    ) -> dict[str, Any]:
        """Writes refit-NAME.safetensors and refit-NAME.json, and returns what the latter says.

        Args:
            name: What to call it.
            prior: The prior.
            networks: What it was made for, as `networks()` said before the model was loaded.
            method: `points` or `em`.
            seed: The seed it was made with.

        Raises:
            RunExistsError: If the run has a refit of that name.
            InputError: If the name is not letters, digits, `.`, `_` and `-`, or the networks are others by now.
        """
        tensors = dict(prior.state_dict())
        if prior.items is not None:
            tensors["items"] = prior.items
        sigma = prior.log_scale.exp().item()
        record = {"name": name, "components": len(prior.loc), "method": method, "sigma": sigma, "seed": seed}
        with locked(self.path):
            self.check_refit_name(name)
            self._check_networks(networks)
            # Figures under an earlier refit of that name go first.
            kept = [{k: v for k, v in entry.items() if not k.endswith(f"@{name}")} for entry in self.figures()]
            if kept:
                self._write_figures(kept, networks)
            write_tensors(self.path / f"refit-{name}.safetensors", tensors, {"networks": networks})
            write_json(self.path / f"refit-{name}.json", {"format": FORMAT, **record, "networks": networks})
        return record

    def has_refit(self, name: str) -> bool:
        """Whether the run has a refit of that name, made for the networks as they are; its record is written last.

        Raises:
            InputError: If the record or the best checkpoint is damaged.
        """
        where = self.path / f"refit-{name}.json"
        return where.exists() and read_json(where).get("networks") == self.networks()

    def check_refit_name(self, name: str) -> None:
        """Refuses a name that makes no file name, or is taken; a refit of earlier networks may be replaced.

        Raises:
            RunExistsError: If the name is taken.
            InputError: If it makes no file name.
        """
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
            raise InputError(f"--name: expected letters, digits, '.', '_' and '-', got {name!r}")
        if self.has_refit(name):
            raise RunExistsError(f"{self.path}: expected no refit {name!r} there, got one; choose another --name")

    def load_refit(self, name: str, data: Dataset) -> FittedMixture:
        """The refit of that name, on the device of the data.

        Raises:
            InputError: If there is none, its file is damaged, or it was made for the networks of an earlier best epoch.
        """
        where = self.path / f"refit-{name}.safetensors"
        if not where.exists():
            have = sorted(p.name[len("refit-") : -len(".json")] for p in self.path.glob("refit-*.json"))
            raise InputError(
                f"--with: expected one of the run's refits ({', '.join(have) or 'none yet'}), got {name!r}"
            )
        tensors, counters = read_tensors(where)
        own, made = self.networks(), counters.get("networks")
        if made != own:
            got = f"one of epoch {made.get('epoch')}" if isinstance(made, dict) else "one that does not say of which"
            raise InputError(
                f"{where}: expected a refit of the networks of epoch {own['epoch']}, got {got}; make it again with "
                f"refit --name {name}"
            )
        items, device = tensors.pop("items", None), data.train.pixels.device
        try:
            images = None if items is None else data.train
            if items is not None and (items.min() < 0 or items.max() >= len(data.train)):
                raise ValueError("items out of range")
            prior = FittedMixture(**tensors, images=images, items=None if items is None else items.to(device))
        except (TypeError, ValueError, RuntimeError) as e:
            raise InputError(f"{where}: expected a refitted prior, got other tensors ({first_line(e)})") from None
        return prior.to(device)


def _resolved(name: str) -> str:
    return str(path_of(name).resolve())


def _scored(entry: dict[str, Any], like: dict[str, Any]) -> int:
    """How many samples were scored in all, for the figures' own prior or the refit that they are under."""
    suffix = next((key.removeprefix("samples") for key in like if key.startswith("samples")), "")
    counts = [entry.get(f"{name}{suffix}") for name in ("samples", "items")]
    return math.prod(count if isinstance(count, int) else 0 for count in counts)
