"""Generated images as a .npz file."""

from pathlib import Path

import numpy as np
from torch import Tensor

from bype.core.files import write


def save_samples(path: Path, images: Tensor, components: Tensor | None) -> None:
    """Writes `images`, float32 (n, c, h, w), and the prior's `components` that they come from, (n,), if there are any.

    Raises:
        InputError: If the file cannot be written.
    """
    arrays = {"images": images.detach().cpu().float().numpy()}
    if components is not None:
        arrays["components"] = components.cpu().numpy()

    def fill(temporary: Path) -> None:
        with temporary.open("wb") as f:  # an open file, for a name would get .npz appended
            np.savez(f, **arrays)  # type: ignore[arg-type]

    write(path, fill)
