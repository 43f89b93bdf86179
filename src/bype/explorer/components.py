"""The components of a run's prior, as the explorer offers them: weights, images and classes."""

from collections.abc import Sequence

import torch
from torch import Tensor

from bype.core.torch_state import fixed_torch_state
from bype.data.images import Dataset
from bype.distributions.mixtures import NormalMixture
from bype.export.sources import component_sources
from bype.models.vae import VAE


class Components:
    """The prior p(z) of a model, computed once, and its components.

    Args:
        model: The model.
        data: Its data, for the classes of components; None if they are not found.
    """

    @fixed_torch_state(grad=False)
    def __init__(self, model: VAE, data: Dataset | None) -> None:
        self._prior = model.prior
        self.density = model.prior(model.encoder)
        mixture = isinstance(self.density, NormalMixture)
        #: The mixing weights, (M,), and the components in their order, the largest first; empty without components.
        self.weights: Tensor = self.density.log_weights.exp() if mixture else torch.ones(0)
        self.order = self.weights.argsort(descending=True, stable=True)
        #: The number of components that are made of images: all or none.
        self.points = len(self.order) if len(self.order) and model.prior.points_at(self.order[:1]) is not None else 0
        #: The label of the (nearest) training item of each component; empty where there are none.
        self.labels: Sequence[str] = self._labels(model, data) if data is not None and self.points else ()

    def _labels(self, model: VAE, data: Dataset) -> Sequence[str]:
        if data.train.labels is None:
            return ()
        sources = component_sources(model, data, torch.arange(self.points, device=self.order.device))
        labels = None if sources is None else sources.labels(data)
        return () if labels is None else [data.label_name(label) for label in labels.tolist()]

    def __len__(self) -> int:
        return len(self.weights)

    @property
    def classes(self) -> Sequence[str]:
        """The labels of components, in order."""
        return sorted(set(self.labels), key=lambda n: (not n.isdecimal(), int(n) if n.isdecimal() else 0, n))

    def of_class(self, label: str) -> Tensor:
        """The components of a label, (k,)."""
        return self.order.new_tensor([m for m, name in enumerate(self.labels) if name == label])

    def images(self, components: Tensor) -> Tensor | None:
        """The images of components, (k, c, h, w); None if they are made of none."""
        return self._prior.points_at(components) if self.points else None

    def image(self, component: int) -> Tensor | None:
        """The image of a component, (1, c, h, w)."""
        return self.images(self.order.new_tensor([component]))
