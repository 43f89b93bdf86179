"""A saved model, built again from what its file says of it."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor

from bype.core.errors import InputError
from bype.core.files import expand_path
from bype.core.names import MODELS
from bype.core.tensors import read_tensors
from bype.data.images import Dataset
from bype.models.build import build_described
from bype.models.description import Description, checked_description, stand_in
from bype.models.vae import VAE, load_state_checked
from bype.priors.fitted import FittedMixture

FITTED = FittedMixture.__name__


#: A model of the user's own networks, or a function that builds one for a data set.
OwnModel: TypeAlias = VAE | Callable[[Dataset], VAE]


def load_saved(
    path: Path, device: torch.device, *, model: OwnModel | None = None, data: Callable[[], Dataset] | None = None
) -> VAE:
    """The model in a file written by `VAE.save`, or in the best checkpoint of a run, in `eval` mode.

    Args:
        path: The file.
        device: The device of the model.
        model: For networks of the user's own, a model of the same classes, into which the tensors are loaded, or the
            function that builds one for a data set.
        data: Returns the training set on that device; called only if the prior needs it.

    Raises:
        InputError: If the file is missing, damaged, or does not say enough to build the model.
    """
    tensors, counters = read_tensors(expand_path(path))
    stored = counters.get("model")
    if not isinstance(stored, dict):
        raise InputError(f"{path}: expected a file written by VAE.save, got another checkpoint")
    return rebuilt(tensors, stored, str(path), device, model=model, data=data)


def rebuilt(
    tensors: dict[str, Tensor],
    stored: Mapping[str, object],
    where: str,
    device: torch.device,
    *,
    model: OwnModel | None = None,
    data: Callable[[], Dataset] | None = None,
) -> VAE:
    """A model from its tensors and its metadata, in `eval` mode. No class that the metadata name is imported.

    Args:
        tensors: The state dict.
        stored: What `VAE.metadata` returned.
        where: The file, for errors.
        device: The device of the model.
        model: For networks of the user's own, a model of the same classes, or the function that builds one.
        data: Returns the training set on that device; called only if the prior needs it.

    Raises:
        InputError: If the metadata do not describe a model, the tensors are others, the model has networks of the
            user's own and none is given, or its prior needs data and none are given.
    """
    if not isinstance(model, VAE):
        model = _built(tensors, stored, where, device, data, model)
    name = next(name for name, _ in model.named_parameters())
    dtype = tensors[name].dtype if name in tensors else model.dtype
    model = model.to(device, dtype).eval()
    if "prior" in stored:
        return model.restore(tensors, stored, where)
    load_state_checked(model, tensors, where)  # of a run of the first versions, which names no classes
    return model


def _built(
    tensors: Mapping[str, Tensor],
    stored: Mapping[str, object],
    where: str,
    device: torch.device,
    data: Callable[[], Dataset] | None,
    own: Callable[[Dataset], VAE] | None,
) -> VAE:
    """A model of these sizes, with other tensors."""
    if "build" in stored:
        description = checked_description(stored["build"], tensors, where)
        build: Callable[[Dataset], VAE] = partial(build_described, description)
    else:
        build = own or registered_model(stored, where)
        description = _own_description(stored, tensors, where)
    try:
        model = build(stand_in(description, device))
    except InputError as e:  # of options that the file states
        raise InputError(f"{where}: {e}") from None
    if not isinstance(model, VAE):
        raise InputError(f"{where}: expected a function that returns a bype.VAE, got {type(model).__name__}")
    if stored.get("prior") == FITTED:
        try:
            loc, log_weights, log_scale = (tensors[f"prior.{name}"] for name in ("loc", "log_weights", "log_scale"))
        except KeyError as e:
            raise InputError(f"{where}: expected the tensor {e}, got none of that name") from None
        model.prior = FittedMixture(loc, log_weights, log_scale)
    elif model.prior.needs_items:
        if data is None:
            raise InputError(
                f"{where}: {type(model.prior).__name__} is made of the {description['n_train']} training items, which "
                "are not saved; pass them: bype.load_model(PATH, data=DATA)"
            )
        model = build(data())
    return model


def _own_description(stored: Mapping[str, object], tensors: Mapping[str, Tensor], where: str) -> Description:
    """The sizes of the data of a model with networks of the user's own."""
    points = tensors.get("prior.pseudo_inputs")
    n_train = stored.get("n_data", 2 if points is None else len(points))
    sizes = {"options": {}, "shape": stored.get("shape"), "levels": stored.get("levels"), "n_train": n_train}
    return checked_description(sizes, tensors, where)


def registered_model(stored: Mapping[str, object], where: str) -> Callable[[Dataset], VAE]:
    """The function that `bype.register_model` was given for the class of the encoder.

    Only plugins that the user has named are imported, never the module that a file names.

    Args:
        stored: The metadata of a model with networks of the user's own.
        where: The file, for errors.

    Raises:
        InputError: If there is none; it names the classes.
    """
    classes = stored.get("classes")
    names = list(map(str, classes.values())) if isinstance(classes, dict) else []
    known = names[0].replace(":", ".") if names else ""
    if known in MODELS:
        build: Callable[[Dataset], VAE] = MODELS[known]
        return build
    if not names:
        raise InputError(
            f"{where}: expected a description of its networks, which the first versions did not write; build the model "
            "and pass it as model=MODEL"
        )
    raise InputError(
        f"{where}: its networks are not bype's own but {', '.join(names)[:300]}; pass a model "
        "made of them (model=MODEL), or name a module that registers it (bype.register_model) in BYPE_PLUGINS"
    )
