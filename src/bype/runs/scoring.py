"""Partial scores of a long evaluation, saved so that it can be resumed."""

import contextlib
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from bype.core.devices import device_model, versions
from bype.core.errors import InputError
from bype.core.tensors import read_tensors, write_tensors

#: Seconds between two writes: a killed process loses no more than this.
SAVED_EVERY = 30.0

SCORES_KEPT = "partial scores are saved; run the same command again to continue"


class PartialScores:
    """The scores of the first examples of an evaluation, and the state of its noise after them, in a file.

    A failed write is ignored: the file only serves to resume.

    Args:
        path: The file.
        scored: Identifies the evaluation, in JSON types; partial scores of anything else are discarded.
    """

    def __init__(self, path: Path, scored: Mapping[str, object]) -> None:
        self.path, self.scored = path, dict(scored)
        self.kept: str | None = None  # once this process has written the file, until it is removed
        self.earlier = 0.0  # seconds that earlier processes took for the scores in the file
        self._new: tuple[list[Tensor], Tensor] | None = None  # scores that are not written yet, and the noise's state
        self._settings: dict[str, object] = {}
        self._started = self._written = time.monotonic()

    def load(self, generator: torch.Generator, settings: Mapping[str, object]) -> Tensor | None:
        """The scores so far, (n,), with the generator advanced past them; None if there are none for `settings`."""
        self._started = self._written = time.monotonic()
        self._settings = self.scored | dict(settings) | {"device": _noise_source(generator.device)}
        try:
            tensors, counters = read_tensors(self.path)
            if counters["what"] != self._settings:
                return None
            values, seconds = tensors["values"], float(counters["seconds"])
            generator.set_state(tensors["noise"])
        except (InputError, KeyError, TypeError, ValueError, RuntimeError):  # not usable, and soon replaced
            return None
        self.earlier = seconds
        return values.to(generator.device)

    def keep(self, values: Sequence[Tensor], generator: torch.Generator) -> None:
        """Takes the scores so far, and writes them if the last write was `SAVED_EVERY` seconds ago or more."""
        self._new = list(values), generator.get_state()
        if time.monotonic() - self._written >= SAVED_EVERY:
            self.save()

    def save(self) -> None:
        """Writes the scores that are not written yet."""
        if self._new is None:
            return
        (values, noise), self._new = self._new, None
        self._written = now = time.monotonic()
        counters = {"what": self._settings, "seconds": self.earlier + now - self._started}
        with contextlib.suppress(InputError):
            write_tensors(self.path, {"values": torch.cat(values), "noise": noise}, counters)
            self.kept = SCORES_KEPT

    def remove(self) -> None:
        """Removes the file, once its scores are recorded elsewhere."""
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)
            self.kept = None


def _noise_source(device: torch.device) -> str:
    """Identifies how random numbers are drawn: on a GPU their order depends on its model."""
    return device.type if device.type == "cpu" else device_model(device)


def seconds_spent(folder: Path) -> float:
    """Seconds that the partial scores in a run folder took, of those that this version can resume."""
    own = versions()
    return sum(seconds for _, scored, seconds in partial_scores_in(folder) if scored.get("versions") == own)


def partial_scores_in(folder: Path, skip: Collection[Path] = ()) -> Iterator[tuple[Path, Mapping[str, object], float]]:
    """The partial scores in a run folder: the file, what identifies the evaluation, and the seconds it took so far."""
    for path in sorted(folder.glob("scoring-*.safetensors")):
        if path not in skip:
            with contextlib.suppress(InputError, KeyError, TypeError, ValueError):  # not usable
                counters = read_tensors(path)[1]
                yield path, dict(counters["what"]), float(counters["seconds"])
