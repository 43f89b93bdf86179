"""Run folders: training into one, and what is recorded in one."""

from bype.runs.fitting import TrainedRun, fit
from bype.runs.results import Results
from bype.runs.run import Run
from bype.runs.scoring import Scoring

__all__ = [
    "Results",
    "Run",
    "Scoring",
    "TrainedRun",
    "fit",
]
