"""What a report shows of run folders: read, computed, and handed to `bype.viz.report`."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path

from bype.core.config import Config, flag_name
from bype.core.display import unit_in_words
from bype.core.errors import InputError, first_line
from bype.core.files import write_text
from bype.core.numbers import readable, whole
from bype.experiments.comparison import Comparison, Difference, compare, shared_data
from bype.experiments.showing import Limits, RunShower
from bype.runs.evaluations import Evaluations
from bype.runs.metrics import EpochRecord
from bype.runs.run import LoadedRun, Run
from bype.viz.report import Picture, Report, RunPart, Table, render
from bype.viz.sheets import Sheet
from bype.viz.vector import line_chart
from bype.viz.wording import metrics_in_words


def write_report(
    runs: Sequence[str | Path | Run],
    out: Path,
    *,
    samples: int = 500,
    items: int = 1000,
    seed: int = 0,
    device: str = "auto",
    progress: Callable[[str], None] | None = None,
) -> dict[str, object]:
    """Writes one self-contained HTML page about trained runs; what cannot be had of a run is left out, and named.

    Args:
        runs: Run folders.
        out: The file.
        samples: Importance samples for each example, in the comparison and the ranking of test items.
        items: Test examples that are compared, ranked and shown on the latent map, at most.
        seed: Seed of all noise.
        device: `auto`, `cpu` or `cuda`.
        progress: Called with a line of text before each part.

    Returns:
        `out`, `runs`, `bytes`, and `notes`, one line for each part that was left out.

    Raises:
        InputError: If there is no run, one is given twice, or the file cannot be written.
    """
    samples, items, seed = whole("samples", samples, 1), whole("items", items, 1), whole("seed", seed)
    opened = [run if isinstance(run, Run) else Run.open(run) for run in runs]
    names = [str(run.path) for run in opened]
    if not opened or len({run.path.resolve() for run in opened}) < len(opened):
        raise InputError(f"report: expected one or more different runs, got {', '.join(names) or 'none'}")
    tell = progress or (lambda line: None)
    limits = Limits(samples, items, seed, runs=len(opened))
    parts: list[RunPart] = []
    sheets: list[Sheet] = []
    seen: list[LoadedRun] = []
    for i, run in enumerate(opened):
        tell(f"report: {run.path}")
        part = _described(run)
        parts.append(part)
        loaded = _loaded(run, device, seen, part.notes)
        if loaded is not None:
            seen.append(loaded)
            sheets.extend(RunShower(loaded, f"{i}", part, limits).show())
    report = Report(
        title=f"Report on {names[0]}" if len(names) == 1 else f"Report on {len(names)} runs",
        runs=parts,
        curves=_curves(opened, parts),
        sheets=sheets,
        paper_unit=any(run.record["unit"] == "paper" for run in opened),
    )
    if len(opened) > 1:
        tell("report: comparison")
        try:
            report.comparison = _tables(compare(opened, samples=samples, items=items, seed=seed, device=device))
        except InputError as e:
            report.comparison_note = f"Not compared: {first_line(e)}"
    page = render(report)
    write_text(out, page)
    notes = [f"{part.name}: {note}" for part in parts for note in part.notes]
    return {"out": str(out), "runs": names, "bytes": len(page.encode()), "notes": notes}


def _loaded(run: Run, device: str, seen: Sequence[LoadedRun], notes: list[str]) -> LoadedRun | None:
    """The run's model, with data that an earlier run shares; None if it cannot be loaded."""
    try:
        return run.load(device, data=shared_data(run, seen))
    except InputError as e:
        notes.append(f"The model is not shown: {first_line(e)}")
        return None


def _described(run: Run) -> RunPart:
    """Settings and recorded metrics, which need neither data nor model."""
    config, record = run.config, run.record
    settings = [
        (f"{f.metadata['help'].rstrip('.')} ({flag_name(f)})", _said(getattr(config, f.name)))
        for f in dataclasses.fields(Config)
        if getattr(config, f.name) is not None and f.name not in record["unused"] and f.name != "data_dir"
    ]
    settings += [("Device", record["device"]), ("Data checksum (SHA-256)", record["data_sum"])]
    settings += [(f"Version of {name}", version) for name, version in record["versions"].items()]
    part = RunPart(str(run.path), _summary(run), settings)
    try:
        recorded = Evaluations(run).read()
    except InputError as e:
        part.notes.append(f"Recorded metrics are not shown: {first_line(e)}")
        return part
    part.metrics = [(str(entry.get("split")), metrics_in_words(entry, _loss_unit(run))) for entry in recorded]
    if not recorded:
        part.notes.append(f"No metrics are recorded; bype evaluate {run.path} computes and records them.")
    return part


