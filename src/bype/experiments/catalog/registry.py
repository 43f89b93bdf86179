"""The experiments by name, imported on first use."""

from collections.abc import Callable
from dataclasses import replace
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
        "fig1": "bype.experiments.catalog.fig1:EXPERIMENT",
        "fig2": "bype.experiments.catalog.fig2:EXPERIMENT",
        "fig3": "bype.experiments.catalog.fig3:EXPERIMENT",
        "fig4": "bype.experiments.catalog.fig4:EXPERIMENT",
        "fig5": "bype.experiments.catalog.fig5:EXPERIMENT",
        "step-two": "bype.experiments.catalog.step_two:EXPERIMENT",
        "step-two-settings": "bype.experiments.catalog.step_two:SETTINGS",
        "reencode": "bype.experiments.catalog.reencode:EXPERIMENT",
        "trunk": "bype.experiments.catalog.trunk:EXPERIMENT",
    },
)

#: The options of `Selection` that only some experiments use.
OPTIONS = ("protocol", "precision")
#: The name on the command line of all experiments together.
ALL = "all"

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
    if name == ALL:
        raise InputError(f"experiment {name!r}: the name stands for all experiments; choose another")
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
    """The selected cells of an experiment, or of `all`: then an option goes to the experiments that use it.

    Raises:
        InputError: If the experiment is unknown, does not use a given option, or has no such cell.
    """
    if name == ALL:
        cells = [c for experiment in EXPERIMENTS.values() for c in _cells_of_all(experiment, selection)]
    else:
        experiment = EXPERIMENTS[name]
        for option in OPTIONS:
            if option not in experiment.options and (given := getattr(selection, option)) is not None:
                users = [other for other in EXPERIMENTS if option in EXPERIMENTS[other].options]
                raise InputError(f"--{option}: an option of {', '.join(users)} only, got {given!r} with {name}")
        cells = experiment.cells(selection)
    cells = list({c.id: c for c in cells if selection.admits(c)}.values())  # figures share cells with tables
    if not cells:
        chosen = {k: v for k, v in vars(selection).items() if v is not None and k != "device"}
        words = " ".join(f"--{k} {v}" for k, v in chosen.items())
        raise InputError(f"reproduce {name}: no cells with {words}")
    return cells


def _cells_of_all(experiment: Experiment, selection: Selection) -> list[Cell]:
    protocol = selection.protocol if "protocol" in experiment.options else None
    precision = selection.precision if "precision" in experiment.options else None
    return experiment.cells(replace(selection, protocol=protocol, precision=precision))
