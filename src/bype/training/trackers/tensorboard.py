"""TensorBoard: writes into RUN/tensorboard; `tensorboard --logdir runs` shows all runs."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from bype.training.trackers.tracking import missing


class TensorBoard:
    """Writes events into the folder `tensorboard` of the run. After a resume, later epochs are written again.

    Raises:
        InputError: If TensorBoard is not installed.
    """

    def __init__(self) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise missing("tensorboard", "tensorboard") from None
        self._open = SummaryWriter

    def begin(self, folder: Path, options: Mapping[str, object], epoch: int) -> None:
        """Opens the folder."""
        self.writer = self._open(str(folder / "tensorboard"), purge_step=epoch + 1 if epoch else None)
        lines = [f"| {name} | {value} |" for name, value in options.items() if value is not None]
        self.writer.add_text("options", "\n".join(["| option | value |", "|---|---|", *lines]))

    def epoch(self, epoch: int, values: Mapping[str, float]) -> None:
        """Writes a point of each curve."""
        for name, value in values.items():
            self.writer.add_scalar(name, value, epoch)

    def images(self, epoch: int, name: str, images: np.ndarray) -> None:
        """Writes the pictures as one grid."""
        self.writer.add_images(name, images, epoch, dataformats="NHWC")

    def end(self) -> None:
        """Closes the files."""
        self.writer.close()
