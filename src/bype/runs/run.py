"""Run folders: one for each trained model."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from bype.core.config import Config
from bype.core.devices import resolve_device
from bype.core.display import Card, Described, unit_in_words
from bype.core.errors import InputError, first_line
from bype.core.files import expand_path
from bype.core.numbers import readable
from bype.data.coerce import DataLike
from bype.data.images import Dataset
from bype.models.saved import OwnModel
from bype.models.vae import VAE
from bype.runs.checkpoints import Checkpoints, Networks
from bype.runs.dataset import RunData, RunDataset
from bype.runs.extending import Extension, changed
from bype.runs.metrics import Metrics
from bype.runs.record import ConfigFile, RunRecord, lock_folder
from bype.runs.refits import Refits

#: The files that bype writes into a run folder.
RUN_FILES = re.compile(
    r"(config|evaluation)\.json|metrics\.jsonl|last\.(safetensors|json)|best\.safetensors|(refit|scoring|reference)-.*\.(safetensors|json)|lock"
)


class Run(Described):
    """A run folder, which may not exist yet. Creating this object reads nothing; `Run.open` checks that there is a run.

    config.json is read at most once per object. The other files change while a run is trained and evaluated; the parts
    `checkpoints`, `metrics` and `dataset` read them each time.

    Args:
        path: The folder.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = expand_path(path)
        self._file = ConfigFile(self.path)
        self.checkpoints = Checkpoints(self._file)
        self.metrics = Metrics(self.path)
        self.dataset = RunDataset(self._file)

    @classmethod
    def open(cls, path: str | Path) -> "Run":
        """The run in a folder, its config.json read and checked.

        Raises:
            InputError: If there is no run, or its config.json is of another version or has unknown options.
        """
        run = cls(path)
        _ = run.config
        return run

    @property
    def exists(self) -> bool:
        """Whether the folder contains a run."""
        return self._file.exists

    @property
    def record(self) -> RunRecord:
        """The content of config.json.

        Raises:
            InputError: If there is no run, or its config.json is of another version.
        """
        return self._file.record

    @property
    def config(self) -> Config:
        """The run's options.

        Raises:
            InputError: As `record`, or if an option is unknown or has an invalid value.
        """
        return self._file.config

    def card(self) -> Card:
        """The folder, its main options, and how far it is trained."""
        facts: list[tuple[str, object]] = [("path", self.path)]
        if not self.exists:
            return Card("Run", [*facts, ("state", "not trained yet")])
        try:
            config, lines = self.config, self.metrics.read()
        except InputError as e:
            return Card("Run", [*facts, ("state", first_line(e))])
        options = ("set", "arch", "prior", "likelihood", "recipe", "seed")
        facts += [(name, getattr(config, name)) for name in options]
        facts.append(("epochs", f"{len(lines)} of {config.epochs}"))
        if best := [line for line in lines if line["best"]]:
            unit = unit_in_words(self.record["unit"])
            loss = readable(float(best[-1]["val_loss"]))
            facts.append(("best validation loss", f"{loss} ({unit}) at epoch {best[-1]['epoch']}"))
        return Card("Run", facts)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Locks the folder for this process; the operating system releases the lock when the process ends.

        Raises:
            RunExistsError: If another process holds the lock.
            InputError: If the folder cannot be created or written.
        """
        with lock_folder(self.path):
            yield

    def load(
        self,
        device: str = "auto",
        refit: str | None = None,
        *,
        data: DataLike | None = None,
        model: OwnModel | None = None,
    ) -> "LoadedRun":
        """The run's best model. Its data are read when they are first asked for (`LoadedRun.data`), if at all.

        Args:
            device: `auto`, `cpu` or `cuda`.
            refit: The name of a refit that replaces the model's prior.
            data: The data that the run was trained on, in any form that `bype.train` takes, or where they are now, if
                they have moved; they are verified at once, by their checksum.
            model: For networks of the user's own (`bype.wrap`), a model of the same classes, whose tensors are
                replaced, or the function that builds one for a data set.

        Raises:
            InputError: If a file is missing or damaged, there is no such device or refit, `data` are others, or the
                prior is made of training items and they are not found.
        """
        where = resolve_device(device)
        source = RunData(self.dataset, where, data)
        if data is not None:
            source.require("data")
        best, networks = self.checkpoints.load(source, model)
        if refit is not None:
            best.prior = Refits(self.path, networks).load(refit).to(where)
        return LoadedRun(self, source, best, networks)


class LoadedRun(Described):
    """A run with its best model, and its data where they are needed.

    Args:
        run: The run.
        data: Its data, read when they are first asked for.
        model: The model, in `eval` mode.
        networks: Identifies the checkpoint that the model was loaded from.
    """

    def __init__(self, run: Run, data: RunData, model: VAE, networks: Networks) -> None:
        self.run, self.model, self.networks = run, model, networks
        self._data = data

    def card(self) -> Card:
        """The run and its model."""
        run, model = self.run.card(), self.model.card()
        return Card("LoadedRun", [*run.facts, *((f"model: {n}", v) for n, v in model.facts)], model.strip)

    @property
    def device(self) -> torch.device:
        """The device of the model and of the data."""
        return self._data.device

    @property
    def data(self) -> Dataset:
        """The data that the run was trained on, read and verified by their checksum when first asked for.

        Raises:
            InputError: If they are not found, or their values differ; it says how to name their new place.
        """
        return self._data.value

    def dataset(self, name: str | None) -> Dataset:
        """The run's own data, if no other set is named; otherwise that set, by its name or path.

        Raises:
            InputError: If it is not found or cannot be read.
        """
        if name is None or self.run.dataset.is_own(name):
            return self.data
        return self.run.dataset.load(self.device, name, table=self.model.input_spec.table)

    @property
    def has_data(self) -> bool:
        """Whether the data are found and have the values that the run was trained on; this reads them."""
        try:
            return len(self.data.train) > 0
        except InputError:
            return False

    def attach_items(self) -> None:
        """Gives a refit at training items the images of its components, which `Prior.points_at` shows.

        Raises:
            InputError: If the data are needed for this and cannot be had.
        """
        if self.model.prior.lacks_items:
            self.model.prior.attach_items(self._data.require("the components are training items").train)


def create_run(run: Run, record: RunRecord) -> None:
    """Writes the config.json of a new run. The caller must hold the run's lock.

    Raises:
        InputError: If it cannot be written.
    """
    run._file.write(record)


def extend_run(run: Run, config: Config, epoch: int) -> None:
    """Records the `epochs` and `patience` of `config`, and the former ones as in use up to `epoch`. As `create_run`."""
    before: Extension = {"after_epoch": epoch, "options": changed(run.config, config)}
    options = run.record["options"] | {name: getattr(config, name) for name in before["options"]}
    history = [*run.record.get("history", []), before]
    run._file.write({**run.record, "options": options, "history": history})
