"""Every option of a run, once: the command line, run folders and experiments are all made from these fields."""

import dataclasses
import math
import re
import typing
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from bype.core.errors import InputError
from bype.core.files import expand_path
from bype.core.names import ARCHS, LIKELIHOODS, PRIORS, STRATEGIES

INITS = ("he", "glorot")
PRECISIONS = ("fp32", "tf32", "bf16")
DEVICES = ("auto", "cpu", "cuda")
#: Whole numbers go up to here. Of seeds a CPU's generator of random numbers takes 32 bits, and offsets are added.
MAX_INT = 2**31


def option(
    default: Any,
    help: str,
    *,
    group: str = "",
    flag: str | None = None,
    choices: Collection[str] = (),
    low: float | None = None,
    above: float | None = None,
) -> Any:
    """A field: its default, the sentence that `--help` prints, its group, its flag, and the values it may take."""
    rules = {"help": help, "group": group, "flag": flag, "choices": choices, "low": low, "above": above}
    return field(default=default, metadata=rules)


model, training = partial(option, group="model"), partial(option, group="training")


@dataclass(frozen=True)
class Config:
    """The options of a run: of the data, the model, the training, step (ii), and where to compute.

    None means: by the size of the data, or that the option is off.
    """

    set: str = option(dataclasses.MISSING, "A data set's name, or the path of your own.")
    resize: str | None = option(None, "Bring the images of a folder or zip to this size: pixels, or HxW.")
    arch: str = model("vae", "The networks.", choices=ARCHS)
    prior: str = model("bype", "The prior p(z).", choices=PRIORS)
    likelihood: str = model("mse", "The likelihood p(x|z).", choices=LIKELIHOODS)
    n_components: int | None = model(
        None,
        "Components M of vamp and bype [default: min(500, N/2), of arch celeba min(240, N/2)].",
        flag="components",
        low=1,
    )
    latent_dim: int = model(40, "Dimension D of z; of two levels, of each.", low=1)
    hidden_dim: int = model(300, "Width of the hidden layers.", low=1)
    init: str = model("he", "Dense weights: he is N(0, 2/fan_in).", choices=INITS)
    epochs: int = training(4000, "Epochs at most.", low=1)
    warmup: int = training(100, "Epochs over which beta rises to 1.", low=0)
    patience: int = training(
        50, "Epochs without a better validation loss, after the warm-up, before training stops.", low=1
    )
    batch_size: int = training(100, "Items per step.", low=1)
    lr: float = training(5e-4, "Learning rate of the networks.", above=0)
    coreset: str = model("paper", "How the pseudocoreset learns, step (ii).", choices=STRATEGIES)
    coreset_interval: int = training(10, "Epochs k between its updates.", low=1)
    coreset_steps: int | None = option(None, "Inner steps of an update of paper [default: 100].", low=1)
    coreset_lr: float | None = option(None, "Rate of paper on the points [default: 1e-3].", low=0.0)
    coreset_samples: int | None = option(None, "Latents S per step of paper and published [default: M].", low=2)
    coreset_z1: int | None = option(
        None, "With two levels, draws of z1 for each latent of paper and published [default: 1].", low=1
    )
    exemplars: int | None = model(None, "Exemplars drawn per step [default: min(500, N - 1)].", low=2)
    retrieve: int | None = model(None, "Of those, encode each item's K nearest only.", low=1)
    reencode: float | None = model(
        None, "Share of the points of vamp and bype encoded anew at each step, the rest cached [default: 1].", above=0
    )
    precision: str = training("fp32", "Of the networks' matrix products.", choices=PRECISIONS)
    deterministic: bool = training(False, "The same bits each time on a GPU too, where it is slower.")
    seed: int = option(0, "Seed of everything random.", low=0)
    data_dir: str | None = option(None, "Where data sets are looked for first.")
    device: str = option("auto", "Where to compute.", choices=DEVICES)

    def __post_init__(self) -> None:
        # A path or a size may come as what it is; recorded they are text.
        for name in ("set", "data_dir"):
            if isinstance(value := getattr(self, name), Path):
                object.__setattr__(self, name, str(value))
        if self.resize is not None:
            h, w = parse_size(self.resize)
            object.__setattr__(self, "resize", f"{h}" if h == w else f"{h}x{w}")
        for f in dataclasses.fields(self):
            _check(f, getattr(self, f.name))

    @property
    def name(self) -> str:
        """SET-ARCH-PRIOR[-STRATEGY]-sSEED, a path by its stem, a folder by its name."""
        parts = [dataset_stem(self.set), self.arch, self.prior, *([self.coreset] if self.prior == "bype" else [])]
        return "-".join([*parts, f"s{self.seed}"])

    def unused(self) -> list[str]:
        """The options that the chosen networks, prior and strategy do not use."""
        chosen = ((ARCHS, self.arch), (PRIORS, self.prior), (STRATEGIES, self.coreset))
        names = [f.name for f in dataclasses.fields(self)]
        return [n for n in names if not all(registry.uses(n, name) for registry, name in chosen)]

    def group(self, name: str) -> dict[str, Any]:
        """The options of one group: `model`, the keyword arguments of `bype.build_model`, or `training`, those of
        `bype.Trainer`; the seed and step (ii)'s own settings are in neither.
        """
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.metadata["group"] == name}

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON can hold them."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any], where: str) -> "Config":
        """The inverse of `to_dict`.

        Raises:
            InputError: If a key is unknown or missing, or a value has another type or is out of range.
        """
        fields = {f.name: f for f in dataclasses.fields(cls)}
        for key in values:
            if key not in fields:
                raise InputError(f"{where}: expected the options of a run, got the unknown key {key!r}")
        if "set" not in values:
            raise InputError(f"{where}: expected the key 'set', got none")
        for key, value in values.items():
            if not _has_type(value, fields[key].type):
                raise InputError(f"{where}: expected {key!r} to be {_name(fields[key].type)}, got {value!r}")
        try:
            return cls(**values)
        except InputError as e:
            raise InputError(f"{where}: {e}") from None


