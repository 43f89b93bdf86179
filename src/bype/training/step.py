"""Step (i): the network step, and how the steps of an epoch are taken."""

import logging
from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor

from bype.core import graphs
from bype.core.precision import product_precision
from bype.data.images import Images
from bype.models.objectives import elbo
from bype.models.vae import VAE
from bype.training.optim import NormalizedAdam

log = logging.getLogger("bype")


class StepInfo(NamedTuple):
    """Sums over a batch, on the device, in the unit of the likelihood (nats, or the paper's)."""

    log_likelihood: Tensor  # of log p(x|z)
    kl: Tensor  # of log q(z|x) - log p(z)
    kl_z1: Tensor  # with two levels, z1's part of it; 0 with one level


class EpochSums(NamedTuple):
    """The steps of an epoch: sums over its training examples, those of skipped steps left out."""

    log_likelihood: float
    kl: float
    kl_z1: float
    n_examples: int
    skipped: list[bool]  # of each step, whether its loss or gradients were not finite


def network_step(
    model: VAE,
    optimizer: NormalizedAdam,
    x: Tensor,
    *,
    index: Tensor,
    beta: float | Tensor,
    generator: torch.Generator,
    bf16: bool = False,
) -> StepInfo:
    """One step of the optimiser on images x, (B, c, h, w); reads nothing back from the device.

    Args:
        model: The model.
        optimizer: Its optimiser.
        x: The images as the model takes them.
        index: Their rows in the training set, (B,).
        beta: The weight of the KL term.
        generator: The source of the noise.
        bf16: Whether the networks' products are in bfloat16.
    """
    # Autocast's cache of cast weights would outlive a recorded step.
    with torch.autocast(x.device.type, torch.bfloat16, enabled=bf16, cache_enabled=x.device.type != "cuda"):
        terms = elbo(model, x, index=index, generator=generator)
    optimizer.zero_grad(set_to_none=True)
    loss = -terms.bound(beta).mean()
    loss.backward()
    optimizer.step(loss=loss)
    model.prior.after_step()
    kl = terms.kl.detach().sum()
    kl_z1 = torch.zeros_like(kl) if terms.kl_z1 is None else terms.kl_z1.detach().sum()
    return StepInfo(terms.log_likelihood.detach().sum(), kl, kl_z1)


class Steps(ABC):
    """How the network steps of an epoch are taken: in this process, by several processes, or for several seeds."""

    @abstractmethod
    def run(self, order: Tensor, beta: float) -> EpochSums:
        """Takes the steps of one epoch.

        Args:
            order: The rows of the training set in the order of the epoch, (N,).
            beta: The weight of the KL term.
        """

    @abstractmethod
    def reset(self) -> None:
        """Called when tensors that the steps use have been replaced, as on load: recordings are dropped."""


class LocalSteps(Steps):
    """The steps of an epoch in this process, eager or, on CUDA, as one recorded graph.

    The last batch of an epoch may be shorter than the others; it is used as it is, without a graph. Nothing is read
    back from the device before the end of the epoch.

    Args:
        model: The model, on the device of the images.
        images: The training set.
        optimizer: The model's optimiser.
        generator: The source of all noise.
        batch_size: Examples of a step.
        precision: `fp32`, `tf32` or `bf16`.
        graph: Whether a CUDA graph may be used.
    """

    def __init__(
        self,
        model: VAE,
        images: Images,
        optimizer: NormalizedAdam,
        generator: torch.Generator,
        *,
        batch_size: int,
        precision: str,
        graph: bool,
    ) -> None:
        self.model, self.images, self.optimizer, self.generator = model, images, optimizer, generator
        self.batch_size, self.precision, self.graph = batch_size, precision, graph
        device = generator.device
        # What a step reads and counts keeps its place on the device: a recorded step knows no other.
        self._beta = torch.zeros((), dtype=model.dtype, device=device)
        self._index = torch.zeros(batch_size, dtype=torch.long, device=device)
        # A line for each step of an epoch: log-likelihood, KL, z1's part of it, whether the step was skipped.
        count = max(-(-len(images) // batch_size), graphs.WARMUPS)
        self._lines = torch.zeros(count, 4, dtype=model.dtype, device=device)
        self._line = torch.zeros(1, dtype=torch.long, device=device)
        self._full_step: graphs.Capture | None = None

    def run(self, order: Tensor, beta: float) -> EpochSums:
        """Takes the steps of one epoch."""
        batches = order.split(self.batch_size)
        self._beta.fill_(beta)
        self._line.zero_()
        with product_precision(tf32=self.precision == "tf32"):
            for index in batches:
                if len(index) < self.batch_size:
                    self._step(index)
                    continue
                self._index.copy_(index)
                if self._full_step is None:
                    self._full_step = self._make_full_step()
                self._full_step.run()
        lines = self._lines[: len(batches)].cpu().double()
        skipped = lines[:, 3] > 0
        log_likelihood, kl, kl_z1, _ = lines[~skipped].sum(0).tolist()
        n = sum(len(index) for index, skip in zip(batches, skipped.tolist(), strict=True) if not skip)
        return EpochSums(log_likelihood, kl, kl_z1, n, skipped.tolist())

    def reset(self) -> None:
        """Drops the recording; a step that could not be recorded stays eager."""
        if self._full_step is not None and not self._full_step.failed:
            self._full_step = None

    def network_step(self, index: Tensor, beta: float | Tensor) -> StepInfo:
        """Step (i) on the training examples at `index`."""
        x = self.model.binarise(self.images.scaled(index, dtype=self.model.dtype), self.generator)
        return network_step(
            self.model,
            self.optimizer,
            x,
            index=index,
            beta=beta,
            generator=self.generator,
            bf16=self.precision == "bf16",
        )

    def _step(self, index: Tensor) -> None:
        """A network step, and its line."""
        info = self.network_step(index, self._beta)
        line = torch.stack([*info, self.optimizer.found_inf.to(info.kl.dtype)])
        self._lines.index_copy_(0, self._line, line[None])
        self._line += 1

    def _make_full_step(self) -> graphs.Capture:
        """The step on the batch at `_index`, recorded where possible."""

        def step() -> None:
            self._step(self._index)

        if not self.graph:
            return graphs.Capture(step, failed=False)
        if not self.model.prior.fixed_shapes:
            if graphs.available(self.generator.device):
                log.warning("training: CUDA graph disabled: the number of components varies; running eagerly")
            return graphs.Capture(step, failed=False)
        cache = [] if self.model.cached_features is None else [self.model.cached_features]
        mutated = [*self.model.state_dict().values(), *cache, *self.optimizer.prepare(), self._lines, self._line]
        return graphs.capture(step, mutated, self.generator, "training")
