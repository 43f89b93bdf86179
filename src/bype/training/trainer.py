"""The training loop: network steps with the pseudocoreset fixed, then step (ii), then validation."""

import logging
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, cast

import torch
from torch import Tensor

from bype.core.config import GRADIENTS
from bype.core.devices import seconds_now
from bype.core.errors import InputError
from bype.core.numbers import real, whole
from bype.core.precision import bf16_is_fast, deterministic_algorithms, flush_denormals, resolve_precision
from bype.core.recipes import DEFAULT_RECIPE, training_options
from bype.core.seeds import Stream
from bype.core.torch_state import fixed_torch_state
from bype.data.coerce import DataLike
from bype.models.objectives import kl_by_level
from bype.models.vae import VAE
from bype.pseudocoreset.strategy import Strategy, coreset_metrics, resolve_strategy
from bype.training import diagnosis, state
from bype.training.averaging import WeightAverage
from bype.training.compiling import CompiledBound
from bype.training.epoch import EpochInfo
from bype.training.fresh import steps_for, steps_per_epoch
from bype.training.optim import NormalizedAdam, parameter_groups
from bype.training.schedule import Schedule
from bype.training.state import Counters, Snapshot, Tensors
from bype.training.step import EpochSums
from bype.training.tail import Tail
from bype.training.terminal import epochs_in_notebooks
from bype.training.validation import validation_bound

log = logging.getLogger("bype")


