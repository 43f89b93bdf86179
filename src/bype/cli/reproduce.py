"""`reproduce`."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from bype.cli.options import Device, Json, expand_user, print_json
from bype.cli.seeds import parse_seeds
from bype.core import console
from bype.core.devices import resolve_device
from bype.core.errors import InputError, TrainingError
from bype.core.numbers import parse_int
from bype.experiments import campaign
from bype.experiments.catalog.registry import ALL, EXPERIMENTS, select_cells
from bype.experiments.cell import Selection
from bype.experiments.estimates import parse_duration
from bype.experiments.ledger import read
from bype.experiments.page import render as write_page
from bype.experiments.remaining import Pace


def _text(flag: str, help: str, metavar: str | None = None) -> Any:
    return Annotated[str | None, typer.Option(flag, metavar=metavar, help=help)]


#: The options that select cells, by their names in `Selection`.
SELECTION = {
    "dataset": _text("--dataset", "Only cells of this data set.", "SET"),
    "arch": _text("--arch", "Only cells with these networks.", "ARCH"),
    "prior": _text("--prior", "Only cells with this prior.", "PRIOR"),
    "coreset": _text("--coreset", "Only cells with this strategy.", "STRATEGY"),
    "seeds": _text("--seeds", "These seeds, such as 0-4 or 0,2,5 [default: the experiment's].", "N-M|N,..."),
    "protocol": _text(
        "--protocol",
        "For table1 [default: paper], fig5 [default: short], table3 and figures 1 to 4 [default: fast].",
        "paper|short|fast",
    ),
    "precision": _text(
        "--precision",
        "For table1 and others [default: tf32 on CUDA; on a CPU bf16 if it has instructions for it, else fp32].",
    ),
    "device": Device,
}


def with_selection(command: Callable[..., None]) -> Callable[..., None]:
    """Replaces the parameter `selection` of a command by the options of a `Selection`."""
    kind, parameters = inspect.Parameter.KEYWORD_ONLY, []
    for p in inspect.signature(command).parameters.values():
        if p.name != "selection":
            parameters.append(p.replace(kind=kind))
            continue
        for name, annotation in SELECTION.items():
            default = getattr(Selection, name)
            parameters.append(inspect.Parameter(name, kind, default=default, annotation=annotation))

    def wrapped(**values: Any) -> None:
        chosen = {name: values.pop(name) for name in SELECTION}
        seeds = None if chosen["seeds"] is None else parse_seeds(chosen["seeds"])
        command(selection=Selection(**chosen | {"seeds": seeds}), **values)

    wrapped.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapped.__annotations__ = {p.name: p.annotation for p in parameters}
    wrapped.__name__, wrapped.__doc__ = command.__name__, command.__doc__
    return wrapped


@with_selection
def reproduce(
    selection: Selection,
    what: Annotated[
        str | None, typer.Argument(metavar="[WHAT]", help=f"An experiment: {', '.join(EXPERIMENTS)}, or {ALL}.")
    ] = None,
    budget: Annotated[str | None, typer.Option("--budget", metavar="TIME", help="Time budget: 90s, 9m, 1h30m.")] = None,
    partial: Annotated[
        bool,
        typer.Option("--partial", help="Also start cells that do not fit the budget; a later call continues them."),
    ] = False,
    shard: Annotated[
        str | None,
        typer.Option("--shard", metavar="I/N", help="Only the I-th of N shards, each with cheap and expensive cells."),
    ] = None,
    list_: Annotated[
        bool, typer.Option("--list", help="Only list the missing cells, and on stderr the finished ones.")
    ] = False,
    render: Annotated[
        bool, typer.Option("--render", help="Write README.md and pictures next to the ledger, from it alone.")
    ] = False,
    ledger: Annotated[
        Path, typer.Option("--ledger", metavar="DIR", callback=expand_user, help="The folder of finished cells.")
    ] = Path("results/ledger"),
    runs: Annotated[
        Path, typer.Option("--runs", metavar="DIR", callback=expand_user, help="The folder of runs.")
    ] = Path("runs/reproduce"),
    as_json: Json = False,
) -> None:
    """Run the missing cells of an experiment, cheapest first, and write each to the ledger as it ends."""
    if what is None and not render:
        raise InputError(f"reproduce: expected an experiment ({', '.join(EXPERIMENTS)}, {ALL}) or --render")
    result: dict[str, Any] = {"experiment": what}
    if what is not None:
        result |= _run_experiment(what, selection, shard, budget, partial, list_, ledger, runs)
    if render:
        result["page"] = str(write_page(ledger))
    if as_json:
        print_json(result)
    else:
        if "finished" in result:
            finished = len(result["finished"])
            print(f"{what}: {finished} cells run, {_total(result) - finished} left, {ledger}")
        for name in result.get("outstanding", ()):  # stdout has these alone, one a line
            print(name)
        for name, metrics in result.get("done", {}).items():
            console.report("".join([f"{name}  done", *(f", {metric} {v:.2f}" for metric, v in metrics.items())]))
        if render:
            print(result["page"])
    if result.get("failed"):
        raise TrainingError(f"{what}: {len(result['failed'])} of {_total(result)} cells failed to train")
    if result.get("refused"):
        raise InputError(f"{what}: {len(result['refused'])} of {_total(result)} cells have files that cannot be used")


def _total(result: dict[str, Any]) -> int:
    return sum(len(result[outcome]) for outcome in ("finished", "begun", "not_started", "failed", "refused"))


def _run_experiment(
    what: str,
    selection: Selection,
    shard: str | None,
    budget: str | None,
    partial: bool,
    list_: bool,
    ledger: Path,
    runs: Path,
) -> dict[str, Any]:
    resolve_device(selection.device)
    seconds = parse_duration(budget) if budget is not None else float("inf")
    cells = select_cells(what, selection)
    if selection.precision is None and (what == ALL or "precision" in EXPERIMENTS[what].options):
        used = ", ".join(sorted({c.config.precision for c in cells}))
        console.report(f"{what}: precision {used}, the default on this device; --precision selects another")
    if shard is not None:
        cells = campaign.shard(cells, *_shard(shard))
    if list_:
        done, skipped = read(ledger)
        for line in skipped:
            console.report(line)
        metrics = {
            name: {metric: record["figures"][metric] for metric in campaign.main_metric(record)}
            for name, record in campaign.finished_records(cells, done).items()
        }
        left = campaign.outstanding(cells, done)
        pace = Pace.of(done)
        if left and pace is not None:
            cells_left = "1 cell" if len(left) == 1 else f"{len(left)} cells"
            console.report(f"{what}: {cells_left} left, {pace.words(left, runs)}")
        return {"outstanding": [c.id for c in left], "done": metrics}
    return campaign.run_cells(cells, ledger, runs, budget=seconds, partial=partial)._asdict()


def _shard(text: str) -> tuple[int, int]:
    """`2/5` as (2, 5)."""
    part, parts = (parse_int(number) for number in text.partition("/")[::2])
    if part is None or parts is None or not 1 <= part <= parts:
        raise InputError(f"--shard: expected I/N with I from 1 to N, got {text!r:.60}")
    return part, parts
