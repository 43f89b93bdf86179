"""The last epochs of a run, on the importance-weighted bound."""

from dataclasses import dataclass

from bype.core.errors import InputError
from bype.training.schedule import Schedule

#: The share of a run's epochs.
SHARE = 0.1


@dataclass(frozen=True)
class Tail:
    r"""Which epochs maximise the importance-weighted bound with S samples instead of the evidence lower bound.

    With S > 1 these are the last tenth of the epochs, without those of the warm-up of beta. The bound with S samples is
    closer to log p(x), and leaves the decoder less bound to what q(z|x) can express; its step takes longer, for S
    samples are decoded.

    Source: Importance weighted autoencoders (Burda et al., 2016), https://arxiv.org/abs/1509.00519

    Args:
        samples: The number S of samples.
        epochs: The epochs of the run.
        warmup: The epochs of the warm-up.

    >>> Tail(5, 100, 20).samples_in(90), Tail(5, 100, 20).samples_in(91)
    (1, 5)
    """

    samples: int
    epochs: int
    warmup: int

    @classmethod
    def of(cls, samples: int, epochs: int, warmup: int, schedule: Schedule) -> "Tail":
        """The tail of a run.

        Raises:
            InputError: If the run has no known end.
        """
        if samples > 1 and not schedule.decays:
            raise InputError(
                f"importance: expected 1 with a constant learning rate, whose run has no known end, got {samples}; "
                "choose the schedule linear or cosine, or importance 1"
            )
        return cls(samples, epochs, warmup)

    def samples_in(self, epoch: int) -> int:
        """The number of samples in an epoch, from 1: S in the tail, 1 before it."""
        return self.samples if epoch > max(self.warmup, self.epochs - round(SHARE * self.epochs)) else 1
