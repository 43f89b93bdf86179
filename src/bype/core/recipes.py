"""Recipes: named sets of options for training."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bype.core.errors import InputError
from bype.core.numbers import plain

#: The recipe of a run that names none.
DEFAULT_RECIPE = "paper"


@dataclass(frozen=True)
class Recipe:
    """A named set of options; single options override it.

    Args:
        summary: One sentence.
        options: The values of options of a run, by name, that do not depend on the data.
        epochs: The number of epochs; with `scaled`, for 50,000 training examples.
        warmup: The epochs of the warm-up of beta, or as a float below 1 its share of the run.
        scaled: Whether the number of epochs depends on the number N of training examples:
            epochs * 50,000 / N, but at least `least` and at most `most`.
        least: The smallest scaled number of epochs.
        most: The largest one.
    """

    summary: str
    options: dict[str, str | int | float] = field(default_factory=dict)
    epochs: int = 1
    warmup: int | float = 0
    scaled: bool = False
    least: int = 1
    most: int = 1

    def epochs_for(self, n: int) -> int:
        """The number of epochs for n training examples.

        >>> RECIPES["paper"].epochs_for(1000)
        4000
        """
        return min(self.most, max(self.least, round(self.epochs * 50_000 / n))) if self.scaled else self.epochs

    def warmup_for(self, epochs: int) -> int:
        """The epochs of the warm-up in a run of this many epochs."""
        return round(self.warmup * epochs) if isinstance(self.warmup, float) else self.warmup

    def missing(self, given: Mapping[str, object], n: int | None = None) -> dict[str, str | int | float]:
        """The options that are not given, with this recipe's values.

        Args:
            given: Options by name; None counts as not given.
            n: The number of training examples. If it is not known, epochs that depend on it are left out, and so is a
                warm-up that depends on them.
        """
        named = {name: value for name, value in given.items() if value is not None}
        values = {name: value for name, value in self.options.items() if name not in named}
        if "importance" in values and (named | values)["schedule"] == "constant":
            values["importance"] = 1  # such a run has no known end
        if "epochs" not in named and (n is not None or not self.scaled):
            values["epochs"] = self.epochs if n is None else self.epochs_for(n)
        epochs = plain(named.get("epochs", values.get("epochs")), whole=True)  # a numpy integer is one too
        if "warmup" not in named and isinstance(epochs, int):
            values["warmup"] = self.warmup_for(epochs)
        return values

    def lines(self) -> dict[str, str]:
        """The options by name, as text."""
        epochs = f"{self.epochs} for 50,000 examples, from {self.least} to {self.most}" if self.scaled else self.epochs
        warmup = f"{self.warmup:.0%} of the epochs" if isinstance(self.warmup, float) else self.warmup
        return {"epochs": str(epochs), "warmup": str(warmup)} | {k: str(v) for k, v in self.options.items()}


RECIPES = {
    "paper": Recipe(
        "The protocol of the paper (Ai et al., 2021).",
        {
            "patience": 50, "batch_size": 100, "lr": 5e-4, "schedule": "constant", "lr_warmup": 0, "averaging": 0.0,
            "gradient": "total", "importance": 1, "likelihood": "mse",
        },
        epochs=4000, warmup=100,
    ),
    "fast": Recipe(
        "A high rate that falls linearly to 0, a normalised density, epochs by the size of the data.",
        {
            "patience": 50, "batch_size": 200, "lr": 8e-3, "schedule": "linear", "lr_warmup": 1, "averaging": 0.0,
            "gradient": "path", "importance": 5, "likelihood": "gaussian",
        },
        epochs=100, warmup=0.2, scaled=True, least=10, most=100,
    ),
}  # fmt: skip


def training_options(name: str, n: int, given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of `bype.Trainer` under a recipe.

    Args:
        name: The recipe.
        n: The number of training examples.
        given: The options that are given, which override the recipe's.

    Raises:
        InputError: If there is no such recipe.
    """
    missing = find_recipe(name).missing(given, n)
    return {k: v for k, v in missing.items() if k != "likelihood"} | {k: v for k, v in given.items() if v is not None}


def find_recipe(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        InputError: If there is none.
    """
    if name not in RECIPES:
        raise InputError(f"--recipe: expected one of {', '.join(RECIPES)}, got {name!r}")
    return RECIPES[name]
