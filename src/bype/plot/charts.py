"""Charts of runs, models or arrays: curves, the latent map, kNN, scores."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from torch import Tensor

from bype.core.display import unit_in_words
from bype.core.errors import InputError
from bype.core.numbers import whole
from bype.data.images import Dataset
from bype.evaluation.latents import embed, in_two_dimensions
from bype.evaluation.metrics import knn_of_split
from bype.evaluation.scores import score
from bype.models.inputs import ImagesLike
from bype.plot.sources import Array, Source, Trained, drawn, run_of, tensor
from bype.runs.fitting import TrainedRun
from bype.runs.run import LoadedRun, Run
from bype.training.epoch import EpochInfo
from bype.viz.axes import draw_classes, draw_histogram, draw_lines
from bype.viz.charts import TERMS
from bype.viz.latents import TSNE_NAMES

if TYPE_CHECKING:  # matplotlib is imported when something is drawn
    from matplotlib.axes import Axes

#: The epochs of one training: a run, or what `bype.train` returns.
History: TypeAlias = str | Path | Run | LoadedRun | TrainedRun | Sequence[EpochInfo]


def curves(
    source: History | Mapping[str, History],
    term: str = "val_loss",
    *,
    unit: str | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """A loss by epoch, with a line for each run.

    Args:
        source: A run, the list of `EpochInfo` that `bype.train` returns, or a mapping from names to these.
        term: `val_loss`, or of the training examples `loss`, `reconstruction` or `kl`, as in `metrics.jsonl`.
        unit: The unit; by default the runs' own, or "nats, or the paper's unit" where it is not known.
        ax: The axes to draw on.

    Raises:
        InputError: If a run has no epochs, or there is no such term.
    """
    given = source if isinstance(source, Mapping) else {_name(source): source}
    lines = {name: _by_epoch(history, term) for name, history in given.items()}
    if not lines or not all(x for x, _ in lines.values()):
        raise InputError("curves: expected runs with at least one epoch, got none")
    title = TERMS.get(term, "training loss")
    label = f"{unit or _unit(given.values())} per example"
    return drawn(ax, (5.6, 3.8), lambda axis: draw_lines(axis, lines, title, "epoch", label, skip_start=True))


def latent_map(
    source: Source | Array,
    images: ImagesLike | None = None,
    labels: Sequence[object] | Array | None = None,
    *,
    n: int = 1000,
    seed: int = 0,
    ax: "Axes | None" = None,
) -> "Axes":
    """The means of q(z|x) in two dimensions, coloured by label; with more than two by t-SNE.

    Args:
        source: A run or model; or the latents, (n, D).
        images: The images, by default the test images of a run.
        labels: Their labels, (n,), or the names of their classes; by default those of a run.
        n: The largest number of images that are shown.
        seed: Seed of t-SNE.
        ax: The axes to draw on.

    Raises:
        InputError: If there are fewer than four images, or they do not fit the model.
    """
    n = whole("n", n, 4)
    if isinstance(source, Tensor | np.ndarray):
        means = tensor(source)[:n]
    else:
        trained = Trained(source)
        if images is None and labels is None and trained.data.test.labels is not None:
            labels = [trained.data.label_name(label) for label in trained.data.test.labels[:n].tolist()]
        means = embed(trained.model, trained.images(images, n), seed=seed)
    names = [] if labels is None else [str(v) for v in np.asarray(labels).tolist()][:n]
    if names and len(names) != len(means):
        raise InputError(f"latent_map: expected {len(means)} labels, got {len(names)}")
    flat, how = in_two_dimensions(means, seed)
    axes_names = TSNE_NAMES if means.shape[1] > 2 else ("z1 (no unit)", "z2 (no unit)")
    title = f"{len(means)} latents, {how.partition(',')[0]}"
    return drawn(ax, (7, 5.4), lambda axis: draw_classes(axis, flat, names, title, axes_names))


def knn(
    source: Source | Mapping[int, float], data: Dataset | None = None, *, split: str = "test", ax: "Axes | None" = None
) -> "Axes":
    """The accuracy of a vote of the K nearest latents, in percent, over K.

    Args:
        source: A run or model; or the accuracies by K, as in `bype.evaluate(...)["knn"]`.
        data: With a model, its data.
        split: The split whose labels are predicted.
        ax: The axes to draw on.

    Raises:
        InputError: If the data have no labels.
    """
    if isinstance(source, Mapping):
        accuracy = dict(source)
    else:
        trained = Trained(source)
        accuracy = knn_of_split(trained.model, trained.data if data is None else data, split)
    if not accuracy:
        raise InputError("knn: expected data with labels, got none")
    line = {"accuracy": (list(accuracy), list(accuracy.values()))}
    title = f"kNN accuracy, {split} items"
    return drawn(
        ax, (5.6, 3.8), lambda axis: draw_lines(axis, line, title, "neighbours K", "accuracy (%)", markers=True)
    )


def scores(
    source: Source | Array,
    items: ImagesLike | Mapping[str, Array] | None = None,
    *,
    n_samples: int = 100,
    n: int = 200,
    seed: int = 0,
    ax: "Axes | None" = None,
) -> "Axes":
    """How the log-likelihoods of items are distributed: a histogram, in nats.

    Args:
        source: A run or model, whose items are scored by `bype.score`; or log-likelihoods, (n,), in nats.
        items: The items, by default test images of a run; with log-likelihoods, those of other items by name, which
            are drawn beside them.
        n_samples: Importance samples per item.
        n: The largest number of items that are scored.
        seed: Seed of the noise.
        ax: The axes to draw on.

    Raises:
        InputError: If the items do not fit the model.
    """
    n = whole("n", n, 1)
    if isinstance(source, Tensor | np.ndarray):
        others = items if isinstance(items, Mapping) else {}
        values = {"items": _vector(source), **{name: _vector(own) for name, own in others.items()}}
    else:
        trained = Trained(source)
        if isinstance(items, Mapping):
            raise InputError("scores: expected images to score, got a mapping")
        found = score(trained.model, trained.images(items, n), n_samples, seed=seed)
        values = {"items": found.log_likelihood.cpu().numpy()}
    count = len(values["items"])
    title, x_label = f"scores of {count} items", "log-likelihood (nats)"
    return drawn(ax, (5.6, 3.8), lambda axis: draw_histogram(axis, values, title, x_label, "share of the items (%)"))


def _vector(values: Array) -> np.ndarray:
    vector = tensor(values).double().cpu().numpy()
    if vector.ndim != 1 or not len(vector) or not np.isfinite(vector).all():
        raise InputError(f"scores: expected finite log-likelihoods of shape (n,), got shape {vector.shape}")
    return vector


def _name(source: object) -> str:
    run = run_of(source)
    return "training" if run is None else run.path.name


def _unit(sources: Iterable[object]) -> str:
    units = {run.record["unit"] for run in map(run_of, sources) if run is not None}
    return unit_in_words(units.pop()) if len(units) == 1 else "nats, or the paper's unit"


def _by_epoch(history: History, term: str) -> tuple[list[float], list[float]]:
    run = run_of(history)
    lines: Sequence[Mapping[str, object]]
    if run is not None:
        lines = run.metrics.read()
    elif isinstance(history, Sequence):
        lines = [info.to_dict() for info in history if isinstance(info, EpochInfo)]
    else:
        raise InputError(f"curves: expected a run, or epochs, got {type(history).__name__}")
    values = [line.get(term) for line in lines]
    if not all(isinstance(v, int | float) for v in values):
        raise InputError(f"curves: expected a term such as {', '.join(TERMS)}, got {term!r}")
    return [float(str(line["epoch"])) for line in lines], [float(v) for v in values if isinstance(v, int | float)]
