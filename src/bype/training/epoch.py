"""The measurements of one epoch."""

from dataclasses import asdict, dataclass, field


@dataclass
class EpochInfo:
    """The measurements of one epoch. Losses are means per example, in the unit of the likelihood (nats, or the
    paper's).
    """

    epoch: int
    beta: float
    loss: float  # reconstruction + beta * kl, mean over the training steps, while the weights change
    reconstruction: float  # -log p(x|z)
    kl: float  # log q(z|x) - log p(z)
    val_loss: float  # -elbo at beta = 1, with the same noise in every epoch
    best: bool
    seconds: float  # the network steps only
    seconds_validation: float
    skipped_steps: int
    coreset: dict[str, float] = field(default_factory=dict)  # the metrics of an update of the pseudocoreset
    tail: dict[str, float] = field(default_factory=dict)  # in the tail `val_loss_importance`, which chooses the best
    levels: dict[str, float] = field(default_factory=dict)  # with two levels, `kl_z1` and `kl_z2`, the parts of `kl`

    def to_dict(self) -> dict[str, object]:
        """The measurements as one flat line of `metrics.jsonl`."""
        values = asdict(self)
        parts = [values.pop(name) for name in ("coreset", "tail", "levels")]
        return values | parts[0] | parts[1] | parts[2]
