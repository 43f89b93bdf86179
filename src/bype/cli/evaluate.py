"""`evaluate` and `refit`."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from bype.cli.options import DataPath, Device, Json, RunPath, Seed, print_json
from bype.core import console
from bype.core.errors import InputError, notes_kept
from bype.core.numbers import MAX_INT, parse_int
from bype.data.catalog import PUBLISHED
from bype.evaluation import metrics, quality
from bype.runs.evaluations import Evaluations
from bype.runs.run import Run
from bype.training import refitting


def evaluate(
    run: RunPath,
    set_: Annotated[str | None, typer.Argument(metavar="[SET]", help="A data set other than the run's.")] = None,
    samples: Annotated[
        int, typer.Option("--samples", min=1, max=MAX_INT, help="Importance samples S per example.")
    ] = 5000,
    items: Annotated[
        int | None, typer.Option("--items", min=1, max=MAX_INT, help="Importance-weight the first N examples only.")
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            "--split",
            metavar="train|validation|test|all",
            help="The split to evaluate [default: test; all of your own set that is not the run's].",
        ),
    ] = None,
    with_: Annotated[
        str | None, typer.Option("--with", metavar="NAME", help="Log-likelihood under this refit of the prior.")
    ] = None,
    k: Annotated[
        str | None,
        typer.Option("--k", metavar="K,K,...", help="Numbers of neighbours [default: 3,5,...,15, as the data allow]."),
    ] = None,
    sample_quality: Annotated[
        bool,
        typer.Option("--quality", help="Compare samples with test items instead: kernel distance, precision, recall."),
    ] = False,
    features: Annotated[
        str | None,
        typer.Option(
            "--features",
            metavar="pca,classifier,inception",
            help="The features of --quality [default: pca, and classifier where there are labels].",
        ),
    ] = None,
    seed: Seed = 0,
    moved: DataPath = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Evaluate a run: log-likelihood, its bound, active units and kNN accuracy, recorded in RUN/evaluation.json.

    With --quality, only the quality of its samples is evaluated and recorded there. --items is then the number of
    samples, of test items and of training items.
    """
    if sample_quality:
        given = {"--k": k is not None, "--split": split not in (None, "test"), "SET": set_ is not None}
        _quality(run, features, items, with_, seed, moved, device, given, as_json=as_json)
        return
    if features is not None:
        raise InputError("--features: needs --quality")
    try:
        ks = None if k is None else [int(part) for part in k.split(",")]
    except ValueError:
        raise InputError(f"--k: expected whole numbers separated by commas, got {k!r}") from None
    if ks is not None and with_ is not None:
        raise InputError("--k: cannot be combined with --with; the neighbours do not depend on the prior")

    loaded = Run.open(run).load(device, data=moved)
    evaluations = Evaluations(loaded)
    evaluations.read()  # a damaged record is rejected before the evaluation starts
    own = set_ is None or loaded.run.dataset.is_own(set_)
    data = loaded.dataset(set_)
    if split is None:  # of another set, only a published one has a test split that others use too
        copied = own or data.checksum() == loaded.run.record["data_sum"]
        split = "test" if copied or set_ in PUBLISHED else "all"
    if with_ is None:
        score = partial(metrics.evaluate, ks=ks, trained_on=own)
    else:
        prior = evaluations.refits.load(with_).to(loaded.device)
        score = partial(metrics.evaluate_under, prior=prior, name=with_)
    scoring = None
    if own:
        scoring = evaluations.partial_scores(split, samples=samples, items=items, seed=seed, refit=with_)
    options: dict[str, Any] = {"split": split, "n_samples": samples, "n_items": items, "seed": seed, "scoring": scoring}
    with notes_kept([] if scoring is None else [scoring]):
        with console.items(str(run)) as progress:
            values = score(loaded.model, data, **options, progress=progress)
        what: dict[str, Any] = {"set": data.name, "split": split, "seed": seed}
        try:
            _show(run, what, values, as_json=as_json)
        finally:  # recorded even if printing fails, and printed even if recording fails
            if own and not evaluations.add({**what, **values}):
                console.report(f"{run}: kept the existing metrics, computed from more examples or samples")
            if scoring is not None:
                scoring.remove()


def _quality(
    run: Path, features: str | None, items: int | None, with_: str | None, seed: int, moved: str | None, device: str,
    unusable: Mapping[str, bool], *, as_json: bool,
) -> None:  # fmt: skip
    """Evaluates the quality of samples, and records it."""
    if unfit := [name for name, used in unusable.items() if used]:
        raise InputError(f"{unfit[0]}: cannot be combined with --quality, which compares with the run's own test items")
    loaded = Run.open(run).load(device, data=moved)
    evaluations = Evaluations(loaded)
    evaluations.read()  # a damaged record is rejected before the evaluation starts
    prior = None if with_ is None else evaluations.refits.load(with_).to(loaded.device)
    values = quality.sample_quality(
        loaded.model, loaded.data, features=None if features is None else features.split(","), prior=prior,
        n_items=items, seed=seed, report=lambda name: console.report(f"{run}: samples in features {name}"),
    )  # fmt: skip
    values = {name if with_ is None else f"{name}@{with_}": value for name, value in values.items()}
    what: dict[str, Any] = {"set": loaded.data.name, "split": "test", "seed": seed}
    try:
        if as_json:
            print_json({"run": str(run), **what, **values})
        else:
            _show_quality(run, values)
    finally:  # recorded even if printing fails
        evaluations.add({**what, **values})


def _show_quality(run: Path, values: Mapping[str, float]) -> None:
    """A row for each figure, that of samples beside that of training items."""
    rows: list[dict[str, object]] = []
    for name, value in values.items():
        plain, at, refit_name = name.partition("@")
        if plain.endswith("_training"):
            continue
        yardstick = values.get(f"{plain}_training{at}{refit_name}")
        row: dict[str, object] = {"metric": name, "samples": value}
        rows.append(row if yardstick is None else row | {"training items": yardstick})
    console.table(rows, f"{run}: samples, and as many training items, against test items")


def _show(run: Path, what: dict[str, Any], values: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json({"run": str(run), **what, **values})
    else:
        knn = {f"knn, K = {key} (%)": value for key, value in values.get("knn", {}).items()}
        rows = {name: value for name, value in values.items() if name != "knn"} | knn
        title = f"{run} on {what['set']} ({what['split']})"
        console.table([{"metric": name, "value": value} for name, value in rows.items()], title)


def refit(
    run: RunPath,
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="Name of the new prior.")],
    points: Annotated[
        str, typer.Option("--points", metavar="all|COUNT", help="Components at all training examples, or at COUNT.")
    ] = "all",
    em: Annotated[int | None, typer.Option("--em", metavar="K", help="Fit K components by EM instead.")] = None,
    seed: Seed = 0,
    moved: DataPath = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Fit a second prior to a trained run: other components, sigma chosen on validation data, networks unchanged."""
    count = None if points == "all" else parse_int(points)
    if points != "all" and count is None:
        raise InputError(f"--points: expected all or a number, got {points!r:.60}")

    loaded = Run.open(run).load(device, data=moved)
    evaluations = Evaluations(loaded)
    evaluations.refits.check_name(name)
    prior = refitting.refit(
        loaded.model, loaded.data, points=count, em=em, seed=seed, report=lambda line: console.report(f"{name}: {line}")
    )
    record = evaluations.save_refit(name, prior, method="em" if em is not None else "points", seed=seed)
    if as_json:
        print_json({"run": str(run), **record})
    else:
        print(f"{run}: refit {name!r}: {record['components']} components, sigma {record['sigma']:.4f}")
