"""A saved model, built again from what its file says of it."""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from bype.core.errors import InputError
from bype.core.files import expand_path
from bype.core.tensors import read_tensors
from bype.data.images import Dataset
from bype.models.build import build_described
from bype.models.description import checked_description
from bype.models.vae import VAE, load_state_checked
from bype.priors.fitted import FittedMixture

FITTED = FittedMixture.__name__


def load_saved(
    path: Path, device: torch.device, *, model: VAE | None = None, data: Callable[[], Dataset] | None = None
) -> VAE:
    """The model in a file written by `VAE.save`, or in the best checkpoint of a run, in `eval` mode.

    Args:
        path: The file.
        device: The device of the model.
        model: A model of the same classes, for networks of the user's own; the tensors are loaded into it.
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
    model: VAE | None = None,
    data: Callable[[], Dataset] | None = None,
) -> VAE:
    """A model from its tensors and its metadata, in `eval` mode. No class that the metadata name is imported.

    Args:
        tensors: The state dict.
        stored: What `VAE.metadata` returned.
        where: The file, for errors.
        device: The device of the model.
        model: A model of the same classes, for networks of the user's own.
        data: Returns the training set on that device; called only if the prior needs it.

    Raises:
        InputError: If the metadata do not describe a model, the tensors are others, the model has networks of the
            user's own and none is given, or its prior needs data and none are given.
    """
    if model is None:
        model = _built(tensors, stored, where, device, data)
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
) -> VAE:
    if "build" not in stored:
        classes = stored.get("classes")
        names = ", ".join(str(name) for name in classes.values()) if isinstance(classes, dict) else "unknown classes"
        raise InputError(
            f"{where}: its networks are not bype's own but {names:.300}; build the model and pass it: "
            "bype.load_model(PATH, model=MODEL)"
        )
    description = checked_description(stored["build"], tensors, where)
    model = build_described(description, device)
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
        model = build_described(description, device, data())
    return model
