"""`augment`."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from bype.cli.options import DataPath, Device, Json, RunPath, Seed, ends_in, expand_user, print_json
from bype.core import console
from bype.core.errors import InputError
from bype.core.files import write_json
from bype.core.numbers import MAX_INT
from bype.data.images import Dataset
from bype.evaluation import augmentation
from bype.evaluation.augmentation import METHODS
from bype.evaluation.classifier import ClassifierInfo, ClassifierOptions, error_rate, labels_of, train_classifier
from bype.evaluation.plates import plate_agreement
from bype.export.augmented import save_augmented
from bype.models.vae import VAE
from bype.runs.run import Run

DEFAULT = ClassifierOptions()


def augment(
    run: RunPath,
    set_: Annotated[
        str | None, typer.Argument(metavar="[SET]", help="A labelled data set of the same image size [default: RUN's].")
    ] = None,
    method: Annotated[
        str | None,
        typer.Option("--method", metavar=f"{'|'.join(METHODS)},...", help="[default: all that the prior allows]"),
    ] = None,
    epochs: Annotated[int, typer.Option("--epochs", min=1, max=MAX_INT, help="Epochs of the classifier.")] = 100,
    batch_size: Annotated[
        int, typer.Option("--batch-size", min=1, max=MAX_INT, help="Examples per step, and as many synthetic ones.")
    ] = 100,
    weight: Annotated[
        float, typer.Option("--weight", min=0, max=1, help="Weight lambda of the training examples' loss.")
    ] = DEFAULT.weight,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="FILE.json", callback=expand_user, help="Write the figures here, as each method ends."
        ),
    ] = None,
    export: Annotated[
        Path | None,
        typer.Option(
            "--export",
            metavar="FILE.npz",
            callback=ends_in("--export", ".npz"),
            help="Only write the training set with as many synthetic examples, by one --method.",
        ),
    ] = None,
    seed: Seed = 0,
    moved: DataPath = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Train a classifier with a model's samples beside the training examples (section 5.4, Table 3)."""
    loaded = Run.open(run).load(device, data=moved)
    model = loaded.model
    data = model.checked_data(loaded.dataset(set_))
    for part in data.splits.values():
        labels_of(part, data.name)
    methods = _methods(method, model)
    if export is not None:
        _export(export, model, data, methods, seed, as_json=as_json)
        return
    options = replace(DEFAULT, epochs=epochs, batch_size=batch_size, weight=weight, seed=seed)
    rows: list[dict[str, object]] = []
    summary = {"run": str(run), "set": data.name, "seed": seed, "epochs": epochs, "weight": weight, "methods": rows}
    for name in methods:
        rows.append(_train(model, data, name, options))
        if out is not None:  # each may take an hour
            write_json(out, summary)
    if as_json:
        print_json(summary)
    else:
        console.table(rows, f"{run}: error of a classifier of {data.name}, in percent")


def _methods(given: str | None, model: VAE) -> list[str]:
    if given is not None:
        names = list(dict.fromkeys(given.split(",")))
        if unknown := [name for name in names if name not in METHODS]:
            raise InputError(f"--method: expected one or more of {', '.join(METHODS)}, got {unknown[0]!r}")
        return names
    return augmentation.allowed_methods(model)


def _export(path: Path, model: VAE, data: Dataset, methods: list[str], seed: int, *, as_json: bool) -> None:
    if len(methods) != 1 or methods == ["baseline"]:
        raise InputError(f"--export: expected one --method that makes images, got {','.join(methods)}")
    source = augmentation.synthetic_source(model, data, methods[0])
    assert source is not None
    n = save_augmented(path, data, source, seed)
    if as_json:
        print_json({"export": str(path), "n": n, "method": methods[0]})
    else:
        print(f"{path}: {n} images, half of them synthetic")


def _train(model: VAE, data: Dataset, method: str, options: ClassifierOptions) -> dict[str, object]:
    source = augmentation.synthetic_source(model, data, method)
    start = last = time.monotonic()

    def show(info: ClassifierInfo) -> None:
        nonlocal last
        if (now := time.monotonic()) - last > 10 or info.epoch == options.epochs:
            last, left = now, (now - start) / info.epoch * (options.epochs - info.epoch)
            console.report(f"{method}  epoch {info.epoch}/{options.epochs}  loss {info.loss:.4f}  {left:.0f} s left")

    classifier = train_classifier(data, source, options, on_epoch=show)
    row: dict[str, object] = {"method": method}
    for split in ("test", "validation"):
        row[f"{split}_error"] = error_rate(classifier, data.part(split), data.name)
    if method == "baseline" and "prior" in augmentation.allowed_methods(model):
        row["plate_agreement"] = plate_agreement(model, classifier, seed=options.seed)
    return row | {"seconds": time.monotonic() - start}
