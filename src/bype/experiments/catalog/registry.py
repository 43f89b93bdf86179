"""The experiments by name, each imported when it is first used."""

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
    """Adds an experiment, which `bype reproduce NAME` then runs and `bype reproduce --render` shows.

    Args:
        name: The name on the command line and in the ledger.
        experiment: The experiment. Without it, a decorator for a function that returns the cells of a selection: an
            experiment without a section, whose summary is the first line of the function's docstring.

    Raises:
        InputError: If the name is one of bype's own, cannot be part of a file name, or is not the experiment's.
    """
    if experiment is not None:
        if experiment.name != name:
            raise InputError(f"experiment {name!r}: expected an experiment of that name, got {experiment.name!r}")
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
        InputError: If there is no such experiment, it does not use an option, or no cell is selected.
    """
    experiment = EXPERIMENTS[name]
    for option in ("protocol", "precision"):
        if option not in experiment.options and (given := getattr(selection, option)) is not None:
            users = [other for other in EXPERIMENTS if option in EXPERIMENTS[other].options]
            raise InputError(f"--{option}: expected it with {', '.join(users)} alone, got {given!r} with {name}")
    cells = [c for c in experiment.cells(selection) if selection.admits(c)]
    if not cells:
        chosen = {k: v for k, v in vars(selection).items() if v is not None and k != "device"}
        words = " ".join(f"--{k} {v}" for k, v in chosen.items())
        raise InputError(f"reproduce {name}: expected {words} to name cells of it, got none")
    return cells
