"""`train`."""

import dataclasses
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bype.cli.options import Json, print_json
from bype.core import console
from bype.core.config import Config, flag_name
from bype.core.errors import notes_kept
from bype.core.signals import StoppedAtOnce

if TYPE_CHECKING:
    from bype.runs.fitting import TrainedRun


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


@with_config
def train(
    ctx: typer.Context,
    options: dict[str, Any],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="RUN", help="The run folder [default: runs/NAME].")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the last saved epoch.")] = False,
    as_json: Json = False,
) -> None:
    """Train a model on SET into a run folder; every epoch is saved."""
    config = Config(**options)
    path = out or Path("runs") / config.name

    # Imported here, so that the help and usage errors of the command with the most options appear without torch.
    with StoppedAtOnce():
        from bype.runs.extending import extended
        from bype.runs.fitting import fit
        from bype.runs.run import Run
        from bype.training.trackers.terminal import epochs

    run = Run(path)
    given = {f.name for f in dataclasses.fields(Config) if _was_given(ctx, f.name)}
    if resume and run.exists:
        # Options not given keep the run's values; `fit` rejects values that differ from them.
        recorded = run.config
        config = dataclasses.replace(recorded, **{name: getattr(config, name) for name in given})
        if line := extended(recorded, config):
            console.report(f"{path}: extended, {line}")
        if place := run.dataset.follow(config):
            console.report(f"{path}: updated the location of its data to {place}")
    if unused := config.without_effect(given):
        console.report(unused)
    kept: list[TrainedRun] = []  # noted on a signal after training
    with notes_kept(kept):
        with epochs(str(path), config.epochs) as show:
            kept.append(fit(config, run, resume=resume, on_epoch=show, on_step=show.step))
        _show(path, kept[0], as_json=as_json)


def _show(path: Path, trained: "TrainedRun", *, as_json: bool) -> None:
    trainer = trained.trainer
    if trained.was_finished:
        console.report(f"{path}: already finished after {trainer.epoch} epochs")
    result = {
        "run": str(path),
        "epochs": trainer.epoch,
        "best_epoch": trainer.best_epoch,
        "val_loss": trainer.best_val_loss,
        "finished_already": trained.was_finished,
    }
    if as_json:
        print_json(result)
    else:
        print(f"{path}: best validation loss {trainer.best_val_loss:.3f} at epoch {trainer.best_epoch}")


def _was_given(ctx: typer.Context, name: str) -> bool:
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
