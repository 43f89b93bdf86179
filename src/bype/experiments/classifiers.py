"""Classifiers of cells, trained into the folder of runs: continued where they were stopped, and never trained twice."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from bype.core.config import dataset_stem
from bype.core.devices import versions
from bype.core.errors import InputError
from bype.core.locks import locked
from bype.core.tensors import read_tensors, write_tensors
from bype.data.images import Dataset
from bype.evaluation.classifier import Classifier, ClassifierInfo, ClassifierOptions, Source, train_classifier
from bype.experiments.cell import SIZES
from bype.experiments.records import hash_settings

#: Seconds between two saved states.
SAVE_EVERY = 30.0


class Trained(NamedTuple):
    """A classifier, and the seconds of its training."""

    classifier: Classifier
    seconds: float


def baseline_path(runs: Path, data: str, options: ClassifierOptions) -> Path:
    """The file of the classifier of a data set that is trained without synthetic examples: the same for all cells."""
    stem, settings = dataset_stem(data), hash_settings(asdict(options))
    return runs / f"classifier-{stem}-s{options.seed}-{settings}.safetensors"


def kept_classifier(
    path: Path,
    data: Dataset,
    source: Source | None,
    options: ClassifierOptions,
    check: Callable[[], None],
    network: Mapping[str, object] | None = None,
) -> Trained:
    """Trains a classifier, continues its training, or reads it if it is finished.

    Args:
        path: Its file.
        data: The labelled data.
        source: The synthetic examples, or None.
        options: How it is trained.
        check: Called after each epoch; an exception that it raises stops the training, which can be continued.
        network: Identifies the network of the synthetic examples. A file of another network, of other data or of other
            options is replaced.

    Raises:
        RunExistsError: If another process is training it.
    """
    made: dict[str, object] = {
        "options": asdict(options), "data": data.checksum(), "network": dict(network or {}), "versions": _versions(),
    }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path.with_name(f".{path.name}.lock"), f"{path}: in use by another process"):
        state, earlier = _read(path, made)
        start = saved = time.perf_counter()

        def write(info: ClassifierInfo) -> None:
            seconds = earlier + time.perf_counter() - start
            write_tensors(path, info.state(), {**made, "seconds": seconds})

        def on_epoch(info: ClassifierInfo) -> None:
            nonlocal saved
            ended = info.epoch == options.epochs
            if ended or time.perf_counter() - saved > SAVE_EVERY:
                write(info)
                saved = time.perf_counter()
            try:
                check()
            except BaseException:
                write(info)
                raise

        classifier = train_classifier(data, source, options, on_epoch=on_epoch, state=state)
        return Trained(classifier, earlier + time.perf_counter() - start)


def _versions() -> dict[str, str]:
    """The released versions: a change of the sources, which may concern anything, does not train a classifier again."""
    return {name: version for name, version in versions().items() if name != "source"}


def seconds_left(path: Path | None, data: str, options: ClassifierOptions, rate: float, *, alone: bool) -> float:
    """The seconds that a classifier's training takes, less those that its file holds.

    Args:
        path: Its file, or None.
        data: The name of the data.
        options: How it is trained.
        rate: Seconds per GFLOP.
        alone: Whether it is trained without synthetic examples, which double the work.
    """
    images, pixels = SIZES.get(data, SIZES["mnist"])
    weights = pixels * options.hidden_dim + options.hidden_dim**2
    # 2 FLOP forward and 4 backward for each weight and example.
    whole = 6e-9 * weights * images * (1 if alone else 2) * options.epochs * rate
    epochs = 0
    if path is not None:
        try:
            epochs = int(read_tensors(path)[0]["epoch"])
        except (InputError, KeyError):  # none yet, or damaged
            epochs = 0
    return whole * (1 - min(1.0, epochs / options.epochs))


def _read(path: Path, made: Mapping[str, object]) -> tuple[dict[str, Tensor] | None, float]:
    try:
        state, counters = read_tensors(path)
    except InputError:  # none yet, or damaged: it is trained from the start
        return None, 0.0
    seconds = counters.pop("seconds", None)
    if counters != made or not isinstance(seconds, int | float):
        return None, 0.0
    return state, float(seconds)
