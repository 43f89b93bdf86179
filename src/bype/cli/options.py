"""Shared by the commands: common options, parsing of values, printing of results."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from bype.core.config import DEVICES, TABLES
from bype.core.errors import InputError
from bype.core.files import expand_path
from bype.core.numbers import MAX_INT

RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object to stdout, all else to stderr.")]


def _device(value: str) -> str:
    if value not in DEVICES:
        raise InputError(f"--device: expected one of {', '.join(DEVICES)}, got {value!r}")
    return value


Device = Annotated[
    str, typer.Option("--device", metavar="|".join(DEVICES), callback=_device, help="Device to compute on.")
]


def _seed(value: int) -> int:
    if not 0 <= value <= MAX_INT:
        raise InputError(f"--seed: expected a number from 0 to 2^31, got {value}")
    return value


Seed = Annotated[int, typer.Option("--seed", callback=_seed, help="Seed of the random numbers.")]
DataPath = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="PATH",
        help="Where the run's own data are now, if they have moved; `train PATH --out RUN --resume` records it.",
    ),
]
Files = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[FILES|SET]",
        help="Image files, folders, zips, .npy, .npz; for a run of a table .csv, .parquet; test indices; "
        "or a published set, of which the test split.",
    ),
]
Resize = Annotated[
    bool, typer.Option("--resize", help="Crop image files at the centre and scale them to the model's size.")
]
Split = Annotated[
    str | None,
    typer.Option(
        "--split",
        metavar="train|validation|test|all",
        help="The split of each set to take [default: test of a published set, all images of your own].",
    ),
]
DataDir = Annotated[str | None, typer.Option("--data-dir", metavar="DIR", help="Folder that is searched first.")]


def expand_user(path: Path | None) -> Path | None:
    """Expands a leading `~`, which the shell does not do in `--out=~/x`."""
    return None if path is None else expand_path(path)


def ends_in(option: str, *suffixes: str) -> Callable[[Path | None], Path | None]:
    """A callback of an option that is a file: expands a leading `~`, and checks how the name ends."""

    def check(path: Path | None) -> Path | None:
        path = expand_user(path)
        if path is not None and path.suffix not in suffixes:
            raise InputError(f"{option}: expected a name that ends in {_either(suffixes)}, got {path}")
        return path

    return check


#: How names of pictures and of files of rows of a table end.
PICTURE, ROWS = (".png",), (*TABLES, ".npz")


def check_kind(out: Path, run: Path, table: object, images: tuple[str, ...] = PICTURE) -> None:
    """Checks that an output file is rows for a run of a table, and one of `images` for a run of images."""
    suffixes, kind = (images, "images") if table is None else (ROWS, "a table, of which there are no pictures")
    if out.suffix not in suffixes:
        raise InputError(
            f"--out: expected a name that ends in {_either(suffixes)}, since {run} is of {kind}, got {out}"
        )


def _either(suffixes: tuple[str, ...]) -> str:
    return " or ".join([", ".join(suffixes[:-1]), suffixes[-1]] if len(suffixes) > 1 else suffixes)


PngOut = Annotated[
    Path, typer.Option("--out", metavar="FILE.png", callback=ends_in("--out", *PICTURE), help="The output file.")
]
PngOrRowsOut = Annotated[
    Path,
    typer.Option(
        "--out",
        metavar="FILE.png",
        callback=ends_in("--out", *PICTURE, *ROWS),
        help="The output file; for a run of a table .csv, .parquet or .npz.",
    ),
]


def print_json(value: object) -> None:
    """Prints the JSON object of a command."""
    print(json.dumps(value, allow_nan=False))


def print_written(out: Path, count: int, as_json: bool, **more: object) -> None:
    """Prints how many images, or rows of a table, were written; as JSON, with more keys."""
    if as_json:
        print_json({"out": str(out), "n": count, **more})
    else:
        print(f"{out}: {count} {'rows' if out.suffix in TABLES else 'images'}")
