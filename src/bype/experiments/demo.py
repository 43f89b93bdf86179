"""`bype demo`: four priors on 8x8 digits, side by side, in about a minute."""

import re
import statistics
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import cast

import torch

from bype.core.config import Config
from bype.core.devices import resolve_device
from bype.core.errors import InputError, RunExistsError
from bype.core.files import is_partial, read_json, write_json
from bype.core.locks import locked
from bype.core.names import PRIORS
from bype.evaluation.metrics import evaluate
from bype.experiments.reporting import write_report
from bype.models.generation import plates
from bype.priors.pseudocoreset import PseudocoresetPrior
from bype.runs.evaluations import Evaluations
from bype.runs.fitting import TrainedRun, fit
from bype.runs.run import RUN_FILES, Run
from bype.training.terminal import epochs
from bype.viz import charts, labelled
from bype.viz import images as pictures

#: A prior and its metrics, by their names in the table.
DemoRow = dict[str, str | float]

MARK, REPORT = "demo.json", "report.html"
DEMO_FILES = re.compile(
    rf"{MARK}|{'|'.join(PRIORS)}|(samples-.*|pseudo-points|plates|reconstructions|curves)\.png|report\.html"
)
EPOCHS, BATCH, SAMPLES = 60, 100, 500


def run_demo(out: Path, device: str = "auto") -> list[DemoRow]:
    """Trains and evaluates the four priors, writes pictures and a report; returns a row of metrics for each prior.

    An earlier demo at `out` is replaced. Foreign files are left alone, but a folder that holds files of the names of a
    demo or of a run is refused.

    Raises:
        RunExistsError: If `out` is such a folder, or is in use by another process.
        InputError: If it cannot be written, or there is no such device.
    """
    resolve_device(device)
    if out.exists():
        _check_earlier(out)
    write_json(out / MARK, {"demo": "bype"})
    with locked(out, f"{out}: in use by another process"):
        _remove_runs([out / prior for prior in PRIORS if (out / prior).is_dir()])
        return _run_demo(out, device)


def _run_demo(out: Path, device: str) -> list[DemoRow]:
    rows: list[DemoRow] = []
    runs: dict[str, TrainedRun] = {}
    for prior in PRIORS:
        config = Config(
            "digits", recipe="fast", prior=prior, n_components=100, exemplars=100, latent_dim=16,
            epochs=EPOCHS, batch_size=BATCH, device=device,
        )  # fmt: skip
        with epochs(f"{prior:9}") as show:
            trained = fit(config, out / prior, on_epoch=show, on_step=show.step)
        metrics = evaluate(trained.trainer.model, trained.data, n_samples=SAMPLES)
        Evaluations(trained.run).add({**metrics, "split": "test", "seed": 0})
        seconds = statistics.median(line["seconds"] for line in trained.run.metrics.read())
        rows.append(
            {
                "prior": prior,
                "nll_nats": metrics["nll_nats"],
                "bpd": metrics["bpd"],
                "kNN, K = 5 (%)": metrics["knn"][5],
                "active_units": metrics["active_units"],
                "seconds_per_epoch": seconds,
            }
        )
        runs[prior] = trained
    draw(out, runs)
    write_report([trained.run for trained in runs.values()], out / REPORT, samples=SAMPLES, device=device)
    write_json(out / MARK, {"demo": "bype", "rows": rows})
    return rows


def _check_earlier(out: Path) -> None:
    """Refuses a folder with files that a demo would replace, unless it is an earlier demo's."""
    try:
        own = sorted(p.name for p in out.iterdir() if DEMO_FILES.fullmatch(p.name) or RUN_FILES.fullmatch(p.name))
        mark = read_json(out / MARK) if MARK in own else {}
        marked = not own or mark.get("demo") == "bype" or isinstance(mark.get("rows"), list)
    except (OSError, InputError):
        own, marked = ["a file"], False
    if not marked:
        raise RunExistsError(f"{out}: expected a new folder or an earlier demo, got one with {own[0]}")


def _remove_runs(folders: Sequence[Path]) -> None:
    """Removes the files of earlier runs; none of them if one is in use by another process."""
    with ExitStack() as locks:
        for folder in folders:
            locks.enter_context(Run(folder).lock())
        for folder in folders:
            for path in folder.iterdir():
                if (RUN_FILES.fullmatch(path.name) and path.name != "lock") or is_partial(path):
                    path.unlink(missing_ok=True)


def draw(out: Path, runs: dict[str, TrainedRun]) -> None:
    """Writes the pictures: samples, weighted pseudo-inputs, plates, reconstructions and loss curves."""
    for prior, trained in runs.items():
        generator = torch.Generator(trained.data.train.pixels.device).manual_seed(0)
        samples = trained.trainer.model.sample(64, generator=generator)
        pictures.save_png(labelled.samples(samples.images, f"Samples of prior {prior}"), out / f"samples-{prior}.png")
    bype = runs["bype"]
    model, data = bype.trainer.model, bype.data
    coreset = cast(PseudocoresetPrior, model.prior)
    title = f"pseudo-inputs of bype and their weights, {len(coreset.weights)} for {coreset.n_data} examples"
    pictures.save_png(
        pictures.gallery(coreset.pseudo_inputs, coreset.weights / coreset.n_data, title), out / "pseudo-points.png"
    )
    generator = torch.Generator(data.train.pixels.device).manual_seed(0)
    pictures.save_png(charts.plates(plates(model, 16, generator=generator)), out / "plates.png")
    x = data.test.first(32).scaled()
    names = [f"test[{i}]" for i in range(len(x))]
    title = "Test images, and below their reconstructions under prior bype"
    picture = labelled.reconstructions(x, model.reconstruct(x), names, title)
    pictures.save_png(picture, out / "reconstructions.png")
    metrics = {prior: trained.run.metrics.read() for prior, trained in runs.items()}
    pictures.save_png(charts.curves(metrics, "nats"), out / "curves.png")
