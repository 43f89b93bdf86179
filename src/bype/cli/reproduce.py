"""`reproduce`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from bype.cli.options import Device, Json, expand_user, parse_int, print_json
from bype.core import console
from bype.core.devices import resolve_device
from bype.core.errors import InputError, TrainingError
from bype.experiments import campaign, cells
from bype.experiments.estimates import parse_duration
from bype.experiments.ledger import read
from bype.experiments.render import render as write_page

#: Of one call, so that a mistyped range does not fill the memory.
MAX_SEEDS = 1000


def reproduce(
    what: Annotated[
        str | None, typer.Argument(metavar="[WHAT]", help=f"An experiment: {', '.join(cells.EXPERIMENTS)}.")
    ] = None,
    dataset: Annotated[
        str | None, typer.Option("--dataset", metavar="SET", help="Only cells with this data set.")
    ] = None,
    arch: Annotated[str | None, typer.Option("--arch", metavar="ARCH", help="Only cells with this network.")] = None,
    prior: Annotated[str | None, typer.Option("--prior", metavar="PRIOR", help="Only cells with this prior.")] = None,
    coreset: Annotated[
        str | None, typer.Option("--coreset", metavar="STRATEGY", help="Only cells with this strategy.")
    ] = None,
    seeds: Annotated[
        str | None, typer.Option("--seeds", metavar="N|N-M", help="Only these seeds [default: the experiment's].")
    ] = None,
    protocol: Annotated[
        str | None, typer.Option("--protocol", metavar="paper|short", help="Protocol of table1 [default: paper].")
    ] = None,
    precision: Annotated[
        str | None, typer.Option("--precision", help="Precision of table1 [default: bf16 on a CPU, tf32 on CUDA].")
    ] = None,
    budget: Annotated[
        str | None, typer.Option("--budget", metavar="TIME", help="Stop after this time: 90s, 9m, 1h30m.")
    ] = None,
    partial: Annotated[
        bool,
        typer.Option("--partial", help="Also start cells that do not fit the budget; a later call continues them."),
    ] = False,
    shard: Annotated[
        str | None,
        typer.Option("--shard", metavar="I/N", help="Only the I-th of N shards, each with cheap and expensive cells."),
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="Only list the outstanding cells.")] = False,
    render: Annotated[
        bool, typer.Option("--render", help="Write README.md and pictures next to the ledger, from its records.")
    ] = False,
    ledger: Annotated[
        Path, typer.Option("--ledger", metavar="DIR", callback=expand_user, help="Folder of the finished cells.")
    ] = Path("results/ledger"),
    runs: Annotated[
        Path, typer.Option("--runs", metavar="DIR", callback=expand_user, help="Folder of the runs.")
    ] = Path("runs/reproduce"),
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Run the outstanding cells of an experiment, cheapest first, and record each in the ledger when it finishes."""
    if what is None and not render:
        raise InputError(f"reproduce: expected an experiment ({', '.join(cells.EXPERIMENTS)}) or --render, got neither")
    result: dict[str, Any] = {"experiment": what}
    if what is not None:
        asked = cells.Selection(dataset, arch, prior, coreset, _seeds(seeds), protocol, precision, device)
        result |= _run_experiment(what, asked, shard, budget, partial, list_, ledger, runs)
    if render:
        result["page"] = str(write_page(ledger))
    count = sum(len(result.get(kind, ())) for kind in campaign.Report._fields)
    if as_json:
        print_json(result)
    else:
        if "finished" in result:
            print(f"{what}: {len(result['finished'])} cells run, {count - len(result['finished'])} left, {ledger}")
        for name in result.get("outstanding", ()):
            print(name)
        if render:
            print(result["page"])
    if result.get("failed"):
        raise TrainingError(f"{what}: {len(result['failed'])} of {count} cells failed to train")
    if result.get("refused"):
        raise InputError(f"{what}: {len(result['refused'])} of {count} cells have unusable files or data")


def _run_experiment(
    what: str,
    asked: cells.Selection,
    shard: str | None,
    budget: str | None,
    partial: bool,
    list_: bool,
    ledger: Path,
    runs: Path,
) -> dict[str, Any]:
    resolve_device(asked.device)
    seconds = parse_duration(budget) if budget is not None else float("inf")
    chosen = cells.select_cells(what, asked)
    if shard is not None:
        chosen = campaign.shard(chosen, *_shard(shard))
    if list_:
        done, left_out = read(ledger)
        for line in left_out:
            console.report(line)
        return {"outstanding": [c.id for c in campaign.outstanding(chosen, done)]}
    return campaign.run_cells(chosen, ledger, runs, budget=seconds, partial=partial)._asdict()


def _shard(text: str) -> tuple[int, int]:
    """`2/5` as (2, 5)."""
    part, parts = (parse_int(number) for number in text.partition("/")[::2])
    if part is None or parts is None or not 1 <= part <= parts:
        raise InputError(f"--shard: expected I/N with I from 1 to N, got {text!r:.60}")
    return part, parts


def _seeds(text: str | None) -> list[int] | None:
    """`3` or `0-4` as a list."""
    if text is None:
        return None
    from_, dash, to = text.partition("-")
    first, last = parse_int(from_), parse_int(to if dash else from_)
    if first is None or last is None or not 0 <= last - first < MAX_SEEDS:
        raise InputError(f"--seeds: expected a number or a range like 0-4 of at most {MAX_SEEDS}, got {text!r:.60}")
    return list(range(first, last + 1))
