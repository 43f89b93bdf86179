"""Weight averaging: an exponential moving average of the weights."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from bype.models.vae import VAE


class WeightAverage:
    r"""An exponential moving average of a model's parameters, updated after every network step.

    .. math:: \bar\theta_t = d_t \, \bar\theta_{t-1} + (1 - d_t) \, \theta_t, \quad d_t = \min(d, t / (t + 9))

    with t = 1, 2, ... The smaller decays d_t of the first steps let the average forget the initial weights. Averaging
    does not change training: the network steps and step (ii) use the weights :math:`\theta`. Validation uses the
    average, and it is what is kept as best.

    All parameters are averaged: the networks', sigma, the points of a VampPrior, and U and log w of the strategy
    `elbo`. U and w that step (ii) has moved are buffers and are not averaged: the averaged encoder uses them as they
    are at the end of the epoch, and is kept together with them.

    Args:
        model: The model. Its parameters are copied, as the average before the first step.
        decay: The decay d, 0 < d < 1.
    """

    def __init__(self, model: VAE, decay: float) -> None:
        self.model, self.decay = model, decay
        self.tensors = {name: p.detach().clone() for name, p in model.named_parameters()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Includes the current weights in the average.

        Args:
            step: The number of the step that was just taken, counted from 0 over the whole run.
        """
        decay = min(self.decay, (step + 1) / (step + 10))
        torch._foreach_lerp_(list(self.tensors.values()), self._parameters(), 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within this context the model has the averaged parameters, and the buffers that follow from them."""
        with torch.no_grad():
            own = {name: value.clone() for name, value in self.model.state_dict().items()}
            torch._foreach_copy_(self._parameters(), list(self.tensors.values()))
            self.model.prior.after_step()  # the weights w that follow from the averaged log w
        try:
            yield
        finally:
            with torch.no_grad():  # in place: a captured CUDA graph refers to these tensors
                for name, value in self.model.state_dict().items():
                    value.copy_(own[name])

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Restores the average from the tensors that another one had."""
        for name, value in self.tensors.items():
            value.copy_(tensors[name])

    def _parameters(self) -> list[Tensor]:
        return [p.detach() for p in self.model.parameters()]
