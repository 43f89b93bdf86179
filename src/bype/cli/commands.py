"""The commands, and where each is: a command's module is imported when the command is called.

`bype --help`, `bype --version` and an unknown command therefore import neither torch nor numpy.
"""

from importlib import import_module
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from bype.core.signals import StoppedAtOnce
from bype.core.version import __version__

PLAIN: dict[str, Any] = {"add_completion": False, "pretty_exceptions_enable": False, "rich_markup_mode": None}


class Command(NamedTuple):
    """Where a command is, and its line in the list of commands."""

    target: str  # module:function
    summary: str


#: In the order of `bype --help`; the commands of a group are named `GROUP COMMAND`. A summary fits 80 columns.
COMMANDS = {
    "train": Command("train:train", "Train a model on a data set into a run folder."),
    "demo": Command("demo:demo", "Train the four priors on 8x8 digits and plot the results."),
    "evaluate": Command("evaluate:evaluate", "Compute a run's log-likelihood, active units, kNN accuracy."),
    "compare": Command("compare:compare", "Compare runs: paired differences with 95 % intervals."),
    "score": Command("score:score", "Score each of your files: log-likelihood, how unusual it is."),
    "report": Command("report:report", "Write one HTML page on runs: metrics, curves, images."),
    "explore": Command("explore:explore", "Open a page to draw, slide and look at own images."),
    "refit": Command("evaluate:refit", "Fit a second prior to a trained run."),
    "sample": Command("generate:sample", "Generate images."),
    "reconstruct": Command("generate:reconstruct", "Plot test images and their reconstructions."),
    "interpolate": Command("interpolate:interpolate", "Plot images along a straight line in z (Figure 2)."),
    "coreset": Command("export:coreset", "Export a run's pseudocoreset as plain files."),
    "export": Command("export:export", "Export a run's networks to ONNX or torch.export."),
    "recipes": Command("recipes:recipes", "List the recipes, named sets of options for training."),
    "embed": Command("embed:embed", "Write the latents of images, and a map of them by t-SNE."),
    "neighbours": Command("embed:neighbours", "Plot the training images nearest to an image."),
    "augment": Command("augment:augment", "Train a classifier with a model's samples (Table 3)."),
    "reproduce": Command("reproduce:reproduce", "Run the missing cells of an experiment."),
    "bench": Command("bench:bench", "Time training and scoring beside their matrix products alone."),
    "data list": Command("data:data_list", "List the published data sets, and where each was found."),
    "data fetch": Command("data:data_fetch", "Download published data sets."),
    "data check": Command("data:data_check", "Read data sets, and verify the checksums of published files."),
}


class _Once(TyperCommand):
    """A command that rejects an option with two values, of which typer would silently take the last."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        given = [p for p in self.make_parser(ctx).parse_args(list(args))[2] if p.param_type_name == "option"]
        for option in given:
            if given.count(option) > 1 and not (
                getattr(option, "is_flag", False) or getattr(option, "multiple", False)
            ):
                ctx.fail(f"Option '{option.opts[0]}' is given twice")
        return super().parse_args(ctx, args)


def import_command(name: str) -> Any:
    """Imports the command of that name, with its arguments and options."""
    module, _, function = COMMANDS[name].target.partition(":")
    with StoppedAtOnce():
        imported = import_module(f"bype.cli.{module}")
    alone = typer.Typer(**PLAIN)
    alone.command(name.rpartition(" ")[2], cls=_Once)(getattr(imported, function))
    return get_command(alone)


def _deferred(name: str) -> type[TyperCommand]:
    """The class of a command that is imported when it is called or its help is asked for."""

    class Deferred(TyperCommand):
        def make_context(self, *args: Any, **options: Any) -> Any:
            return import_command(name).make_context(*args, **options)

    return Deferred


class Stopped(BaseException):
    """SIGINT or SIGTERM has stopped a command, which exits with this code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class _Root(TyperGroup):
    """All commands. A KeyboardInterrupt leaves them as `Stopped`: typer would drop it, and the notes on it."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as e:
            raise Stopped(130) from e


def _version(show: bool) -> None:
    if show:
        print(f"bype {__version__}")
        raise typer.Exit


def _callback(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


def _make_app() -> typer.Typer:
    summary = "Variational autoencoders whose prior is built from data."
    root = typer.Typer(cls=_Root, callback=_callback, help=summary, **PLAIN)
    groups = {"": root, "data": typer.Typer(help="List, download and check data sets.")}
    for name, command in COMMANDS.items():
        group, _, own = name.rpartition(" ")
        # The function is never called: the command makes way for the imported one.
        groups[group].command(own, cls=_deferred(name), help=command.summary)(lambda: None)
    root.add_typer(groups["data"], name="data")
    return root


app = _make_app()
