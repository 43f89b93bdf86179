"""Scores of items beside those of test items of a run, the yardstick for how unusual an item is.

The yardstick is kept in the run folder.
"""

from pathlib import Path

from torch import Tensor

from bype.core.devices import versions
from bype.core.errors import InputError
from bype.core.tensors import read_tensors, write_tensors
from bype.data.images import Images
from bype.evaluation.likelihood import Progress
from bype.evaluation.scores import Scores, more_unusual_than, score
from bype.runs.run import LoadedRun

#: The largest number of test items of the yardstick: the first ones.
N_REFERENCE = 1000


def scores_beside_tests(
    loaded: LoadedRun,
    images: Images,
    n_samples: int,
    *,
    are_tests: bool = False,
    seed: int = 0,
    name: str | None = None,
    progress: Progress | None = None,
) -> Scores:
    """Scores of images (`bype.evaluation.score`), ranked among the first test items, at most 1,000.

    Args:
        loaded: The run.
        images: The images.
        n_samples: Importance samples per item.
        are_tests: Whether the images are the test items, in their order, which then are not scored twice.
        seed: Seed of the noise.
        name: The name of the refit that the model was loaded with, if any.
        progress: As for `score`.

    Raises:
        InputError: If the images do not fit the model, or the run's data are not found.
    """
    kept = _Kept(loaded, n_samples, seed, name)
    if are_tests:
        own = score(loaded.model, images, n_samples, seed=seed, progress=progress)
        reference = own.log_likelihood[:N_REFERENCE]
        kept.write(reference)
        return own._replace(more_unusual_than=more_unusual_than(own.log_likelihood, reference))
    found = reference_scores(loaded, n_samples, seed=seed, name=name, progress=progress)
    return score(loaded.model, images, n_samples, reference=found, seed=seed, progress=progress)


def reference_scores(
    loaded: LoadedRun,
    n_samples: int,
    items: int = N_REFERENCE,
    *,
    seed: int = 0,
    name: str | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """The log-likelihoods of the first test items in nats, (n,), read from the run folder where they are kept.

    Args:
        loaded: The run.
        n_samples: Importance samples per item.
        items: How many test items, at most 1,000; the scores of the first 1,000 are kept.
        seed: Seed of the noise.
        name: The name of the refit that the model was loaded with, if any.
        progress: As for `score`.

    Raises:
        InputError: If the run's data are not found.
    """
    kept = _Kept(loaded, n_samples, seed, name)
    found = kept.read()
    if found is None:
        tests = loaded.data.test.first(min(items, N_REFERENCE))
        found = score(loaded.model, tests, n_samples, seed=seed, progress=progress).log_likelihood
        if items >= N_REFERENCE:
            kept.write(found)
    return found[:items]


class _Kept:
    """The log-likelihoods of the first test items in the run folder, of these networks and settings only."""

    def __init__(self, loaded: LoadedRun, n_samples: int, seed: int, name: str | None) -> None:
        self._device = loaded.device
        # A refit may have been replaced by another of its name: its scores are not kept.
        self._path: Path | None = None if name else loaded.run.path / f"reference-{n_samples}-s{seed}.safetensors"
        self._about = {
            "networks": loaded.networks, "versions": versions(), "device": str(loaded.device), "refit": None,
        }  # fmt: skip

    def read(self) -> Tensor | None:
        if self._path is None or not self._path.exists():
            return None
        try:
            tensors, about = read_tensors(self._path)
        except InputError:
            return None
        return tensors["log_likelihood"].to(self._device) if about == self._about else None

    def write(self, log_likelihood: Tensor) -> None:
        if self._path is not None:
            write_tensors(self._path, {"log_likelihood": log_likelihood.cpu()}, self._about)
