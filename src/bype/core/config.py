"""The options of a run. The command line, run folders and experiments all use these fields."""

import dataclasses
import math
import re
import typing
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar, cast

from bype.core.errors import InputError
from bype.core.files import expand_path
from bype.core.names import ARCHS, LIKELIHOODS, PRIORS, STRATEGIES
from bype.core.numbers import MAX_INT, plain, shown
from bype.core.recipes import DEFAULT_RECIPE, RECIPES, find_recipe

INITS = ("he", "glorot")
SCHEDULES = ("constant", "linear", "cosine")
GRADIENTS = ("total", "path")
PRECISIONS = ("auto", "fp32", "tf32", "bf16")
DEVICES = ("auto", "cpu", "cuda")

# Options by name, as keyword arguments or as JSON: their types differ.
Options = dict[str, Any]

#: The suffixes of files that are tables.
TABLES = (".csv", ".parquet")
#: The options that define how a data set is read.
READING = ("resize", "skip_bad", "images_key", "labels_key", "shape")

T = TypeVar("T")


def option(
    default: T,
    help: str,
    *,
    group: str = "",
    flag: str | None = None,
    choices: Collection[str] = (),
    low: float | None = None,
    above: float | None = None,
    below: float | None = None,
) -> T:
    """Defines a field of `Config`.

    Args:
        default: The default.
        help: The sentence that `--help` prints.
        group: The group: `model`, `training` or none.
        flag: The name of the flag, if it differs from the field's.
        choices: The allowed values; empty if there is no list.
        low: The smallest allowed value.
        above: The exclusive lower bound.
        below: The exclusive upper bound.
    """
    rules = {"help": help, "group": group, "flag": flag, "choices": choices, "low": low, "above": above, "below": below}
    return field(default=default, metadata=rules)


def by_recipe(kind: type[T]) -> T:
    """The default of an option that the recipe sets: None, until the recipe's value takes its place."""
    return cast(T, None)


model, training = partial(option, group="model"), partial(option, group="training")


