"""The alternating loop: network steps with a pseudocoreset that stands still, then step (ii), then validation."""

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor

from bype.core import graphs
from bype.core.config import MAX_INT, PRECISIONS
from bype.core.errors import InputError, TrainingError
from bype.core.precision import deterministic_algorithms, flush_denormals, product_precision
from bype.data.images import Dataset
from bype.models.objectives import elbo, kl_by_level
from bype.models.vae import VAE
from bype.priors.pseudocoreset import PseudocoresetPrior
from bype.pseudocoreset.fixed import Fixed
from bype.pseudocoreset.paper import Algorithm2
from bype.pseudocoreset.registry import STRATEGIES
from bype.pseudocoreset.strategy import Strategy, coreset_metrics
from bype.training.epoch import EpochInfo
from bype.training.optim import NormalizedAdam
from bype.training.state import Snapshot
from bype.training.step import StepInfo
from bype.training.validation import validation_bound

log = logging.getLogger("bype")

# Offsets from a run's seed, which is itself that of the model's start and of the training noise.
VALIDATION_STREAM = 1_000_003
OTHER_DEVICE_STREAM = 4_000_037
LEARNED_CORESET_LR = 1e-3  # of U and log w under the strategy `elbo`
GIVE_UP_AFTER = 10  # steps in a row with a non-finite loss or gradient


