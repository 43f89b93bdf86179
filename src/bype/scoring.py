"""The part of a long scoring that is done, in a file, so that one that is stopped goes on from there."""

import contextlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bype.checkpoints import read_tensors, write_tensors
from bype.errors import InputError

#: Seconds between two writings; a scoring that is killed loses no more.
SAVED_EVERY = 30.0

_saved = False


def saved() -> bool:
    """Whether this process has kept a part of a scoring."""
    return _saved


class Scoring:
    """What is done of a scoring, a value for each item so far, and where its noise goes on.

    A file that cannot be written ends no scoring: it is of use only to one that is stopped.

    Args:
        path: The file.
        what: What is scored by which networks, in JSON's terms; a part of anything else is not gone on with.
    """

    def __init__(self, path: Path, what: Mapping[str, Any]) -> None:
        self.path, self.what = path, dict(what)
        self.earlier = 0.0  # seconds that stopped processes took for what is done
        self._tensors: dict[str, Tensor] | None = None
        self._made_for: dict[str, Any] = {}
        self._started = self._written = time.monotonic()

    def load(self, generator: torch.Generator, given: Mapping[str, Any]) -> Tensor | None:
        """The values so far, (n,), with the generator put where they end; None where there are none made as `given`."""
        self._started = self._written = time.monotonic()
        self._made_for = self.what | dict(given) | {"device": generator.device.type}
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
        self._tensors = {"values": torch.cat(list(values)), "noise": generator.get_state()}
        if time.monotonic() - self._written >= SAVED_EVERY:
            self.save()

    def save(self) -> None:
        """Writes what was taken note of."""
        if self._tensors is None:
            return
        global _saved
        self._written = now = time.monotonic()
        with contextlib.suppress(InputError):
            write_tensors(
                self.path, self._tensors, {"what": self._made_for, "seconds": self.earlier + now - self._started}
            )
            _saved = True

    def remove(self) -> None:
        """Removes the file: its values are recorded elsewhere."""
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)


def seconds_spent(folder: Path) -> float:
    """What the scorings that are kept in a run's folder have taken so far."""
    total = 0.0
    for path in folder.glob("scoring-*.safetensors"):
        with contextlib.suppress(InputError, KeyError, TypeError, ValueError):
            total += float(read_tensors(path)[1]["seconds"])
    return total
