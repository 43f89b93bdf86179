"""Models from names: what a run folder, an experiment and the command line mean by `arch`, `prior` and `likelihood`."""

import torch
from torch import Tensor

from bype.core.config import ARCHS, CORESETS, INITS, Config
from bype.core.errors import InputError
from bype.data.images import Dataset
from bype.models.two_level import TwoLevelVAE
from bype.models.vae import VAE
from bype.networks.base import Decoder, Encoder
from bype.networks.conv import ConvDecoder, ConvEncoder, conv_image
from bype.networks.layers import Init, init_dense
from bype.networks.likelihoods import Bernoulli, Gaussian, Likelihood, Logistic, MeanSquaredError
from bype.networks.mlp import MLPDecoder, MLPEncoder
from bype.networks.residual import ResidualDecoder, ResidualEncoder
from bype.networks.two_level import LowerEncoder, LowerPrior, TwoLevelMLPDecoder, dense_image
from bype.priors.base import Prior
from bype.priors.exemplar import ExemplarPrior
from bype.priors.pseudocoreset import PseudocoresetPrior
from bype.priors.standard import StandardPrior
from bype.priors.vamp import VampPrior


def build_model(
    data: Dataset,
    *,
    arch: str = "vae",
    prior: str = "bype",
    likelihood: str = "mse",
    n_components: int | None = None,
    latent_dim: int = 40,
    hidden_dim: int = 300,
    exemplars: int | None = None,
    retrieve: int | None = None,
    coreset: str = "paper",
    init: Init = "he",
    reencode: float | None = None,
    seed: int = 0,
) -> VAE:
    """A model for a data set, its weights and pseudo-inputs drawn from `seed` without touching global random state.

    One seed gives the same networks under every prior.

    Args:
        data: The data set, on the device where the model shall be.
        arch: The networks: `vae`, `hvae`, `convhvae` or `celeba`.
        prior: `standard`, `vamp`, `exemplar` or `bype`.
        likelihood: `mse`, `gaussian` (one learned scalar variance), `bernoulli` or `logistic`.
        n_components: Components M of `vamp` and `bype`; by default min(500, N // 2), of `celeba` min(240, N // 2).
        latent_dim: The dimension D of z, of two levels that of each.
        hidden_dim: The width of the hidden dense layers; `celeba` has none.
        exemplars: Exemplars drawn per step; by default min(500, N - 1).
        retrieve: Of those, encode each item's K nearest only.
        coreset: How a pseudocoreset learns, `paper`, `none`, `published` or `elbo`: what a trainer does unless told
            otherwise. Under `elbo` points and weights are parameters.
        init: How dense weights start.
        reencode: The share of a prior's points that a training step encodes (`VAE`); by default all.
        seed: The seed.

    Raises:
        InputError: If a name is unknown, a size does not fit the data, or the likelihood does not fit its levels.
    """
    if n_components is None and arch == "celeba":
        n_components = min(240, len(data.train) // 2)  # the published code's
    if arch not in ARCHS:
        raise InputError(f"arch: expected one of {', '.join(ARCHS)}, got {arch!r}")
    for name, size in (("latent_dim", latent_dim), ("hidden_dim", hidden_dim)):
        if size < 1:
            raise InputError(f"{name}: expected at least 1, got {size}")
    if init not in INITS:
        raise InputError(f"init: expected one of {', '.join(INITS)}, got {init!r}")
    if reencode is not None and not 0 < reencode <= 1:
        raise InputError(f"reencode: expected above 0 and at most 1, got {reencode}")
    if coreset not in CORESETS:
        raise InputError(f"coreset: expected one of {', '.join(CORESETS)}, got {coreset!r}")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # not torch.manual_seed, which seeds every GPU as well
        pixels = _likelihood(likelihood, data)
        networks = _networks(arch, data.shape, pixels, hidden_dim, latent_dim)
        for network in networks:
            init_dense(network, init)
        p = build_prior(
            prior,
            data,
            latent_dim=latent_dim,
            n_components=n_components,
            exemplars=exemplars,
            retrieve=retrieve,
            coreset=coreset,
        )
    share = 1.0 if reencode is None else reencode
    encoder, decoder = networks[:2]
    lower = networks[2:]
    model = (
        TwoLevelVAE(encoder, decoder, p, *lower, reencode=share) if lower else VAE(encoder, decoder, p, reencode=share)
    )
    model.to(data.train.pixels.device).check_data(data)
    return model


def model_from(config: Config, data: Dataset) -> VAE:
    """The model that a config describes, as it starts."""
    return build_model(
        data,
        arch=config.arch,
        prior=config.prior,
        likelihood=config.likelihood,
        n_components=config.n_components,
        latent_dim=config.latent_dim,
        hidden_dim=config.hidden_dim,
        exemplars=config.exemplars,
        retrieve=config.retrieve,
        coreset=config.coreset,
        init=config.init,  # type: ignore[arg-type]
        reencode=config.reencode,
        seed=config.seed,
    )


def _networks(
    arch: str, shape: tuple[int, int, int], pixels: Likelihood, hidden_dim: int, latent_dim: int
) -> tuple[Encoder, Decoder] | tuple[Encoder, Decoder, LowerEncoder, LowerPrior]:
    """An architecture: an encoder and a decoder, and with two levels two conditionals more."""
    if arch == "vae":
        return MLPEncoder(shape, hidden_dim, latent_dim), MLPDecoder(shape, pixels, hidden_dim, latent_dim)
    if arch == "celeba":
        return ResidualEncoder(shape, latent_dim), ResidualDecoder(shape, pixels, latent_dim)
    encoder: Encoder
    decoder: Decoder
    if arch == "hvae":
        encoder = MLPEncoder(shape, hidden_dim, latent_dim)
        decoder = TwoLevelMLPDecoder(shape, pixels, hidden_dim, latent_dim)
        image, width = dense_image(shape, hidden_dim)
    else:
        encoder = ConvEncoder(shape, latent_dim)
        decoder = ConvDecoder(shape, pixels, hidden_dim, latent_dim)
        image, width = conv_image(shape)
    lower = LowerEncoder(image, width, hidden_dim, latent_dim, latent_dim)
    return encoder, decoder, lower, LowerPrior(hidden_dim, latent_dim, latent_dim)


def _likelihood(name: str, data: Dataset) -> Likelihood:
    if name == "mse":
        return MeanSquaredError()
    if name == "gaussian":
        return Gaussian()
    if name == "bernoulli":
        return Bernoulli()
    if name == "logistic":
        return Logistic(data.shape)
    raise InputError(f"likelihood: expected mse, gaussian, bernoulli or logistic, got {name!r}")


def build_prior(
    name: str,
    data: Dataset,
    *,
    latent_dim: int = 40,
    n_components: int | None = None,
    exemplars: int | None = None,
    retrieve: int | None = None,
    coreset: str = "paper",
) -> Prior:
    """A prior by name, for any encoder; its points are drawn from torch's global random state, on the CPU.

    Args:
        name: `standard`, `vamp`, `exemplar` or `bype`.
        data: The data set.
        latent_dim: The dimension D of z.
        n_components: Components M of `vamp` and `bype`; by default min(500, N // 2).
        exemplars: Exemplars drawn per step; by default min(500, N - 1).
        retrieve: Of those, encode each item's K nearest only.
        coreset: How a pseudocoreset learns.

    Raises:
        InputError: If the name is unknown or a size does not fit the data.
    """
    n = len(data.train)
    if name == "standard":
        return StandardPrior(latent_dim)
    if name == "exemplar":
        drawn = min(500, n - 1) if exemplars is None else exemplars
        try:
            return ExemplarPrior(data.train, drawn, retrieve)
        except ValueError as e:
            raise InputError(f"prior exemplar: {e}") from None
    m = min(500, n // 2) if n_components is None else n_components
    if not 1 <= m <= n:
        raise InputError(f"components: expected between 1 and the {n} training items of {data.name}, got {m}")
    if name == "vamp":
        points = _training_items(data, m)
        return VampPrior(points + 0.01 * torch.randn_like(points))
    if name == "bype":
        return PseudocoresetPrior(_training_items(data, m), n, coreset=coreset)
    raise InputError(f"prior: expected standard, vamp, exemplar or bype, got {name!r}")


def _training_items(data: Dataset, m: int) -> Tensor:
    """m training items without replacement, on the CPU, where the model is built."""
    index = torch.randperm(len(data.train))[:m]
    return data.train.scaled(index.to(data.train.pixels.device)).cpu()