def _loss_unit(run: Run) -> str:
    return f"{unit_in_words(run.record['unit'])} per example"


def _said(value: object) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _summary(run: Run) -> str:
    """One paragraph on the settings."""
    config = run.config
    by = {
        "standard": "a standard normal prior",
        "vamp": "a VampPrior (a mixture at learned pseudo-inputs)",
        "exemplar": "an exemplar prior (a mixture at the training items)",
        "bype": "a Bayesian pseudocoreset prior (a mixture at weighted pseudo-inputs)",
    }
    prior = by.get(config.prior, f"prior {config.prior}")
    return (
        f"A model of {Path(config.set).name} with architecture {config.arch}, {config.latent_dim} latent dimensions, "
        f"likelihood {config.likelihood} and {prior}, trained by the {config.recipe_line()}, with seed "
        f"{config.seed}.{_epochs(run)}"
    )


def _epochs(run: Run) -> str:
    """How many epochs were trained and which is kept, as a sentence; empty if that is not recorded."""
    try:
        lines = run.metrics.read()
    except InputError:
        return ""  # named where the curves are left out
    best = [line["epoch"] for line in lines if line["best"]]
    return f" Epoch {best[-1]} of {len(lines)} is the best, and is shown here." if best else ""


def _curves(runs: Sequence[Run], parts: Sequence[RunPart]) -> list[Picture]:
    """Charts of the losses by epoch, with the runs of one unit together."""
    by_unit: dict[str, dict[str, list[EpochRecord]]] = {}
    for run, part in zip(runs, parts, strict=True):
        try:
            lines = run.metrics.read()
        except InputError as e:
            part.notes.append(f"Its training is not shown: {first_line(e)}")
            continue
        if lines:
            by_unit.setdefault(_loss_unit(run), {})[run.path.name] = lines
    return [
        line_chart(
            {
                name: ([m["epoch"] for m in lines], [_value(m, key) for m in lines])
                for name, lines in of_unit.items()
            },
            title, "epoch", unit, skip_start=True,
        )
        for unit, of_unit in by_unit.items()
        for key, title in (("val_loss", "Validation loss"), ("reconstruction", "Reconstruction"), ("kl", "KL term"))
    ]  # fmt: skip


def _value(line: EpochRecord, key: str) -> float:
    value = line.get(key)
    return float(value) if isinstance(value, int | float) else math.nan


def _tables(comparison: Comparison) -> list[Table]:
    about = f"{comparison['items']} {comparison['split']} examples, {comparison['samples']} importance samples each"
    runs = [
        [
            run["run"],
            readable(run["nll_nats"]) + (f" ± {readable(run['nll_nats_se'])}" if "nll_nats_se" in run else ""),
            readable(run["elbo_nats"]) + (f" ± {readable(run['elbo_nats_se'])}" if "elbo_nats_se" in run else ""),
        ]
        for run in comparison["runs"]
    ]
    columns = ("run", "nll_nats (nats, lower is better)", "elbo_nats (nats, higher is better)")
    tables = [Table(f"Means ± standard errors over {about}", columns, runs)]
    head = ("run", "minus", "difference of nll_nats (nats)", "95 % interval", "pairs")
    for key, by in (("differences", "example"), ("over_seeds", "seed")):
        differences = comparison["differences"] if key == "differences" else comparison["over_seeds"]
        if differences:
            caption = f"Differences of nll_nats between two runs, paired by {by}; below 0 the first one is better"
            tables.append(Table(caption, head, [_row(d) for d in differences]))
    return tables


def _row(d: Difference) -> list[str]:
    interval = f"{readable(d['low'])} to {readable(d['high'])}" if "low" in d else ""
    return [d["run"], d["minus"], readable(d["nll_nats"]), interval, str(d["pairs"])]
