"""Generated images as a .npz file."""

from pathlib import Path

import numpy as np
from torch import Tensor

from bype.core.files import write


def save_samples(path: Path, images: Tensor, components: Tensor | None) -> None:
    """Writes generated images as a .npz file with the arrays `images` and, if given, `components`.

    Args:
        path: The file.
        images: The images, (n, c, h, w), written as float32.
        components: The components of the prior that the images were sampled from, (n,), or None.

    Raises:
        InputError: If the file cannot be written.
    """
    arrays = {"images": images.detach().cpu().float().numpy()}
    if components is not None:
        arrays["components"] = components.cpu().numpy()

    def fill(temporary: Path) -> None:
        with temporary.open("wb") as f:  # an open file: np.savez appends .npz to names
            np.savez(f, **arrays)  # type: ignore[arg-type]

    write(path, fill)
