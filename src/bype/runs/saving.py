"""Saving epochs as they end, large ones and those of a GPU in a thread."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self

import torch

from bype.runs.run import Run
from bype.training.epoch import EpochInfo
from bype.training.state import Snapshot

#: Devices for which every checkpoint is written in a thread.
SAVES_IN_THREAD = ("cuda",)
#: On other devices, a last checkpoint of this many bytes or more is; a smaller one is on disk before training goes on.
LARGE = 2**26

EPOCHS_KEPT = "the last finished epoch is saved"


class Writer:
    """Saves epochs as they end: at once, or in a thread while the next epoch is computed.

    The thread is for GPUs, where an epoch of a small network takes about as long as writing 15 MB to a disk, and for
    large states, such as 50,000 pseudo-inputs and their moments. One epoch at most is being written: the next one is
    copied when that is done. Leaving the context waits for it.
    """

    def __init__(self, run: Run, device: torch.device) -> None:
        self.run = run
        self.always = device.type in SAVES_IN_THREAD
        self.pool = ThreadPoolExecutor(1, "bype-save")  # starts a thread with the first epoch that it is given
        self.pending: deque[Future[None]] = deque()
        self.failed = False
        self.kept: str | None = None  # once an epoch is saved

    def write(self, info: EpochInfo, snapshot: Callable[[], Snapshot]) -> None:
        """Saves an epoch, or submits it to the thread; raises the error of the one before, if any."""
        try:
            self._wait()
        finally:  # a signal during the wait loses nothing
            epoch = snapshot()
            if self.always or sum(t.nbytes for t in epoch.tensors.values()) >= LARGE:
                self.pending.append(self.pool.submit(self._save, info, epoch))
            else:
                self._save(info, epoch)

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

    def _wait(self) -> None:
        """Waits until no epoch is being written."""
        while self.pending:
            self.pending[0].result()
            self.pending.popleft()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        try:
            self._wait()
        finally:
            self.pool.shutdown()
