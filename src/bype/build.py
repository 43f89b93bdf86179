"""Models from names: what a run folder, an experiment and the command line mean by `arch`, `prior` and `likelihood`."""

import torch
from torch import Tensor

from bype.conditionals import Bernoulli, Gaussian, Likelihood, Logistic, MeanSquaredError, MLPDecoder, MLPEncoder
from bype.data import Dataset
from bype.errors import InputError
from bype.models import VAE
from bype.nets import Init, init_dense
from bype.priors import ExemplarPrior, Prior, PseudocoresetPrior, StandardPrior, VampPrior
from bype.pseudocoreset import STRATEGIES


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
    seed: int = 0,
) -> VAE:
    """A model for a data set, its weights and pseudo-inputs drawn from `seed` without touching global random state.

    One seed gives the same networks under every prior.

    Args:
        data: The data set, on the device where the model shall be.
        arch: The networks: `vae`.
        prior: `standard`, `vamp`, `exemplar` or `bype`.
        likelihood: `mse`, `gaussian` (one learned scalar variance), `bernoulli` or `logistic`.
        n_components: Components M of `vamp` and `bype`; by default min(500, N // 2).
        latent_dim: The dimension D of z.
        hidden_dim: The width of the hidden layers.
        exemplars: Exemplars drawn per step; by default min(500, N - 1).
        retrieve: Of those, encode each item's K nearest only.
        coreset: How a pseudocoreset will learn: under `elbo` its points and weights are parameters.
        init: How dense weights start.
        seed: The seed.

    Raises:
        InputError: If a name is unknown, a size does not fit the data, or the likelihood does not fit its levels.
    """
    if arch != "vae":
        raise InputError(f"arch: expected vae, got {arch!r}")
    if coreset not in STRATEGIES:
        raise InputError(f"coreset: expected one of {', '.join(STRATEGIES)}, got {coreset!r}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pixels = _likelihood(likelihood, data)
        encoder = MLPEncoder(data.shape, hidden_dim, latent_dim)
        decoder = MLPDecoder(data.shape, pixels, hidden_dim, latent_dim)
        init_dense(encoder, init)
        init_dense(decoder, init)
        p = _prior(prior, data, latent_dim, n_components, exemplars, retrieve, STRATEGIES[coreset].learned)
    return VAE(encoder, decoder, p).to(data.train.pixels.device)


def _likelihood(name: str, data: Dataset) -> Likelihood:
    if name == "mse":
        return MeanSquaredError()
    if name == "gaussian":
        return Gaussian()
    if name == "bernoulli":
        return Bernoulli()
    if name == "logistic":
        if data.levels != 256:
            got = "floats" if data.levels is None else f"{data.levels} levels"
            raise InputError(f"likelihood logistic: expected data of 256 levels, got {got} in {data.name}")
        return Logistic(data.shape)
    raise InputError(f"likelihood: expected mse, gaussian, bernoulli or logistic, got {name!r}")


def _prior(
    name: str,
    data: Dataset,
    latent_dim: int,
    n_components: int | None,
    exemplars: int | None,
    retrieve: int | None,
    learned: bool,
) -> Prior:
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
        return PseudocoresetPrior(_training_items(data, m), n, learned=learned)
    raise InputError(f"prior: expected standard, vamp, exemplar or bype, got {name!r}")


def _training_items(data: Dataset, m: int) -> Tensor:
    """m training items without replacement, on the CPU, where the model is built."""
    index = torch.randperm(len(data.train))[:m]
    return data.train.scaled(index.to(data.train.pixels.device)).cpu()
