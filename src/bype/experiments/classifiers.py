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
from bype.experiments.records import hash_settings

#: Seconds between two saved states.
SAVE_EVERY = 30.0


class Trained(NamedTuple):
    """A classifier, and the seconds of its training."""

    classifier: Classifier
    seconds: float


def baseline_path(runs: Path, data: Dataset, options: ClassifierOptions) -> Path:
    """The file of the classifier of a data set that is trained without synthetic examples: the same for all cells."""
    stem, settings = dataset_stem(data.name), hash_settings(asdict(options))
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
        "options": asdict(options), "data": data.checksum(), "network": dict(network or {}), "versions": versions(),
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


def seconds_spent(path: Path) -> float:
    """The seconds of training that a file holds; 0 if there is none."""
    try:
        seconds = read_tensors(path)[1].get("seconds")
    except InputError:
        return 0.0
    return float(seconds) if isinstance(seconds, int | float) else 0.0


def _read(path: Path, made: Mapping[str, object]) -> tuple[dict[str, Tensor] | None, float]:
    try:
        state, counters = read_tensors(path)
    except InputError:  # none yet, or damaged: it is trained from the start
        return None, 0.0
    seconds = counters.pop("seconds", None)
    if counters != made or not isinstance(seconds, int | float):
        return None, 0.0
    return state, float(seconds)