@dataclass(frozen=True)
class Config:
    """The options of a run: data, model, training, step (ii), device.

    None means that the default depends on the data, or that the option is off.
    """

    set: str = option(cast(str, dataclasses.MISSING), "Name of a data set, or path to your own.")  # required
    resize: str | None = option(None, "Resize the images of a folder or zip to this size: pixels, or HxW.")
    skip_bad: bool = option(False, "Leave out the bad files of a folder or zip instead of stopping.")
    images_key: str | None = option(None, "Name of the array of images in a .npz [default: found by its name].")
    labels_key: str | None = option(None, "Name of the array of labels in a .npz; '' reads no labels.")
    shape: str | None = option(None, "Size HxW of the images in the rows of an array (n, d).")
    arch: str = model("vae", "Architecture of the networks.", choices=ARCHS)
    prior: str = model("bype", "Prior p(z).", choices=PRIORS)
    likelihood: str = model(by_recipe(str), "Likelihood p(x|z).", choices=LIKELIHOODS)
    n_components: int | None = model(
        None,
        "Components M of vamp and bype [default: min(500, N/2); with arch celeba min(240, N/2)].",
        flag="components",
        low=1,
    )
    latent_dim: int = model(40, "Dimension D of z; with two levels, of each.", low=1)
    hidden_dim: int = model(300, "Width of the hidden layers.", low=1)
    init: str = model("he", "Initial weights of dense layers; he: N(0, 2/fan_in).", choices=INITS)
    recipe: str = option(
        DEFAULT_RECIPE, "Named set of options, listed by `bype recipes`; single options override it.", choices=RECIPES
    )
    epochs: int | None = training(by_recipe(int), "Maximum number of epochs.", low=1)
    warmup: int | None = training(by_recipe(int), "Epochs over which beta rises to 1.", low=0)
    patience: int = training(
        by_recipe(int), "Early stopping: epochs without a lower validation loss, after the warm-up.", low=1
    )
    batch_size: int = training(by_recipe(int), "Examples per step.", low=1)
    lr: float = training(by_recipe(float), "Learning rate of the networks.", above=0)
    schedule: str = training(
        by_recipe(str), "Learning rate over the run; linear and cosine fall to 0 at the last epoch.", choices=SCHEDULES
    )
    lr_warmup: int = training(by_recipe(int), "Epochs over which the learning rate rises from 0.", low=0)
    averaging: float = training(
        by_recipe(float),
        "Decay of a moving average of the weights, which is validated and kept; 0 for none.",
        low=0.0,
        below=1,
    )
    gradient: str = training(
        by_recipe(str),
        "Gradient of log q(z|x) in training: total, or along the path of z alone, with less noise.",
        choices=GRADIENTS,
    )
    importance: int = training(
        by_recipe(int),
        "Samples of the importance-weighted bound that the last tenth of the epochs maximises; 1 for the ELBO.",
        low=1,
    )
    coreset: str = model("paper", "Strategy of step (ii), which updates the pseudocoreset.", choices=STRATEGIES)
    coreset_interval: int = training(10, "Epochs k between updates of the pseudocoreset.", low=1)
    coreset_steps: int | None = option(None, "Inner steps per update of paper [default: 100].", low=1)
    coreset_lr: float | None = option(None, "Learning rate of paper for the points [default: 1e-3].", low=0.0)
    coreset_samples: int | None = option(None, "Latents S per step of paper and published [default: M].", low=2)
    coreset_z1: int | None = option(
        None, "With two levels, samples of z1 per latent of paper and published [default: 1].", low=1
    )
    exemplars: int | None = model(None, "Exemplars sampled per step [default: min(500, N - 1)].", low=2)
    retrieve: int | None = model(
        None,
        "Encode only the K most probable exemplars of each example; others keep means from the epoch's start.",
        low=1,
    )
    reencode: float | None = model(
        None, "Fraction of the points of vamp and bype that each step encodes; others are cached [default: 1].", above=0
    )
    precision: str = training(
        "auto",
        "Precision of the networks' matrix products in training; auto: tf32 on CUDA, fp32 on a CPU.",
        choices=PRECISIONS,
    )
    compile: bool = training(
        False, "Compile the training step on a CPU, if it saves more time in the run than compiling takes."
    )
    deterministic: bool = training(False, "Bit-identical results on a GPU too; slower there.")
    seed: int = option(0, "Seed of all random numbers.", low=0)
    data_dir: str | None = option(None, "Folder that is searched first for data sets.")
    device: str = option("auto", "Device to compute on.", choices=DEVICES)

    def __post_init__(self) -> None:
        # Paths and sizes may be given as objects; they are stored as text.
        for name in ("set", "data_dir"):
            if isinstance(value := getattr(self, name), Path):
                object.__setattr__(self, name, str(value))
        for name in ("resize", "shape"):
            if (value := getattr(self, name)) is not None:
                h, w = parse_size(value, f"--{name}")
                object.__setattr__(self, name, f"{h}" if h == w else f"{h}x{w}")
        self._apply_recipe()
        for f in dataclasses.fields(self):
            kinds = typing.get_args(f.type) or (f.type,)
            value = plain(getattr(self, f.name), whole=int in kinds)
            object.__setattr__(self, f.name, value)
            _check(f, value)

    def _apply_recipe(self) -> None:
        """Sets the options that are not given to those of the recipe; the epochs only if they need no data.

        The likelihoods of the recipes are of images: a table has `mixed`.
        """
        given = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        if self.likelihood is None and str(self.set).lower().endswith(TABLES):
            given["likelihood"] = "mixed"
        for name, value in (given | find_recipe(self.recipe).missing(given)).items():
            object.__setattr__(self, name, value)

    def sized(self, n: int) -> Self:
        """This config with the epochs and the warm-up that its recipe has for n training examples, if it names none."""
        return self if self.epochs is not None else replace(self, epochs=find_recipe(self.recipe).epochs_for(n))

    def sized_as(self, own: "Config") -> Self:
        """This config with the epochs and the warm-up of a run, if it names none."""
        if self.epochs is not None:
            return self
        return replace(self, epochs=own.epochs, warmup=own.warmup if self.warmup is None else self.warmup)

    @property
    def name(self) -> str:
        """SET-ARCH-PRIOR[-STRATEGY]-sSEED, with SET as `dataset_stem` returns it."""
        parts = [dataset_stem(self.set), self.arch, self.prior, *([self.coreset] if self.prior == "bype" else [])]
        return "-".join([*parts, f"s{self.seed}"])

    def recipe_line(self) -> str:
        """One line on the recipe and the options that differ from it, such as `recipe paper, but --lr 0.001`."""
        unset: Options = dict.fromkeys((*find_recipe(self.recipe).options, "epochs", "warmup"))
        like = replace(self, **unset)
        own = [f for f in dataclasses.fields(self) if getattr(self, f.name) != getattr(like, f.name)]
        but = ", ".join(f"{flag_name(f)} {getattr(self, f.name)}" for f in own)
        return f"recipe {self.recipe}" + (f", but {but}" if but else "")

    @property
    def reading(self) -> Options:
        """The options that define how the data set is read: keyword arguments of `bype.load`."""
        return {name: getattr(self, name) for name in READING}

    def unused(self) -> list[str]:
        """The names of the options that the chosen networks, prior and strategy do not use."""
        return [name for name, choice in self._unused_under() if choice]

    def without_effect(self, given: Collection[str]) -> str | None:
        """One line that names the given options that are not used, and the choice that does not use them.

        >>> Config("digits", prior="standard", n_components=7).without_effect(["n_components", "prior"])
        'unused with prior standard: --components'

        Args:
            given: The names of the options that the user has given.

        Returns:
            The line, or None if all of them are used.
        """
        flags: dict[str, list[str]] = {}
        for f, (name, choice) in zip(dataclasses.fields(self), self._unused_under(), strict=True):
            if choice and name in given:
                flags.setdefault(choice, []).append(flag_name(f))
        parts = [f"with {choice}: {', '.join(names)}" for choice, names in flags.items()]
        return f"unused {'; '.join(parts)}" if parts else None

    def _unused_under(self) -> list[tuple[str, str | None]]:
        """Each option with the first choice that does not use it, such as `prior standard`; None if it is used."""
        chosen = ((ARCHS, self.arch), (PRIORS, self.prior), (STRATEGIES, self.coreset))
        found: dict[str, str | None] = {
            f.name: next((f"{r.kind} {name}" for r, name in chosen if not r.uses(f.name, name)), None)
            for f in dataclasses.fields(self)
        }
        if self.schedule != "constant":
            found["patience"] = f"schedule {self.schedule}"
        return list(found.items())

    def group(self, name: str) -> Options:
        """The options of one group: `model`, keyword arguments of `bype.build_model`, or `training`, keyword arguments
        of `bype.Trainer`. The seed and the settings of step (ii) belong to neither.
        """
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.metadata["group"] == name}

    def to_dict(self) -> Options:
        """The options as a JSON object."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Options, where: str) -> "Config":
        """Makes a config from the result of `to_dict`.

        Args:
            values: The options by name.
            where: Their source, for error messages.

        Raises:
            InputError: If a key is unknown or missing, or a value has another type or is out of range.
        """
        fields = {f.name: f for f in dataclasses.fields(cls)}
        for key in values:
            if key not in fields:
                raise InputError(f"{where}: expected the options of a run, got an unknown key {key!r}")
        if "set" not in values:
            raise InputError(f"{where}: expected the key 'set', got the keys {list(values)}")
        values = cast(Options, {"recipe": "paper", "importance": 1}) | values  # earlier runs name none
        for key, value in values.items():
            if not _has_type(value, fields[key].type):
                raise InputError(f"{where}: expected {key!r} to be {_name(fields[key].type)}, got {value!r}")
        try:
            return cls(**values)
        except InputError as e:
            raise InputError(f"{where}: {e}") from None


def dataset_stem(set_: str) -> str:
    """The name of a data set in file names: the set's name, the file's name without suffix, or the folder's name.

    >>> dataset_stem("mnist"), dataset_stem("a/faces.npz"), dataset_stem("scans.v2/")
    ('mnist', 'faces', 'scans.v2')
    """
    path = expand_path(set_)
    path = path if path.name not in ("", "..") else path.resolve()
    return path.stem if path.suffix.lower() in (".npy", ".npz", ".zip", ".csv", ".parquet") else path.name


def parse_size(size: str | int | Sequence[int], option: str = "--resize") -> tuple[int, int]:
    """Parses an image size, `64`, `48x64` or a pair of numbers, to height and width in pixels.

    Args:
        size: The size.
        option: The option's name, for errors.

    Raises:
        InputError: If the format is another, or a side is not between 1 and 4096.

    >>> parse_size("48x64")
    (48, 64)
    """
    text = "x".join(map(str, size)) if isinstance(size, list | tuple) else str(size)
    match = re.fullmatch(r"(\d{1,4})(?:x(\d{1,4}))?", text, re.ASCII)
    sides = [int(s) for s in match.groups(match[1])] if match else [0, 0]
    if not all(1 <= s <= 4096 for s in sides):
        raise InputError(f"{option}: expected a number of pixels or HxW, each from 1 to 4096, got {size!r}")
    return sides[0], sides[1]


def flag_name(f: "dataclasses.Field[object]") -> str:
    """The flag of an option on the command line; for the positional argument `set`, its name SET."""
    if f.name == "set":
        return "SET"
    return "--" + (f.metadata["flag"] or f.name).replace("_", "-")


def _has_type(value: object, expected: object) -> bool:
    kinds = typing.get_args(expected) or (expected,)
    if isinstance(value, int) and not isinstance(value, bool) and float in kinds:
        return True
    return type(value) in kinds


def _name(expected: object) -> str:
    return getattr(expected, "__name__", None) or str(expected).removesuffix(" | None")


def _check(f: "dataclasses.Field[object]", value: object) -> None:
    rules, flag = f.metadata, flag_name(f)
    if not _has_type(value, f.type):
        raise InputError(f"{flag}: expected {_name(f.type)}, got {shown(value)}")
    if value is None:
        return
    if f.name in ("set", "data_dir") and not value:
        raise InputError(f"{flag}: expected a name or a path, got an empty string")
    if rules["choices"] and value not in rules["choices"]:
        raise InputError(f"{flag}: expected one of {', '.join(rules['choices'])}, got {value!r}")
    if not isinstance(value, int | float):
        return
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{flag}: expected a finite number, got {value}")
    if rules["low"] is not None and value < rules["low"]:
        raise InputError(f"{flag}: expected at least {rules['low']}, got {value}")
    if rules["above"] is not None and value <= rules["above"]:
        raise InputError(f"{flag}: expected above {rules['above']}, got {value}")
    if rules["below"] is not None and value >= rules["below"]:
        raise InputError(f"{flag}: expected below {rules['below']}, got {value}")
    if isinstance(value, int) and value > MAX_INT:
        raise InputError(f"{flag}: expected at most 2^31, got {value}")
