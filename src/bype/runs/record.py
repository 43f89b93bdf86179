"""config.json of a run folder: the options, the data and the versions a run was trained with; and the folder's lock."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import NotRequired, TypeAlias, TypedDict, cast

from bype.core.config import Config
from bype.core.devices import device_model, versions
from bype.core.errors import InputError
from bype.core.files import expand_path, read_json, resolve_path, write_json
from bype.core.locks import locked
from bype.core.tensors import FORMAT
from bype.data.catalog import PUBLISHED
from bype.data.images import Dataset
from bype.runs.extending import Extension

Option: TypeAlias = str | int | float | bool | None


class RunRecord(TypedDict):
    """The content of config.json."""

    format: int
    options: dict[str, Option]
    unused: list[str]  # options that the prior or the strategy does not use
    unit: str  # of the losses in metrics.jsonl: `nats` or `paper`
    data_sum: str
    versions: dict[str, str]
    device: str
    precision_used: NotRequired[str]  # `precision` as resolved for this device; runs of the first versions lack it
    model: NotRequired[dict[str, object]]  # `VAE.metadata()`; runs of the first versions lack it
    set_path: NotRequired[str]  # location of a user's own data set
    history: NotRequired[list[Extension]]  # of `epochs` and `patience`, in the order of their changes


class ConfigFile:
    """config.json of a run folder, read and checked at most once.

    Args:
        folder: The run folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / "config.json"

    @property
    def exists(self) -> bool:
        """Whether the file exists, and with it a run."""
        return self.path.exists()

    @cached_property
    def record(self) -> RunRecord:
        """The file's content.

        Raises:
            InputError: If there is no such file, or it has another format.
        """
        if not self.exists:
            raise InputError(f"{self.folder}: not a run folder, it has no config.json")
        record = read_json(self.path)
        if record.get("format") != FORMAT:
            raise InputError(f"{self.path}: expected format {FORMAT}, got {record.get('format')!r}")
        if not isinstance(record.get("options"), dict) or not isinstance(record.get("data_sum"), str):
            raise InputError(f"{self.path}: 'options' (an object) and 'data_sum' (a string) are required")
        return cast(RunRecord, record)

    @cached_property
    def config(self) -> Config:
        """The options.

        Raises:
            InputError: As `record`, or if an option is unknown or has an invalid value.
        """
        return Config.from_dict(self.record["options"], str(self.path))

    def write(self, record: RunRecord) -> None:
        """Writes the file.

        Raises:
            InputError: If it cannot be written.
        """
        write_json(self.path, record)
        self.record = record
        self.__dict__.pop("config", None)


def new_record(
    config: Config, data: Dataset, unit: str, precision: str, model: dict[str, object], *, in_memory: bool = False
) -> RunRecord:
    """The record of a run that starts now; paths in it are absolute, so that it can be used from any folder.

    Args:
        config: The options.
        data: The data set.
        unit: The unit of the losses.
        precision: The precision in use, which the option `precision` may leave to the device.
        model: The model's metadata, from which it can be built again without the data.
        in_memory: Whether the data were given as an object; they have a location then only if their name is one.
    """
    options = config.to_dict()
    if config.data_dir is not None:
        options["data_dir"] = resolve_path(config.data_dir)
    record: RunRecord = {
        "format": FORMAT,
        "options": options,
        "unused": config.unused(),
        "unit": unit,
        "data_sum": data.checksum(),
        "versions": versions(),
        "device": device_model(data.train.pixels.device),
        "precision_used": precision,
        "model": model,
    }
    if config.set not in PUBLISHED and not (in_memory and not os.path.exists(expand_path(config.set))):
        record["set_path"] = resolve_path(config.set)
    return record


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Locks a run folder for this process; the operating system releases the lock when the process ends.

    Raises:
        RunExistsError: If another process holds the lock.
        InputError: If the folder cannot be created or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise InputError(f"{folder / 'lock'}: cannot be written ({e.strerror})") from None
    with locked(folder / "lock", f"{folder}: in use by another process"):
        yield
