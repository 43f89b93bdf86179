"""`data list`, `data fetch`, `data check`."""

from typing import Annotated, Any

import typer

from bype.cli.options import DataDir, Device, Json, print_json
from bype.core import console
from bype.core.errors import InputError
from bype.data import catalog, fetch
from bype.data.images import Dataset


def data_list(
    data_dir: DataDir = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """List the published data sets, and where each was found."""
    rows = [
        {
            "name": name,
            "what": known.summary,
            "where": "installed" if not known.files else str(catalog.find(name, data_dir) or "not found"),
        }
        for name, known in catalog.PUBLISHED.items()
    ]
    if as_json:
        found = [row | {"found": row["where"] != "not found"} for row in rows]
        print_json({"sets": found, "looked_in": [str(r) for r in catalog.roots(data_dir)]})
        return
    console.table(rows)
    print("searched: " + ", ".join(str(r) for r in catalog.roots(data_dir)))


def data_fetch(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="The data set [default: all].")] = None,
    mirror: Annotated[
        str | None, typer.Option("--mirror", metavar="URL", help="Download from URL/NAME/FILE instead.")
    ] = None,
    data_dir: Annotated[
        str | None,
        typer.Option("--data-dir", metavar="DIR", help="Target folder [default: $BYPE_DATA or ~/.cache/bype]."),
    ] = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Download published data sets. Interrupted downloads resume; files are verified by SHA-256."""
    names = list(fetch.FILES) if name is None else [name]
    with console.downloads() as progress:
        files = {n: fetch.fetch(n, data_dir, mirror=mirror, progress=progress) for n in names}
    if as_json:
        print_json({"files": files})
        return
    for n, paths in files.items():
        print("\n".join(paths) if paths else f"{n}: included in scikit-learn")


def data_check(
    name: Annotated[str | None, typer.Argument(metavar="[SET]", help="A name or path [default: all found].")] = None,
    resize: Annotated[str | None, typer.Option("--resize", metavar="HxW", help="As for train.")] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="As for train.")] = False,
    images_key: Annotated[str | None, typer.Option("--images-key", metavar="NAME", help="As for train.")] = None,
    labels_key: Annotated[str | None, typer.Option("--labels-key", metavar="NAME", help="As for train.")] = None,
    shape: Annotated[str | None, typer.Option("--shape", metavar="HxW", help="As for train.")] = None,
    data_dir: DataDir = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Read data sets as `train` would, verify the checksums of published files, and print a summary."""
    names = [n for n, known in catalog.PUBLISHED.items() if not known.files or catalog.find(n, data_dir)]
    reading = {
        "resize": resize, "skip_bad": skip_bad, "images_key": images_key, "labels_key": labels_key, "shape": shape
    }  # fmt: skip
    rows: list[dict[str, Any]] = []
    damaged: list[InputError] = []
    for n in names if name is None else [name]:
        try:
            options = catalog.applicable(n, reading) if name is None else reading
            found, compared = fetch.check(n, data_dir, **options)
        except InputError as e:  # the other sets are still checked
            damaged.append(e)
            continue
        rows.append(_row(n, found, len(compared)))
    if damaged and not rows:
        raise damaged[0]
    if as_json:
        print_json({"sets": rows})
    else:
        hidden = ("class_names", "sum")
        console.table([{k: v for k, v in row.items() if k not in hidden} | {"sum": row["sum"][:12]} for row in rows])
        for row in rows:
            if row["class_names"]:
                print(f"{row['set']}: classes {', '.join(row['class_names'])}")
    for error in damaged[:-1]:
        console.report(str(error))
    if damaged:
        raise damaged[-1]


def _row(name: str, data: Dataset, compared: int) -> dict[str, Any]:
    labels = data.train.labels
    return {
        "set": name,
        **{split: len(images) for split, images in data.splits.items()},
        "shape": "x".join(map(str, data.shape)),
        "values": "floats" if data.levels is None else f"{data.levels} levels",
        "classes": 0 if labels is None else len(labels.unique()),
        "class_names": list(data.classes),
        "compared": compared,
        "skipped": data.skipped,
        "sum": data.checksum(),
    }
