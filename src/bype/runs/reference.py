"""Log-likelihoods of test items of a run, the yardstick for how unusual another item is; kept in the run folder."""

from torch import Tensor

from bype.core.devices import versions
from bype.core.errors import InputError
from bype.core.tensors import read_tensors, write_tensors
from bype.evaluation.likelihood import Progress
from bype.evaluation.scores import score
from bype.runs.run import LoadedRun

#: The largest number of test items that are scored.
N_REFERENCE = 1000


def reference_scores(
    loaded: LoadedRun, n_samples: int, *, seed: int = 0, name: str | None = None, progress: Progress | None = None
) -> Tensor:
    """The log-likelihoods of the first test items in nats, at most 1,000, as `bype.evaluation.score` computes them.

    Args:
        loaded: The run.
        n_samples: Importance samples per item.
        seed: Seed of the noise.
        name: The name of the refit that the model was loaded with, if any.
        progress: As for `score`.

    Raises:
        InputError: If the data are not found.
    """
    suffix = "" if name is None else f"@{name}"
    path = loaded.run.path / f"reference-{n_samples}-s{seed}{suffix}.safetensors"
    what = {"networks": loaded.networks, "versions": versions(), "device": str(loaded.device), "refit": name}
    if name is None and path.exists():  # a refit may have been replaced by another of its name
        try:
            tensors, about = read_tensors(path)
            if about == what:
                return tensors["log_likelihood"].to(loaded.device)
        except InputError:
            pass
    own = score(loaded.model, loaded.data.test.first(N_REFERENCE), n_samples, seed=seed, progress=progress)
    if name is None:
        write_tensors(path, {"log_likelihood": own.log_likelihood.cpu()}, what)
    return own.log_likelihood
