"""Step (i): the network step."""

from typing import NamedTuple

from torch import Tensor


class StepInfo(NamedTuple):
    """Sums over a batch, on the device."""

    log_likelihood: Tensor
    kl: Tensor
    kl_z1: Tensor  # 0 with one level
