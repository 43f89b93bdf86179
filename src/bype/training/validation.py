"""The validation loss."""

import torch

from bype.core.torch_state import fixed_torch_state
from bype.data.images import Images
from bype.models.objectives import elbo, importance_terms
from bype.models.vae import VAE


@fixed_torch_state(grad=False)
def validation_bound(model: VAE, images: Images, seed: int, *, samples: int = 1, batch_size: int = 500) -> float:
    """The mean evidence lower bound over all images at beta = 1, with noise and binarisation fixed by `seed`.

    Args:
        model: The model.
        images: The images, usually the validation set.
        seed: Seed of the noise and of the binarisation.
        samples: More than 1 for the importance-weighted bound with that many samples.
        batch_size: Images per batch.

    Returns:
        The bound per example, in the unit of the likelihood (nats, or the paper's).
    """
    model.eval()
    generator = torch.Generator(images.pixels.device).manual_seed(seed)
    prior = model.prior(model.encoder)
    total = torch.zeros((), dtype=torch.float64, device=images.pixels.device)
    for grey in images.batches(batch_size, dtype=model.dtype):
        x = model.binarise(grey, generator)
        if samples == 1:
            terms = elbo(model, x, prior=prior, generator=generator)
        else:
            terms = importance_terms(model, x, samples, prior=prior, generator=generator)
        total += terms.bound().sum()
    return total.item() / len(images)
