"""The experiments by name, imported on first use."""

from collections.abc import Callable
from typing import overload

from bype.core.errors import InputError
from bype.core.registry import Registry
from bype.experiments.cell import Cell, Experiment, Selection

#: In the order of their sections on the results page.
EXPERIMENTS: Registry[Experiment] = Registry(
    "experiment",
    {
        "table1": "bype.experiments.catalog.table1:EXPERIMENT",
        "fast-table1": "bype.experiments.catalog.fast_table1:EXPERIMENT",
        "table2": "bype.experiments.catalog.table2:EXPERIMENT",
        "table3": "bype.experiments.catalog.table3:EXPERIMENT",
        "fig5": "bype.experiments.catalog.fig5:EXPERIMENT",
        "step-two": "bype.experiments.catalog.step_two:EXPERIMENT",
        "step-two-settings": "bype.experiments.catalog.step_two:SETTINGS",
        "reencode": "bype.experiments.catalog.reencode:EXPERIMENT",
        "trunk": "bype.experiments.catalog.trunk:EXPERIMENT",
    },
)

CellsOf = Callable[[Selection], list[Cell]]


@overload
def register_experiment(name: str, experiment: Experiment) -> Experiment: ...
@overload
def register_experiment(name: str) -> Callable[[CellsOf], CellsOf]: ...
def register_experiment(name: str, experiment: Experiment | None = None) -> Experiment | Callable[[CellsOf], CellsOf]:
    """Adds an experiment: `bype reproduce NAME` runs it, and `bype reproduce --render` shows its section.

    Args:
        name: The name on the command line and in the ledger.
        experiment: The experiment. If omitted, returns a decorator for a function from a selection to its cells: an
            experiment without a section, with the first line of the function's docstring as summary.

    Raises:
        InputError: If the name belongs to bype, is not usable in a file name, or differs from the experiment's.
    """
    if experiment is not None:
        if experiment.name != name:
            raise InputError(f"experiment {name!r}: expected an experiment with this name, got {experiment.name!r}")
        EXPERIMENTS.register(name, experiment)
        return experiment

    def add(cells: CellsOf) -> CellsOf:
        summary = (cells.__doc__ or "").strip().partition("\n")[0]
        EXPERIMENTS.register(name, Experiment(name, summary, cells))
        return cells

    return add


def select_cells(name: str, selection: Selection) -> list[Cell]:
    """The selected cells of an experiment.

    Raises:
        InputError: If the experiment is unknown, does not use a given option, or has no such cell.
    """
    experiment = EXPERIMENTS[name]
    for option in ("protocol", "precision"):
        if option not in experiment.options and (given := getattr(selection, option)) is not None:
            users = [other for other in EXPERIMENTS if option in EXPERIMENTS[other].options]
            raise InputError(f"--{option}: an option of {', '.join(users)} only, got {given!r} with {name}")
    cells = [c for c in experiment.cells(selection) if selection.admits(c)]
    if not cells:
        chosen = {k: v for k, v in vars(selection).items() if v is not None and k != "device"}
        words = " ".join(f"--{k} {v}" for k, v in chosen.items())
        raise InputError(f"reproduce {name}: no cells with {words}")
    return cells
