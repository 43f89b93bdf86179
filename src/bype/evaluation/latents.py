"""Posterior means and active units."""

from torch import Tensor

from bype.core.torch_state import fixed_torch_state
from bype.data.images import Images
from bype.models.observing import model_inputs
from bype.models.vae import VAE

ACTIVE_VARIANCE = 0.01


@fixed_torch_state(grad=False)
def latents(model: VAE, images: Images, seed: int = 0) -> Tensor:
    """The means of q(z|x), (n, D); with two levels those of q(z2|x).

    Args:
        model: The model.
        images: The images.
        seed: Seed of the binarisation, under a binary likelihood.
    """
    model.eval()
    return model.encoder.means(model_inputs(model, images, seed))


def active_units(means: Tensor) -> int:
    """The number of active units: latent dimensions whose posterior mean has a variance above 0.01 over the examples.

    Source: Importance weighted autoencoders (Burda et al., 2016), section 5.2.

    Args:
        means: The posterior means, (n, D).
    """
    return int((means.var(0) > ACTIVE_VARIANCE).sum())
