"""`train`."""

import dataclasses
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

import typer

from bype.cli.options import Json, print_json
from bype.cli.seeds import parse_seeds, run_all, seed_runs
from bype.core import console
from bype.core.config import Config, flag_name
from bype.core.errors import InputError, notes_kept
from bype.core.names import TRACKERS
from bype.core.numbers import readable
from bype.core.recipes import RECIPES
from bype.core.signals import StoppedAtOnce

if TYPE_CHECKING:
    from bype.runs.fitting import TrainedRun


class Result(TypedDict):
    """What `train --json` prints of a run."""

    run: str
    epochs: int
    best_epoch: int
    val_loss: float
    finished_already: bool


def with_config(command: Callable[..., None]) -> Callable[..., None]:
    """Adds an option to a command for every field of `Config`, with its help, default and flag."""
    own = [p for p in inspect.signature(command).parameters.values() if p.name != "options"]
    fields = []
    for f in dataclasses.fields(Config):
        rules = f.metadata
        if f.default is dataclasses.MISSING:
            note = typer.Argument(metavar=f.name.upper(), help=rules["help"])
            default: Any = inspect.Parameter.empty
        else:
            note = typer.Option(flag_name(f), metavar="|".join(rules["choices"]) or None, help=rules["help"])
            default = f.default
            if default is None and (named := _by_recipe(f.name)):
                note.help = f"{rules['help']} [default: {named}]"
        fields.append(
            inspect.Parameter(
                f.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[f.type, note]
            )
        )
    names = {f.name for f in fields}

    def wrapped(**values: Any) -> None:
        options = {k: v for k, v in values.items() if k in names}
        command(options=options, **{k: v for k, v in values.items() if k not in names})

    parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own]
    parameters = [*parameters, *fields]
    wrapped.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapped.__annotations__ = {p.name: p.annotation for p in parameters}
    wrapped.__name__, wrapped.__doc__ = command.__name__, command.__doc__
    return wrapped


def _by_recipe(name: str) -> str:
    """The values of an option in each recipe, for its help; empty if recipes do not set it."""
    values = {recipe: r.lines()[name] for recipe, r in RECIPES.items() if name in r.lines()}
    return "; ".join(f"{recipe}: {value}" for recipe, value in values.items())


@with_config
def train(
    ctx: typer.Context,
    options: dict[str, Any],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="RUN", help="The run folder [default: runs/NAME].")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue from the last saved epoch; --epochs and --patience extend it.")
    ] = False,
    seeds: Annotated[
        str | None,
        typer.Option("--seeds", metavar="0-4|0,2,5", help="Several runs, whose names end in -sSEED."),
    ] = None,
    track: Annotated[
        str | None,
        typer.Option("--track", metavar="tensorboard|mlflow|trackio,...", help="Also log the epochs with these."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Train a model on SET into a run folder; every epoch is saved."""
    config = Config(**options)
    given = {f.name for f in dataclasses.fields(Config) if _was_given(ctx, f.name)}
    if seeds is not None and "seed" in given:
        raise InputError(f"--seeds: cannot be combined with --seed, got both {seeds!r} and {config.seed}")
    trackers = [] if track is None else track.split(",")
    if unknown := [name for name in trackers if name not in TRACKERS]:
        raise InputError(f"--track: expected names from {', '.join(TRACKERS)}, got {unknown[0]!r}")
    kept: list[TrainedRun] = []  # noted on a signal after training
    with notes_kept(kept):
        if seeds is None:
            result = _train_one(config, out or Path("runs") / config.name, given, kept, trackers, resume=resume)
            _print([result], result if as_json else None)
            return

        def train_one(config: Config, path: Path) -> Result:
            return _train_one(config, path, given | {"seed"}, kept, trackers, resume=resume)

        results = run_all(seed_runs(config, out, parse_seeds(seeds)), train_one, resume=resume)
        _print(results, {"runs": results} if as_json else None)


def _train_one(
    config: Config, path: Path, given: set[str], kept: "list[TrainedRun]", trackers: Sequence[str], *, resume: bool
) -> Result:
    """Trains one run.

    Args:
        config: The options.
        path: The run folder.
        given: The names of the options that the user has given; the others are those of a run that is resumed.
        kept: The run is put into this list.
        trackers: The names of trackers.
        resume: Whether the run may exist.
    """
    # Imported here, so that the help and usage errors of the command with the most options appear without torch.
    with StoppedAtOnce():
        from bype.runs.extending import check_extension, extended
        from bype.runs.fitting import fit
        from bype.runs.run import Run
        from bype.training.terminal import epochs

    run = Run(path)
    if resume and run.exists:
        # Options not given keep the run's values; `fit` rejects values that differ from them.
        recorded = run.config
        config = dataclasses.replace(recorded, **{name: getattr(config, name) for name in given})
        if line := extended(recorded, config):
            check_extension(recorded, config, run.checkpoints.epoch, str(path))
            console.report(f"{path}: extended, {line}")
        if place := run.dataset.follow(config):
            console.report(f"{path}: updated the location of its data to {place}")
    if unused := config.without_effect(given):
        console.report(unused)
    with epochs(str(path), config.recipe_line()) as show:
        trained = fit(config, run, resume=resume, on_epoch=show, on_step=show.step, trackers=trackers)
    kept.append(trained)
    trainer = trained.trainer
    if trained.was_finished:
        console.report(f"{path}: already finished after {trainer.epoch} epochs")
    return {
        "run": str(path),
        "epochs": trainer.epoch,
        "best_epoch": trainer.best_epoch,
        "val_loss": trainer.best_val_loss,
        "finished_already": trained.was_finished,
    }


def _print(results: list[Result], as_json: object) -> None:
    """Prints the JSON object, or else a line for each run."""
    if as_json is not None:
        print_json(as_json)
        return
    for result in results:
        print(f"{result['run']}: best validation loss {readable(result['val_loss'])} at epoch {result['best_epoch']}")


def _was_given(ctx: typer.Context, name: str) -> bool:
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
