"""Run folders: one for each trained model."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bype.core.config import Config
from bype.core.devices import resolve_device
from bype.core.files import expand_path
from bype.data.images import Dataset
from bype.models.vae import VAE
from bype.runs.checkpoints import Checkpoints, Networks
from bype.runs.dataset import RunDataset
from bype.runs.metrics import Metrics
from bype.runs.record import ConfigFile, RunRecord, lock_folder, new_record
from bype.runs.refits import Refits

#: The files that bype writes into a run folder.
RUN_FILES = re.compile(
    r"(config|evaluation)\.json|metrics\.jsonl|last\.(safetensors|json)|best\.safetensors|(refit|scoring)-.*\.(safetensors|json)|lock"
)


class Run:
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

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Locks the folder for this process; the operating system releases the lock when the process ends.

        Raises:
            RunExistsError: If another process holds the lock.
            InputError: If the folder cannot be created or written.
        """
        with lock_folder(self.path):
            yield

    def load(self, device: str = "auto", refit: str | None = None) -> "LoadedRun":
        """The run's data and its best model, for evaluation.

        Args:
            device: `auto`, `cpu` or `cuda`.
            refit: The name of a refit that replaces the model's prior.

        Raises:
            InputError: If a file is missing or damaged, the data have changed, or there is no such device or refit.
        """
        data = self.dataset.load(resolve_device(device))
        model, networks = self.checkpoints.load(data)
        if refit is not None:
            model.prior = Refits(self.path, networks).load(refit, data)
        return LoadedRun(self, data, model, networks)


@dataclass(frozen=True)
class LoadedRun:
    """A run with its data and its best model; `networks` identifies the checkpoint that the model was loaded from."""

    run: Run
    data: Dataset
    model: VAE
    networks: Networks


def create_run(run: Run, config: Config, data: Dataset, unit: str, precision: str) -> None:
    """Writes the config.json of a new run. The caller must hold the run's lock.

    Raises:
        InputError: If it cannot be written.
    """
    run._file.write(new_record(config, data, unit, precision))
