"""The state of a training run at an epoch boundary, as saved in a checkpoint."""

import logging
from typing import NamedTuple, NotRequired, TypedDict

import torch
from torch import Tensor

from bype.core.seeds import Stream
from bype.models.vae import VAE
from bype.pseudocoreset.strategy import Strategy
from bype.training.optim import NormalizedAdam

log = logging.getLogger("bype")

Tensors = dict[str, Tensor]


class Counters(TypedDict):
    """The counters of a checkpoint."""

    epoch: int
    best_epoch: int
    best_val_loss: float
    skipped_in_a_row: NotRequired[int]  # checkpoints of the first versions lack it
    compiled: NotRequired[bool | None]  # whether the step is compiled, of runs with `compile`; None if undecided


class Snapshot(NamedTuple):
    """The state at an epoch boundary, copied to the CPU, so that further training does not change it."""

    tensors: Tensors
    counters: Counters
    finished: bool
    best: Tensors | None  # the model's state if this epoch is the best one so far


def collect(model: VAE, optimizer: NormalizedAdam, strategy: Strategy, generator: torch.Generator) -> Tensors:
    """Returns all tensors that the next epoch depends on, by name."""
    tensors = {f"model.{k}": v for k, v in model.state_dict().items()}
    for name, p in model.named_parameters():
        for key, value in optimizer.state.get(p, {}).items():
            tensors[f"optimizer.{key}.{name}"] = value
    tensors |= {f"strategy.{k}": v for k, v in strategy.state().items()}
    tensors["random.generator"] = generator.get_state()
    return tensors


def restore(
    tensors: Tensors,
    model: VAE,
    optimizer: NormalizedAdam,
    strategy: Strategy,
    generator: torch.Generator,
    other_device_seed: int,
) -> None:
    """Restores what `collect` returned.

    Args:
        tensors: The tensors that `collect` returned.
        model: The model.
        optimizer: Its optimiser.
        strategy: The strategy of step (ii).
        generator: The random generator of training.
        other_device_seed: If the checkpoint comes from another device type, its random state cannot be restored; the
            generator is then seeded with `other_device_seed + Stream.OTHER_DEVICE`.
    """

    def part(name: str) -> Tensors:
        return {k.removeprefix(f"{name}."): v for k, v in tensors.items() if k.startswith(f"{name}.")}

    model.load_state_dict(part("model"))
    strategy.load_state(part("strategy"))
    for name, p in model.named_parameters():
        keys = {key: f"optimizer.{key}.{name}" for key in ("step", "exp_avg", "exp_avg_sq")}
        optimizer.state[p] = {key: tensors[full].to(generator.device, copy=True) for key, full in keys.items()}
    state = tensors["random.generator"].cpu()
    if len(state) == len(generator.get_state()):
        generator.set_state(state)
    else:
        log.warning("the checkpoint comes from another device type; the random state is re-seeded")
        generator.manual_seed(other_device_seed + Stream.OTHER_DEVICE)


def on_cpu(tensors: Tensors) -> Tensors:
    """Copies of tensors on the CPU."""
    return {k: v.detach().to("cpu", copy=True) for k, v in tensors.items()}
