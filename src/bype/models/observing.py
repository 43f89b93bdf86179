"""Batches of images in the form that a model takes as input."""

from collections.abc import Iterator

import torch
from torch import Tensor

from bype.data.images import Images
from bype.models.vae import VAE

BINARISED_AT_ONCE = 500


def model_inputs(model: VAE, images: Images, seed: int, batch_size: int = 500) -> Iterator[Tensor]:
    """Yields the images in batches, scaled, and binarised with `seed` if the likelihood is binary."""
    generator = torch.Generator(images.pixels.device).manual_seed(seed)
    # Binarised in chunks of a fixed size, since a GPU's random numbers depend on the number drawn at once.
    for x in images.batches(BINARISED_AT_ONCE, dtype=model.dtype):
        yield from model.binarise(x, generator).split(batch_size)
