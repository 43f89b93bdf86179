"""Files of fitted estimators: safetensors, without pickle."""

import numbers
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, cast

import torch
from torch import Tensor

from bype.core.devices import resolve_device
from bype.core.errors import InputError
from bype.core.files import expand_path
from bype.core.tensors import read_tensors, write_tensors
from bype.data.images import Dataset, Images
from bype.data.tables import TableSpec
from bype.models.saved import rebuilt
from bype.models.vae import VAE

#: The name under which a file has the training items of an exemplar prior.
ITEMS = "items"


class Saved(NamedTuple):
    """A fitted estimator."""

    params: dict[str, object]
    model: VAE
    table: TableSpec | None
    uint8: bool
    n_features_in: int
    feature_names_in: list[str] | None
    history: dict[str, list[float]]


def write_estimator(path: str | Path, saved: Saved) -> None:
    """Writes a fitted estimator; with the prior `exemplar` the training rows too.

    Raises:
        InputError: If the file cannot be written, or `random_state` is not a number.
    """
    params = {k: list(v) if isinstance(v, tuple) else v for k, v in saved.params.items()}
    state = params["random_state"]
    if not (state is None or isinstance(state, numbers.Integral)):
        raise InputError("random_state: expected an int or None in an estimator that is saved")
    params["random_state"] = None if state is None else int(state)
    tensors = saved.model.state_dict()
    if saved.model.prior.needs_items:
        tensors[ITEMS] = _training_items(saved.model)
    about = {
        "params": params, "n_features_in": saved.n_features_in, "uint8": saved.uint8,
        "feature_names_in": saved.feature_names_in, "history": saved.history,
    }  # fmt: skip
    write_tensors(expand_path(path), tensors, {"model": saved.model.metadata(), "estimator": about})


def _training_items(model: VAE) -> Tensor:
    rows = torch.arange(cast(int, model.prior.metadata()["n_data"]), device=next(model.parameters()).device)
    items = model.prior.points_at(rows)
    assert items is not None
    return items


def read_estimator(path: str | Path, device: str) -> Saved:
    """Reads what `write_estimator` wrote.

    Raises:
        InputError: If the file is missing, damaged, or not an estimator's.
    """
    tensors, counters = read_tensors(expand_path(path))
    about, stored = counters.get("estimator"), counters.get("model")
    if not isinstance(about, dict) or not isinstance(stored, dict):
        raise InputError(f"{path}: expected a file written by ByPEVAE.save, got another checkpoint")
    items, place = tensors.pop(ITEMS, None), resolve_device(device)
    columns = cast(Mapping[str, object], stored.get("build", {})).get("table")
    table = None if columns is None else TableSpec.from_json(columns, str(path))

    def training() -> Dataset:
        if items is None:
            raise InputError(f"{path}: expected the training rows of an exemplar prior, got none")
        images = Images(items.float().to(place), checked=True, levels=None)
        return Dataset("X", images, images, images, table=table)

    model = rebuilt(tensors, stored, str(path), place, data=training)
    names = about["feature_names_in"]
    return Saved(
        cast(dict[str, object], about["params"]), model, table, bool(about["uint8"]), int(about["n_features_in"]),
        names if names is None else list(map(str, names)), cast(dict[str, list[float]], about["history"]),
    )  # fmt: skip
