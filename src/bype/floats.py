"""How a processor treats the smallest numbers."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def flush_denormals() -> Iterator[None]:
    """Numbers too small to be normal count as 0 inside, on the calling thread; outside, all is as it was.

    Exponentials of very negative numbers make such numbers, which cost a CPU many times a normal one. Threads that
    torch starts inside keep the setting.
    """
    was_on = sys.float_info.min / 2 == 0.0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(was_on)
