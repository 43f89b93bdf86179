"""Step (ii): strategies that update the pseudocoreset's points U and weights w between network steps."""

from bype.core.names import STRATEGIES
from bype.pseudocoreset.elbo import Elbo
from bype.pseudocoreset.fixed import Fixed
from bype.pseudocoreset.gradient import CoresetGradient, coreset_gradient
from bype.pseudocoreset.paper import Algorithm2
from bype.pseudocoreset.published import ReferenceCode
from bype.pseudocoreset.simplex import project_to_simplex
from bype.pseudocoreset.strategy import Strategy, coreset_metrics

__all__ = [
    "STRATEGIES",
    "Algorithm2",
    "CoresetGradient",
    "Elbo",
    "Fixed",
    "ReferenceCode",
    "Strategy",
    "coreset_gradient",
    "coreset_metrics",
    "project_to_simplex",
]
