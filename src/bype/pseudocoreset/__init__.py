"""Step (ii): the strategies that move the pseudocoreset's points U and weights w between network steps."""

from bype.pseudocoreset.elbo import Elbo
from bype.pseudocoreset.fixed import Fixed
from bype.pseudocoreset.gradient import CoresetGradient, coreset_gradient
from bype.pseudocoreset.paper import Paper
from bype.pseudocoreset.published import Published
from bype.pseudocoreset.registry import STRATEGIES
from bype.pseudocoreset.simplex import project_to_simplex
from bype.pseudocoreset.strategy import Strategy, coreset_figures

__all__ = [
    "STRATEGIES",
    "CoresetGradient",
    "Elbo",
    "Fixed",
    "Paper",
    "Published",
    "Strategy",
    "coreset_figures",
    "coreset_gradient",
    "project_to_simplex",
]
