"""Run folders: training into one, loading its model, and recording evaluations and refits."""

from bype.runs.evaluations import Evaluations
from bype.runs.fitting import TrainedRun, fit
from bype.runs.run import LoadedRun, Run
from bype.runs.scoring import PartialScores

__all__ = [
    "Evaluations",
    "LoadedRun",
    "PartialScores",
    "Run",
    "TrainedRun",
    "fit",
]
