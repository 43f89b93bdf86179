"""Extending a run: more epochs, or more patience, than it was started with."""

from typing import TypedDict

from bype.core.config import Config
from bype.core.errors import InputError

#: The options that `--resume` may change.
EXTENDABLE = ("epochs", "patience")


class Extension(TypedDict):
    """An entry of `history` in config.json: the values that were in use up to an epoch, where they were changed."""

    after_epoch: int
    options: dict[str, int]


def changed(own: Config, config: Config) -> dict[str, int]:
    """Those of a run's `epochs` and `patience` that `config` changes, with the run's own values."""
    before = {name: int(getattr(own, name)) for name in EXTENDABLE if name not in own.unused()}
    return {name: value for name, value in before.items() if getattr(config, name) != value}


def check_extension(own: Config, config: Config, epoch: int, where: str) -> None:
    """Checks that the epochs that a run has trained are those of a run with the new options.

    Args:
        own: The run's options.
        config: The new ones.
        epoch: The last epoch that is saved, 0 without one.
        where: The run folder, for errors.

    Raises:
        InputError: If there are fewer epochs than are trained, or less patience: training might have ended earlier; or
            if the learning rate decays: its rates depend on the number of epochs.
    """
    if config.schedule != "constant" and config.epochs != own.epochs:
        raise InputError(
            f"--resume {where}: expected --epochs {own.epochs}, the run's own, since the rates of --schedule "
            f"{config.schedule} depend on it, got {config.epochs}; train a new run"
        )
    if config.epochs is not None and config.epochs < epoch:
        raise InputError(
            f"--resume {where}: expected --epochs of at least {epoch}, the epochs already trained, got {config.epochs}"
        )
    if config.patience < own.patience:
        raise InputError(
            f"--resume {where}: expected --patience of at least {own.patience}, the run's own, got {config.patience}"
        )


def extended(own: Config, config: Config) -> str:
    """One line on what is changed, such as `epochs 5 -> 8`."""
    return ", ".join(f"{name} {value} -> {getattr(config, name)}" for name, value in changed(own, config).items())
