"""`bench`."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from bype.cli.options import Device, Json, ends_in, print_json
from bype.core import console
from bype.core.devices import resolve_device
from bype.core.files import expand_path, read_json, write_json
from bype.core.precision import resolve_precision
from bype.experiments.benchmark.records import Benchmark, Scale, rows_of
from bype.experiments.benchmark.suite import chosen, run, torch_threads
from bype.experiments.benchmark.tables import tables


def bench(
    only: Annotated[
        str | None, typer.Option("--only", metavar="epochs,scoring,peers", help="Measure only these.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer items, samples and repetitions.")] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE.json", callback=ends_in("--out", ".json"), help="Also write a file."),
    ] = None,
    show: Annotated[
        Path | None, typer.Option("--show", metavar="FILE.json", help="Print the tables of a file; measure nothing.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, max=1024, help="Threads on a CPU [default: torch's].")
    ] = None,
    precision: Annotated[
        str, typer.Option("--precision", metavar="auto|fp32|tf32|bf16", help="As in `train`.")
    ] = "auto",
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Time training and scoring beside their matrix products alone, on data of MNIST's size.

    Everything is measured in turns, in short blocks; a figure is the median of the blocks, with the quartiles of the
    ratios. Tables are in Markdown.
    """
    if show is not None:
        benchmark = read_json(expand_path(show))
        _print(benchmark, str(show), as_json)
        return
    groups, left_out = chosen(only)
    place = resolve_device(device)
    scale = Scale(precision=resolve_precision(precision, place))
    if place.type == "cuda":  # a step takes a tenth of a millisecond
        scale = dataclasses.replace(scale, steps=100)
    scale = scale.quick() if quick else scale
    if left_out:
        console.report(left_out)

    def write(benchmark: Benchmark) -> None:
        if out is not None:
            write_json(out, benchmark)

    with torch_threads(threads), console.items("bench", "blocks") as progress:
        result = run(groups, scale, place, progress=progress, on_rows=write)
    _print(dict(result), "bench", as_json)


def _print(benchmark: dict[str, object], where: str, as_json: bool) -> None:
    """Prints the tables of a benchmark, or the whole of it as JSON."""
    rows = rows_of(benchmark, where)
    if as_json:
        print_json(benchmark)
        return
    print(f"{benchmark.get('device')}, clock: {benchmark.get('clock')}\n\n{tables(rows)}")