def dataset_stem(set_: str) -> str:
    """What a set is called in a file's name: the name itself, a file without its suffix, a folder as it is.

    >>> dataset_stem("mnist"), dataset_stem("a/faces.npz"), dataset_stem("scans.v2/")
    ('mnist', 'faces', 'scans.v2')
    """
    path = expand_path(set_)
    path = path if path.name not in ("", "..") else path.resolve()
    return path.stem if path.suffix.lower() in (".npy", ".npz", ".zip") else path.name


def parse_size(size: str | int | Sequence[int]) -> tuple[int, int]:
    """`64`, `48x64` or a pair of numbers as height and width.

    Raises:
        InputError: If it is neither, or a side is not from 1 to 4096.

    >>> parse_size("48x64")
    (48, 64)
    """
    text = "x".join(map(str, size)) if isinstance(size, list | tuple) else str(size)
    match = re.fullmatch(r"(\d{1,4})(?:x(\d{1,4}))?", text, re.ASCII)
    sides = [int(s) for s in match.groups(match[1])] if match else [0, 0]
    if not all(1 <= s <= 4096 for s in sides):
        raise InputError(f"--resize: expected pixels of a side or HxW, each from 1 to 4096, got {size!r}")
    return sides[0], sides[1]


def flag_name(f: "dataclasses.Field[Any]") -> str:
    """The option's flag on the command line; of the one argument, its name there."""
    if f.name == "set":
        return "SET"
    return "--" + (f.metadata["flag"] or f.name).replace("_", "-")


def _has_type(value: Any, expected: Any) -> bool:
    kinds = typing.get_args(expected) or (expected,)
    if isinstance(value, int) and not isinstance(value, bool) and float in kinds:
        return True
    return type(value) in kinds


def _name(expected: Any) -> str:
    return getattr(expected, "__name__", None) or str(expected)


def _check(f: "dataclasses.Field[Any]", value: Any) -> None:
    rules, flag = f.metadata, flag_name(f)
    if not _has_type(value, f.type):
        raise InputError(f"{flag}: expected {_name(f.type)}, got {value!r}")
    if value is None:
        return
    if f.name in ("set", "data_dir") and not value:
        raise InputError(f"{flag}: expected a name or a path, got an empty one")
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{flag}: expected a finite number, got {value}")
    if rules["choices"] and value not in rules["choices"]:
        raise InputError(f"{flag}: expected one of {', '.join(rules['choices'])}, got {value!r}")
    if rules["low"] is not None and value < rules["low"]:
        raise InputError(f"{flag}: expected at least {rules['low']}, got {value}")
    if rules["above"] is not None and value <= rules["above"]:
        raise InputError(f"{flag}: expected above {rules['above']}, got {value}")
    if isinstance(value, int) and value > MAX_INT:
        raise InputError(f"{flag}: expected at most 2^31, got {value}")
