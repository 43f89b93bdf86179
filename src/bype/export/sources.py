"""Which training item stands behind a component of a prior, and its label."""

from typing import NamedTuple

import torch
from torch import Tensor

from bype.core.errors import InputError
from bype.data.images import Dataset
from bype.export.nearest import nearest_items
from bype.models.vae import VAE


class Sources(NamedTuple):
    """The training items behind components."""

    rows: Tensor  # (k,), rows of the training set
    exact: bool  # whether the points are these items; otherwise they are the nearest ones

    def labels(self, data: Dataset) -> Tensor | None:
        """Their labels, (k,); None for data without labels."""
        return None if data.train.labels is None else data.train.labels[self.rows]

    def names(self, data: Dataset) -> list[str]:
        """Their files, or their rows in the user's array."""
        return [data.source("train", row) or str(row) for row in self.rows.tolist()]


def component_sources(model: VAE, data: Dataset, components: Tensor) -> Sources | None:
    """The training items of components: the items themselves for an exemplar prior, the nearest by pixels otherwise.

    Args:
        model: The model.
        data: The data that it was trained on.
        components: Indices of components, (k,).

    Returns:
        The items; None if the prior has no points.
    """
    if model.prior.needs_items:
        return Sources(components, exact=True)
    points = model.prior.points_at(components)
    if points is None:
        return None
    rows, distances = nearest_items(points, data.train)
    return Sources(rows, exact=bool((distances == 0).all()))


def components_of_label(model: VAE, data: Dataset, label: str) -> tuple[Tensor, bool]:
    """The components whose training item has a label, and whether the items are the points themselves.

    Raises:
        InputError: If the prior has no points, the data have no labels, there is no such label, or no component has it.
    """
    known = data.train.labels
    if known is None:
        raise InputError(f"--label: expected data with labels, but {data.name} has none")
    names = {data.label_name(c): c for c in known.unique().tolist()}
    if label not in names:
        raise InputError(f"--label: expected one of {', '.join(list(names)[:20])}, got {label!r}")
    count = getattr(model.prior(model.encoder), "n_components", 0)
    sources = component_sources(model, data, torch.arange(count, device=known.device)) if count else None
    if sources is None:
        raise InputError(f"--label: expected a prior made of points, got {type(model.prior).__name__}")
    chosen = (known[sources.rows] == names[label]).nonzero()[:, 0]
    if not len(chosen):
        raise InputError(f"--label: expected a component with the label {label}, but none of {count} has it")
    return chosen, sources.exact
