"""The bounds as the public functions `bype.elbo` and `bype.iwae`: inputs are checked, torch's global settings fixed.

The functions of the same names in `bype.models.objectives` take tensors as the model does and check nothing: a training
step calls those.
"""

import torch
from torch import Tensor
from torch.distributions import Distribution

from bype.core.numbers import whole
from bype.core.torch_state import fixed_torch_state
from bype.models import objectives
from bype.models.inputs import ImagesLike
from bype.models.objectives import ElboTerms
from bype.models.vae import VAE


@fixed_torch_state()
def elbo(
    model: VAE,
    x: ImagesLike,
    *,
    prior: Distribution | None = None,
    index: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> ElboTerms:
    r"""One-sample estimate of the evidence lower bound, in nats per example (in the paper's unit with `mse`).

    .. math:: E_{q(z|x)}[\log p(x|z)] - E_{q(z|x)}[\log q(z|x) - \log p(z)]

    With two levels z is (z1, z2), with q(z|x) = q(z2|x) q(z1|x,z2) and p(z) = p(z2) p(z1|z2).

    Source: Eq. 9 of ByPE-VAE (Ai et al., 2021), including the -log N of Eq. 12.

    Args:
        model: The model.
        x: Images in any accepted form (`bype.models.inputs.as_images`): an `Images`, a tensor or numpy array of shape
            (B, c, h, w), (B, d), or with one channel (B, h, w), PIL images, a torch or Hugging Face data set, or a
            loader; uint8, or floats in [0, 1]. With a model of a table, a data frame or rows in its units.
        prior: p(z), if the caller has already computed it; by default the prior of a training step, whose points are
            encoded in one pass with x.
        index: The rows of x in the training set, (B,), for an exemplar prior.
        generator: The generator of the noise.

    Raises:
        InputError: If the images do not fit the model.
    """
    return objectives.elbo(model, model.as_images(x), prior=prior, index=index, generator=generator)


@fixed_torch_state()
def iwae(
    model: VAE,
    x: ImagesLike,
    n_samples: int,
    *,
    prior: Distribution | None = None,
    generator: torch.Generator | None = None,
    rows: int | None = None,
) -> Tensor:
    r"""The importance-weighted bound on log p(x), per example, (B,), in nats (in the paper's unit with `mse`).

    .. math:: \log \frac{1}{S} \sum_{s=1}^S \frac{p(x|z_s) p(z_s)}{q(z_s|x)}, \qquad z_s \sim q(z|x)

    Source: Importance weighted autoencoders (Burda et al., 2016), https://arxiv.org/abs/1509.00519

    Args:
        model: The model.
        x: Images in any accepted form (`bype.models.inputs.as_images`): an `Images`, a tensor or numpy array of shape
            (B, c, h, w), (B, d), or with one channel (B, h, w), PIL images, a torch or Hugging Face data set, or a
            loader; uint8, or floats in [0, 1]. With a model of a table, a data frame or rows in its units.
        n_samples: The number of samples S.
        prior: p(z), if the caller has already computed it; by default `model.prior(model.encoder)`.
        generator: The generator of the noise.
        rows: The number of latents decoded at once; by default 1024 on a CPU, and 256 MiB of images on CUDA.

    Raises:
        InputError: If the images do not fit the model, or `n_samples` or `rows` is less than 1.
    """
    n_samples = whole("n_samples", n_samples, 1)
    rows = None if rows is None else whole("rows", rows, 1)
    return objectives.iwae(model, model.as_images(x), n_samples, prior=prior, generator=generator, rows=rows)
