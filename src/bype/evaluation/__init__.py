"""Metrics of a trained model: log-likelihood, active units, nearest-neighbour accuracy, divergences."""

from bype.evaluation.divergences import prior_divergences
from bype.evaluation.latents import active_units, latents
from bype.evaluation.likelihood import log_likelihood
from bype.evaluation.metrics import evaluate, evaluate_under
from bype.evaluation.neighbours import knn_accuracy

__all__ = [
    "active_units",
    "evaluate",
    "evaluate_under",
    "knn_accuracy",
    "latents",
    "log_likelihood",
    "prior_divergences",
]
