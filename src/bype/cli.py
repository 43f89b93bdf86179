"""The command line. torch is imported by the commands that compute, not here: `bype --help` is quick."""

import dataclasses
import inspect
import json
import os
import signal
import sys
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from bype.config import DEVICES, Config, flag_of
from bype.errors import BypeError, InputError

if TYPE_CHECKING:
    from torch import Tensor

    from bype.data import Dataset
    from bype.experiments.cells import Selection
    from bype.models import VAE
    from bype.runs import Run

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Variational autoencoders whose prior is built from data.",
)
data_app = typer.Typer(help="The data sets.")
app.add_typer(data_app, name="data")

RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, all else on stderr.")]
Device = Annotated[str, typer.Option("--device", metavar="|".join(DEVICES), help="Where to compute.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of the random draws.")]
DataDir = Annotated[str | None, typer.Option("--data-dir", metavar="DIR", help="Where to look first.")]


def _png(out: Path) -> Path:
    if out.suffix != ".png":
        raise InputError(f"--out: expected a name that ends in .png, got {out}")
    return out


PngOut = Annotated[Path, typer.Option("--out", metavar="FILE.png", callback=_png, help="Where the picture goes.")]


def main() -> None:
    """Runs a command and ends with its exit code: an error is one line on stderr."""
    signal.signal(signal.SIGTERM, _stop)
    # What a usage error is called differs between typer's versions; it is always what BadParameter derives from.
    usage_error: type[Exception] = typer.BadParameter.__mro__[2]
    try:
        # A command returns nothing; an interrupt is caught below us and comes back as a code.
        if app(args=sys.argv[1:] or ["--help"], prog_name="bype", standalone_mode=False) == 130:
            raise KeyboardInterrupt
    except BypeError as e:
        _fail(str(e), e.exit_code)
    except usage_error as e:
        _fail(f"{_usage(e)} (see `bype {' '.join(_command(e))}--help`)", 2)
    except (KeyboardInterrupt, typer.Abort):
        _fail("stopped; of a training run, the last finished epoch is saved", 130)
    except _Stopped:
        _fail("stopped; of a training run, the last finished epoch is saved", 143)
    except MemoryError as e:
        _fail(f"expected enough memory for this run, got {str(e) or 'none left'}", 2)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as e:  # what no reader or writer saw coming
        _fail(f"{e.filename or 'a file'}: expected to use it, got {e.strerror or e}", 2)


class _Stopped(BaseException):
    """SIGTERM."""


def _stop(number: int, frame: types.FrameType | None) -> NoReturn:
    raise _Stopped


def _usage(error: Any) -> str:
    """What is wrong with a command's words, and where it is a value that does not fit, which value was given."""
    message = error.format_message().rstrip(".")
    options = getattr(getattr(error, "param", None), "opts", ())
    for word, following in zip(sys.argv, [*sys.argv[1:], ""], strict=True):
        name, equals, value = word.partition("=")
        if name in options:
            given = value if equals else following
            return message if repr(given) in message else f"{message}, got {given!r}"
    return message


def _command(error: Any) -> list[str]:
    context = getattr(error, "ctx", None)
    return [*context.command_path.split()[1:], ""] if context is not None else [""]


def _fail(message: str, code: int) -> NoReturn:
    print("bype: " + " ".join(message.split()), file=sys.stderr)
    sys.exit(code)


def _print_json(value: Any) -> None:
    print(json.dumps(value, allow_nan=False))


def _version(show: bool) -> None:
    if show:
        from bype import __version__

        print(f"bype {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="The version.")] = False,
) -> None:
    pass


