"""Step (i): the network step, and the loop over the network steps of an epoch."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from bype.core import graphs
from bype.core.precision import product_precision
from bype.data.images import Images
from bype.models.objectives import elbo, importance_terms
from bype.models.vae import VAE
from bype.training.averaging import WeightAverage
from bype.training.compiling import CompiledBound
from bype.training.optim import NormalizedAdam
from bype.training.schedule import Schedule

log = logging.getLogger("bype")


class StepInfo(NamedTuple):
    """Sums over a batch, on the device, in the unit of the likelihood (nats, or the paper's)."""

    log_likelihood: Tensor  # of log p(x|z)
    kl: Tensor  # of log q(z|x) - log p(z)
    kl_z1: Tensor  # with two levels, the part of z1, log q(z1|x,z2) - log p(z1|z2); 0 with one level


class EpochSums(NamedTuple):
    """Sums over the training examples of an epoch, without those of skipped steps."""

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
    index: Tensor | None,
    beta: float | Tensor,
    generator: torch.Generator,
    bf16: bool = False,
    path: bool = False,
    samples: int = 1,
    compiled: CompiledBound | None = None,
) -> StepInfo:
    """Takes one optimiser step on a batch, without reading values back from the device.

    Args:
        model: The model.
        optimizer: Its optimiser.
        x: The batch, (B, c, h, w), binarised if the likelihood is binary.
        index: The rows of x in the training set, (B,); None if they are not known.
        beta: The weight of the KL term.
        generator: The random generator of the noise.
        bf16: Whether the networks' matrix products are in bfloat16.
        path: Whether the gradient of log q(z|x) is the one through z alone (`bype.models.objectives.elbo`).
        samples: More than 1 for the importance-weighted bound with that many samples, by its total gradient.
        compiled: The evidence lower bound for this batch, in place of that of `model`, `generator` and `path`.
    """
    # In a CUDA graph, autocast's cache of cast weights would hold tensors of an earlier step.
    with torch.autocast(x.device.type, torch.bfloat16, enabled=bf16, cache_enabled=x.device.type != "cuda"):
        if samples > 1:
            terms = importance_terms(model, x, samples, index=index, generator=generator)
        elif compiled is not None:
            terms = compiled(x, index)
        else:
            terms = elbo(model, x, index=index, generator=generator, path=path)
    optimizer.zero_grad(set_to_none=True)
    loss = -terms.bound(beta).mean()
    loss.backward()
    optimizer.step(loss=loss)
    model.prior.after_step()
    kl = terms.kl.detach().sum()
    kl_z1 = torch.zeros_like(kl) if terms.kl_z1 is None else terms.kl_z1.detach().sum()
    return StepInfo(terms.log_likelihood.detach().sum(), kl, kl_z1)


class Steps(ABC):
    """Runs the network steps of an epoch: in one process, in several processes, or for several seeds."""

    on_step: Callable[[int, int], None] | None = None  # called after each step: its number, and that of all
    samples = 1  # of the bound that steps maximise; more than 1 for the importance-weighted one

    compiled: CompiledBound | None = None  # the bound of full batches, if compiling it was asked for

    def maximise(self, samples: int) -> None:
        """Sets the number of samples of the bound that the following steps maximise."""
        if samples != self.samples:
            self.samples = samples
            self.reset()

    @abstractmethod
    def run(self, order: Tensor, beta: float, first: int = 0) -> EpochSums:
        """Takes the steps of one epoch.

        Args:
            order: A permutation of the rows of the training set, (N,).
            beta: The weight of the KL term.
            first: The number of the epoch's first step, counted from 0 over the whole run.
        """

    @abstractmethod
    def reset(self) -> None:
        """Discards captured CUDA graphs; called after tensors that the steps use were replaced, as on load."""


