"""Generated images as a .npz file."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from bype.export.npz import write_npz


def save_samples(
    path: Path,
    images: Tensor,
    components: Tensor | None,
    *,
    sources: Sequence[str] | None = None,
    labels: Tensor | None = None,
    raw: bool = False,
) -> None:
    """Writes generated images as a .npz file that `bype train` reads.

    Its arrays are `images` and, if given, `components`, `sources` and `labels`.

    Args:
        path: The file.
        images: The images, (n, c, h, w), written as float32, clipped to [0, 1].
        components: The components of the prior that the images were sampled from, (n,), or None.
        sources: The training row or file behind each component, (n,), or None.
        labels: Its label, (n,), or None.
        raw: Whether values outside [0, 1] are kept.

    Raises:
        InputError: If the file cannot be written.
    """
    values = images.detach().cpu().float()
    arrays = {"images": (values if raw else values.clamp(0, 1)).numpy()}
    if components is not None:
        arrays["components"] = components.cpu().numpy()
    if sources is not None:
        arrays["sources"] = np.array(sources, str)
    if labels is not None:
        arrays["labels"] = labels.cpu().numpy()
    write_npz(path, arrays)