def with_config(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command an option for every field of `Config`, by its own help, default and flag."""
    own = [p for p in inspect.signature(command).parameters.values() if p.name != "options"]
    fields = []
    for f in dataclasses.fields(Config):
        rules = f.metadata
        if f.default is dataclasses.MISSING:
            note = typer.Argument(metavar=f.name.upper(), help=rules["help"])
            default: Any = inspect.Parameter.empty
        else:
            note = typer.Option(flag_of(f), metavar="|".join(rules["choices"]) or None, help=rules["help"])
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


@app.command()
@with_config
def train(
    ctx: typer.Context,
    options: dict[str, Any],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="RUN", help="The run folder [default: runs/NAME].")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the run's last saved epoch.")] = False,
    as_json: Json = False,
) -> None:
    """Train a model on SET into a run folder, saving every epoch as it ends."""
    config = Config(**options)
    path = out or Path("runs") / config.name

    from bype import console
    from bype.runs import Run, fit

    run = Run(path)
    if resume and run.exists:
        recorded = run.config()
        for f in dataclasses.fields(Config):
            given, own = options[f.name], getattr(recorded, f.name)
            if _was_given(ctx, f.name) and given != own:
                raise InputError(f"--resume {path}: expected {flag_of(f)} {own}, the run's own, got {given}")
        config = recorded
    with console.epochs(str(path), config.epochs) as show:
        trained = fit(config, path, resume=resume, on_epoch=show)
    trainer = trained.trainer
    if trained.was_finished:
        console.say(f"{path}: finished already, after {trainer.epoch} epochs")
    result = {
        "run": str(path),
        "epochs": trainer.epoch,
        "best_epoch": trainer.best_epoch,
        "val_loss": trainer.best_val_loss,
        "finished_already": trained.was_finished,
    }
    if as_json:
        _print_json(result)
    else:
        print(f"{path}: best validation loss {trainer.best_val_loss:.3f} at epoch {trainer.best_epoch}")


def _was_given(ctx: typer.Context, name: str) -> bool:
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _load(path: Path, device: str, refit: str | None = None) -> "tuple[Run, Dataset, VAE]":
    """A run, its data and its best model, under a refit of its prior if one is named."""
    if device not in DEVICES:
        raise InputError(f"--device: expected one of {', '.join(DEVICES)}, got {device!r}")

    from bype.runs import Run, device_of

    run = Run(path)
    data = run.load_data(device_of(device))
    model = run.load_model(data)
    if refit is not None:
        model.prior = run.load_refit(refit, data)
    return run, data, model


def _generator(seed: int, device: Any) -> Any:
    import torch

    return torch.Generator(device).manual_seed(seed)


@app.command()
def evaluate(
    run: RunPath,
    set_: Annotated[str | None, typer.Argument(metavar="[SET]", help="Another data set than the run's.")] = None,
    samples: Annotated[int, typer.Option("--samples", min=1, help="Importance samples S per item.")] = 5000,
    items: Annotated[int | None, typer.Option("--items", min=1, help="Score only the first N items.")] = None,
    split: Annotated[str, typer.Option("--split", metavar="train|validation|test", help="Which items.")] = "test",
    with_: Annotated[
        str | None, typer.Option("--with", metavar="NAME", help="Log-likelihood under this refit of the run's prior.")
    ] = None,
    k: Annotated[
        str | None,
        typer.Option(
            "--k", metavar="K,K,...", help="Numbers of neighbours [default: 3,5,...,15, as far as there are]."
        ),
    ] = None,
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Score a run: log-likelihood, its bound, active units and kNN accuracy, into RUN/evaluation.json."""
    try:
        ks = None if k is None else [int(part) for part in k.split(",")]
    except ValueError:
        raise InputError(f"--k: expected whole numbers with commas between, got {k!r}") from None

    from bype import console
    from bype.evaluation import evaluate as figures_of
    from bype.evaluation import evaluate_under
    from bype.files import read_json, write_json

    place, own, model = _load(run, device)
    data = own if set_ in (None, own.name) else place.load_data(own.train.pixels.device, set_)
    options: dict[str, Any] = {"split": split, "n_samples": samples, "n_items": items, "seed": seed}
    with console.items(str(run)) as progress:
        if with_ is None:
            figures = figures_of(model, data, **options, ks=ks, trained_on=data is own, progress=progress)
        else:
            refitted = place.load_refit(with_, own)
            figures = evaluate_under(model, data, refitted, with_, **options, progress=progress)
    what = {"set": data.name, "split": split, "seed": seed}
    result = {"run": str(run), **what, **figures}
    if data is own:
        record = place.path / "evaluation.json"
        # Figures under other priors stand beside one another, as long as they are of the same items.
        earlier = read_json(record) if record.exists() else {}
        kept = earlier if all(earlier.get(key) == value for key, value in what.items()) else {}
        write_json(record, {**kept, **what, **figures})
    if as_json:
        _print_json(result)
        return
    knn = figures.pop("knn", {})
    rows = [{"figure": name, "value": value} for name, value in figures.items()]
    rows += [{"figure": f"knn, K = {key} (%)", "value": value} for key, value in knn.items()]
    console.table(rows, f"{run} on {data.name} ({split})")


@app.command()
def sample(
    run: RunPath,
    out: Annotated[Path, typer.Option("--out", metavar="FILE.png|FILE.npz", help="Where the images go.")],
    n: Annotated[
        int | None, typer.Option("--n", min=1, help="How many [default: 64; 16 for each of --plates].")
    ] = None,
    component: Annotated[int | None, typer.Option("--component", min=0, help="From this component alone.")] = None,
    like: Annotated[
        str | None, typer.Option("--like", metavar="IMAGE", help="Around an image: a file, or a test item's number.")
    ] = None,
    plates: Annotated[
        bool, typer.Option("--plates", help="Samples beside the point each came from (Figure 1).")
    ] = False,
    with_: Annotated[str | None, typer.Option("--with", metavar="NAME", help="From this refit of the prior.")] = None,
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Generate images from the prior, from one component of it, around an image, or as plates."""
    if sum([component is not None, like is not None, plates]) > 1:
        raise InputError("sample: expected one of --component, --like and --plates, got more")
    if out.suffix not in (".png", ".npz"):
        raise InputError(f"--out: expected a name that ends in .png or .npz, got {out}")

    from bype import pictures

    _, data, model = _load(run, device, with_)
    generator = _generator(seed, data.train.pixels.device)
    if plates:
        try:
            plate = model.plates(n or 16, generator=generator)
        except ValueError as e:
            raise InputError(f"--plates: {e}") from None
        if out.suffix == ".png":
            pictures.save_png(pictures.plates(plate), out)
        else:
            _save_npz(out, plate.images.flatten(0, 1), plate.components.repeat_interleave(plate.images.shape[1]))
        count = plate.images.shape[:2].numel()
    else:
        image = None if like is None else _image(like, data)
        try:
            drawn = model.sample(n or 64, component=component, like=image, generator=generator)
        except ValueError as e:
            raise InputError(f"sample {run}: {e}") from None
        if out.suffix == ".png":
            pictures.save_png(pictures.grid(drawn.images), out)
        else:
            _save_npz(out, drawn.images, drawn.components)
        count = len(drawn.images)
    _done(out, count, as_json)


def _save_npz(path: Path, images: "Tensor", components: "Tensor | None") -> None:
    import numpy as np

    from bype.files import write

    arrays = {"images": images.detach().cpu().float().numpy()}
    if components is not None:
        arrays["components"] = components.cpu().numpy()

    def fill(temporary: Path) -> None:
        with temporary.open("wb") as f:  # an open file, for a name would get .npz appended
            np.savez(f, **arrays)  # type: ignore[arg-type]

    write(path, fill)


def _image(like: str, data: "Dataset") -> "Tensor":
    """An image by file, or a test item by number."""
    device = data.test.pixels.device
    if Path(like).exists() or not like.isdigit():
        from bype.pictures import read_image

        return read_image(Path(like), data.shape).to(device)
    if int(like) >= len(data.test):
        raise InputError(f"--like: expected a file or a test item from 0 to {len(data.test) - 1}, got {like}")
    return data.test.scaled(slice(int(like), int(like) + 1))[0]


def _done(out: Path, count: int, as_json: bool) -> None:
    if as_json:
        _print_json({"out": str(out), "n": count})
    else:
        print(f"{out}: {count} images")


@app.command()
def reconstruct(
    run: RunPath,
    out: PngOut,
    n: Annotated[int, typer.Option("--n", min=1, help="How many test items.")] = 32,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Draw test items and, below each, its reconstruction."""
    import torch

    from bype import pictures
    from bype.evaluation import observed

    _, data, model = _load(run, device)
    items = data.test.first(n)
    x = torch.cat(list(observed(model, items, seed=0)))
    pictures.save_png(pictures.pairs(x, model.reconstruct(x)), out)
    _done(out, len(x), as_json)


@app.command()
def interpolate(
    run: RunPath,
    out: PngOut,
    between: Annotated[
        tuple[int, int] | None,
        typer.Option("--between", metavar="I J", help="From item I to item J [default: --rows random pairs]."),
    ] = None,
    steps: Annotated[int, typer.Option("--steps", min=2, help="Images from one end to the other.")] = 11,
    rows: Annotated[int, typer.Option("--rows", min=1, help="Random pairs, where --between is not given.")] = 8,
    points: Annotated[bool, typer.Option("--points", help="Between points of the prior, not test items.")] = False,
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Draw the images on the way from one item to another, a straight line in z (Figure 2)."""
    import torch

    from bype import pictures

    _, data, model = _load(run, device)
    where = data.test.pixels.device
    if points:
        components = getattr(model.prior(model.encoder), "n_components", 0)
        if not components or model.prior.points_at(torch.zeros(1, dtype=torch.long, device=where)) is None:
            raise InputError(f"--points: expected a prior made of points, got {type(model.prior).__name__}")
    count, what = (components, "point of the prior") if points else (len(data.test), "test item")
    if between is None:
        generator = _generator(seed, where)
        # Two at a time without replacement, so that no item is led to itself.
        ends = torch.stack([torch.randperm(count, generator=generator, device=where)[:2] for _ in range(rows)])
    else:
        ends = torch.tensor([between], device=where)
        if ends.min() < 0 or ends.max() >= count:
            raise InputError(
                f"--between: expected a {what}, from 0 to {count - 1}, got {' and '.join(map(str, between))}"
            )
    start, end = ((model.prior.points_at(i) if points else data.test.scaled(i)) for i in (ends[:, 0], ends[:, -1]))
    assert start is not None
    assert end is not None
    images = model.interpolate(start, end, steps)
    pictures.save_png(pictures.grid(images.flatten(0, 1), steps), out)
    _done(out, images.shape[:2].numel(), as_json)


@app.command()
def refit(
    run: RunPath,
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="What to call the new prior.")],
    points: Annotated[
        str, typer.Option("--points", metavar="all|COUNT", help="Components at all training items, or at so many.")
    ] = "all",
    em: Annotated[int | None, typer.Option("--em", metavar="K", help="Instead, K components found by EM.")] = None,
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Give a trained run a second prior: other components, sigma chosen on validation items, networks untouched."""
    if points != "all" and not points.isdigit():
        raise InputError(f"--points: expected all or a number, got {points!r}")

    from bype import console
    from bype.refit import refit as refit_prior

    place, data, model = _load(run, device)
    place.check_refit_name(name)
    count = None if points == "all" else int(points)
    prior = refit_prior(model, data, points=count, em=em, seed=seed, say=lambda line: console.say(f"{name}: {line}"))
    record = place.save_refit(name, prior, method="em" if em is not None else "points", seed=seed)
    if as_json:
        _print_json({"run": str(run), **record})
    else:
        print(f"{run}: refit {name!r} of {record['components']} components, sigma {record['sigma']:.4f}")


@app.command()
def coreset(
    run: RunPath,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the files go.")],
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Write a run's pseudocoreset as plain files: points.npy, weights.csv, gallery.png."""
    from bype.export import export_coreset

    _, data, model = _load(run, device)
    result = export_coreset(model, data.train, out)
    if as_json:
        _print_json(result)
    else:
        print(f"{out}: {result['points']} points, worth {result['effective_points']:.1f} of equal weight")


@data_app.command("list")
def data_list(
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """The data sets that bype knows, and where each was found."""
    from bype import console, data

    rows = [
        {
            "name": name,
            "what": known.summary,
            "where": "installed" if not known.files else str(data.find(name, data_dir) or "not found"),
        }
        for name, known in data.KNOWN.items()
    ]
    if as_json:
        found = [row | {"found": row["where"] != "not found"} for row in rows]
        _print_json({"sets": found, "looked_in": [str(r) for r in data.roots(data_dir)]})
        return
    console.table(rows)
    print("looked in: " + ", ".join(str(r) for r in data.roots(data_dir)))


@data_app.command("fetch")
def data_fetch(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Which set [default: all].")] = None,
    mirror: Annotated[
        str | None, typer.Option("--mirror", metavar="URL", help="From here, a folder with NAME/FILE in it.")
    ] = None,
    data_dir: Annotated[
        str | None,
        typer.Option("--data-dir", metavar="DIR", help="Where to [default: $BYPE_DATA or ~/.cache/bype]."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Fetch published sets: resumed where a download broke off, checked by SHA-256 before they count."""
    from bype import console
    from bype.data import fetch

    names = list(fetch.FILES) if name is None else [name]
    with console.downloads() as progress:
        files = {n: fetch.fetch(n, data_dir, mirror=mirror, progress=progress) for n in names}
    if as_json:
        _print_json({"files": files})
        return
    for n, paths in files.items():
        print("\n".join(paths) if paths else f"{n}: comes with scikit-learn")


@data_app.command("check")
def data_check(
    name: Annotated[str | None, typer.Argument(metavar="[SET]", help="A name or path [default: all found].")] = None,
    resize: Annotated[str | None, typer.Option("--resize", metavar="HxW", help="As train takes it.")] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Read a set as `train` would, compare published files with their published sums, and say what is there."""
    from bype import console, data
    from bype.data import fetch

    names = [n for n, known in data.KNOWN.items() if not known.files or data.find(n, data_dir)]
    rows = []
    for n in names if name is None else [name]:
        found, compared = fetch.check(n, data_dir, resize=resize)
        labels = found.train.labels
        rows.append(
            {
                "set": n,
                **{split: len(images) for split, images in found.splits.items()},
                "shape": "x".join(map(str, found.shape)),
                "values": "floats" if found.levels is None else f"{found.levels} levels",
                "classes": 0 if labels is None else len(labels.unique()),
                "compared": len(compared),
                "sum": found.checksum(),
            }
        )
    if as_json:
        _print_json({"sets": rows})
    else:
        console.table([row | {"sum": str(row["sum"])[:12]} for row in rows])


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where runs and pictures go.")] = Path("runs/demo"),
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Train the four priors on 8x8 digits, side by side, and draw what they learned."""
    from bype.demo import run_demo

    rows = run_demo(out, device)
    if as_json:
        _print_json({"out": str(out), "priors": rows})
    else:
        from bype import console

        console.table(rows, "digits, test items")
        print(f"pictures: {out}")


@app.command()
def reproduce(
    what: Annotated[
        str | None, typer.Argument(metavar="[WHAT]", help="An experiment: trunk, step-two, step-two-settings, table1.")
    ] = None,
    dataset: Annotated[str | None, typer.Option("--dataset", metavar="SET", help="Only cells of this set.")] = None,
    arch: Annotated[str | None, typer.Option("--arch", metavar="ARCH", help="Only cells with this network.")] = None,
    prior: Annotated[str | None, typer.Option("--prior", metavar="PRIOR", help="Only cells with this prior.")] = None,
    coreset: Annotated[
        str | None, typer.Option("--coreset", metavar="STRATEGY", help="Only cells with this strategy.")
    ] = None,
    seeds: Annotated[
        str | None, typer.Option("--seeds", metavar="N|N-M", help="These seeds [default: the experiment's].")
    ] = None,
    protocol: Annotated[
        str | None, typer.Option("--protocol", metavar="paper|short", help="Of table1 [default: paper].")
    ] = None,
    precision: Annotated[
        str | None, typer.Option("--precision", help="Of table1 [default: bf16 on a CPU, tf32 on CUDA].")
    ] = None,
    budget: Annotated[
        str | None, typer.Option("--budget", metavar="TIME", help="Stop after so long: 90s, 9m, 1h30m.")
    ] = None,
    shard: Annotated[
        str | None, typer.Option("--shard", metavar="I/N", help="Only the I-th of N equal shares.")
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="Only list the outstanding cells.")] = False,
    render: Annotated[
        bool, typer.Option("--render", help="Write README.md and pictures beside the ledger, from it alone.")
    ] = False,
    ledger: Annotated[Path, typer.Option("--ledger", metavar="DIR", help="Where finished cells go.")] = Path(
        "results/ledger"
    ),
    runs: Annotated[Path, typer.Option("--runs", metavar="DIR", help="Where the runs are kept.")] = Path(
        "runs/reproduce"
    ),
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Run an experiment's outstanding cells, cheapest first, each written to the ledger as it ends."""
    if what is None and not render:
        raise InputError("reproduce: expected an experiment (trunk, step-two, table1) or --render, got neither")
    result: dict[str, Any] = {"experiment": what}
    if what is not None:
        from bype.experiments.cells import Selection

        asked = Selection(dataset, arch, prior, coreset, _seeds(seeds), protocol, precision, device)
        result |= _run_experiment(what, asked, shard, budget, list_, ledger, runs)
    if render:
        from bype.experiments.render import render as write_page

        result["page"] = str(write_page(ledger))
    if as_json:
        _print_json(result)
        return
    if "finished" in result:
        left = len(result["begun"]) + len(result["not_started"])
        print(f"{what}: {len(result['finished'])} cells run, {left} left, {ledger}")
    for name in result.get("outstanding", ()):
        print(name)
    if render:
        print(result["page"])


def _run_experiment(
    what: str,
    asked: "Selection",
    shard: str | None,
    budget: str | None,
    list_: bool,
    ledger: Path,
    runs: Path,
) -> dict[str, Any]:
    from bype import console
    from bype.experiments import campaign
    from bype.experiments.cells import cells_of
    from bype.experiments.ledger import read

    seconds = campaign.parse_duration(budget) if budget is not None else float("inf")
    cells = cells_of(what, asked)
    if shard is not None:
        cells = campaign.shard(cells, *_shard(shard))
    if list_:
        done, left_out = read(ledger)
        for line in left_out:
            console.say(line)
        return {"outstanding": [c.id for c in campaign.outstanding(cells, done)]}
    return campaign.run_cells(cells, ledger, runs, budget=seconds)._asdict()


def _shard(text: str) -> tuple[int, int]:
    """`2/5` as (2, 5)."""
    part, slash, parts = text.partition("/")
    if not (slash and part.isdigit() and parts.isdigit() and 1 <= int(part) <= int(parts)):
        raise InputError(f"--shard: expected I/N with I from 1 to N, got {text!r}")
    return int(part), int(parts)


def _seeds(text: str | None) -> list[int] | None:
    """`3` or `0-4` as a list."""
    if text is None:
        return None
    first, dash, last = text.partition("-")
    if not first.isdigit() or (dash and not last.isdigit()) or (dash and int(last) < int(first)):
        raise InputError(f"--seeds: expected a number or a range like 0-4, got {text!r}")
    return list(range(int(first), int(last or first) + 1))


__all__: Sequence[str] = ("app", "main")
