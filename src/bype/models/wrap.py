"""A model from networks of the user's own."""

from collections.abc import Sequence

import torch
from torch import nn

from bype.core.errors import InputError
from bype.core.names import LIKELIHOODS
from bype.core.numbers import whole
from bype.core.torch_state import fixed_torch_state
from bype.data.coerce import DataLike, as_dataset
from bype.data.images import Dataset
from bype.models.build import build_prior
from bype.models.vae import VAE
from bype.networks.base import Decoder
from bype.networks.likelihoods import Likelihood
from bype.networks.wrapped import as_decoder, as_encoder
from bype.priors.base import Prior
from bype.priors.standard import StandardPrior


@fixed_torch_state(grad=True)
def wrap(
    encoder: nn.Module,
    decoder: nn.Module,
    *,
    latent_dim: int,
    image_shape: Sequence[int] | None = None,
    data: DataLike | None = None,
    prior: str | Prior = "standard",
    likelihood: str | Likelihood | None = None,
    n_components: int | None = None,
    exemplars: int | None = None,
    retrieve: int | None = None,
    coreset: str = "paper",
    seed: int = 0,
) -> VAE:
    r"""Makes a model of two networks of the user's own, for training (`bype.fit`, `bype.train`) with any prior.

    >>> from torch import nn
    >>> encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU())
    >>> decoder = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 64))
    >>> wrap(encoder, decoder, latent_dim=4, image_shape=(1, 8, 8)).sample(3).images.shape
    torch.Size([3, 1, 8, 8])

    Args:
        encoder: An `Encoder`; or a module that maps images (n, c, h, w) in [0, 1] to features (n, \*), to which two
            linear layers are added, or to the pair :math:`(\mu, \log v)` of the moments of q(z|x), (n, D) each.
        decoder: A `Decoder`; or a module that maps latents (n, D) to (n, \*), c h w values for each. The likelihood
            maps these to p(x|z); no output activation is needed.
        latent_dim: The dimension D of z.
        image_shape: The shape (c, h, w) of an image; by default that of `data`.
        data: The training data, in any form that `bype.train` takes, for priors made of training items (any but
            `standard`) and for the image shape.
        prior: `standard`, `vamp`, `exemplar`, `bype`, a registered name, or a `Prior`.
        likelihood: `mse` (the default), `gaussian`, `bernoulli`, `logistic`, a registered name, or a `Likelihood`. A
            `Decoder` has its own.
        n_components: The number of components M, as for `build_model`.
        exemplars: As for `build_model`.
        retrieve: As for `build_model`.
        coreset: As for `build_model`.
        seed: Seed of the added layers and of the prior's initial points; the networks keep their weights.

    Raises:
        InputError: If a network does not fit the shapes, a name is unknown, or the prior needs data and none are given.
    """
    latent_dim, seed = whole("latent_dim", latent_dim, 1), whole("seed", seed)
    data = None if data is None else as_dataset(data)
    shape = _shape(image_shape, data)
    if isinstance(decoder, Decoder) and likelihood is not None:
        raise InputError("likelihood: a Decoder has its own; leave it out, or pass a plain module as decoder")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        p_x = likelihood if isinstance(likelihood, Likelihood) else LIKELIHOODS[likelihood or "mse"](shape)
        q = as_encoder(encoder, shape, latent_dim)
        p = as_decoder(decoder, shape, latent_dim, p_x)
        if isinstance(prior, Prior):
            p_z: Prior = prior
        elif data is not None:
            p_z = build_prior(
                prior, data, latent_dim=latent_dim, n_components=n_components, exemplars=exemplars, retrieve=retrieve,
                coreset=coreset,
            )  # fmt: skip
        elif prior == "standard":
            p_z = StandardPrior(latent_dim)
        else:
            raise InputError(f"prior {prior}: expected the training data, of which it is made; pass data=DATA")
    model = VAE(q, p, p_z)
    if data is not None:
        model.levels = data.levels
        model.to(data.train.pixels.device).checked_data(data)
    return model


def _shape(image_shape: Sequence[int] | None, data: Dataset | None) -> tuple[int, int, int]:
    if image_shape is None:
        if data is None:
            raise InputError("image_shape: expected the shape (c, h, w) of an image, or data")
        return data.shape
    sides = [whole("image_shape", side, 1) for side in image_shape]
    if len(sides) != 3:
        raise InputError(f"image_shape: expected (c, h, w), got {tuple(sides)}")
    if data is not None and tuple(sides) != data.shape:
        raise InputError(f"image_shape: expected {data.shape}, that of the data, got {tuple(sides)}")
    return sides[0], sides[1], sides[2]
