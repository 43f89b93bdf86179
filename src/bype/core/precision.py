"""Numerical settings: denormals, TF32, deterministic algorithms and cumulative sums."""

import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from operator import attrgetter
from pathlib import Path
from typing import Protocol, cast

import torch
from torch import Tensor

from bype.core.config import PRECISIONS
from bype.core.errors import InputError, first_line
from bype.core.shared_setting import SharedSetting


# Attributes that torch sets on import, so that type checkers do not know them.
class _Backend(Protocol):
    fp32_precision: str


class _Deterministic(Protocol):
    fill_uninitialized_memory: bool


def resolve_precision(name: str, device: torch.device) -> str:
    """Returns `fp32`, `tf32` or `bf16` for a precision of `Config`; `auto` is `tf32` on CUDA, `fp32` on a CPU.

    Raises:
        InputError: If the name is unknown, or the device does not have this precision.
    """
    if name not in PRECISIONS:
        raise InputError(f"precision: expected one of {', '.join(PRECISIONS)}, got {name!r}")
    if name == "auto":
        return "tf32" if device.type == "cuda" else "fp32"
    if name == "tf32" and device.type != "cuda":
        raise InputError(f"precision tf32: expected a CUDA device, got {device.type}")
    return name


def bf16_is_fast(device: torch.device) -> bool:
    """Whether a device has instructions for bfloat16 products. Without them, torch computes them many times slower.

    On a CPU these are AVX512-BF16 or AMX, or the bf16 extension of ARM, which only Linux reports.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return False
    # Private functions of torch, which another version may lack.
    asked = [getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")]
    return any(ask() for ask in asked if ask is not None) or "bf16" in _arm_features()


def fastest_precision(device: torch.device) -> str:
    """The fastest precision to train in: tf32 on CUDA; on a CPU bf16 if it has instructions for it, else fp32."""
    if device.type == "cuda":
        return "tf32"
    return "bf16" if bf16_is_fast(device) else "fp32"


def _arm_features() -> list[str]:
    """The extensions of an ARM processor on Linux; none on other processors and systems."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []
    return next((line.split(":", 1)[1].split() for line in lines if line.startswith("Features")), [])


def _backends() -> tuple[_Backend, ...]:
    names = ("cuda.matmul", "cudnn.conv", "cudnn.rnn", "mkldnn.matmul", "mkldnn.conv", "mkldnn.rnn")
    parts: tuple[_Backend, ...] = attrgetter(*names)(torch.backends)
    return parts


def _write_products(values: tuple[str, ...]) -> None:
    for part, value in zip(_backends(), values, strict=True):
        part.fp32_precision = value


def _restore_products(values: tuple[str, ...]) -> None:
    for part, value in zip(_backends(), values, strict=True):
        part.fp32_precision = "none"  # inherit the parent's setting; if it differs, the value was set explicitly
        if part.fp32_precision != value:
            part.fp32_precision = value


_PRODUCTS = SharedSetting(
    lambda: tuple(part.fp32_precision for part in _backends()), _write_products, _restore_products
)


@contextmanager
def product_precision(tf32: bool) -> Iterator[None]:
    """Runs matmuls and convolutions in full float32 or in TF32; restores the previous settings on exit.

    torch's defaults on a GPU are full float32 for matmuls and TF32 for convolutions. On a CPU both are always in full
    float32. The settings are those of all threads (`SharedSetting`). Usable as a decorator.

    Args:
        tf32: Whether a GPU uses TF32.
    """
    with _PRODUCTS.set_to((*["tf32" if tf32 else "ieee"] * 3, *["ieee"] * 3)):
        yield


@contextmanager
def flush_denormals() -> Iterator[None]:
    """Flushes denormals to zero on the calling thread; restores the previous setting on exit.

    Exponentials of very negative numbers produce denormals, which are many times slower than normal numbers on a CPU.
    Threads that torch starts inside the context keep the setting.
    """
    was_on = sys.float_info.min / 2 == 0.0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(was_on)


@contextmanager
def deterministic_algorithms() -> Iterator[None]:
    """Uses deterministic algorithms on a GPU, so that results are bit-identical; restores the settings on exit.

    cuBLAS takes the setting from the environment variable CUBLAS_WORKSPACE_CONFIG, which it reads once, at the first
    GPU matmul of the process.

    Raises:
        InputError: If an operation has no deterministic implementation; the message names it.
    """
    if torch.cuda.is_available():
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    settings = cast(_Deterministic, torch.utils.deterministic)
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
                "deterministic: set CUBLAS_WORKSPACE_CONFIG=:4096:8 in the environment before the first GPU matmul of "
                "the process, and start again"
            ) from None
        raise InputError(
            f"deterministic: expected deterministic operations only, got one that is not: {first_line(e)}"
        ) from None
    finally:
        torch.use_deterministic_algorithms(was_on, warn_only=only_warned)
        settings.fill_uninitialized_memory = filled


def deterministic_cumsum(x: Tensor) -> Tensor:
    """The cumulative sum of x, (M,), in float64; deterministic also on a GPU, unlike `torch.cumsum`."""
    return cumsum_by_products(x) if x.is_cuda else x.double().cumsum(0)


def cumsum_by_products(x: Tensor) -> Tensor:
    """The cumulative sum of x, (M,), in float64, by two matmuls with triangular matrices of about sqrt(M) rows."""
    side = math.isqrt(max(len(x) - 1, 0)) + 1
    rows = torch.nn.functional.pad(x.double(), (0, side**2 - len(x))).view(side, side)
    ones = torch.ones(side, side, dtype=rows.dtype, device=x.device)
    within = rows @ ones.triu()
    before = within[:, -1] @ ones.triu(1)
    return (within + before[:, None]).flatten()[: len(x)]
