"""What all distributions here are."""

import math
from typing import Any

import torch
from torch.distributions import Distribution

LOG_2PI = math.log(2 * math.pi)


class Event(Distribution):
    """What the distributions here share: no argument checks at run time, and a generator for every draw."""

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012 (torch.distributions' own interface)

    def __init__(self, batch_shape: torch.Size, event_shape: torch.Size) -> None:
        super().__init__(batch_shape, event_shape, validate_args=False)
