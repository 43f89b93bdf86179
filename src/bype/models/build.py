"""Builds models from names: the values of `arch`, `prior` and `likelihood` on the command line and in run folders."""

from typing import Any

import torch

from bype.core.config import INITS, Config, Options
from bype.core.errors import InputError
from bype.core.names import ARCHS, LIKELIHOODS, PRIORS, STRATEGIES
from bype.core.numbers import real, whole
from bype.core.torch_state import fixed_torch_state
from bype.data.coerce import DataLike, as_dataset
from bype.data.images import Dataset
from bype.data.tables import TableSpec
from bype.models.description import Description, used_options
from bype.models.two_level import TwoLevelVAE
from bype.models.vae import VAE
from bype.networks import tables
from bype.networks.architecture import Networks
from bype.networks.layers import Init, init_dense
from bype.priors.base import Prior, PriorOptions


@fixed_torch_state(grad=True)
def build_model(
    data: DataLike,
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
    """Builds a model for a data set; weights and pseudo-inputs depend on `seed` only, not on global random state.

    The same seed gives the same networks with every prior.

    Args:
        data: The data, in any form that `bype.train` takes; a `Dataset` on the device of the model.
        arch: The networks: `vae`, `hvae`, `convhvae` or `celeba`.
        prior: `standard`, `vamp`, `exemplar` or `bype`.
        likelihood: `mse`, `gaussian` (one learned scalar variance), `bernoulli` or `logistic`; for a table `mixed`, or
            `gaussian` if all columns are real (one learned variance per column).
        n_components: The number of components M of `vamp` and `bype`; by default min(500, N // 2), and min(240, N // 2)
            with `celeba`.
        latent_dim: The dimension D of z; with two levels, of each of them.
        hidden_dim: The width of the hidden dense layers; `celeba` has none.
        exemplars: The number of exemplars sampled per step; by default min(500, N - 1).
        retrieve: Encode only the K of them most probable for each example; by default all.
        coreset: The default strategy of a trainer for a pseudocoreset: `paper`, `none`, `published` or `elbo`. With
            `elbo` points and weights are parameters.
        init: The initialisation of dense weights, `he` or `glorot`.
        reencode: The fraction of a prior's points that a training step encodes (see `VAE`); by default all.
        seed: The seed.

    Raises:
        InputError: If a name is unknown, a size does not fit the data, or the likelihood needs other pixel levels.
    """
    data = as_dataset(data)
    latent_dim, hidden_dim = whole("latent_dim", latent_dim, 1), whole("hidden_dim", hidden_dim, 1)
    seed = whole("seed", seed)
    n_components, exemplars, retrieve = (
        None if value is None else whole(name, value, 1)
        for name, value in (("components", n_components), ("exemplars", exemplars), ("retrieve", retrieve))
    )
    if init not in INITS:
        raise InputError(f"init: expected one of {', '.join(INITS)}, got {init!r}")
    if reencode is not None and not 0 < real("reencode", reencode) <= 1:
        raise InputError(f"reencode: expected above 0 and at most 1, got {reencode}")
    fraction = 1.0 if reencode is None else reencode
    if data.table is not None:
        _check_for_table(data.table, arch, likelihood)
    build_networks, build_likelihood = ARCHS[arch], LIKELIHOODS[likelihood]
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed every GPU as well
        networks: Networks
        if data.table is not None:
            networks = tables.build(data.table, hidden_dim, latent_dim)
        else:
            networks = build_networks(data.shape, build_likelihood(data.shape), hidden_dim, latent_dim)
        encoder, decoder, lower_encoder, lower_prior, components = networks
        parts = [encoder, decoder, *(part for part in (lower_encoder, lower_prior) if part is not None)]
        for part in parts:
            init_dense(part, init)
        p = build_prior(
            prior,
            data,
            latent_dim=latent_dim,
            n_components=min(components, len(data.train) // 2) if n_components is None else n_components,
            exemplars=exemplars,
            retrieve=retrieve,
            coreset=coreset,
        )
    if lower_encoder is not None and lower_prior is not None:
        model: VAE = TwoLevelVAE(encoder, decoder, p, lower_encoder, lower_prior, reencode=fraction)
    else:
        model = VAE(encoder, decoder, p, reencode=fraction)
    model.levels = data.levels
    options: Options = {
        "arch": arch, "prior": prior, "likelihood": likelihood, "n_components": n_components, "latent_dim": latent_dim,
        "hidden_dim": hidden_dim, "exemplars": exemplars, "retrieve": retrieve, "coreset": coreset,
        "reencode": reencode,
    }  # fmt: skip
    model.description = {
        "options": used_options(options), "shape": list(data.shape), "levels": data.levels, "n_train": len(data.train),
    }  # fmt: skip
    if data.table is not None:
        model.description["table"] = data.table.to_json()
    model.to(data.train.pixels.device).checked_data(data)
    return model


def _check_for_table(table: TableSpec, arch: str, likelihood: str) -> None:
    """Raises an InputError unless the networks and the likelihood can be used with a table."""
    if arch != "vae":
        raise InputError(f"arch {arch}: expected vae for a table")
    if likelihood not in ("gaussian", "mixed"):
        raise InputError(f"likelihood {likelihood}: expected mixed or gaussian for a table; use --likelihood mixed")
    others = [c for c in table.columns if c.kind not in ("normal", "constant")]
    if likelihood == "gaussian" and others:
        raise InputError(
            f"likelihood gaussian: expected real columns, got {others[0].kind} ones such as {others[0].name}; use "
            "--likelihood mixed"
        )


def build_described(description: Description, data: Dataset) -> VAE:
    """Builds the model that a description describes, with initial weights; its tensors are loaded afterwards.

    Args:
        description: The description.
        data: The training set, for priors whose p(z) depends on it (`Prior.needs_items`); for any other prior, a
            stand-in is enough (`bype.models.description.stand_in`).

    Raises:
        InputError: If a name is unknown or a size does not fit.
    """
    return build_model(data, **description["options"])


def model_from(config: Config, data: Dataset) -> VAE:
    """Builds the model described by a config, with its initial weights."""
    return build_model(data, **config.group("model"), seed=config.seed)


def build_prior(name: str, data: Dataset, **options: Any) -> Prior:
    """Builds a prior by name, for any encoder; its points come from torch's global random state, on the CPU.

    Args:
        name: `standard`, `vamp`, `exemplar`, `bype`, or a registered name.
        data: The data set.
        options: The fields of `PriorOptions`: `latent_dim`, `n_components`, `exemplars`, `retrieve`, `coreset`.

    Raises:
        InputError: If a name is unknown or a size does not fit the data.
    """
    prior_options = PriorOptions(**options)
    if prior_options.coreset not in STRATEGIES:
        raise InputError(f"coreset: expected one of {', '.join(STRATEGIES)}, got {prior_options.coreset!r}")
    p: Prior = PRIORS[name](data, prior_options)
    return p
