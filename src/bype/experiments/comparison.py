"""Trained runs compared on the test examples that they have in common."""

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import NotRequired, TypedDict

import torch
from torch import Tensor

from bype.core.config import Config
from bype.core.errors import InputError, notes_kept
from bype.core.numbers import whole
from bype.core.seeds import Stream
from bype.core.torch_state import fixed_torch_state
from bype.data.checks import per_block
from bype.data.images import Dataset, Images
from bype.evaluation.likelihood import Progress, log_likelihood
from bype.evaluation.metrics import in_nats
from bype.experiments.stats import Summary, paired, summary
from bype.models.objectives import elbo
from bype.models.observing import model_inputs
from bype.runs.evaluations import Evaluations
from bype.runs.run import LoadedRun, Run


class RunFigures(TypedDict):
    """The metrics of a run: means over the common examples, with standard errors. NLL and ELBO are in nats."""

    run: str
    seed: int
    nll_nats: float
    nll_nats_se: NotRequired[float]  # absent for a single example
    elbo_nats: float
    elbo_nats_se: NotRequired[float]
    nll_paper: NotRequired[float]  # under `mse`


class Difference(TypedDict):
    """The mean of the paired differences nll_nats(run) - nll_nats(minus): below 0, `run` is better."""

    run: str
    minus: str
    nll_nats: float
    se: NotRequired[float]  # absent for a single pair
    low: NotRequired[float]  # of the 95 % interval, by Student's t
    high: NotRequired[float]
    pairs: int


class Comparison(TypedDict):
    """Several runs compared; `over_seeds` has the pairs of settings that were run with at least two common seeds."""

    split: str
    samples: int
    items: int
    runs: list[RunFigures]
    differences: list[Difference]
    over_seeds: list[Difference]


@dataclass(frozen=True)
class _Scored:
    """The scores of one run, of each common example."""

    path: str
    config: Config
    discrete: bool
    paper: bool  # whether `mse`, in the paper's unit
    log_p: Tensor  # in the unit of the likelihood
    bound: Tensor
    n_pixels: int
    nll: list[float]  # in nats


@fixed_torch_state(grad=False)
def compare(
    runs: Sequence[str | Path | Run],
    *,
    split: str = "test",
    samples: int = 500,
    items: int | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: Callable[[str], Progress] | None = None,
) -> Comparison:
    r"""Compares trained runs by their log-likelihood on common examples.

    For each example n, both runs are scored by the importance-weighted bound with the same noise; the differences
    :math:`d_n` have the mean :math:`\bar d`, the standard error :math:`s/\sqrt{N}` and the interval
    :math:`\bar d \pm t_{0.975, N-1}\, s/\sqrt{N}`. It covers the choice of the test examples, not that of the seed:
    for settings that were run with several seeds, `over_seeds` has the differences paired by seed.

    Args:
        runs: Two or more run folders. The first is what the others are compared with.
        split: The split. Runs on the same data have the same examples; of other data, those with the same pixels are
            used.
        samples: Importance samples for each example.
        items: Only the first common examples, this many.
        seed: Seed of the noise.
        device: `auto`, `cpu` or `cuda`.
        progress: Called with the folder of a run before it is scored; returns what is called with the number of scored
            examples and their total.

    Raises:
        InputError: If there are fewer than two runs, one is given twice, the data of one are not found, they have no
            example in common, or densities would be compared with probabilities.
    """
    samples, seed = whole("samples", samples, 1), whole("seed", seed)
    opened = [run if isinstance(run, Run) else Run.open(run) for run in runs]
    paths = [str(run.path) for run in opened]
    if len({run.path.resolve() for run in opened}) < 2 or len(set(paths)) < len(paths):
        raise InputError(f"compare: expected two or more different runs, got {', '.join(paths) or 'none'}")
    loaded = _loaded(opened, device)
    rows = _common_rows([run.data.part(split) for run in loaded], paths, items)
    scored = [
        _score(run, index, split, samples, seed, items, None if progress is None else progress(path))
        for run, index, path in zip(loaded, rows, paths, strict=True)
    ]
    if len({s.discrete for s in scored}) > 1:
        kinds = ", ".join(f"{s.path} {s.config.likelihood}" for s in scored)
        raise InputError(f"compare: expected likelihoods that are all densities or all probabilities, got {kinds}")
    return {
        "split": split,
        "samples": samples,
        "items": len(scored[0].nll),
        "runs": [_figures(s) for s in scored],
        "differences": [
            _difference(s.path, scored[0].path, summary([a - b for a, b in zip(s.nll, scored[0].nll, strict=True)]))
            for s in scored[1:]
        ],
        "over_seeds": _over_seeds(scored),
    }


def _loaded(runs: Sequence[Run], device: str) -> list[LoadedRun]:
    """The runs, with data that several share read once."""
    loaded: list[LoadedRun] = []
    for run in runs:
        loaded.append(run.load(device, data=shared_data(run, loaded)))
    return loaded