class LocalSteps(Steps):
    """Runs the network steps of an epoch in this process, eagerly or, on CUDA, as replays of one captured graph.

    The last batch of an epoch may be shorter than the others; its step runs eagerly. No value is read back from the
    device before the end of the epoch.

    Args:
        model: The model, on the device of the images.
        images: The training set.
        optimizer: The model's optimiser.
        generator: The random generator of all noise.
        batch_size: Examples per step.
        precision: `fp32`, `tf32` or `bf16`.
        graph: Whether a CUDA graph may be used.
        schedule: The learning rate over the steps of the run.
        average: The average of the weights, updated after each step; None for none.
        path: Whether the gradient of log q(z|x) is the one through z alone.
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
        schedule: Schedule,
        average: WeightAverage | None,
        path: bool = False,
    ) -> None:
        self.schedule, self.average, self.path = schedule, average, path
        self.model, self.images, self.optimizer, self.generator = model, images, optimizer, generator
        self.batch_size, self.precision, self.graph = batch_size, precision, graph
        device = generator.device
        # Allocated once: a captured graph reads and writes fixed addresses.
        self._beta = torch.zeros((), dtype=model.dtype, device=device)
        self._index = torch.zeros(batch_size, dtype=torch.long, device=device)
        # One row per step of an epoch: log-likelihood, KL, KL of z1, whether the step was skipped.
        count = max(-(-len(images) // batch_size), graphs.WARMUPS)
        self._lines = torch.zeros(count, 4, dtype=model.dtype, device=device)
        self._line = torch.zeros(1, dtype=torch.long, device=device)
        self._full_step: graphs.Capture | None = None
        self._step_number = 0

    def run(self, order: Tensor, beta: float, first: int = 0) -> EpochSums:
        """Takes the steps of one epoch."""
        batches = order.split(self.batch_size)
        self._beta.fill_(beta)
        self._line.zero_()
        with product_precision(tf32=self.precision == "tf32"):
            for step, index in enumerate(batches, 1):
                self._set_rate(first + step - 1)
                if len(index) < self.batch_size:
                    self._step(index)
                else:
                    self._index.copy_(index)
                    if self._full_step is None:
                        self._full_step = self._make_full_step()
                    self._full_step.run()
                self._end_step(first, step, len(batches))
        return self._sums([len(index) for index in batches])

    def _set_rate(self, step: int) -> None:
        """Sets the learning rate of a step, counted from 0 over the whole run."""
        self._step_number = step
        if not self.schedule.constant:
            self.optimizer.scale_rates(self.schedule.factor(step))

    def _end_step(self, first: int, step: int, steps: int) -> None:
        """What follows the step of that number, from 1, of an epoch whose first step is `first`."""
        if self.average is not None:
            self.average.update(first + step - 1)
        if self.on_step is not None:
            self.on_step(step, steps)

    def _sums(self, sizes: Sequence[int]) -> EpochSums:
        """The sums over the steps of an epoch, whose batches have these sizes."""
        lines = self._lines[: len(sizes)].cpu().double()
        skipped = lines[:, 3] > 0
        log_likelihood, kl, kl_z1, _ = lines[~skipped].sum(0).tolist()
        n = sum(size for size, skip in zip(sizes, skipped.tolist(), strict=True) if not skip)
        return EpochSums(log_likelihood, kl, kl_z1, n, skipped.tolist())

    def reset(self) -> None:
        """Discards the captured graph. If the capture failed, the step stays eager."""
        if self._full_step is not None and not self._full_step.failed:
            self._full_step = None

    def network_step(self, index: Tensor, beta: float | Tensor) -> StepInfo:
        """Step (i) on the training examples at `index`."""
        return self._step_on(self.images.scaled(index, dtype=self.model.dtype), index, beta)

    def _step_on(self, grey: Tensor, index: Tensor | None, beta: float | Tensor) -> StepInfo:
        """Step (i) on a batch of pixels in [0, 1]."""
        x = self.model.binarise(grey, self.generator)
        compiled = self.compiled if self.samples == 1 and len(x) == self.batch_size else None
        if compiled is not None:
            compiled.decide(x, index, self.schedule.total - self._step_number, bf16=self.precision == "bf16")
        return network_step(
            self.model,
            self.optimizer,
            x,
            index=index,
            beta=beta,
            generator=self.generator,
            bf16=self.precision == "bf16",
            path=self.path,
            samples=self.samples,
            compiled=compiled,
        )

    def _step(self, index: Tensor) -> None:
        """Takes a network step and stores its row in `_lines`."""
        self._store(self.network_step(index, self._beta))

    def _store(self, info: StepInfo) -> None:
        line = torch.stack([*info, self.optimizer.found_inf.to(info.kl.dtype)])
        self._lines.index_copy_(0, self._line, line[None])
        self._line += 1

    def _make_full_step(self) -> graphs.Capture:
        """The step on the batch at `_index`, captured as a CUDA graph if possible."""

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
