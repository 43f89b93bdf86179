"""The part of a long scoring that is done, in a file, so that one that is stopped goes on from there."""

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bype.core.devices import device_model, versions
from bype.core.errors import InputError
from bype.core.tensors import read_tensors, write_tensors

#: Seconds between two writings; a scoring that is killed loses no more.
SAVED_EVERY = 30.0

SCORES_KEPT = "partial scores are saved; run the same command again to continue"


class PartialScores:
    """What is done of a scoring, a value for each item so far, and where its noise goes on.

    A file that cannot be written ends no scoring: it is of use only to one that is stopped.

    Args:
        path: The file.
        what: What is scored by which networks, in JSON's terms; a part of anything else is not gone on with.
    """

    def __init__(self, path: Path, what: Mapping[str, Any]) -> None:
        self.path, self.what = path, dict(what)
        self.kept: str | None = None  # while this process has written the file and not removed it
        self.earlier = 0.0  # seconds that stopped processes took for what is done
        self._new: tuple[list[Tensor], Tensor] | None = None  # what is not written yet, and the noise's state
        self._made_for: dict[str, Any] = {}
        self._started = self._written = time.monotonic()

    def load(self, generator: torch.Generator, given: Mapping[str, Any]) -> Tensor | None:
        """The scores so far, (n,), with the generator advanced to their end; None where there are none for `given`."""
        self._started = self._written = time.monotonic()
        self._made_for = self.what | dict(given) | {"device": _kind(generator.device)}
        try:
            tensors, counters = read_tensors(self.path)
            if counters["what"] != self._made_for:
                return None
            values, seconds = tensors["values"], float(counters["seconds"])
            generator.set_state(tensors["noise"])
        except (InputError, KeyError, TypeError, ValueError, RuntimeError):  # of no use, and soon replaced
            return None
        self.earlier = seconds
        return values.to(generator.device)

    def keep(self, values: Sequence[Tensor], generator: torch.Generator) -> None:
        """Takes note of the values so far, and writes them where the last writing is some time ago."""
        self._new = list(values), generator.get_state()
        if time.monotonic() - self._written >= SAVED_EVERY:
            self.save()

    def save(self) -> None:
        """Writes what was taken note of since the last time."""
        if self._new is None:
            return
        (values, noise), self._new = self._new, None
        self._written = now = time.monotonic()
        counters = {"what": self._made_for, "seconds": self.earlier + now - self._started}
        with contextlib.suppress(InputError):
            write_tensors(self.path, {"values": torch.cat(values), "noise": noise}, counters)
            self.kept = SCORES_KEPT

    def remove(self) -> None:
        """Removes the file: its values are recorded elsewhere."""
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)
            self.kept = None


def _kind(device: torch.device) -> str:
    """What a device's noise depends on: on a GPU the order of its draws is the model's own."""
    return device.type if device.type == "cpu" else device_model(device)


def seconds_spent(folder: Path) -> float:
    """What the scorings that are kept in a run's folder, and can be gone on with, have taken so far."""
    own = versions()
    return sum(seconds for _, what, seconds in kept_in(folder) if what.get("versions") == own)


def kept_in(folder: Path) -> Iterator[tuple[Path, dict[str, Any], float]]:
    """Each part of a scoring that is kept in a run's folder: its file, what it was made for, the seconds it took."""
    for path in sorted(folder.glob("scoring-*.safetensors")):
        with contextlib.suppress(InputError, KeyError, TypeError, ValueError):  # of no use
            counters = read_tensors(path)[1]
            yield path, dict(counters["what"]), float(counters["seconds"])
