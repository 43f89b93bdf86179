"""Variational autoencoders whose prior is built from data. Public names are imported where first used."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from bype.core.version import __version__ as __version__

if TYPE_CHECKING:
    from bype.build import build_model as build_model
    from bype.config import Config as Config
    from bype.data import Dataset as Dataset
    from bype.data import Images as Images
    from bype.data import from_arrays as from_arrays
    from bype.data import load as load
    from bype.errors import BypeError as BypeError
    from bype.errors import InputError as InputError
    from bype.errors import RunExistsError as RunExistsError
    from bype.errors import TrainingError as TrainingError
    from bype.evaluation import evaluate as evaluate
    from bype.evaluation import log_likelihood as log_likelihood
    from bype.fitting import fit as fit
    from bype.models import VAE as VAE
    from bype.models import TwoLevelVAE as TwoLevelVAE
    from bype.objectives import elbo as elbo
    from bype.objectives import iwae as iwae
    from bype.priors import ExemplarPrior as ExemplarPrior
    from bype.priors import Prior as Prior
    from bype.priors import PseudocoresetPrior as PseudocoresetPrior
    from bype.priors import StandardPrior as StandardPrior
    from bype.priors import VampPrior as VampPrior
    from bype.refitting import refit as refit
    from bype.results import Results as Results
    from bype.runs import Run as Run
    from bype.training import Trainer as Trainer
    from bype.training import train as train

_PLACES = {
    "build": ("build_model",),
    "config": ("Config",),
    "data": ("Dataset", "Images", "from_arrays", "load"),
    "errors": ("BypeError", "InputError", "RunExistsError", "TrainingError"),
    "evaluation": ("evaluate", "log_likelihood"),
    "fitting": ("fit",),
    "models": ("VAE", "TwoLevelVAE"),
    "objectives": ("elbo", "iwae"),
    "priors": ("ExemplarPrior", "Prior", "PseudocoresetPrior", "StandardPrior", "VampPrior"),
    "refitting": ("refit",),
    "results": ("Results",),
    "runs": ("Run",),
    "training": ("Trainer", "train"),
}
_MODULE_OF = {name: module for module, names in _PLACES.items() for name in names}
__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'bype' has no attribute {name!r}")
    return getattr(import_module(f"bype.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
