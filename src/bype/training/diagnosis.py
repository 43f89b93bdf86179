"""What went wrong in training: errors and warnings that name the tensor, the epoch and a remedy."""

import torch

from bype.core.errors import TrainingError
from bype.models.vae import VAE
from bype.priors.base import WeightedPoints
from bype.training.step import EpochSums

GIVE_UP_AFTER = 10  # steps in a row with a non-finite loss or gradient


def count_skipped(skipped: list[bool], before: int) -> tuple[int, int, int]:
    """The longest run of skipped steps, its last step in this epoch, and the run that is open at the epoch's end.

    Args:
        skipped: Whether each step of the epoch was skipped.
        before: Skipped steps in a row at the end of the last epoch.
    """
    in_a_row, longest, last = before, 0, 0
    for step, skip in enumerate(skipped, 1):
        in_a_row = in_a_row + 1 if skip else 0
        if in_a_row > longest:
            longest, last = in_a_row, step
    return longest, last, in_a_row


def check_steps(model: VAE, sums: EpochSums, epoch: int, before: int, *, bf16: bool) -> int:
    """Checks that the steps of an epoch were finite, but for a few; returns how many were skipped last in a row.

    Args:
        model: The model after the steps.
        sums: The steps.
        epoch: The epoch.
        before: Skipped steps in a row at the end of the last epoch.
        bf16: Whether products are in bfloat16.

    Raises:
        TrainingError: If 10 steps in a row, or all of the epoch, were skipped.
    """
    longest, last, in_a_row = count_skipped(sums.skipped, before)
    if longest >= GIVE_UP_AFTER or sums.n_examples == 0:
        first = (epoch - 1) * len(sums.skipped) + last - longest + 1
        raise TrainingError(
            f"epoch {epoch}, step {first}: expected a finite loss and gradients, got {longest} steps in a row "
            f"without, {first_not_finite(model, bf16=bf16)}"
        )
    return in_a_row


def first_not_finite(model: VAE, *, bf16: bool) -> str:
    """The first tensor that is not finite after a skipped step, and the likely cause."""
    named = list(model.named_parameters())
    for name, p in named:
        if not p.isfinite().all():
            return f"parameter {name}; already non-finite before this step (corrupt checkpoint or initial weights?)"
    grads = [name for name, p in named if p.grad is not None and not p.grad.isfinite().all()]
    tensor = f"gradient of {grads[0]}" if grads else "the loss"
    if bf16:
        return f"{tensor}; products in bfloat16 may have overflowed: try --precision fp32, or a lower --lr"
    return f"{tensor}; the learning rate may be too high: try a lower --lr"


def decoder_is_dead(model: VAE) -> bool:
    """Whether the decoder's gradients are all zero: under `mse` a pixel beyond the clamp has no gradient."""
    grads = [p.grad for p in model.decoder.parameters() if p.grad is not None]
    return not torch.stack(torch._foreach_norm(grads)).any()


def check_coreset(points: WeightedPoints, epoch: int, remedy: str) -> None:
    """Checks U and w after step (ii).

    Raises:
        TrainingError: If a value is not finite.
    """
    for name in ("pseudo_inputs", "weights"):
        if not getattr(points, name).isfinite().all():
            raise TrainingError(
                f"epoch {epoch}, step (ii): expected finite numbers, got others in prior.{name}"
                + (f": {remedy}" if remedy else "")
            )


def no_validation(epoch: int, value: float, when: str) -> TrainingError:
    """The error where the validation loss is not finite."""
    return TrainingError(
        f"epoch {epoch}: expected a finite validation loss, got {value}, {when}; the learning rate may be too "
        "high: try a lower --lr"
    )
