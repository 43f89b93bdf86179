"""Random streams: the offset from a run's seed at which each kind of noise begins."""

from enum import IntEnum


class Stream(IntEnum):
    """Offsets that are added to a seed, so that no two kinds of noise share their random numbers."""

    TRAINING = 0  # the model's initial weights, the order of the data and the noise of training
    VALIDATION = 1_000_003
    EVALUATION = 2_000_003
    BINARISATION = 3_000_017  # of the examples that sigma is chosen on
    OTHER_DEVICE = 4_000_037  # training resumed on another type of device
    EM = 5_000_011  # the posterior samples that EM is fitted to; sigma is chosen on other noise
