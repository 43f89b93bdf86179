"""The bound of a training step compiled by `torch.compile`, where a run is long enough to gain by it."""

import logging
import statistics
import time
import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from bype.core.errors import first_line
from bype.models.objectives import ElboTerms, elbo
from bype.models.vae import VAE

log = logging.getLogger("bype")

#: The backend of `torch.compile`.
BACKEND = "inductor"
#: Steps that are timed, and those before them.
TIMED, UNTIMED = 5, 2

Bound = Callable[[Tensor, Tensor | None], ElboTerms]


class CompiledBound:
    """The evidence lower bound of full batches, compiled if that pays; the gradient is compiled with it.

    Before the first step of a run, forward and backward passes on its batch are timed as they are, compiled, and timed
    again. The compiled ones are used if what they save in the remaining steps exceeds the time that compiling took; one
    line reports both. Nothing that training depends on is changed: not the parameters, buffers or random states.

    Compiled and plain passes differ by rounding, so that the decision is part of a checkpoint, and a resumed run keeps
    it. Shorter batches, the importance-weighted bound of a run's tail and step (ii) are not compiled.

    Args:
        model: The model.
        generator: The random generator of the noise.
        path: Whether the gradient of log q(z|x) is the one through z alone.
    """

    def __init__(self, model: VAE, generator: torch.Generator, *, path: bool) -> None:
        self.model, self.generator, self.path = model, generator, path
        #: Whether the compiled bound is used; None before that is decided.
        self.used: bool | None = None
        self._compiled: Callable[..., ElboTerms] | None = None

    def __call__(self, x: Tensor, index: Tensor | None) -> ElboTerms:
        """The bound of a batch, with its gradient, (B,)."""
        bound = self._compiled if self.used and self._compiled is not None else elbo
        return bound(self.model, x, index=index, generator=self.generator, path=self.path)

    def decide(self, x: Tensor, index: Tensor | None, steps: int, *, bf16: bool = False) -> None:
        """Decides, on a full batch, whether the remaining steps use the compiled bound.

        Args:
            x: The batch.
            index: Its rows in the training set.
            steps: The number of remaining steps.
            bf16: Whether the networks' matrix products are in bfloat16.
        """
        if self._compiled is not None or self.used is False:
            return
        with _Unchanged(self.model, self.generator), torch.autocast(x.device.type, torch.bfloat16, enabled=bf16):
            plain = self._seconds(elbo, x, index)
            start = time.perf_counter()
            try:
                compiled = torch.compile(elbo, dynamic=False, backend=BACKEND)
                self._pass(compiled, x, index)
            except (RuntimeError, OSError) as e:  # torch's errors of compilers are RuntimeErrors
                cause = first_line(e).split(" Set TORCHDYNAMO")[0]
                log.warning("compile: not possible here (%s); training is not compiled", cause)
                self.used = False
                return
            spent = time.perf_counter() - start
            fast = self._seconds(compiled, x, index)
        if self.used is None:
            saved = (plain - fast) * steps
            self.used = saved > spent
            log.warning(
                "compile: took %.0f s; passes of a step %.1f ms, compiled %.1f ms: %.0f s saved in %d steps, %s",
                spent, 1e3 * plain, 1e3 * fast, saved, steps, "used" if self.used else "not used",
            )  # fmt: skip
        else:
            log.warning("compile: took %.0f s, as this run is compiled", spent)
        self._compiled = compiled

    def _seconds(self, bound: Callable[..., ElboTerms], x: Tensor, index: Tensor | None) -> float:
        """The median seconds of a forward and backward pass."""
        seconds = []
        for _ in range(UNTIMED + TIMED):
            start = time.perf_counter()
            self._pass(bound, x, index)
            seconds.append(time.perf_counter() - start)
        return statistics.median(seconds[UNTIMED:])

    def _pass(self, bound: Callable[..., ElboTerms], x: Tensor, index: Tensor | None) -> None:
        with warnings.catch_warnings():  # of what a compiler leaves to Python
            warnings.simplefilter("ignore")
            terms = bound(self.model, x, index=index, generator=self.generator, path=self.path)
            terms.bound().mean().backward()
        self.model.zero_grad(set_to_none=True)


class _Unchanged:
    """Restores a model's buffers and the random states at the end of a block."""

    def __init__(self, model: VAE, generator: torch.Generator) -> None:
        self.model, self.generator = model, generator

    def __enter__(self) -> None:
        # Training items, which are integers, are held as buffers too and never change.
        kept = (b for b in self.model.buffers() if b.is_floating_point() or not b.dim())
        self.buffers = [(b, b.clone()) for b in kept]
        self.state, self.global_state = self.generator.get_state(), torch.get_rng_state()

    def __exit__(self, *_: object) -> None:
        with torch.no_grad():
            for b, before in self.buffers:
                b.copy_(before)
        self.generator.set_state(self.state)
        torch.set_rng_state(self.global_state)
