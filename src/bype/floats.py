"""How a processor treats the smallest numbers, and how many digits a GPU's products keep."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def product_precision(tf32: bool) -> Iterator[None]:
    """Float32 products of matrices and convolutions in full inside, or in TF32; outside, all is as it was.

    torch's own defaults differ between the two: full for matrices, TF32 for convolutions. A CPU's products are in full
    in either case.
    """
    backends: Any = torch.backends
    on_cuda = [backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn]
    wanted = [(part, "tf32" if tf32 else "ieee") for part in on_cuda]
    wanted += [(part, "ieee") for part in (backends.mkldnn.matmul, backends.mkldnn.conv, backends.mkldnn.rnn)]
    before = [(part, part.fp32_precision) for part, _ in wanted]
    for part, value in wanted:
        part.fp32_precision = value
    try:
        yield
    finally:
        for part, value in before:
            part.fp32_precision = "none"  # as its parent has it; what reads otherwise was its own
            if part.fp32_precision != value:
                part.fp32_precision = value


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
