"""A training set with synthetic examples as a .npz file."""

from pathlib import Path

import torch

from bype.core.seeds import Stream
from bype.data.images import Dataset
from bype.evaluation.classifier import Source, labels_of
from bype.export.npz import write_npz

AT_ONCE = 1000


def save_augmented(path: Path, data: Dataset, source: Source, seed: int = 0) -> int:
    """Writes the training examples and as many synthetic ones, which `bype train` and numpy read.

    Arrays: `images` (2N, c, h, w) float32 in [0, 1], the training examples first; `labels` (2N,); `synthetic` (2N,)
    bool; `sources` (2N,), the training row, or for the method `coreset` the component, of each image.

    Args:
        path: The file.
        data: The labelled data.
        source: The synthetic examples, from `synthetic_source`.
        seed: The seed of the synthetic examples.

    Returns:
        The number of images.

    Raises:
        InputError: If the file cannot be written.
    """
    labels, device = labels_of(data.train, data.name), data.train.pixels.device
    n, rows = len(labels), torch.arange(len(labels), device=device)
    generator = torch.Generator(device).manual_seed(seed + Stream.AUGMENTATION)
    drawn = [source(part, generator) for part in rows.split(AT_ONCE)]
    arrays = {
        "images": torch.cat([*data.train.batches(AT_ONCE), *(part.images for part in drawn)]),
        "labels": torch.cat([labels, *(part.labels for part in drawn)]),
        "synthetic": torch.arange(2 * n) >= n,
        "sources": torch.cat([rows, *(part.sources for part in drawn)]),
    }
    write_npz(path, {name: a.detach().cpu().numpy() for name, a in arrays.items()})
    return 2 * n
