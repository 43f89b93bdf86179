"""`evaluate` and `refit`."""

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from bype.cli.app import Device, Json, RunPath, Seed, app, load_run, parse_int, print_json
from bype.core.config import MAX_INT
from bype.core.errors import InputError, notes_kept


@app.command()
def evaluate(
    run: RunPath,
    set_: Annotated[str | None, typer.Argument(metavar="[SET]", help="Another data set than the run's.")] = None,
    samples: Annotated[
        int, typer.Option("--samples", min=1, max=MAX_INT, help="Importance samples S per item.")
    ] = 5000,
    items: Annotated[
        int | None, typer.Option("--items", min=1, max=MAX_INT, help="Importance-weight the first N items alone.")
    ] = None,
    split: Annotated[str, typer.Option("--split", metavar="train|validation|test|all", help="Which items.")] = "test",
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
    if ks is not None and with_ is not None:
        raise InputError(f"--k: expected it without --with, under which neighbours are the same, got --with {with_}")

    from bype.core import console
    from bype.evaluation.metrics import evaluate as figures_of
    from bype.evaluation.metrics import evaluate_under
    from bype.runs.evaluations import Evaluations

    loaded = load_run(run, device)
    own, model, dataset = loaded.data, loaded.model, loaded.run.dataset
    results = Evaluations(loaded)
    results.read()  # a damaged record is refused before anything is scored
    data = own if set_ is None or dataset.is_own(set_) else dataset.load(own.train.pixels.device, set_)
    if with_ is None:
        score = partial(figures_of, ks=ks, trained_on=data is own)
    else:
        score = partial(evaluate_under, prior=results.refits.load(with_, own), name=with_)
    scoring = None
    if data is own:
        scoring = results.partial_scores(split, samples=samples, items=items, seed=seed, refit=with_)
    options: dict[str, Any] = {"split": split, "n_samples": samples, "n_items": items, "seed": seed, "scoring": scoring}
    with notes_kept([] if scoring is None else [scoring]):
        with console.items(str(run)) as progress:
            figures = score(model, data, **options, progress=progress)
        what: dict[str, Any] = {"set": data.name, "split": split, "seed": seed}
        try:
            _show(run, what, figures, as_json=as_json)
        finally:  # recorded even where nobody can be shown them, and shown even where they cannot be recorded
            if data is own and not results.add({**what, **figures}):
                console.report(f"{run}: its record is of more items or samples, which stay")
            if scoring is not None:
                scoring.remove()


def _show(run: Path, what: dict[str, Any], figures: dict[str, Any], *, as_json: bool) -> None:
    from bype.core import console

    if as_json:
        print_json({"run": str(run), **what, **figures})
    else:
        knn = {f"knn, K = {key} (%)": value for key, value in figures.get("knn", {}).items()}
        rows = {name: value for name, value in figures.items() if name != "knn"} | knn
        title = f"{run} on {what['set']} ({what['split']})"
        console.table([{"figure": name, "value": value} for name, value in rows.items()], title)


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
    count = None if points == "all" else parse_int(points)
    if points != "all" and count is None:
        raise InputError(f"--points: expected all or a number, got {points!r:.60}")

    from bype.core import console
    from bype.runs.evaluations import Evaluations
    from bype.training.refitting import refit as refit_prior

    loaded = load_run(run, device)
    results = Evaluations(loaded)
    results.refits.check_name(name)
    prior = refit_prior(
        loaded.model, loaded.data, points=count, em=em, seed=seed, report=lambda line: console.report(f"{name}: {line}")
    )
    record = results.save_refit(name, prior, method="em" if em is not None else "points", seed=seed)
    if as_json:
        print_json({"run": str(run), **record})
    else:
        print(f"{run}: refit {name!r} of {record['components']} components, sigma {record['sigma']:.4f}")
