"""The groups of measurements, and their data."""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

import torch

from bype.core.errors import InputError
from bype.data.images import Dataset
from bype.data.splits import from_arrays
from bype.experiments.benchmark.epochs import epoch_rows
from bype.experiments.benchmark.measure import Progress
from bype.experiments.benchmark.peers import peer_rows, peer_versions
from bype.experiments.benchmark.records import Benchmark, Row, Scale, record
from bype.experiments.benchmark.scoring import scoring_rows

#: The measurements by name.
MEASUREMENTS: dict[str, Callable[[Dataset, Scale, Progress | None], list[Row]]] = {
    "epochs": epoch_rows,
    "scoring": scoring_rows,
    "peers": peer_rows,
}


def noise(scale: Scale, device: torch.device) -> Dataset:
    """Noise of MNIST's size, 28x28 with `items` training items: the time does not depend on the values."""
    generator = torch.Generator().manual_seed(0)
    n = scale.items + scale.items // 4
    return from_arrays(torch.randint(0, 256, (n, 28, 28), generator=generator).byte().numpy()).to(device)


@contextmanager
def torch_threads(n: int | None) -> Iterator[None]:
    """Uses n threads on a CPU; None for torch's own number."""
    before = torch.get_num_threads()
    torch.set_num_threads(before if n is None else n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def run(
    groups: Collection[str],
    scale: Scale,
    device: torch.device,
    *,
    progress: Progress | None = None,
    on_rows: Callable[[Benchmark], None] | None = None,
) -> Benchmark:
    """Measures the groups of that name, on one device, and returns their record.

    Args:
        groups: Names of `MEASUREMENTS`.
        scale: The sizes.
        device: The device.
        progress: Called with the number of measured blocks of the group and their total.
        on_rows: Called after each group with the record so far.

    Raises:
        InputError: If pythae is needed and not installed.
    """
    versions = peer_versions() if "peers" in groups else {}
    data, rows = noise(scale, device), []
    for group in groups:
        rows += MEASUREMENTS[group](data, scale, progress)
        if on_rows is not None:
            on_rows(record(rows, scale, device, versions))
    return record(rows, scale, device, versions)


def chosen(names: str | None) -> tuple[list[str], str | None]:
    """The groups named in a list such as `epochs,scoring`; without one all, and a line on those that cannot be run.

    Raises:
        InputError: If a name is unknown.
    """
    if names is not None:
        groups = names.split(",")
        for name in groups:
            if name not in MEASUREMENTS:
                raise InputError(f"--only: expected names from {', '.join(MEASUREMENTS)}, got {name!r}")
        return [name for name in MEASUREMENTS if name in groups], None
    try:
        peer_versions()
    except InputError as e:
        return [
            name for name in MEASUREMENTS if name != "peers"
        ], f"without pythae's models: {str(e).split(': ', 1)[1]}"
    return list(MEASUREMENTS), None
