"""The state of a training run at an epoch boundary."""

from typing import Any, NamedTuple

from torch import Tensor


class Snapshot(NamedTuple):
    """An epoch boundary, copied to the CPU: what a checkpoint holds, whatever the trainer does next."""

    tensors: dict[str, Tensor]
    counters: dict[str, Any]
    finished: bool
    best: dict[str, Tensor] | None  # the model's state where this epoch is the best one so far
