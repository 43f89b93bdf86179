"""What a saved model says of itself: enough to build it again without its data."""

import math
from collections.abc import Mapping
from typing import NotRequired, TypedDict, cast

import torch
from torch import Tensor

from bype.core.config import Options
from bype.core.errors import InputError
from bype.core.names import ARCHS, PRIORS
from bype.core.numbers import MAX_INT
from bype.data.images import Dataset, Images
from bype.data.tables import TableSpec

#: The options that a built model depends on, besides those of its training: keyword arguments of `bype.build_model`.
OPTIONS = (
    "arch", "prior", "likelihood", "n_components", "latent_dim", "hidden_dim", "exemplars", "retrieve", "coreset",
    "reencode",
)  # fmt: skip


class Description(TypedDict):
    """What `bype.build_model` was given, as a JSON object."""

    options: Options  # those of OPTIONS that the networks and the prior use
    shape: list[int]  # [c, h, w] of an image
    levels: int | None  # the number of values of a stored pixel; None for floats
    n_train: int  # the number of training examples
    table: NotRequired[list[dict[str, object]]]  # the columns of a table


def used_options(options: Options) -> Options:
    """Those of OPTIONS that the chosen networks and prior use."""
    arch, prior = options["arch"], options["prior"]
    return {name: options[name] for name in OPTIONS if ARCHS.uses(name, arch) and PRIORS.uses(name, prior)}


def stand_in(description: Description, device: torch.device | str = "cpu") -> Dataset:
    """A data set of the described size without values, from which a model can be built whose tensors are then loaded.

    All images of a split are one black image in memory.

    Args:
        description: The description.
        device: The device.
    """
    levels, shape = description["levels"], description["shape"]
    dtype = torch.float32 if levels is None else torch.uint8
    black = torch.zeros(1, *shape, dtype=dtype, device=device)
    train = Images(black.expand(description["n_train"], *shape), levels=levels, checked=True)
    one = Images(black, levels=levels, checked=True)
    table = TableSpec.from_json(description["table"], "table") if "table" in description else None
    return Dataset("a stand-in", train, one, one, table=table)


def checked_description(value: object, tensors: Mapping[str, Tensor], where: str) -> Description:
    """A description as a file has it, after a check of its types and sizes.

    Sizes that do not fit the file's tensors are rejected before a model is built, since they could ask for any amount
    of memory.

    Args:
        value: The JSON value.
        tensors: The file's tensors.
        where: The file, for errors.

    Raises:
        InputError: If it is not a description, or its sizes do not fit the tensors.
    """
    fault = _fault(value, tensors)
    if fault:
        raise InputError(f"{where}: expected the description of a model, got {fault}")
    if "table" in cast(Description, value):
        columns = TableSpec.from_json(cast(Description, value)["table"], where)
        if list(columns.shape) != cast(Description, value)["shape"]:
            raise InputError(
                f"{where}: expected the columns of a table of {cast(Description, value)['shape'][2]} values"
            )
    return cast(Description, value)


def _fault(value: object, tensors: Mapping[str, Tensor]) -> str | None:
    if not isinstance(value, dict) or value.keys() - {"table"} != Description.__required_keys__:
        return "another value"
    options, shape, levels, n = (value[key] for key in ("options", "shape", "levels", "n_train"))
    if not isinstance(options, dict) or not options.keys() <= set(OPTIONS):
        return f"options {options!r:.60}"
    if not (isinstance(shape, list) and len(shape) == 3 and all(_is_size(side, 4096) for side in shape)):
        return f"shape {shape!r:.60}"
    if not (levels is None or _is_size(levels, 256)) or not _is_size(n, MAX_INT):
        return f"levels {levels!r:.20} and n_train {n!r:.20}"
    if math.prod(shape) > 16 * sum(t.numel() for t in tensors.values()):
        return f"shape {shape!r:.60}, which its tensors are too small for"
    width = max((side for t in tensors.values() for side in t.shape), default=0)
    for name in ("latent_dim", "hidden_dim", "n_components"):
        if (size := options.get(name)) is not None and not _is_size(size, width):
            return f"{name} {size!r:.20}, which its tensors do not have"
    return None


def _is_size(value: object, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most
