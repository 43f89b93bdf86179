"""`score`."""

from pathlib import Path
from typing import Annotated

import typer

from bype.cli.options import DataPath, Device, Files, Json, Resize, RunPath, Seed, Split, ends_in, print_json
from bype.core import console
from bype.core.files import write_csv
from bype.core.numbers import MAX_INT, readable
from bype.evaluation.scores import Scores
from bype.evaluation.scores import score as score_items
from bype.runs.items import chosen_items, own_split
from bype.runs.reference import scores_beside_tests
from bype.runs.run import Run


def score(
    run: RunPath,
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE.csv", callback=ends_in("--out", ".csv"), help="The output file.")
    ],
    files: Files = None,
    samples: Annotated[int, typer.Option("--samples", min=1, max=MAX_INT, help="Importance samples S per item.")] = 500,
    with_: Annotated[
        str | None, typer.Option("--with", metavar="NAME", help="Score under this refit of the prior.")
    ] = None,
    split: Split = None,
    resize: Resize = False,
    seed: Seed = 0,
    moved: DataPath = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Score each of FILES, or of the test images: log-likelihood, bits per dimension, how unusual it is."""
    loaded = Run.open(run).load(device, with_, data=moved)
    found = chosen_items(loaded, files, resize=resize, split=split)
    tests = own_split(loaded, files, split) == "test"
    with console.items(str(run)) as progress:
        if loaded.has_data:
            scores = scores_beside_tests(
                loaded, found.images, samples, are_tests=tests, seed=seed, name=with_, progress=progress
            )
        else:
            console.report(f"{run}: without its data; the column more_unusual_than is left out")
            scores = score_items(loaded.model, found.images, samples, seed=seed, progress=progress)
    rows = _rows(found.names, found.labels, scores)
    write_csv(out, list(rows[0]), (list(row.values()) for row in rows))
    least = min(rows, key=lambda row: row["log_likelihood"])
    if as_json:
        print_json({"run": str(run), "out": str(out), "samples": samples, "items": rows})
        return
    rank = least.get("more_unusual_than")
    unusual = "" if rank is None else f", more unusual than {readable(float(rank))} % of test items"
    lowest = f"{least['name']} ({readable(float(least['log_likelihood']))} nats{unusual})"
    print(f"{out}: {len(rows)} items; least likely: {lowest}")


Row = dict[str, "str | float"]


def _rows(names: tuple[str, ...], labels: tuple[str, ...], scores: Scores) -> list[Row]:
    """A row per item: its name, its label if any is known, and its figures; columns that do not apply are left out."""
    columns = {
        "log_likelihood": scores.log_likelihood, "bpd": scores.bpd, "elbo": scores.elbo,
        "more_unusual_than": scores.more_unusual_than,
    }  # fmt: skip
    figures = {name: column.tolist() for name, column in columns.items() if column is not None}
    rows: list[Row] = []
    for i, name in enumerate(names):
        own: Row = {"name": name}
        if labels:
            own["label"] = labels[i]
        own.update({column: round(values[i], 6) for column, values in figures.items()})
        rows.append(own)
    return rows
