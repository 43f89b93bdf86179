"""Saving epochs as they end, on a GPU in a thread."""

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self

from bype.runs.run import Run
from bype.training.epoch import EpochInfo
from bype.training.state import Snapshot

#: Devices for which checkpoints are written in a thread.
SAVES_IN_THREAD = ("cuda",)

EPOCHS_KEPT = "the last finished epoch is saved"


class Writer:
    """Saves epochs as they end: at once, or in a thread while the next epoch is computed.

    The thread is for GPUs, where an epoch of a small network takes about as long as writing 15 MB to a disk. At most
    one earlier epoch is being written while an epoch is computed; leaving the context waits for all of them.
    """

    def __init__(self, run: Run, *, in_thread: bool) -> None:
        self.run = run
        self.pool = ThreadPoolExecutor(1, "bype-save") if in_thread else None
        self.pending: deque[Future[None]] = deque()
        self.failed = False
        self.kept: str | None = None  # once an epoch is saved

    def write(self, info: EpochInfo, epoch: Snapshot) -> None:
        """Saves an epoch, or submits it to the thread and raises the error of the one before, if any."""
        if self.pool is None:
            self._save(info, epoch)
        else:  # submitted first: a signal during the wait loses nothing
            self.pending.append(self.pool.submit(self._save, info, epoch))
            self._wait(1)

    def _save(self, info: EpochInfo, epoch: Snapshot) -> None:
        if self.failed:  # an earlier epoch is missing from the metrics: a later one must not follow it
            return
        try:
            self.run.metrics.append(info)
            self.run.checkpoints.save(epoch)
            self.kept = EPOCHS_KEPT
        except BaseException:
            self.failed = True
            raise

    def _wait(self, left: int) -> None:
        """Waits until at most `left` epochs are still being written."""
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