class Trainer:
    """Trains a model in place, one epoch at a time; its state can be saved and restored between epochs.

    Epoch t = 1, 2, ...: beta = min(1, t/warmup), the network steps, step (ii) if t mod k = 0, validation, comparison
    with the best epoch. On CUDA, the step on a full batch is captured once as a CUDA graph and replayed
    (`bype.core.graphs`).

    Args:
        model: The model, on the device of the data.
        data: The data in any form that `bype.train` takes.
        epochs: Maximum number of epochs.
        warmup: Epochs over which beta rises linearly to 1.
        patience: Early stopping: epochs without a lower validation loss, counted after the warm-up. Not used if the
            learning rate decays: such a run is only as good as its end.
        batch_size: Examples per step.
        lr: Learning rate, the highest one of a schedule.
        schedule: The learning rate over the run, `constant`, or `linear` or `cosine` down to 0 at the last epoch
            (`bype.training.schedule`). It applies to all rates of the network steps, not to those of step (ii).
        lr_warmup: Epochs over which the learning rate rises linearly from 0.
        averaging: Decay of the exponential moving average of the weights, which is validated and kept in place of the
            last weights (`bype.training.averaging`); 0 for none.
        gradient: `total`, or `path` for the gradient of log q(z|x) through z alone, which has the same expectation and
            less noise (`bype.distributions.normal`).
        importance: More than 1 to maximise the importance-weighted bound with that many samples in the last tenth of
            the epochs (`bype.training.tail`). It needs a learning rate that decays.
        strategy: The strategy of step (ii), a name or a `Strategy`; by default the prior's `coreset`. Ignored for
            priors without a pseudocoreset.
        coreset_interval: Epochs k between updates of the pseudocoreset.
        precision: Precision of the networks' matrix products in training: `fp32`, `tf32` (CUDA only), `bf16`, or
            `auto`, which is `tf32` on CUDA and `fp32` on a CPU; the attribute `precision` is the one in use.
            Parameters, densities and validation are always float32.
        deterministic: Whether to use deterministic algorithms on a GPU, so that repeated and resumed runs are
            bit-identical, as they always are on a CPU. Slower on a GPU.
        seed: Seed of the order of the data and of all noise.
        compile: Whether to compile the step on a CPU, if that pays (`bype.training.compiling`).
        graph: Whether a CUDA graph may be used. Without it the noise is the same, and the steps agree up to rounding.

    Raises:
        InputError: If an option is out of range, or the data or the strategy do not fit the model.
    """

    @fixed_torch_state(grad=True)
    def __init__(
        self,
        model: VAE,
        data: DataLike,
        *,
        epochs: int = 4000,
        warmup: int = 100,
        patience: int = 50,
        batch_size: int = 100,
        lr: float = 5e-4,
        schedule: str = "constant",
        lr_warmup: int = 0,
        averaging: float = 0.0,
        gradient: str = "total",
        importance: int = 1,
        strategy: Strategy | str | None = None,
        coreset_interval: int = 10,
        precision: str = "auto",
        deterministic: bool = False,
        compile: bool = False,
        seed: int = 0,
        graph: bool = True,
    ) -> None:
        data = model.checked_data(data)
        self.model, self.data = model, data
        self.device = data.train.pixels.device
        try:
            model.prior.check_items(data.train)
        except ValueError as e:
            raise InputError(f"{data.name}: {e}") from None
        precision = resolve_precision(precision, self.device)
        if precision == "bf16" and not bf16_is_fast(self.device):
            log.warning(
                "precision bf16: this %s has no bfloat16 instructions, so that it is many times slower than fp32",
                "GPU" if self.device.type == "cuda" else "processor",
            )
        self.epochs, self.warmup = whole("epochs", epochs, 1), whole("warmup", warmup)
        self.patience, self.batch_size = whole("patience", patience, 1), whole("batch_size", batch_size, 1)
        self.coreset_interval, self.seed = whole("coreset_interval", coreset_interval, 1), whole("seed", seed)
        self.precision, self.deterministic = precision, deterministic
        lr, averaging = real("lr", lr, 0), real("averaging", averaging, 0)
        if averaging >= 1:
            raise InputError(f"averaging: expected below 1, got {averaging}")
        if gradient not in GRADIENTS:
            raise InputError(f"gradient: expected one of {', '.join(GRADIENTS)}, got {gradient!r}")
        self.steps_per_epoch = steps_per_epoch(data, self.batch_size)
        self.schedule = Schedule(
            schedule, self.epochs * self.steps_per_epoch, whole("lr_warmup", lr_warmup) * self.steps_per_epoch
        )
        self.tail = Tail.of(whole("importance", importance, 1), self.epochs, self.warmup, self.schedule)
        self.strategy = resolve_strategy(model.prior, strategy)
        self.strategy.graph = graph
        self.optimizer = NormalizedAdam(parameter_groups(model), lr=lr)
        self.average = WeightAverage(model, averaging) if averaging else None
        self.generator = torch.Generator(self.device).manual_seed(self.seed)
        self.steps = steps_for(
            model,
            data,
            self.optimizer,
            self.generator,
            batch_size=self.batch_size,
            precision=precision,
            graph=graph,
            schedule=self.schedule,
            average=self.average,
            path=gradient == "path",
        )
        if compile and self.device.type == "cpu":
            self.steps.compiled = CompiledBound(model, self.generator, path=gradient == "path")
        elif compile:
            log.warning("compile: only steps on a CPU are compiled; on a GPU they are replayed as one CUDA graph")
        self.epoch = 0
        self.skipped_in_a_row = 0  # consecutive skipped steps at the end of the last epoch
        self.best_epoch, self.best_val_loss = 0, float("inf")
        self.best_state: dict[str, Tensor] = {}
        self._best_in_tail: float | None = None  # the best epoch's loss by the importance-weighted bound
        self._warned = False
        self._data_mean: Tensor | None = None

    def __iter__(self) -> Iterator[EpochInfo]:
        """Trains until `epochs` or early stopping; yields the measurements of each epoch. Raises as `run_epoch`."""
        if self.finished:
            return
        if self.epochs < self.warmup:
            log.warning(
                "warmup %d: longer than the run of %d epochs, so that the kept epoch has beta < 1 (at most %.2g); "
                "choose a lower --warmup", self.warmup, self.epochs, self.beta(self.epochs),
            )  # fmt: skip
        if line := diagnosis.small_data(self.model, self.data):
            log.warning(line)
        while not self.finished:
            info = self.run_epoch()
            yield info
        if not self._warned and (line := diagnosis.nothing_encoded(self.model, info.kl)):
            log.warning(line)
        if self.epochs >= self.warmup and self.beta(self.best_epoch) < 1:
            log.warning(
                "warmup %d: the kept epoch %d is within the warm-up and has beta %.2g < 1; choose a lower --warmup",
                self.warmup, self.best_epoch, self.beta(self.best_epoch),
            )  # fmt: skip

    @property
    def finished(self) -> bool:
        """Whether training has ended: after `epochs` epochs, or `patience` epochs after the best epoch or the warm-up,
        whichever is later; with a learning rate that decays, after `epochs` epochs alone.
        """
        if self.epoch >= self.epochs or self.schedule.decays:
            return self.epoch >= self.epochs
        return self.epoch - max(self.best_epoch, self.warmup) >= self.patience

    def beta(self, epoch: int) -> float:
        """The weight of the KL term in an epoch: min(1, epoch/warmup), or 1 without a warm-up."""
        return min(1.0, epoch / self.warmup) if self.warmup else 1.0

    def run_epoch(self) -> EpochInfo:
        """Trains for one epoch and returns its measurements.

        Raises:
            TrainingError: If 10 consecutive steps, or all steps of the epoch, had a non-finite loss or gradient; or if
                the validation loss, U or w is not finite.
        """
        same_bits = deterministic_algorithms() if self.deterministic else nullcontext()
        with fixed_torch_state(grad=True), flush_denormals(), same_bits, self._seeded_networks():
            return self._run_epoch()

    @contextmanager
    def _seeded_networks(self) -> Iterator[None]:
        """Seeds torch's global generators by the epoch, for networks that draw from them, and restores them after it.

        A resumed run then draws what an unbroken one does, without their state in its checkpoints.
        """
        seeds = torch.Generator().manual_seed(self.seed + Stream.NETWORKS)
        seed = int(torch.randint(2**31, (self.epoch + 1,), generator=seeds)[-1])
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            torch.default_generator.manual_seed(seed)
            if self.device.type == "cuda":
                torch.cuda.manual_seed(seed)
            yield

    def _run_epoch(self) -> EpochInfo:
        epoch = self.epoch + 1
        beta = self.beta(epoch)
        start = seconds_now(self.device)
        sums = self._network_steps(epoch, beta)  # step (i)
        seconds = seconds_now(self.device) - start
        coreset = self._update_coreset(epoch)  # step (ii)
        start = seconds_now(self.device)
        val_loss = self.validate()
        seconds_validation = seconds_now(self.device) - start
        if not math.isfinite(val_loss):
            raise diagnosis.no_validation(epoch, val_loss, "after the last step")
        best, tail = self._compare(epoch, val_loss)
        if best:
            self.best_epoch, self.best_val_loss = epoch, val_loss
            self.best_state = self._evaluated_state()
        self.epoch = epoch
        loglik, kl, kl_z1 = (total / sums.n_examples for total in sums[:3])
        return EpochInfo(
            epoch=epoch,
            beta=beta,
            loss=beta * kl - loglik,
            reconstruction=-loglik,
            kl=kl,
            val_loss=val_loss,
            best=best,
            seconds=seconds,
            seconds_validation=seconds_validation,
            skipped_steps=sum(sums.skipped),
            coreset=coreset,
            tail=tail,
            levels=kl_by_level(kl, kl_z1) if self.model.lower_dim else {},
        )

    def _network_steps(self, epoch: int, beta: float) -> EpochSums:
        """Step (i): one pass over the training set, with U and w fixed (except under the strategy `elbo`)."""
        self.model.train()
        self.model.begin_epoch()
        order = torch.randperm(len(self.data.train), generator=self.generator, device=self.device)
        self.steps.maximise(self.tail.samples_in(epoch))
        sums = self.steps.run(order, beta, (epoch - 1) * self.steps_per_epoch)
        self.skipped_in_a_row = diagnosis.check_steps(
            self.model, sums, epoch, self.skipped_in_a_row, bf16=self.precision == "bf16"
        )
        if not self._warned and diagnosis.decoder_is_dead(self.model):
            self._warned = True
            log.warning(
                "epoch %d: the decoder's gradients are all zero; if the outputs are saturated, restart with a lower "
                "--lr", epoch,
            )  # fmt: skip
        return sums

    def _update_coreset(self, epoch: int) -> dict[str, float]:
        """Step (ii), every k epochs: updates U and w with the networks fixed. Returns the metrics of the update."""
        points = self.model.prior.pseudocoreset
        if points is None or not self.strategy.moves_points or epoch % self.coreset_interval:
            return {}
        metrics = {}
        if not self.strategy.learned:
            metrics["val_loss_before_update"] = before_update = self.validate()
            if not math.isfinite(before_update):  # the gradients of step (ii) would be meaningless
                raise diagnosis.no_validation(epoch, before_update, "before step (ii)")
            start = seconds_now(self.device)
            self.model.eval()
            try:
                metrics |= self.strategy.update(self.model, self.data.train, self.generator)
            except RuntimeError:
                diagnosis.check_coreset(points, epoch, self.strategy.remedy)  # sampling fails if a weight is NaN
                raise
            diagnosis.check_coreset(points, epoch, self.strategy.remedy)
            if self.strategy.invalidated_graphs:
                self.steps.reset()
            metrics["seconds_coreset"] = seconds_now(self.device) - start
        if self._data_mean is None:
            self._data_mean = self.data.train.mean()
        return metrics | coreset_metrics(points, self.data.train, self._data_mean)

    def validate(self) -> float:
        """Minus the mean evidence lower bound at beta = 1 over the validation set, with the same noise in every call.

        With weight averaging it is that of the average. In the unit of the likelihood (nats, or the paper's).
        """
        return self._validation_loss()

    def _validation_loss(self, samples: int = 1) -> float:
        with self._evaluated_weights():
            return -validation_bound(self.model, self.data.validation, self.seed + Stream.VALIDATION, samples=samples)

    def _compare(self, epoch: int, val_loss: float) -> tuple[bool, dict[str, float]]:
        """Whether the epoch is the best so far, and in the tail the loss that says so, by the bound of the tail."""
        samples = self.tail.samples_in(epoch)
        if samples == 1:
            return val_loss < self.best_val_loss, {}
        if self._best_in_tail is None:
            self._best_in_tail = self._loss_of_best(samples)
        loss = self._validation_loss(samples)
        best = loss < self._best_in_tail
        self._best_in_tail = min(loss, self._best_in_tail)
        return best, {"val_loss_importance": loss}

    def _loss_of_best(self, samples: int) -> float:
        """The validation loss of the best epoch so far by the importance-weighted bound."""
        if not self.best_state:
            return math.inf
        own = {k: v.clone() for k, v in self.model.state_dict().items()}
        self.model.load_state_dict(self.best_state)
        bound = validation_bound(self.model, self.data.validation, self.seed + Stream.VALIDATION, samples=samples)
        self.model.load_state_dict(own)
        return -bound

    def _evaluated_weights(self) -> AbstractContextManager[None]:
        """The weights that are validated and kept: the averaged ones, if there are any."""
        return nullcontext() if self.average is None else self.average.applied()

    def _evaluated_state(self) -> Tensors:
        """A copy of the model's state with the weights that are validated."""
        with self._evaluated_weights():
            return {k: v.detach().clone() for k, v in self.model.state_dict().items()}

    @fixed_torch_state()
    def load_best(self) -> None:
        """Loads the best epoch's networks and pseudocoreset into the model."""
        self.model.load_state_dict(self.best_state)

    def state(self) -> tuple[Tensors, Counters]:
        """Returns everything that the next epoch depends on: tensors and counters, without times or paths."""
        tensors = state.collect(self.model, self.optimizer, self.strategy, self.generator)
        if self.average is not None:
            tensors |= {f"average.{name}": value for name, value in self.average.tensors.items()}
        counters = Counters(
            epoch=self.epoch,
            best_epoch=self.best_epoch,
            best_val_loss=self.best_val_loss,
            skipped_in_a_row=self.skipped_in_a_row,
        )
        if self.steps.compiled is not None:
            counters["compiled"] = self.steps.compiled.used
        return tensors, counters

    def snapshot(self) -> Snapshot:
        """Returns the state after the last epoch, copied to the CPU, as saved in a checkpoint."""
        tensors, counters = self.state()
        # On a CPU the best epoch's state is no second copy: it is replaced, never changed.
        best = {k: v.cpu() for k, v in self.best_state.items()} if self.best_epoch == self.epoch else None
        return Snapshot(state.on_cpu(tensors), counters, self.finished, best)

    @fixed_torch_state()
    def load_state(self, tensors: Tensors, counters: Mapping[str, object], best: Tensors) -> None:
        """Restores what `state` returned.

        Args:
            tensors: The tensors that `state` returned.
            counters: The counters that `state` returned, also after a round trip through JSON.
            best: The `model.state_dict()` of the best epoch; not needed if it is the last one.
        """
        saved = cast(Counters, counters)
        other_device_seed = self.seed + int(saved["epoch"])
        state.restore(tensors, self.model, self.optimizer, self.strategy, self.generator, other_device_seed)
        self.steps.reset()  # a captured graph refers to the optimiser's previous tensors
        self.epoch, self.best_epoch = int(saved["epoch"]), int(saved["best_epoch"])
        self.best_val_loss = float(saved["best_val_loss"])
        self.skipped_in_a_row = int(saved.get("skipped_in_a_row", 0))
        self._best_in_tail = None
        if self.steps.compiled is not None:
            self.steps.compiled.used = saved.get("compiled")
        if self.average is not None:
            self.average.load({k.removeprefix("average."): v for k, v in tensors.items() if k.startswith("average.")})
        if self.best_epoch == self.epoch:
            self.best_state = self._evaluated_state()
        else:
            self.best_state = {k: v.to(self.device, copy=True) for k, v in best.items()}