def shared_data(run: Run, loaded: Sequence[LoadedRun]) -> Dataset | None:
    """The data of a loaded run that was trained on the same; None if there is none, or its data are not found."""
    same = next((other for other in loaded if other.run.record["data_sum"] == run.record["data_sum"]), None)
    return same.data if same is not None and same.has_data else None


def _common_rows(parts: Sequence[Images], paths: Sequence[str], items: int | None) -> list[Tensor | None]:
    """The rows of the examples that all have, in the order of the first; None where these are all, in order."""
    if all(part is parts[0] or torch.equal(part.stored(), parts[0].stored()) for part in parts[1:]):
        return [None if items is None else torch.arange(min(items, len(parts[0])))] * len(parts)
    keys = [_keys(part) for part in parts]
    common = [key for key in keys[0] if all(key in other for other in keys[1:])][:items]
    if not common:
        raise InputError(f"compare: expected examples that all runs have, got none in common of {', '.join(paths)}")
    return [torch.tensor([own[key] for key in common]) for own in keys]


def _keys(images: Images) -> dict[tuple[bytes, int], int]:
    """The row of each example by its pixels; copies of an example are numbered."""
    keys: dict[tuple[bytes, int], int] = {}
    copies: dict[bytes, int] = {}
    kind = f"{images.levels} {images.shape}".encode()
    step = per_block(images.pixels)
    for start in range(0, len(images), step):
        stored = images.stored(slice(start, start + step))
        for x in (stored.float() if stored.is_floating_point() else stored).cpu().contiguous().numpy():
            key = blake2b(kind + x.tobytes(), digest_size=16).digest()
            copies[key] = copies.get(key, -1) + 1
            keys[key, copies[key]] = len(keys)
    return keys


def _score(
    loaded: LoadedRun,
    rows: Tensor | None,
    split: str,
    samples: int,
    seed: int,
    items: int | None,
    progress: Progress | None,
) -> _Scored:
    """Scores the examples at `rows`. A scoring of all examples is kept in the run folder, and used again."""
    model, images = loaded.model, loaded.data.part(split)
    first = rows is None or torch.equal(rows, torch.arange(len(rows)))
    if rows is not None:
        images = images[rows.to(images.pixels.device)]
    scoring = None
    if first:
        scoring = Evaluations(loaded).partial_scores(split, samples=samples, items=items, seed=seed)
    p = model.prior(model.encoder)
    with ExitStack() as stack:
        if scoring is not None:
            stack.enter_context(notes_kept([scoring]))
        log_p = log_likelihood(model, images, samples, prior=p, seed=seed, scoring=scoring, progress=progress).double()
    generator = torch.Generator(images.pixels.device).manual_seed(seed + Stream.EVALUATION)
    terms = [elbo(model, x, prior=p, generator=generator).bound() for x in model_inputs(model, images, seed)]
    likelihood = model.decoder.likelihood
    n_pixels = math.prod(loaded.data.shape)
    return _Scored(
        str(loaded.run.path),
        loaded.run.config,
        likelihood.discrete,
        not likelihood.normalised,
        log_p,
        torch.cat(terms).double(),
        n_pixels,
        (-in_nats(model, log_p, n_pixels)).tolist(),
    )


def _figures(scored: _Scored) -> RunFigures:
    nll, shift = summary(scored.nll), 0.5 * scored.n_pixels * math.log(math.pi) if scored.paper else 0.0
    bound = summary((scored.bound - shift).tolist())
    figures: RunFigures = {
        "run": scored.path, "seed": scored.config.seed, "nll_nats": nll.mean, "elbo_nats": bound.mean,
    }  # fmt: skip
    if nll.sd is not None and bound.sd is not None:
        figures["nll_nats_se"] = nll.sd / math.sqrt(nll.n)
        figures["elbo_nats_se"] = bound.sd / math.sqrt(bound.n)
    if scored.paper:
        figures["nll_paper"] = -scored.log_p.mean().item()
    return figures


def _difference(run: str, minus: str, values: Summary) -> Difference:
    difference: Difference = {"run": run, "minus": minus, "nll_nats": values.mean, "pairs": values.n}
    if values.sd is not None and values.interval is not None:
        difference["se"] = values.sd / math.sqrt(values.n)
        difference["low"], difference["high"] = values.interval
    return difference


def _over_seeds(scored: Sequence[_Scored]) -> list[Difference]:
    """The differences between settings, paired by seed, from those of the first run; of two seeds or more."""
    groups: dict[tuple[tuple[str, object], ...], dict[int, float]] = {}
    names: dict[tuple[tuple[str, object], ...], str] = {}
    for s in scored:
        key = tuple((k, v) for k, v in s.config.to_dict().items() if k not in ("seed", "device", "data_dir"))
        groups.setdefault(key, {})[s.config.seed] = summary(s.nll).mean
        names.setdefault(key, _without_seed(s.path, s.config.seed))
    (first, theirs), *others = groups.items()
    differences = []
    for key, ours in others:
        values = paired(ours, theirs)
        if values is not None and values.n > 1:
            differences.append(_difference(names[key], names[first], values))
    return differences


def _without_seed(path: str, seed: int) -> str:
    return path.removesuffix(f"-s{seed}")
