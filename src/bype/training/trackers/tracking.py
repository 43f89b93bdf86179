"""Trackers receive the losses of each epoch, and every ten epochs the pseudo-points and samples."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from bype.core.errors import InputError, first_line
from bype.core.names import TRACKERS
from bype.core.seeds import Stream
from bype.training.epoch import EpochInfo

if TYPE_CHECKING:
    from bype.training.trainer import Trainer

log = logging.getLogger("bype")

#: Epochs between two sets of pictures, and the number of images of each.
IMAGES_EVERY, N_IMAGES = 10, 16


@runtime_checkable
class Tracker(Protocol):
    """The methods of a tracker. `bype.fit(..., trackers=[...])` takes any object with these methods."""

    def begin(self, folder: Path, options: Mapping[str, object], epoch: int) -> None:
        """The run starts, or continues after an epoch.

        Args:
            folder: The run folder.
            options: The options of the run.
            epoch: The last epoch that is done; 0 for a new run.
        """

    def epoch(self, epoch: int, values: Mapping[str, float]) -> None:
        """An epoch has ended; `values` has its losses and times by name."""

    def images(self, epoch: int, name: str, images: np.ndarray) -> None:
        """Pictures after an epoch, (n, h, w, c) uint8; `name` is `samples` or `pseudo_inputs`."""

    def end(self) -> None:
        """The run ends, or is interrupted."""


def make_trackers(given: Sequence[Tracker | str]) -> list[Tracker]:
    """The trackers, made from their names where names are given.

    Raises:
        InputError: If a name is unknown, its library is not installed, or an object is not a tracker.
    """
    made: list[Tracker] = []
    for tracker in given:
        if isinstance(tracker, str):
            tracker = TRACKERS[tracker]()
        if not isinstance(tracker, Tracker):
            raise InputError(f"trackers: expected names or objects with the methods of Tracker, got {tracker!r:.60}")
        made.append(tracker)
    return made


class Tracking:
    """Passes the epochs of a run to trackers. One that fails is reported once and left out; training continues.

    Args:
        trackers: The trackers.
    """

    def __init__(self, trackers: Sequence[Tracker]) -> None:
        self.trackers = list(trackers)

    def begin(self, folder: Path, options: Mapping[str, object], epoch: int) -> None:
        """The run starts, or continues after an epoch."""
        self._call("begin", folder, options, epoch)

    def epoch(self, info: EpochInfo, trainer: "Trainer") -> None:
        """An epoch has ended."""
        if not self.trackers:
            return
        self._call("epoch", info.epoch, scalars(info))
        if info.epoch == 1 or info.epoch % IMAGES_EVERY == 0 or trainer.finished:
            for name, images in pictures(trainer).items():
                self._call("images", info.epoch, name, images)

    def end(self) -> None:
        """The run ends."""
        self._call("end")

    def _call(self, method: str, *args: object) -> None:
        for tracker in list(self.trackers):
            try:
                getattr(tracker, method)(*args)
            except Exception as e:  # a tracker's library may raise anything
                self.trackers.remove(tracker)
                log.warning("%s: stops tracking, the run goes on (%s)", type(tracker).__name__, first_line(e))


@contextmanager
def tracking(
    trackers: Sequence[Tracker], folder: Path, options: Mapping[str, object], epoch: int
) -> Iterator[Tracking]:
    """Begins and ends the tracking of a run; yields the object that takes its epochs."""
    own = Tracking(trackers)
    own.begin(folder, options, epoch)
    try:
        yield own
    finally:
        own.end()


def scalars(info: EpochInfo) -> dict[str, float]:
    """The numbers of an epoch by name, as in `metrics.jsonl`."""
    values = {
        "beta": info.beta, "loss": info.loss, "reconstruction": info.reconstruction, "kl": info.kl,
        "val_loss": info.val_loss, "seconds": info.seconds, "skipped_steps": float(info.skipped_steps),
    }  # fmt: skip
    return values | info.levels | info.coreset


def pictures(trainer: "Trainer") -> dict[str, np.ndarray]:
    """Samples and the first points of the prior, (n, h, w, c) uint8 each; training is not affected."""
    model = trainer.model
    if model.decoder.shape[0] not in (1, 3) or model.decoder.shape[1] == 1:
        return {}  # a table, or channels that are no colours
    was_training = model.training
    model.eval()
    generator = torch.Generator(trainer.device).manual_seed(trainer.seed + Stream.TRACKING)
    found = {"samples": _uint8(model.sample(N_IMAGES, generator=generator).images)}
    points = getattr(model.prior, "pseudo_inputs", None)
    if isinstance(points, Tensor):
        found["pseudo_inputs"] = _uint8(points[:N_IMAGES])
    model.train(was_training)
    return found


def _uint8(images: Tensor) -> np.ndarray:
    scaled = (images.detach().float().clamp(0, 1) * 255).round().byte()
    array: np.ndarray = scaled.permute(0, 2, 3, 1).cpu().numpy()
    return array


def tiled(images: np.ndarray) -> np.ndarray:
    """Images (n, h, w, c) side by side in one, (rows h, columns w, c), as square as can be."""
    n, h, w, c = images.shape
    columns = int(np.ceil(np.sqrt(n)))
    rows = -(-n // columns)
    sheet = np.zeros((rows * columns, h, w, c), np.uint8)
    sheet[:n] = images
    return sheet.reshape(rows, columns, h, w, c).transpose(0, 2, 1, 3, 4).reshape(rows * h, columns * w, c)


def missing(library: str, extra: str) -> InputError:
    """The error to raise if a tracker's library is not installed."""
    return InputError(f"--track {extra}: needs the library {library}: pip install 'bype[{extra}]'")
