"""metrics.jsonl of a run folder: a line of metrics for each epoch."""

import json
from pathlib import Path
from typing import NotRequired, TypedDict, cast

from bype.core.errors import InputError
from bype.core.files import flush, write_text
from bype.training.epoch import EpochInfo


class EpochRecord(TypedDict):
    """A line of metrics.jsonl, flat; losses are means per example, in the unit that config.json names.

    Reading checks `epoch` alone.
    """

    epoch: int
    beta: float
    loss: float
    reconstruction: float
    kl: float
    val_loss: float
    best: bool
    seconds: float
    seconds_validation: float
    skipped_steps: int
    # After an update of the pseudocoreset:
    val_loss_before_update: NotRequired[float]
    coreset_mean_distance: NotRequired[float]
    coreset_outside: NotRequired[float]
    seconds_coreset: NotRequired[float]
    # With two levels of latents:
    kl_z1: NotRequired[float]
    kl_z2: NotRequired[float]


class Metrics:
    """The metrics of a run's epochs.

    Args:
        folder: The run folder.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "metrics.jsonl"

    def read(self) -> list[EpochRecord]:
        """The metrics of each epoch; a last line that was only partly written is left out.

        Raises:
            InputError: If another line is damaged.
        """
        lines: list[EpochRecord] = []
        texts = self.path.read_text(encoding="utf-8", errors="replace").splitlines() if self.path.exists() else []
        for number, text in enumerate(texts, 1):
            line = _parsed(text)
            if line is not None:
                lines.append(line)
            elif number < len(texts):
                raise InputError(
                    f"{self.path}, line {number}: expected the metrics of an epoch, got {text!r:.60}; fix the line, or "
                    "remove the file to continue without it"
                )
        return lines

    def append(self, info: EpochInfo) -> None:
        """Adds the line of an epoch.

        Raises:
            InputError: If it cannot be written.
        """
        try:
            with self.path.open("a", encoding="utf-8") as f:
                f.write(json.dumps(info.to_dict(), allow_nan=False) + "\n")
                f.flush()
                flush(f.fileno())
        except OSError as e:
            raise InputError(f"{self.path}: cannot be written ({e.strerror})") from None

    def cut(self, epoch: int) -> None:
        """Removes the lines of epochs after this one: they will be trained again."""
        kept = [line for line in self.read() if line["epoch"] <= epoch]
        write_text(self.path, "".join(json.dumps(line) + "\n" for line in kept))


def _parsed(text: str) -> EpochRecord | None:
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return cast(EpochRecord, line) if isinstance(line, dict) and isinstance(line.get("epoch"), int) else None
