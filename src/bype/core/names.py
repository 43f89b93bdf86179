"""The names of networks, priors, likelihoods and strategies: one line each, and the options that only some of them use.

Another one is one file and one line here, or, outside the package, one call of `register_prior` or its like.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from bype.core.registry import Entry, Registry

if TYPE_CHECKING:  # the rooms above are named here, never imported
    T = TypeVar("T", bound=Callable[..., Any])
else:
    T = TypeVar("T")

_STEP_TWO = ("coreset_interval", "coreset_steps", "coreset_lr", "coreset_samples", "coreset_z1")

#: `build(shape, likelihood, hidden_dim, latent_dim)` returns `bype.networks.Networks`.
ARCHS: Registry[Any] = Registry(
    "arch",
    {
        "vae": Entry("bype.networks.mlp:build", ("hidden_dim",)),
        "hvae": Entry("bype.networks.two_level:build", ("hidden_dim", "coreset_z1")),
        "convhvae": Entry("bype.networks.conv:build", ("hidden_dim", "coreset_z1")),
        "celeba": Entry("bype.networks.residual:build"),
    },
)

#: `build(data, options)` returns a `bype.Prior`; `options` are `bype.priors.PriorOptions`.
PRIORS: Registry[Any] = Registry(
    "prior",
    {
        "standard": Entry("bype.priors.standard:build"),
        "vamp": Entry("bype.priors.vamp:build", ("n_components", "reencode")),
        "exemplar": Entry("bype.priors.exemplar:build", ("exemplars", "retrieve")),
        "bype": Entry("bype.priors.pseudocoreset:build", ("n_components", "reencode", "coreset", *_STEP_TWO)),
    },
)

#: `build(shape)` returns a `bype.networks.Likelihood`.
LIKELIHOODS: Registry[Any] = Registry(
    "likelihood",
    {
        "mse": "bype.networks.likelihoods:MeanSquaredError.build",
        "gaussian": "bype.networks.likelihoods:Gaussian.build",
        "bernoulli": "bype.networks.likelihoods:Bernoulli.build",
        "logistic": "bype.networks.likelihoods:Logistic.build",
    },
)

#: Classes of strategies of step (ii); `from_options` makes one from the options of a run.
STRATEGIES: Registry[Any] = Registry(
    "coreset",
    {
        "paper": Entry("bype.pseudocoreset.paper:Algorithm2", _STEP_TWO),
        "none": Entry("bype.pseudocoreset.fixed:Fixed"),
        "published": Entry(
            "bype.pseudocoreset.published:ReferenceCode", ("coreset_interval", "coreset_samples", "coreset_z1")
        ),
        "elbo": Entry("bype.pseudocoreset.elbo:Elbo"),
    },
)


def register_arch(name: str, *, uses: tuple[str, ...] = ("hidden_dim",)) -> Callable[[T], T]:
    """Gives a name to networks: decorates `build(shape, likelihood, hidden_dim, latent_dim) -> Networks`."""
    return ARCHS.decorator(name, uses)


def register_prior(name: str, *, uses: tuple[str, ...] = ()) -> Callable[[T], T]:
    """Gives a name to a prior: decorates `build(data, options) -> Prior`.

    The name then serves in `build_model`, `Config` and, from a plugin, on the command line.

    Args:
        name: The name.
        uses: Which of the options `n_components`, `exemplars`, `retrieve`, `reencode` it uses.
    """
    return PRIORS.decorator(name, uses)


def register_likelihood(name: str) -> Callable[[T], T]:
    """Gives a name to a likelihood: decorates `build(shape) -> Likelihood`."""
    return LIKELIHOODS.decorator(name, ())


def register_strategy(name: str, *, uses: tuple[str, ...] = ("coreset_interval",)) -> Callable[[T], T]:
    """Gives a name to a strategy of step (ii): decorates a subclass of `bype.pseudocoreset.Strategy`.

    Args:
        name: The name, a value of `coreset`.
        uses: Which of the options `coreset_interval`, `coreset_steps`, `coreset_lr`, `coreset_samples`, `coreset_z1`
            it uses.
    """
    return STRATEGIES.decorator(name, uses)
