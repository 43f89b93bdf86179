"""The epochs of a training run on the terminal."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bype.core.console import progress_bar, report

if TYPE_CHECKING:
    from bype.training.epoch import EpochInfo
    from bype.training.trainer import Trainer


@contextmanager
def epochs(title: str, total: int) -> Iterator[Callable[["EpochInfo", "Trainer"], None]]:
    """Shows the epochs of one training run; yields what to call after each."""

    def line(info: "EpochInfo", trainer: "Trainer") -> str:
        skipped = f"  skipped {info.skipped_steps}" if info.skipped_steps else ""
        return (
            f"beta {info.beta:.2f}  loss {info.loss:.2f}  val {info.val_loss:.2f}  "
            f"best {trainer.best_val_loss:.2f} @ {trainer.best_epoch}  {info.seconds:.2f} s/epoch{skipped}"
        )

    def short(info: "EpochInfo", trainer: "Trainer") -> str:  # what a bar on a terminal of 80 columns leaves room for
        return f"val {info.val_loss:.2f} best {trainer.best_val_loss:.2f} @ {trainer.best_epoch} {info.seconds:.2f} s"

    if not sys.stderr.isatty():
        yield lambda info, trainer: report(f"{title}  epoch {info.epoch}/{total}  {line(info, trainer)}")
        return
    report(title)
    with progress_bar() as bar:
        task = bar.add_task("", total=total)
        yield lambda info, trainer: bar.update(task, completed=info.epoch, description=short(info, trainer))
