"""Random streams: the offset from the seed for each kind of noise."""

from enum import IntEnum


class Stream(IntEnum):
    """Offsets added to a seed, so that no two kinds of noise use the same random numbers."""

    TRAINING = 0  # initial weights, order of the data, noise in training
    VALIDATION = 1_000_003
    EVALUATION = 2_000_003
    BINARISATION = 3_000_017  # of the data of a refit
    OTHER_DEVICE = 4_000_037  # training resumed on another type of device
    EM = 5_000_011  # the posterior samples that EM is fitted to; sigma is chosen with other noise
    AUGMENTATION = 6_000_059  # classifiers and the synthetic examples they are trained with
    NETWORKS = 7_000_003  # what the networks themselves draw in training, such as dropout of the user's own
    TRACKING = 8_000_009  # samples shown while a run is trained
    QUALITY = 9_000_011  # samples and real items whose features are compared
    ITEMS = 10_000_019  # of items that are scored by themselves
