"""How a processor treats the smallest numbers, and how many digits a GPU's products keep."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def product_precision(tf32: bool) -> Iterator[None]:
    """Float32 products of matrices and convolutions in full inside, or in TF32; outside, all is as it was.

    torch's own defaults differ between the two: full for matrices, TF32 for convolutions.
    """
    convolutions: Any = torch.backends.cudnn.conv  # type: ignore[attr-defined]
    before = torch.get_float32_matmul_precision(), convolutions.fp32_precision
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    convolutions.fp32_precision = "tf32" if tf32 else "ieee"
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        convolutions.fp32_precision = before[1]


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
