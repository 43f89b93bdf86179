"""How a processor treats the smallest numbers, how many digits a GPU's products keep, and in what order it adds."""

import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from bype.core.errors import InputError, first_line


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


@contextmanager
def deterministic_algorithms() -> Iterator[None]:
    """A GPU's computations give the same bits each time inside; outside, all is as it was.

    cuBLAS is told through the environment, which it reads once, at a process's first product on a GPU.

    Raises:
        InputError: If an operation cannot do so, by its name.
    """
    if torch.cuda.is_available():
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    settings: Any = torch.utils.deterministic
    was_on, filled = torch.are_deterministic_algorithms_enabled(), settings.fill_uninitialized_memory
    only_warned = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True)
    settings.fill_uninitialized_memory = False
    try:
        yield
    except RuntimeError as e:
        if "deterministic" not in str(e):
            raise
        if "CUBLAS_WORKSPACE_CONFIG" in str(e):
            raise InputError(
                "deterministic: expected CUBLAS_WORKSPACE_CONFIG=:4096:8 in the environment before the process's first "
                "product on a GPU, got a product before; set it and start again"
            ) from None
        raise InputError(
            f"deterministic: expected operations that give the same bits each time, got another: {first_line(e)}"
        ) from None
    finally:
        torch.use_deterministic_algorithms(was_on, warn_only=only_warned)
        settings.fill_uninitialized_memory = filled


def deterministic_cumsum(x: Tensor) -> Tensor:
    """Cumulative sums of x, (M,), in float64; on a GPU too the same bits each time, which torch's own are not there."""
    return cumsum_by_products(x) if x.is_cuda else x.double().cumsum(0)


def cumsum_by_products(x: Tensor) -> Tensor:
    """The same by two products with a triangle of ones, of about sqrt(M) a side."""
    side = math.isqrt(max(len(x) - 1, 0)) + 1
    rows = torch.nn.functional.pad(x.double(), (0, side**2 - len(x))).view(side, side)
    ones = torch.ones(side, side, dtype=rows.dtype, device=x.device)
    within = rows @ ones.triu()
    before = within[:, -1] @ ones.triu(1)
    return (within + before[:, None]).flatten()[: len(x)]