class Trainer:
    """Trains a model in place, an epoch at a time, and can be saved and restored between epochs.

    An epoch t = 1, 2, ...: beta = min(1, t/warmup), the network steps, step (ii) if t mod k = 0, validation, best. The
    last batch of an epoch may be shorter than the others; it is used as it is. On CUDA a step on a full batch is
    recorded once as a CUDA graph and replayed (`bype.graphs`); the shorter batch goes step by step.

    Args:
        model: The model, on the device of the data.
        data: The data set.
        epochs: Epochs at most.
        warmup: Epochs over which beta rises linearly to 1.
        patience: Epochs without a better validation loss, counted after the warm-up, before training stops.
        batch_size: Items per step.
        lr: Learning rate.
        strategy: How a pseudocoreset learns, by name or as an object with settings of its own; by default as the
            prior's `coreset` says. Other priors ignore it.
        coreset_interval: Epochs k between its updates.
        precision: `fp32`, `tf32` (CUDA) or `bf16`: that of the networks' products in training. Parameters, densities
            and validation are float32 throughout.
        deterministic: Whether a GPU must give the same bits each time, so that a run resumed ends bit-equal, as a
            CPU's always does. It is slower there.
        seed: Seed of the order of the data and of all noise.
        graph: Whether a CUDA graph may be used; the same noise and, to rounding, the same steps without it.

    Raises:
        InputError: If an option is out of range, or the data or the strategy do not fit the model.
    """

    def __init__(
        self,
        model: VAE,
        data: Dataset,
        *,
        epochs: int = 4000,
        warmup: int = 100,
        patience: int = 50,
        batch_size: int = 100,
        lr: float = 5e-4,
        strategy: Strategy | str | None = None,
        coreset_interval: int = 10,
        precision: str = "fp32",
        deterministic: bool = False,
        seed: int = 0,
        graph: bool = True,
    ) -> None:
        self.model, self.data = model, data
        self.device = data.train.pixels.device
        model.check_data(data)
        try:
            model.prior.check_items(data.train)
        except ValueError as e:
            raise InputError(f"{data.name}: {e}") from None
        if precision not in PRECISIONS:
            raise InputError(f"precision: expected one of {', '.join(PRECISIONS)}, got {precision!r}")
        if precision == "tf32" and self.device.type != "cuda":
            raise InputError(f"precision tf32: expected a CUDA device, got {self.device.type}")
        for name, value, low in (
            ("epochs", epochs, 1),
            ("warmup", warmup, 0),
            ("patience", patience, 1),
            ("batch_size", batch_size, 1),
            ("coreset_interval", coreset_interval, 1),
            ("seed", seed, 0),
        ):
            if not _is_whole(value) or not low <= value <= MAX_INT:
                raise InputError(f"{name}: expected a whole number from {low} to 2^31, got {value!r}")
        if not _is_number(lr) or not 0 <= lr < math.inf:
            raise InputError(f"lr: expected a number of at least 0, got {lr!r}")
        self.epochs, self.warmup, self.patience, self.batch_size = epochs, warmup, patience, batch_size
        self.strategy, self.coreset_interval = _strategy_for(model, strategy), coreset_interval
        self.strategy.graph = graph
        self.precision, self.deterministic, self.seed, self.graph = precision, deterministic, seed, graph
        self.optimizer = NormalizedAdam(_groups(model), lr=lr)
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self.epoch = 0
        self.skipped_in_a_row = 0  # steps, at the end of the last epoch
        self.best_epoch, self.best_val_loss = 0, float("inf")
        self.best_state: dict[str, Tensor] = {}
        # What a step reads and counts stays at one place on the device: a recorded step knows no other.
        self._beta = torch.zeros((), dtype=model.dtype, device=self.device)
        self._index = torch.zeros(batch_size, dtype=torch.long, device=self.device)
        # Of each step of an epoch: log-likelihood, KL, z1's part of it, whether the step was skipped.
        count = max(-(-len(data.train) // batch_size), graphs.WARMUPS)
        self._steps = torch.zeros(count, 4, dtype=model.dtype, device=self.device)
        self._step = torch.zeros(1, dtype=torch.long, device=self.device)
        self._replay: graphs.Step | None = None
        self._warned = False

    def __iter__(self) -> Iterator[EpochInfo]:
        """Trains on until `epochs` or early stopping, yielding what each epoch measured; raises as `run_epoch` does."""
        while not self.finished:
            yield self.run_epoch()

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or too many went by since the best one (counted after the warm-up)."""
        return self.epoch >= self.epochs or self.epoch - max(self.best_epoch, self.warmup) >= self.patience

    def beta(self, epoch: int) -> float:
        """The weight of the KL term in an epoch, which rises linearly over the warm-up."""
        return min(1.0, epoch / self.warmup) if self.warmup else 1.0

    def run_epoch(self) -> EpochInfo:
        """One epoch.

        Raises:
            TrainingError: If 10 steps in a row, or all of an epoch, had a loss or gradients that were not finite, or
                the validation loss is not finite.
        """
        same_bits = deterministic_algorithms() if self.deterministic else nullcontext()
        with flush_denormals(), product_precision(tf32=False), same_bits:
            return self._run_epoch()

    def _run_epoch(self) -> EpochInfo:
        epoch = self.epoch + 1
        beta = self.beta(epoch)
        start = self._now()
        sums, skipped = self._network_steps(epoch, beta)
        seconds = self._now() - start
        coreset = self._update_coreset(epoch)
        start = self._now()
        val_loss = self.validate()
        seconds_validation = self._now() - start
        if not math.isfinite(val_loss):
            raise self._no_validation(epoch, val_loss, "after the epoch's last step")
        best = val_loss < self.best_val_loss
        if best:
            self.best_epoch, self.best_val_loss = epoch, val_loss
            self.best_state = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
        self.epoch = epoch
        loglik, kl, kl_z1 = sums
        levels = kl_by_level(kl, kl_z1) if self.model.lower_dim else {}
        return EpochInfo(
            epoch, beta, beta * kl - loglik, -loglik, kl, val_loss, best, seconds, seconds_validation, skipped, coreset,
            levels,
        )  # fmt: skip

    def _network_steps(self, epoch: int, beta: float) -> tuple[tuple[float, float, float], int]:
        """All steps of an epoch; nothing is read back from the device before its end."""
        self.model.train()
        self.model.begin_epoch()
        order = torch.randperm(len(self.data.train), generator=self.generator, device=self.device)
        batches = order.split(self.batch_size)
        self._beta.fill_(beta)
        self._step.zero_()
        with product_precision(tf32=self.precision == "tf32"):
            for index in batches:
                if len(index) < self.batch_size:
                    self._counted_step(index)
                    continue
                self._index.copy_(index)
                if self._replay is None:
                    self._replay = self._full_step()
                self._replay()
        lines = self._steps[: len(batches)].cpu().double()
        bad = lines[:, 3] > 0
        in_a_row, last = self._longest_row(bad.tolist())
        n = sum(len(index) for index, skipped in zip(batches, bad.tolist(), strict=True) if not skipped)
        if in_a_row >= GIVE_UP_AFTER or n == 0:
            first = (epoch - 1) * len(batches) + last - in_a_row + 1
            raise TrainingError(
                f"epoch {epoch}, step {first}: expected a finite loss and gradients, got {in_a_row} steps in a row "
                f"without, {self._first_not_finite()}"
            )
        self._warn_if_dead(epoch)
        loglik, kl, kl_z1, _ = (lines[~bad].sum(0) / n).tolist()
        return (loglik, kl, kl_z1), int(bad.sum())

    def _warn_if_dead(self, epoch: int) -> None:
        """Says once if the decoder has stopped learning: under `mse` a pixel beyond the clamp has no gradient."""
        grads = [p.grad for p in self.model.decoder.parameters() if p.grad is not None]
        if self._warned or torch.stack(torch._foreach_norm(grads)).any():
            return
        self._warned = True
        log.warning(
            "epoch %d: the decoder's gradients are all zero; if its images stand at the ends of their range, start "
            "again with a lower --lr",
            epoch,
        )

    def _longest_row(self, bad: list[bool]) -> tuple[int, int]:
        """The longest row of skipped steps, which may have begun in an earlier epoch, and its last step in this one."""
        longest, last = 0, 0
        for step, skipped in enumerate(bad, 1):
            self.skipped_in_a_row = self.skipped_in_a_row + 1 if skipped else 0
            if self.skipped_in_a_row > longest:
                longest, last = self.skipped_in_a_row, step
        return longest, last

    def _first_not_finite(self) -> str:
        """The first tensor that is not finite after a step that was skipped, and the likely cause."""
        named = list(self.model.named_parameters())
        for name, p in named:
            if not p.isfinite().all():
                return f"parameter {name}; it was so before the step, which a damaged start or checkpoint can cause"
        grads = [name for name, p in named if p.grad is not None and not p.grad.isfinite().all()]
        tensor = f"gradient of {grads[0]}" if grads else "the loss"
        if self.precision == "bf16":
            return f"{tensor}; products in bfloat16 may have overflowed: try --precision fp32, or a lower --lr"
        return f"{tensor}; the learning rate may be too high: try a lower --lr"

    def _full_step(self) -> graphs.Step:
        """The step on the batch at `_index`, recorded where that can be done."""

        def step() -> None:
            self._counted_step(self._index)

        if not self.graph:
            return step
        if not self.model.prior.fixed_shapes:
            if graphs.available(self.device):
                log.warning("training: no CUDA graph, step by step instead (the prior's points differ in number)")
            return step
        cache = [] if self.model.cached_features is None else [self.model.cached_features]
        mutated = [*self.model.state_dict().values(), *cache, *self.optimizer.prepare(), self._steps, self._step]
        return graphs.capture(step, mutated, self.generator, "training")

    def _counted_step(self, index: Tensor) -> None:
        """A network step, and its line among the epoch's."""
        info = self.network_step(index, self._beta)
        line = torch.stack([*info, self.optimizer.found_inf.to(info.kl.dtype)])
        self._steps.index_copy_(0, self._step, line[None])
        self._step += 1

    def network_step(self, index: Tensor, beta: float | Tensor) -> StepInfo:
        """Step (i): one step of the optimiser on the training items at `index`."""
        x = self.model.binarise(self.data.train.scaled(index, dtype=self.model.dtype), self.generator)
        # Autocast's cache of cast weights would outlive a recorded step.
        recorded = self.device.type == "cuda"
        with torch.autocast(
            self.device.type, torch.bfloat16, enabled=self.precision == "bf16", cache_enabled=not recorded
        ):
            terms = elbo(self.model, x, index=index, generator=self.generator)
        self.optimizer.zero_grad(set_to_none=True)
        loss = -terms.bound(beta).mean()
        loss.backward()
        self.optimizer.step(loss=loss)
        self.model.prior.after_step()
        kl = terms.kl.detach().sum()
        kl_z1 = torch.zeros_like(kl) if terms.kl_z1 is None else terms.kl_z1.detach().sum()
        return StepInfo(terms.log_likelihood.detach().sum(), kl, kl_z1)

    def _update_coreset(self, epoch: int) -> dict[str, float]:
        """Step (ii), every k epochs, and what it did."""
        prior = self.model.prior
        if (
            not isinstance(prior, PseudocoresetPrior)
            or isinstance(self.strategy, Fixed)
            or epoch % self.coreset_interval
        ):
            return {}
        figures = {}
        if not self.strategy.learned:
            figures["val_loss_before_update"] = before_update = self.validate()
            if not math.isfinite(before_update):  # points would be mutated by what is no gradient
                raise self._no_validation(epoch, before_update, "before step (ii)")
            start = self._now()
            self.model.eval()
            before = graphs.failed_captures()
            try:
                figures |= self.strategy.update(self.model, self.data.train, self.generator)
            except RuntimeError:
                self._check_coreset(epoch)  # which a draw from shares that are not numbers can be
                raise
            self._check_coreset(epoch)
            if graphs.failed_captures() != before:
                self._replay = None
            figures["seconds_coreset"] = self._now() - start
        return figures | coreset_metrics(prior, self.data.train)

    def _check_coreset(self, epoch: int) -> None:
        for name in ("pseudo_inputs", "weights"):
            if not getattr(self.model.prior, name).isfinite().all():
                more = ": try a lower --coreset-lr" if isinstance(self.strategy, Algorithm2) else ""
                raise TrainingError(
                    f"epoch {epoch}, step (ii): expected finite numbers, got others in prior.{name}{more}"
                )

    def _no_validation(self, epoch: int, value: float, when: str) -> TrainingError:
        """What to raise where the validation loss is not finite."""
        return TrainingError(
            f"epoch {epoch}: expected a finite validation loss, got {value}, {when}; the learning rate may be too "
            "high: try a lower --lr"
        )

    def validate(self) -> float:
        """Minus the evidence lower bound at beta = 1 over the validation items, the same noise at every call."""
        return -validation_bound(self.model, self.data.validation, self.seed + VALIDATION_STREAM)

    def load_best(self) -> None:
        """Puts the best epoch's networks and pseudocoreset into the model."""
        self.model.load_state_dict(self.best_state)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """All that the next epoch depends on: tensors and counters. Holds nothing of time, path or process."""
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        for name, p in self.model.named_parameters():
            for key, value in self.optimizer.state.get(p, {}).items():
                tensors[f"optimizer.{key}.{name}"] = value
        tensors |= {f"strategy.{k}": v for k, v in self.strategy.state().items()}
        tensors["random.generator"] = self.generator.get_state()
        counters = {"epoch": self.epoch, "best_epoch": self.best_epoch, "best_val_loss": self.best_val_loss}
        counters["skipped_in_a_row"] = self.skipped_in_a_row
        return tensors, counters

    def snapshot(self) -> Snapshot:
        """The epoch that just ended, as it is to be saved."""

        def copied(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
            return {k: v.detach().to("cpu", copy=True) for k, v in tensors.items()}

        tensors, counters = self.state()
        best = copied(self.best_state) if self.best_epoch == self.epoch else None
        return Snapshot(copied(tensors), counters, self.finished, best)

    def load_state(self, tensors: dict[str, Tensor], counters: dict[str, Any], best: dict[str, Tensor]) -> None:
        """The inverse of `state`; `best` is the best epoch's `model.state_dict()`."""

        def part(name: str) -> dict[str, Tensor]:
            return {k.removeprefix(f"{name}."): v for k, v in tensors.items() if k.startswith(f"{name}.")}

        self.model.load_state_dict(part("model"))
        self.strategy.load_state(part("strategy"))
        for name, p in self.model.named_parameters():
            prefix = {key: f"optimizer.{key}.{name}" for key in ("step", "exp_avg", "exp_avg_sq")}
            self.optimizer.state[p] = {key: tensors[full].to(self.device, copy=True) for key, full in prefix.items()}
        self._replay = None  # a recording knows the optimiser's former tensors
        state = tensors["random.generator"].cpu()
        if len(state) == len(self.generator.get_state()):
            self.generator.set_state(state)
        else:
            log.warning("the checkpoint is of another kind of device: its random numbers cannot go on, others do")
            self.generator.manual_seed(self.seed + OTHER_DEVICE_STREAM + int(counters["epoch"]))
        self.epoch, self.best_epoch = int(counters["epoch"]), int(counters["best_epoch"])
        self.best_val_loss = float(counters["best_val_loss"])
        self.skipped_in_a_row = int(counters.get("skipped_in_a_row", 0))  # which the first checkpoints lack
        self.best_state = {k: v.to(self.device, copy=True) for k, v in best.items()}

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


def _is_whole(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _strategy_for(model: VAE, given: Strategy | str | None) -> Strategy:
    """The strategy that was asked for, checked to fit the prior; by default the prior's own."""
    prior = model.prior
    if not isinstance(prior, PseudocoresetPrior):
        return Fixed()
    name = prior.coreset if given is None else given
    if isinstance(name, str):
        if name not in STRATEGIES:
            raise InputError(f"strategy: expected one of {', '.join(STRATEGIES)}, got {name!r}")
        given = STRATEGIES[name]()
    if not isinstance(given, Strategy):
        raise InputError(f"strategy: expected one of {', '.join(STRATEGIES)} or a Strategy, got {given!r}")
    if given.learned != prior.learned:
        wanted = "elbo" if given.learned else "paper, none or published"
        raise InputError(
            f"strategy {type(given).__name__.lower()}: expected a pseudocoreset made for it (coreset {wanted}), "
            f"got one made for {prior.coreset}"
        )
    return given


def _groups(model: VAE) -> list[dict[str, Any]]:
    """The networks' parameters, and with a rate of their own the points and weights of a learned pseudocoreset."""
    prior = model.prior
    own = [prior.pseudo_inputs, prior.log_weights] if isinstance(prior, PseudocoresetPrior) and prior.learned else []
    ids = {id(p) for p in own}
    groups: list[dict[str, Any]] = [{"params": [p for p in model.parameters() if id(p) not in ids]}]
    return [*groups, {"params": own, "lr": LEARNED_CORESET_LR}] if own else groups


def train(
    model: VAE, data: Dataset, *, on_epoch: Callable[[EpochInfo, Trainer], None] | None = None, **options: Any
) -> list[EpochInfo]:
    """Trains a model in place and leaves the best epoch's networks and pseudocoreset in it.

    Stopped by an exception, such as a KeyboardInterrupt, it leaves the best of the epochs that were done.

    Args:
        model: The model, on the device of the data.
        data: The data set.
        on_epoch: Called after each epoch with what it measured and the trainer.
        options: Those of `Trainer`.

    Returns:
        What each epoch measured.

    Raises:
        InputError: If an option is out of range, or the data do not fit the model.
        TrainingError: If values stop being finite.
    """
    trainer = Trainer(model, data, **options)
    infos = []
    try:
        for info in trainer:
            infos.append(info)
            if on_epoch is not None:
                on_epoch(info, trainer)
    finally:
        if trainer.best_state:
            trainer.load_best()
    return infos
