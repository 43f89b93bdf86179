"""Arrays as a .npz file."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from bype.core.files import write


def write_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays by their names.

    Raises:
        InputError: If the file cannot be written.
    """

    def fill(temporary: Path) -> None:
        with temporary.open("wb") as f:  # an open file: np.savez appends .npz to names
            np.savez(f, **arrays)  # type: ignore[arg-type]

    write(path, fill)
