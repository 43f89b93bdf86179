"""Detection of diverged training: errors and warnings that name the epoch, the tensor and a remedy."""

import torch

from bype.core.errors import TrainingError
from bype.data.images import Dataset
from bype.models.vae import VAE
from bype.priors.base import WeightedPoints
from bype.training.step import EpochSums

FEW_EXAMPLES = 500  # a data set below this size is small
PARAMETERS_PER_EXAMPLE = 100  # of a network that is large for a small data set
LEAST_KL = 1.0  # nats; below this, z says next to nothing of an image
GIVE_UP_AFTER = 10  # consecutive steps with a non-finite loss or gradient


def count_skipped(skipped: list[bool], before: int) -> tuple[int, int, int]:
    """Counts runs of consecutive skipped steps in an epoch.

    Args:
        skipped: For each step of the epoch, whether it was skipped.
        before: Number of consecutive skipped steps at the end of the previous epoch.

    Returns:
        The length of the longest run, the number (from 1) of its last step in this epoch, and the length of the run at
        the end of the epoch.
    """
    in_a_row, longest, last = before, 0, 0
    for step, skip in enumerate(skipped, 1):
        in_a_row = in_a_row + 1 if skip else 0
        if in_a_row > longest:
            longest, last = in_a_row, step
    return longest, last, in_a_row


def check_steps(model: VAE, sums: EpochSums, epoch: int, before: int, *, bf16: bool) -> int:
    """Checks that training has not diverged; returns the number of consecutive skipped steps at the end of the epoch.

    Args:
        model: The model after the steps.
        sums: The sums over the steps of the epoch.
        epoch: The epoch.
        before: Number of consecutive skipped steps at the end of the previous epoch.
        bf16: Whether the networks' matrix products are in bfloat16.

    Raises:
        TrainingError: If 10 consecutive steps, or all steps of the epoch, were skipped.
    """
    longest, last, in_a_row = count_skipped(sums.skipped, before)
    if longest >= GIVE_UP_AFTER or sums.n_examples == 0:
        first = (epoch - 1) * len(sums.skipped) + last - longest + 1
        steps = "step" if longest == 1 else "steps"
        raise TrainingError(
            f"epoch {epoch}, step {first}: expected a finite loss and finite gradients, got {longest} consecutive "
            f"non-finite {steps}: {first_not_finite(model, bf16=bf16)}"
        )
    return in_a_row


def first_not_finite(model: VAE, *, bf16: bool) -> str:
    """Describes the first non-finite tensor after a skipped step, and the probable cause."""
    named = list(model.named_parameters())
    for name, p in named:
        if not p.isfinite().all():
            return f"parameter {name}; already non-finite before this step (corrupt checkpoint or initial weights?)"
    grads = [name for name, p in named if p.grad is not None and not p.grad.isfinite().all()]
    tensor = f"gradient of {grads[0]}" if grads else "the loss"
    if bf16:
        return f"{tensor}; bfloat16 may have overflowed: try --precision fp32, or a lower --lr"
    return f"{tensor}; the learning rate may be too high: try a lower --lr"


def decoder_is_dead(model: VAE) -> bool:
    """Whether all gradients of the decoder are zero. Under `mse`, a pixel outside the clamp has no gradient."""
    grads = [p.grad for p in model.decoder.parameters() if p.grad is not None]
    return bool(grads) and not torch.stack(torch._foreach_norm(grads)).any()


def check_coreset(points: WeightedPoints, epoch: int, remedy: str) -> None:
    """Checks that U and w are finite after step (ii).

    Raises:
        TrainingError: If a value is not finite.
    """
    for name in ("pseudo_inputs", "weights"):
        finite = getattr(points, name).isfinite()
        if not finite.all():
            raise TrainingError(
                f"epoch {epoch}, step (ii): expected finite values in prior.{name}, got "
                f"{int((~finite).sum())} of {finite.numel()} non-finite" + (f"; {remedy}" if remedy else "")
            )


def no_validation(epoch: int, value: float, when: str) -> TrainingError:
    """The error to raise if the validation loss is not finite; `when` says at which point of the epoch."""
    return TrainingError(
        f"epoch {epoch}, {when}: expected a finite validation loss, got {value}; the learning rate may be too high: "
        "try a lower --lr"
    )


def small_data(model: VAE, data: Dataset) -> str | None:
    """A warning if the network is large for a small data set; None otherwise."""
    examples, train = sum(map(len, data.splits.values())), len(data.train)
    networks = [p.numel() for name, p in model.named_parameters() if not name.startswith("prior.")]
    if examples >= FEW_EXAMPLES or sum(networks) < PARAMETERS_PER_EXAMPLE * train:
        return None
    return (
        f"{data.name}: {train} training examples for networks of {sum(networks):,} parameters, which will overfit; use "
        "more data, or choose a lower --hidden-dim and --latent-dim"
    )


def nothing_encoded(model: VAE, kl: float) -> str | None:
    """A warning if `mse` leaves the KL term of the last epoch below 1 nat; None otherwise.

    `mse` is a Gaussian of variance 1/2 in every pixel: on small or dark images, encoding is not worth its KL cost.
    """
    if model.decoder.likelihood.normalised or kl >= LEAST_KL:
        return None
    return (
        f"likelihood mse: the latents encode almost nothing of these images, KL {kl:.2g} nats at the end; choose "
        "--likelihood gaussian"
    )
