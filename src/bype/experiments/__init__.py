"""The experiments of the paper and our own.

Each experiment is a file in `catalog`, made of the parts defined in `cell`. `campaign` runs cells, `ledger` stores
their records, and `page` generates the results page from them.
"""

from bype.experiments.catalog.registry import register_experiment
from bype.experiments.cell import Cell, Experiment, Selection

__all__ = ["Cell", "Experiment", "Selection", "register_experiment"]
