"""The epochs of a training run on the terminal, or in a notebook."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from bype.core.console import duration, is_live, progress_bar, report
from bype.core.notebook import NotebookBar, in_notebook

if TYPE_CHECKING:
    from rich.progress import Progress

    from bype.training.epoch import EpochInfo

#: Seconds between two lines on the steps of an epoch, where stderr is not a terminal.
LINE_EVERY = 30.0
#: Seconds between two movements of a bar within an epoch.
BAR_EVERY = 0.2


class Training(Protocol):
    """The part of a `Trainer` that is shown."""

    epoch: int
    epochs: int
    best_val_loss: float
    best_epoch: int


class EpochDisplay:
    """Shows the epochs of one training run: on a terminal as a bar, otherwise as a line for each.

    Called after each epoch; `step` is called after each network step.

    Args:
        title: The name of the run.
        note: A line about the run, shown with its first epoch.
        bar: The bar, on a terminal.
    """

    def __init__(self, title: str, note: str = "", bar: "Progress | NotebookBar | None" = None) -> None:
        self.title, self.note, self.bar = title, note, bar
        self._task = None if bar is None else bar.add_task("", total=None)
        self._last = time.monotonic()
        self._first: tuple[float, float] | None = None  # the time of the first step of this process, epochs until then

    def __call__(self, info: "EpochInfo", trainer: Training) -> None:
        """Shows a finished epoch."""
        self._last = time.monotonic()
        if self.note:
            report(f"{self.title}  {self.note}")
            self.note = ""
        if self.bar is not None and self._task is not None:
            # A terminal of 80 columns leaves room for no more.
            best = f"best {trainer.best_val_loss:.2f} @ {trainer.best_epoch}"
            text = f"val {info.val_loss:.2f} {best} {info.seconds:.2f} s"
            self.bar.update(self._task, completed=info.epoch, total=trainer.epochs, description=text)
            return
        skipped = f"  skipped {info.skipped_steps}" if info.skipped_steps else ""
        report(
            f"{self.title}  epoch {info.epoch}/{trainer.epochs}  beta {info.beta:.2f}  loss {info.loss:.2f}  "
            f"val {info.val_loss:.2f}  best {trainer.best_val_loss:.2f} @ {trainer.best_epoch}  "
            f"{info.seconds:.2f} s/epoch{skipped}"
        )

    def step(self, trainer: Training, step: int, steps: int) -> None:
        """Shows how far an epoch is, and the time that is left if all epochs are trained; not at every step."""
        now, done = time.monotonic(), trainer.epoch + step / steps
        if self._first is None:
            self._first = now, done
        if now - self._last < (LINE_EVERY if self.bar is None else BAR_EVERY) or step == steps:
            return
        self._last = now
        if self.bar is not None and self._task is not None:
            self.bar.update(self._task, completed=done, total=trainer.epochs)
            return
        start, before = self._first
        left = (now - start) / (done - before) * (trainer.epochs - done) if done > before else None
        report(
            f"{self.title}  epoch {trainer.epoch + 1}/{trainer.epochs}  step {step}/{steps}"
            + ("" if left is None else f"  at most {duration(left)} left")
        )


@contextmanager
def epochs(title: str, note: str = "") -> Iterator[EpochDisplay]:
    """Shows the epochs of one training run; yields what to call after each epoch, and with `step` after each step."""
    if not is_live():
        yield EpochDisplay(title, note)
        return
    if title or note:
        report(f"{title}  {note}".strip())
    with progress_bar() as bar:
        yield EpochDisplay(title, "", bar)


@contextmanager
def epochs_in_notebooks(progress: bool | None) -> Iterator[EpochDisplay | None]:
    """The same if `progress` says so, or says nothing in a notebook; None otherwise."""
    if in_notebook() if progress is None else progress:
        with epochs("training") as display:
            yield display
    else:
        yield None
