"""Training: the alternation of network steps and updates of the pseudocoreset."""

from bype.training.epoch import EpochInfo
from bype.training.refitting import refit
from bype.training.state import Snapshot
from bype.training.trainer import Trainer, train
from bype.training.validation import validation_bound

__all__ = [
    "EpochInfo",
    "Snapshot",
    "Trainer",
    "refit",
    "train",
    "validation_bound",
]