def train(
    model: VAE,
    data: DataLike,
    *,
    recipe: str = DEFAULT_RECIPE,
    on_epoch: Callable[[EpochInfo, Trainer], None] | None = None,
    progress: bool | None = None,
    **options: Any,
) -> list[EpochInfo]:
    """Trains a model in place, then loads the networks and the pseudocoreset of the best epoch into it.

    If training is interrupted by an exception, such as KeyboardInterrupt, the best epoch so far is loaded.

    Args:
        model: The model, on the device of the data.
        data: A `Dataset`; or a name or path, an array, a data frame, a torch or Hugging Face data set, or a loader,
            which is split (`bype.data.coerce.as_dataset`), into the same parts whenever it is passed to a function.
        recipe: The named set of options (`bype.core.recipes`) that applies where `options` names no other; the
            likelihood is the model's.
        on_epoch: Called after each epoch with its measurements and the trainer.
        progress: Show the epochs, as a bar or as lines on stderr; by default in notebooks only.
        options: The keyword arguments of `Trainer`.

    Returns:
        The measurements of each epoch.

    Raises:
        InputError: If an option is out of range, or the data do not fit the model.
        TrainingError: If the loss, the gradients, U or w become non-finite.
    """
    data = model.checked_data(data)
    trainer = Trainer(model, data, **training_options(recipe, len(data.train), options))
    infos = []
    try:
        with epochs_in_notebooks(progress) as show:
            for info in trainer:
                infos.append(info)
                for call in (show, on_epoch):
                    if call is not None:
                        call(info, trainer)
    finally:
        if trainer.best_state:
            trainer.load_best()
    return infos
