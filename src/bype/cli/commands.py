"""The commands, and where each is: a command's module is imported when the command is called, not before.

So `bype --help`, `bype --version` and an unknown command import neither torch nor numpy.
"""

from importlib import import_module
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperCommand
from typer.main import get_command

from bype.core.version import __version__

PLAIN: dict[str, Any] = {"add_completion": False, "pretty_exceptions_enable": False, "rich_markup_mode": None}


class Command(NamedTuple):
    """Where a command is, and its line in `bype --help`."""

    target: str  # module:function
    summary: str


#: In the order of `bype --help`; the commands of a group are named `GROUP COMMAND`.
COMMANDS = {
    "train": Command("train:train", "Train a model on SET into a run folder, saving every epoch as it ends."),
    "demo": Command("demo:demo", "Train the four priors on 8x8 digits, side by side, and draw what they learned."),
    "evaluate": Command(
        "evaluate:evaluate",
        "Score a run: log-likelihood, its bound, active units and kNN accuracy, into RUN/evaluation.json.",
    ),
    "refit": Command(
        "evaluate:refit",
        "Give a trained run a second prior: other components, sigma chosen on validation items, networks untouched.",
    ),
    "sample": Command(
        "generate:sample", "Generate images from the prior, from one component of it, around an image, or as plates."
    ),
    "reconstruct": Command("generate:reconstruct", "Draw test items and, below each, its reconstruction."),
    "interpolate": Command(
        "generate:interpolate",
        "Draw the images on the way from one item to another, a straight line in z (Figure 2).",
    ),
    "coreset": Command(
        "export:coreset", "Write a run's pseudocoreset as plain files: points.npy, weights.csv, gallery.png."
    ),
    "reproduce": Command(
        "reproduce:reproduce",
        "Run an experiment's outstanding cells, cheapest first, each written to the ledger as it ends.",
    ),
    "data list": Command("data:data_list", "The data sets that bype knows, and where each was found."),
    "data fetch": Command(
        "data:data_fetch",
        "Fetch published sets: resumed where a download broke off, checked by SHA-256 before they count.",
    ),
    "data check": Command(
        "data:data_check",
        "Read a set as `train` would, compare published files with their published sums, and say what is there.",
    ),
}


def import_command(name: str) -> Any:
    """The command of that name with its arguments and options, as click has it; imports its module."""
    module, _, function = COMMANDS[name].target.partition(":")
    alone = typer.Typer(**PLAIN)
    alone.command(name.rpartition(" ")[2])(getattr(import_module(f"bype.cli.{module}"), function))
    return get_command(alone)


def _deferred(name: str) -> type[TyperCommand]:
    """A command that is imported when it is called, or asked for its help."""

    class Deferred(TyperCommand):
        def make_context(self, *args: Any, **options: Any) -> Any:
            return import_command(name).make_context(*args, **options)

    return Deferred


def _version(show: bool) -> None:
    if show:
        print(f"bype {__version__}")
        raise typer.Exit


def _callback(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="The version.")] = False,
) -> None:
    pass


def _make_app() -> typer.Typer:
    whole = typer.Typer(callback=_callback, help="Variational autoencoders whose prior is built from data.", **PLAIN)
    groups = {"": whole, "data": typer.Typer(help="The data sets.")}
    for name, command in COMMANDS.items():
        group, _, own = name.rpartition(" ")
        groups[group].command(own, cls=_deferred(name), help=command.summary)(lambda: None)
    whole.add_typer(groups["data"], name="data")
    return whole


app = _make_app()
