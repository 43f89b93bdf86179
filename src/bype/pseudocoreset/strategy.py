"""The interface of a strategy of step (ii), and what strategies share."""

from abc import ABC, abstractmethod
from typing import Self

import torch
from torch import Tensor

from bype.core.config import Config
from bype.core.errors import InputError
from bype.core.names import STRATEGIES
from bype.data.images import Images
from bype.models.vae import VAE
from bype.priors.base import Prior, WeightedPoints


class Strategy(ABC):
    """How a pseudocoreset learns. `update` is called every k epochs, with the networks fixed."""

    #: Whether U and w are parameters that every network step moves.
    learned = False
    #: Whether it changes U or w at all.
    moves_points = True
    #: What to try where U or w become non-finite.
    remedy = ""
    #: Whether its inner step may be recorded as a CUDA graph; a trainer sets it.
    graph = True
    #: Whether the last update tried to record a graph and failed, which invalidates other graphs of its generator.
    invalidated_graphs = False

    @classmethod
    def from_options(cls, options: Config) -> Self:
        """The strategy with the settings of a run's options; by default without settings."""
        return cls()

    @abstractmethod
    def update(self, model: VAE, data: Images, generator: torch.Generator) -> dict[str, float]:
        """Moves U and w in place.

        Args:
            model: A model whose prior has a pseudocoreset.
            data: The training set.
            generator: The source of random choices.

        Returns:
            Its own metrics, by name.
        """

    def state(self) -> dict[str, Tensor]:
        """What the next update depends on besides U and w."""
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:  # noqa: B027 (most strategies keep nothing)
        """The inverse of `state`."""


def resolve_strategy(prior: Prior, given: Strategy | str | None) -> Strategy:
    """The strategy that was asked for, checked to fit the prior; by default the prior's own.

    Args:
        prior: The prior; one without a pseudocoreset gets the strategy `none`.
        given: A strategy, its name, or None.

    Raises:
        InputError: If the name is unknown, or the strategy does not fit the prior.
    """
    points = prior.pseudocoreset
    if points is None:
        none: Strategy = STRATEGIES["none"]()
        return none
    name = points.coreset if given is None else given
    if isinstance(name, str):
        if name not in STRATEGIES:
            raise InputError(f"strategy: expected one of {', '.join(STRATEGIES)}, got {name!r}")
        given = STRATEGIES[name]()
    if not isinstance(given, Strategy):
        raise InputError(f"strategy: expected one of {', '.join(STRATEGIES)} or a Strategy, got {given!r}")
    if given.learned != points.learned:
        fitting = [n for n in STRATEGIES if STRATEGIES[n].learned == given.learned]
        wanted = " or ".join(filter(None, [", ".join(fitting[:-1]), fitting[-1]]))
        raise InputError(
            f"strategy {type(given).__name__.lower()}: expected a pseudocoreset made for it (coreset {wanted}), "
            f"got one made for {points.coreset}"
        )
    return given


def pseudocoreset(model: VAE) -> WeightedPoints:
    """The weighted points of a model.

    Raises:
        ValueError: If its prior has none.
    """
    points = model.prior.pseudocoreset
    if points is None:
        raise ValueError(f"Expected a model with a pseudocoreset prior, but got {type(model.prior).__name__}.")
    return points


def data_batch(model: VAE, data: Images, index: Tensor, generator: torch.Generator) -> Tensor:
    """Training examples at `index` as the model takes them."""
    return model.binarise(data.scaled(index, dtype=pseudocoreset(model).pseudo_inputs.dtype), generator)


@torch.no_grad()
def coreset_metrics(points: WeightedPoints, data: Images) -> dict[str, float]:
    """||sum_m w_m u_m / N - mean x||, and the fraction of the values of U outside [0, 1].

    The first is the distance that Algorithm 2 can reduce: it matches the data's mean, no more.
    """
    total = torch.zeros(data.shape, dtype=torch.float64, device=data.pixels.device)
    for x in data.batches(5000):
        total += x.double().sum(0)
    weighted = torch.einsum("m,m...->...", points.weights.double(), points.pseudo_inputs.double()) / points.n_data
    outside = (points.pseudo_inputs < 0) | (points.pseudo_inputs > 1)
    return {
        "coreset_mean_distance": (weighted - total / len(data)).norm().item(),
        "coreset_outside": outside.double().mean().item(),
    }
