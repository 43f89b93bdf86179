"""The data set of a run: where it is stored, and whether it still has the values that the run was trained on."""

import os
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import torch

from bype.core.config import Config
from bype.core.errors import InputError
from bype.core.files import expand_path, resolve_path
from bype.data.catalog import PUBLISHED, applicable, load
from bype.data.coerce import DataLike, as_dataset
from bype.data.formats import suffix
from bype.data.images import Dataset
from bype.data.tables import TableSpec
from bype.runs.record import ConfigFile, lock_folder

FIRST_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")  # of the images that the first versions read


class RunDataset:
    """The data set that a run was trained on.

    Args:
        file: The run's config.json.
    """

    def __init__(self, file: ConfigFile) -> None:
        self._file, self._folder = file, file.folder

    def load(
        self,
        device: torch.device | str = "cpu",
        name: str | None = None,
        *,
        at: str | Path | None = None,
        table: TableSpec | None = None,
    ) -> Dataset:
        """The run's data set, verified by its checksum; or another one by name or path, which may have few images.

        Args:
            device: The device.
            name: The name or path of another set.
            at: Where the run's own data set is now, if it has moved; of a published set, its folder or the one above.
            table: The columns by which another set is stored, for a model of a table.

        Raises:
            InputError: If there is no run, the data are not found, or their values differ.
        """
        config, record = self._file.config, self._file.record
        if name is not None and not self.is_own(name):
            reading = applicable(str(name), config.reading)
            return load(str(name), config.data_dir, **reading, least=1, table=table).to(device)
        path = record.get("set_path")
        if at is not None:
            place, root = self._moved(at)
        else:
            place, root = path if isinstance(path, str) and os.path.exists(path) else config.set, config.data_dir
        if at is None and path is None and config.set not in PUBLISHED:
            raise InputError(
                f"{config.set}: the data that {self._folder} was trained on were in memory; pass them as data=DATA, or "
                "save them to a file and name it with --data PATH"
            )
        if at is None and isinstance(path, str) and not os.path.exists(expand_path(place)):
            raise InputError(
                f"{path}: not found, {self._folder} was trained on it; if it has moved, name its new place with "
                f"--data PATH, or once and for all with `bype train PATH --out {self._folder} --resume`"
            )
        data = load(place, root, **config.reading)
        self.check(data, place)
        return replace(data, name=config.set).to(device)

    def _moved(self, at: str | Path) -> tuple[str, str | None]:
        """The arguments of `load` for the run's set at another place: a name or path, and a folder to search."""
        own = self._file.config.set
        if own not in PUBLISHED or str(at) == own:
            return str(at), None
        folder = expand_path(at)
        root = folder.parent if folder.name == own else folder
        if not root.is_dir():
            raise InputError(f"--data: expected the folder of {own}, or the one above, got {at}")
        return own, str(root)

    def is_own(self, name: str) -> bool:
        """Whether a data set's name, or the path of a file or folder, is the one that the run has recorded.

        Raises:
            InputError: If there is no run.
        """
        own, path = self._file.config.set, self._file.record.get("set_path")
        if name in PUBLISHED or own in PUBLISHED or path is None:
            return name == own
        return resolve_path(name) == path

    def follow(self, config: Config) -> str | None:
        """Updates the recorded location of the data from `config`; returns the new location if it changed.

        Raises:
            InputError: If the data at the new location differ from those that the run was trained on.
            RunExistsError: If another process holds the run's lock.
        """
        name, root = config.set, config.data_dir
        own, record = self._file.config, self._file.record
        if name not in PUBLISHED or not PUBLISHED[name].files or root is None or _same(root, own.data_dir):
            root = None  # `data_dir` does not change where this set is stored
        if root is None and self.is_own(name):
            return None
        if name != own.set and (name in PUBLISHED or own.set in PUBLISHED):
            raise InputError(f"--resume {self._folder}: expected SET {own.set}, the run's own, got {name}")
        self.check(load(name, root or own.data_dir, **own.reading), name)
        moved = record.copy()
        if root is not None:
            moved["options"] = record["options"] | {"data_dir": resolve_path(root)}
        if name not in PUBLISHED:
            moved["set_path"] = resolve_path(name)
        with lock_folder(self._folder):
            self._file.write(moved)
        return root or name

    def check(self, data: Dataset, place: str) -> None:
        """Checks that a data set has the values that the run was trained on.

        Raises:
            InputError: If it has not.
        """
        if data.checksum() != self._file.record["data_sum"]:
            raise InputError(
                f"{place}: the values differ from the data that {self._folder} was trained on; name those data, "
                f"or train a new run{_once_left_out(data)}"
            )


def _once_left_out(data: Dataset) -> str:
    """What to do about files of suffixes that the first versions left out; empty if there are none."""
    late = next((name for name in data.files if suffix(name) not in FIRST_SUFFIXES), None)
    if late is None:
        return ""
    return (
        f"; if an earlier version trained it, which read {', '.join(FIRST_SUFFIXES)} alone and left out files such as "
        f"{late}: move them elsewhere"
    )


class RunData:
    """The data of a run on a device, read and verified when they are first asked for.

    Args:
        dataset: The run's data set.
        device: The device.
        given: The data themselves, or where they are now, if they have moved.
    """

    def __init__(self, dataset: RunDataset, device: torch.device, given: DataLike | None = None) -> None:
        self._dataset, self.device, self._given = dataset, device, given

    @cached_property
    def value(self) -> Dataset:
        """The data.

        Raises:
            InputError: If they are not found, or their values differ.
        """
        if self._given is None or isinstance(self._given, str | Path):
            return self._dataset.load(self.device, at=self._given)
        found = as_dataset(self._given)
        self._dataset.check(found, found.name)
        return found.to(self.device)

    def require(self, purpose: str) -> Dataset:
        """The data, for a purpose that an error names, such as `prior exemplar is made of the training items`."""
        try:
            return self.value
        except InputError as e:
            raise InputError(f"{purpose}: {e}") from None


def _same(place: str, other: str | None) -> bool:
    return other is not None and resolve_path(place) == resolve_path(other)
