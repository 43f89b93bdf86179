"""The registries of networks, priors, likelihoods and strategies, and the options that only some of them use.

A new one needs one file and one line here; outside the package, a call of `register_prior` or a similar function.
"""

from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from bype.core.errors import InputError
from bype.core.registry import Entry, Registry

# Makes an object of a class that `core` cannot import.
Builder = Callable[..., Any]

T = TypeVar("T", bound=Builder)

_STEP_TWO = ("coreset_interval", "coreset_steps", "coreset_lr", "coreset_samples", "coreset_z1")

#: The name of networks, priors and likelihoods that a model was put together from in Python (`bype.wrap`).
CUSTOM = "custom"


def _refuse(*args: object) -> NoReturn:
    raise InputError(f"{CUSTOM}: the model was made in Python; it cannot be built from its name")


#: `build(shape, likelihood, hidden_dim, latent_dim)` returns `bype.networks.Networks`.
ARCHS: Registry[Builder] = Registry(
    "arch",
    {
        "vae": Entry("bype.networks.mlp:build", ("hidden_dim",)),
        "hvae": Entry("bype.networks.two_level:build", ("hidden_dim", "coreset_z1")),
        "convhvae": Entry("bype.networks.conv:build", ("hidden_dim", "coreset_z1")),
        "celeba": Entry("bype.networks.residual:build"),
    },
    {CUSTOM: Entry(_refuse)},
)

#: `build(data, options)` returns a `bype.Prior`; `options` are `bype.priors.PriorOptions`.
PRIORS: Registry[Builder] = Registry(
    "prior",
    {
        "standard": Entry("bype.priors.standard:build"),
        "vamp": Entry("bype.priors.vamp:build", ("n_components", "reencode")),
        "exemplar": Entry("bype.priors.exemplar:build", ("exemplars", "retrieve")),
        "bype": Entry("bype.priors.pseudocoreset:build", ("n_components", "reencode", "coreset", *_STEP_TWO)),
    },
    {CUSTOM: Entry(_refuse, ("coreset", *_STEP_TWO))},
)

#: `build(shape)` returns a `bype.networks.Likelihood`.
LIKELIHOODS: Registry[Builder] = Registry(
    "likelihood",
    {
        "mse": "bype.networks.likelihoods:MeanSquaredError.build",
        "gaussian": "bype.networks.likelihoods:Gaussian.build",
        "bernoulli": "bype.networks.likelihoods:Bernoulli.build",
        "logistic": "bype.networks.likelihoods:Logistic.build",
        "mixed": "bype.networks.tables:refuse_images",
    },
    {CUSTOM: Entry(_refuse)},
)

#: Subclasses of `bype.pseudocoreset.Strategy`; `from_options` makes one from the options of a run.
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


#: Classes with the methods of `bype.training.trackers.tracking.Tracker`.
TRACKERS: Registry[Builder] = Registry(
    "tracker",
    {
        "tensorboard": "bype.training.trackers.tensorboard:TensorBoard",
        "mlflow": "bype.training.trackers.mlflow:MLflow",
        "trackio": "bype.training.trackers.trackio:Trackio",
    },
)

#: `build(data)` returns a `bype.VAE` with networks of the user's own; the names are those of the encoders' classes.
MODELS: Registry[Builder] = Registry("model", {})


def class_name(kind: type) -> str:
    """The name of a class as files have it, `module:Class`."""
    return f"{kind.__module__}:{kind.__qualname__}"


def register_model(encoder: type) -> Callable[[T], T]:
    """Registers how a model with networks of the user's own is built: decorates `build(data) -> VAE`.

    Runs and files whose encoder is of this class are then loaded without further ado, and if a plugin registers it, on
    the command line too.

    Args:
        encoder: The class of the encoder, or of the plain module that `bype.wrap` was given as encoder.
    """
    return MODELS.decorator(class_name(encoder).replace(":", "."), ())


def register_arch(name: str, *, uses: tuple[str, ...] = ("hidden_dim",)) -> Callable[[T], T]:
    """Registers networks under a name: decorates `build(shape, likelihood, hidden_dim, latent_dim) -> Networks`.

    Args:
        name: The name, a value of `arch`.
        uses: The options that it uses, of `hidden_dim` and `coreset_z1`.
    """
    return ARCHS.decorator(name, uses)


def register_prior(name: str, *, uses: tuple[str, ...] = ()) -> Callable[[T], T]:
    """Registers a prior under a name: decorates `build(data, options) -> Prior`.

    The name can then be used in `build_model`, in `Config` and, if a plugin registers it, on the command line.

    Args:
        name: The name, a value of `prior`.
        uses: The options that it uses, of `n_components`, `exemplars`, `retrieve` and `reencode`.
    """
    return PRIORS.decorator(name, uses)


def register_likelihood(name: str) -> Callable[[T], T]:
    """Registers a likelihood under a name: decorates `build(shape) -> Likelihood`."""
    return LIKELIHOODS.decorator(name, ())


def register_strategy(name: str, *, uses: tuple[str, ...] = ("coreset_interval",)) -> Callable[[T], T]:
    """Registers a strategy for step (ii) under a name: decorates a subclass of `bype.pseudocoreset.Strategy`.

    Args:
        name: The name, a value of `coreset`.
        uses: The options that it uses, of `coreset_interval`, `coreset_steps`, `coreset_lr`, `coreset_samples` and
            `coreset_z1`.
    """
    return STRATEGIES.decorator(name, uses)
