"""The base class of all distributions in this package."""

import math

import torch
from torch.distributions import Distribution
from torch.distributions.constraints import Constraint

LOG_2PI = math.log(2 * math.pi)


class Event(Distribution):
    """Base of all distributions here: arguments are not validated, and every sampling method takes a generator."""

    arg_constraints: dict[str, Constraint] = {}  # noqa: RUF012 (the interface of torch.distributions)

    def __init__(self, batch_shape: torch.Size, event_shape: torch.Size) -> None:
        super().__init__(batch_shape, event_shape, validate_args=False)
