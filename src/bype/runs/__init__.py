"""Run folders: training into one, and what is recorded in one."""

from bype.runs.evaluations import Evaluations
from bype.runs.fitting import TrainedRun, fit
from bype.runs.run import Run
from bype.runs.scoring import PartialScores

__all__ = [
    "Evaluations",
    "PartialScores",
    "Run",
    "TrainedRun",
    "fit",
]
