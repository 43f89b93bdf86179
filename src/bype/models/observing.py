"""Images as a model takes them."""

from collections.abc import Iterator

import torch
from torch import Tensor

from bype.data.images import Images
from bype.models.vae import VAE

BINARISED_AT_ONCE = 500


def model_inputs(model: VAE, images: Images, seed: int, batch_size: int = 500) -> Iterator[Tensor]:
    """The images in batches as the model sees them: scaled, and binarised by `seed` under a binary likelihood."""
    generator = torch.Generator(images.pixels.device).manual_seed(seed)
    # Always drawn as many at a time: a GPU's draws depend on how many there are.
    for x in images.batches(BINARISED_AT_ONCE, dtype=model.dtype):
        yield from model.binarise(x, generator).split(batch_size)
