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
    before = {name: int(getattr(own, name)) for name in EXTENDABLE}
    return {name: value for name, value in before.items() if getattr(config, name) != value}


def check_extension(own: Config, config: Config, epoch: int, where: str) -> None:
    """Checks that the epochs that a run has trained are those of a run with the new options.

    Args:
        own: The run's options.
        config: The new ones.
        epoch: The last epoch that is saved, 0 without one.
        where: The run folder, for errors.

    Raises:
        InputError: If there are fewer epochs than are trained, or less patience: training might have ended earlier.
    """
    if config.epochs < epoch:
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
