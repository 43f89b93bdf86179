"""trackio: logs to the project `bype` in the user's own trackio folder; `trackio show` opens it."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from bype.training.trackers.tracking import missing, tiled


class Trackio:
    """Logs a trackio run with the name of the run folder; a resume continues it.

    Raises:
        InputError: If trackio is not installed.
    """

    def __init__(self) -> None:
        try:
            import trackio
        except ImportError:
            raise missing("trackio", "trackio") from None
        self._trackio = trackio

    def begin(self, folder: Path, options: Mapping[str, object], epoch: int) -> None:
        """Opens the trackio run."""
        config = {name: value for name, value in options.items() if value is not None}
        self.run = self._trackio.init(
            project="bype", name=folder.name, config=config, resume="allow" if epoch else "never", embed=False
        )

    def epoch(self, epoch: int, values: Mapping[str, float]) -> None:
        """Logs a point of each curve."""
        self._trackio.log(dict(values), step=epoch)

    def images(self, epoch: int, name: str, images: np.ndarray) -> None:
        """Logs the pictures as one grid."""
        sheet = tiled(images)
        if sheet.shape[2] == 1:
            sheet = sheet.repeat(3, 2)
        self._trackio.log({name: self._trackio.Image(sheet)}, step=epoch)

    def end(self) -> None:
        """Ends the trackio run."""
        self._trackio.finish()
