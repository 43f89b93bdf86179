"""What the commands share: the application, options of one name and meaning, how a run is loaded, how one is told."""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from bype.core.config import DEVICES, MAX_INT
from bype.core.errors import InputError
from bype.core.files import expand_path

if TYPE_CHECKING:
    import torch

    from bype.runs.run import LoadedRun


class Stopped(BaseException):
    """SIGINT or SIGTERM has ended a command, with this exit code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class _Commands(TyperGroup):
    """The commands. A KeyboardInterrupt leaves them as `Stopped`: typer would drop it, and what is noted on it."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as e:
            raise Stopped(130) from e


app = typer.Typer(
    cls=_Commands,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Variational autoencoders whose prior is built from data.",
)
data_app = typer.Typer(help="The data sets.")
app.add_typer(data_app, name="data")

RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, all else on stderr.")]


def _device(value: str) -> str:
    if value not in DEVICES:
        raise InputError(f"--device: expected one of {', '.join(DEVICES)}, got {value!r}")
    return value


Device = Annotated[str, typer.Option("--device", metavar="|".join(DEVICES), callback=_device, help="Where to compute.")]


def _seed(value: int) -> int:
    if not 0 <= value <= MAX_INT:
        raise InputError(f"--seed: expected a number from 0 to 2^31, got {value}")
    return value


Seed = Annotated[int, typer.Option("--seed", callback=_seed, help="Seed of the random draws.")]
DataDir = Annotated[str | None, typer.Option("--data-dir", metavar="DIR", help="Where to look first.")]


def parse_int(text: str) -> int | None:
    """A whole number from 0 to 2^31, or None where a text is none."""
    return int(text) if re.fullmatch("[0-9]{1,10}", text) and int(text) <= MAX_INT else None


def expand_user(path: Path | None) -> Path | None:
    """A path with its `~` as a home, which a shell leaves alone in `--out=~/x`."""
    return None if path is None else expand_path(path)


def _png(out: Path) -> Path:
    out = expand_path(out)
    if out.suffix != ".png":
        raise InputError(f"--out: expected a name that ends in .png, got {out}")
    return out


PngOut = Annotated[Path, typer.Option("--out", metavar="FILE.png", callback=_png, help="Where the picture goes.")]


def load_run(path: Path, device: str, refit: str | None = None) -> "LoadedRun":
    """A run, its data and its best model, with a refit as its prior if one is named."""
    from bype.runs.run import Run

    return Run.open(path).load(device, refit)


def new_generator(seed: int, device: "torch.device") -> "torch.Generator":
    """A generator of random numbers on a device."""
    import torch

    return torch.Generator(device).manual_seed(seed)


def print_json(value: Any) -> None:
    """The one object on stdout."""
    print(json.dumps(value, allow_nan=False))


def print_written(out: Path, count: int, as_json: bool) -> None:
    """Says that images were written."""
    if as_json:
        print_json({"out": str(out), "n": count})
    else:
        print(f"{out}: {count} images")
