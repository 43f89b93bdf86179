"""Saving epochs as they end, in a thread on a GPU."""

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self

from bype.runs.run import Run
from bype.training.epoch import EpochInfo
from bype.training.state import Snapshot

#: Devices beside which a checkpoint is written in a thread.
SAVES_IN_THREAD = ("cuda",)

EPOCHS_KEPT = "the last finished epoch is saved"


class Writer:
    """Saves epochs as they end: at once, or in a thread while the next epoch is computed.

    A thread is for a GPU, whose epochs of a small network take about as long as to write 15 MB to a disk. While an
    epoch is computed one other at most is under way, and leaving the context waits for it.
    """

    def __init__(self, run: Run, *, in_thread: bool) -> None:
        self.run = run
        self.pool = ThreadPoolExecutor(1, "bype-save") if in_thread else None
        self.pending: deque[Future[None]] = deque()
        self.failed = False
        self.kept: str | None = None  # once an epoch is saved

    def write(self, info: EpochInfo, epoch: Snapshot) -> None:
        """Saves an epoch, or hands it over and raises what went wrong with the one before."""
        if self.pool is None:
            self._save(info, epoch)
        else:  # handed over first: a signal that comes while we wait loses nothing
            self.pending.append(self.pool.submit(self._save, info, epoch))
            self._wait(1)

    def _save(self, info: EpochInfo, epoch: Snapshot) -> None:
        if self.failed:  # a line of metrics is missing: what follows it would not be whole
            return
        try:
            self.run.append_metrics(info)
            self.run.save(epoch)
            self.kept = EPOCHS_KEPT
        except BaseException:
            self.failed = True
            raise

    def _wait(self, left: int) -> None:
        """Until no more than `left` epochs are under way."""
        while len(self.pending) > left:
            self.pending[0].result()
            self.pending.popleft()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        try:
            self._wait(0)
        finally:
            if self.pool is not None:
                self.pool.shutdown()
