"""Variational autoencoders whose prior is built from data. Public names are imported when first used."""

from importlib import import_module

from bype.core.version import __version__ as __version__

# Type checkers read `__init__.pyi`, which has the same names.
_PLACES = {
    "core.config": ("Config",),
    "core.names": ("register_arch", "register_likelihood", "register_model", "register_prior", "register_strategy"),
    "core.errors": ("BypeError", "InputError", "RunExistsError", "TrainingError"),
    "data.catalog": ("load",),
    "data.images": ("Dataset", "Images"),
    "data.splits": ("from_arrays",),
    "estimator": ("ByPEVAE",),
    "data.torch_sets": ("from_torch",),
    "evaluation.likelihood": ("log_likelihood",),
    "evaluation.latents": ("embed",),
    "evaluation.metrics": ("evaluate",),
    "evaluation.neighbours": ("neighbours",),
    "evaluation.quality": ("sample_quality",),
    "experiments.comparison": ("compare",),
    "evaluation.scores": ("score",),
    "experiments.catalog.registry": ("register_experiment",),
    "export.hub": ("from_pretrained", "push_to_hub", "save_pretrained"),
    "export.programs": ("export_model",),
    "models.build": ("build_model",),
    "models.generation": ("interpolate", "plates"),
    "models.checked": ("elbo", "iwae"),
    "models.two_level": ("TwoLevelVAE",),
    "models.vae": ("VAE",),
    "models.wrap": ("wrap",),
    "priors.base": ("Prior",),
    "priors.exemplar": ("ExemplarPrior",),
    "priors.pseudocoreset": ("PseudocoresetPrior",),
    "priors.standard": ("StandardPrior",),
    "priors.vamp": ("VampPrior",),
    "runs.evaluations": ("Evaluations",),
    "runs.loading": ("load_model",),
    "runs.own": ("fit",),
    "runs.run": ("Run",),
    "training.refitting": ("refit",),
    "training.trainer": ("Trainer", "train"),
}
_MODULE_OF = {name: module for module, names in _PLACES.items() for name in names}
#: Modules that are public as a whole.
_MODULES = ("plot",)
__all__ = sorted([*_MODULE_OF, *_MODULES])


def __getattr__(name: str) -> object:  # `Any` would import typing, before a signal can be handled
    if name in _MODULES:
        return import_module(f"bype.{name}")
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'bype' has no attribute {name!r}")
    return getattr(import_module(f"bype.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
