"""The measurements of one epoch."""

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class EpochInfo:
    """What one epoch measured. Losses are means per item, in the unit of the likelihood (nats, or the paper's)."""

    epoch: int
    beta: float
    loss: float  # reconstruction + beta * kl, over the training items as they were seen
    reconstruction: float  # -log p(x|z)
    kl: float  # log q(z|x) - log p(z)
    val_loss: float  # -elbo at beta = 1, the same noise at every epoch
    best: bool
    seconds: float  # training alone
    seconds_validation: float
    skipped_steps: int
    coreset: dict[str, float] = field(default_factory=dict)  # what an update of the pseudocoreset measured
    levels: dict[str, float] = field(default_factory=dict)  # with two levels, `kl_z1` and `kl_z2`, the parts of `kl`

    def to_dict(self) -> dict[str, Any]:
        """One flat line of `metrics.jsonl`."""
        values = asdict(self)
        parts = values.pop("coreset"), values.pop("levels")
        return values | parts[0] | parts[1]
