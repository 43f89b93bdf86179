"""The checkpoints of a run folder: the last epoch, from which training resumes, and the best one, which is evaluated.

Checkpoints are safetensors files, the last one with a JSON file next to it; nothing is pickled. A checkpoint is the
state at the end of an epoch, without times, paths or process ids: the same training gives the same bytes.
"""

from collections.abc import Mapping
from typing import NamedTuple, TypedDict

from bype.core.errors import InputError, first_line
from bype.core.files import read_json, write_json
from bype.core.tensors import FORMAT, read_checkpoint, read_tensors, write_tensors
from bype.data.images import Dataset
from bype.models.build import model_from
from bype.models.saved import OwnModel, rebuilt
from bype.models.vae import VAE
from bype.runs.dataset import RunData
from bype.runs.early import early_description
from bype.runs.record import ConfigFile
from bype.training.state import Snapshot, on_cpu
from bype.training.trainer import Trainer


class Networks(TypedDict):
    """Identifies the networks of a best checkpoint: evaluations and refits belong to one of these."""

    epoch: int | None
    sum: str  # checksum over all tensors and counters


class LoadedModel(NamedTuple):
    """A model, and the identity of the networks that it was loaded with."""

    model: VAE
    networks: Networks


class Checkpoints:
    """The last and the best checkpoint of a run.

    Args:
        file: The run's config.json.
    """

    def __init__(self, file: ConfigFile) -> None:
        self._file, folder = file, file.folder
        self.last, self.last_json, self.best = (
            folder / name for name in ("last.safetensors", "last.json", "best.safetensors")
        )

    @property
    def exists(self) -> bool:
        """Whether an epoch is saved."""
        return self.last.exists()

    @property
    def epoch(self) -> int:
        """The last epoch that is saved; 0 if none is.

        Raises:
            InputError: If the checkpoint is damaged.
        """
        return int(read_tensors(self.last)[1]["epoch"]) if self.exists else 0

    @property
    def finished(self) -> bool:
        """Whether training has finished, as the last checkpoint's JSON file states."""
        return self.last_json.exists() and read_json(self.last_json).get("finished") is True

    def save(self, epoch: Snapshot) -> None:
        """Writes the checkpoint of an epoch, and best.safetensors if it was the best one.

        The last checkpoint is written first, unless there is no best one yet: if the process is killed between the
        two, the last checkpoint contains the best epoch's model, and `restore` recovers it.

        Raises:
            InputError: If a file cannot be written.
        """
        tensors, counters, finished, best = epoch
        if first := best is not None and not self.best.exists():
            write_tensors(self.best, best, self._about_best(counters["best_epoch"]))
        # The counters are in the tensors' file too: the two files are renamed one after the other, and `restore` reads
        # that one alone.
        write_tensors(self.last, tensors, counters)
        write_json(self.last_json, _last_record(counters, finished))
        if best is not None and not first:
            write_tensors(self.best, best, self._about_best(counters["best_epoch"]))

    def _about_best(self, epoch: int) -> dict[str, object]:
        """The counters of best.safetensors: its epoch, and what `bype.load_model` needs to build the model again."""
        described = self._file.record.get("model") if self._file.exists else None
        return {"epoch": epoch} | ({} if described is None else {"model": described})

    def restore(self, trainer: Trainer) -> None:
        """Restores the last checkpoint into a trainer. The caller must hold the run's lock.

        What a killed process left unwritten is restored from last.safetensors: the best epoch's model and last.json.

        Raises:
            InputError: If a file is missing, damaged, or of another run.
        """
        tensors, counters = read_tensors(self.last)
        # If the process was killed between the two files, the best epoch is in the last checkpoint alone.
        is_best = counters.get("best_epoch") == counters.get("epoch")
        best, about = read_tensors(self.best) if self.best.exists() or not is_best else ({}, {})
        try:
            trainer.load_state(tensors, counters, best)
        except (KeyError, RuntimeError, TypeError, ValueError) as e:
            raise InputError(f"{self.last}: not a checkpoint of this run ({first_line(e)})") from None
        if is_best and about.get("epoch") != counters["epoch"]:
            write_tensors(self.best, on_cpu(trainer.best_state), self._about_best(counters["epoch"]))
        # Nor is last.json written if the process was killed after last.safetensors; after the last epoch, no later
        # epoch would replace it.
        record = _last_record(counters, trainer.finished)
        if not self.last_json.exists() or read_json(self.last_json) != record:
            write_json(self.last_json, record)

    def load(self, data: Dataset | RunData, model: OwnModel | None = None) -> LoadedModel:
        """The best epoch's model in `eval` mode, and the identity of the networks from the same read.

        Args:
            data: The data set that the run was trained on, or where it is: then it is read only if the model needs it.
            model: For networks of the user's own, a model of the same classes, or the function that builds one.

        Raises:
            InputError: If there is no run, no epoch is saved, the file is damaged or of another model, or the data that
                it needs are not found.
        """
        config = self._file.config
        tensors, counters, total = read_checkpoint(self.best)
        networks: Networks = {"epoch": counters.get("epoch"), "sum": total}
        stored = self._file.record.get("model")
        device = data.train.pixels.device if isinstance(data, Dataset) else data.device

        def needed() -> Dataset:
            if isinstance(data, Dataset):
                return data
            return data.require(f"{self._file.folder}: prior {config.prior} is made of the training items")

        if stored is None:  # a run of the first versions
            early = early_description(config, tensors)
            stored = {} if early is None else {"build": early}
        if model is None and "build" not in stored and "classes" not in stored:
            model = model_from(config, needed())
        loaded = rebuilt(tensors, stored, str(self.best), device, model=model, data=needed)
        return LoadedModel(loaded, networks)

    def load_model(self, data: Dataset) -> VAE:
        """The model of `load` alone."""
        return self.load(data).model

    def networks(self) -> Networks:
        """The identity of the networks that best.safetensors holds now.

        Raises:
            InputError: If there is no run, no epoch is saved, or the file is damaged.
        """
        _ = self._file.record
        _, counters, total = read_checkpoint(self.best)
        return {"epoch": counters.get("epoch"), "sum": total}


def _last_record(counters: Mapping[str, object], finished: bool) -> dict[str, object]:
    """The content of last.json; the counters are sorted, as they are when read from last.safetensors."""
    return {"format": FORMAT, "finished": finished, **dict(sorted(counters.items()))}
