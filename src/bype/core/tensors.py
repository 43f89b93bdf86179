"""Checkpoints as safetensors files, JSON in the header: nothing pickled, whole or not there, a sum over all values."""

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from bype.core.errors import InputError, first_line
from bype.core.files import write

FORMAT = 1  # of the files of a run


def write_tensors(path: Path, tensors: Mapping[str, Tensor], counters: Mapping[str, Any]) -> None:
    """Writes a safetensors file whole, with counters (JSON) in its header."""
    # One storage each: safetensors refuses tensors that share memory, and a view would drag its base along.
    flat = {k: v.detach().cpu().contiguous() for k, v in sorted(tensors.items())}
    # One key, for the format writes several in an order that differs from process to process.
    header = json.dumps(
        {"format": FORMAT, "counters": counters, "sum": _sum(flat, counters)}, allow_nan=False, sort_keys=True
    )
    # Not by `save_file`, whose error on a full disk is none of the system's.
    content = safetensors.torch.save(flat, metadata={"bype": header})

    def fill(temporary: Path) -> None:
        temporary.write_bytes(content)

    write(path, fill)


def _sum(tensors: Mapping[str, Tensor], counters: Mapping[str, Any]) -> str:
    """CRC-32 over all that a checkpoint holds, so that a bit that flipped on a disk is noticed."""
    total = zlib.crc32(json.dumps(counters, sort_keys=True).encode())
    for name, t in sorted(tensors.items()):
        total = zlib.crc32(f"{name} {t.dtype} {tuple(t.shape)}".encode(), total)
        total = zlib.crc32(t.reshape(-1).view(torch.uint8).numpy().data, total)
    return f"{total:08x}"


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The inverse of `write_tensors`.

    Raises:
        InputError: If the file is missing or damaged.
    """
    tensors, counters, _ = read_checkpoint(path)
    return tensors, counters


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any], str]:
    """Tensors, counters, and the sum over both, by which a file can be told from another.

    Raises:
        InputError: If the file is missing or damaged.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as f:
            header = json.loads((f.metadata() or {})["bype"])
            tensors = {k: f.get_tensor(k) for k in f.keys()}  # noqa: SIM118 (safe_open is no dict)
        counters = header["counters"]
        if header["format"] != FORMAT or not isinstance(counters, dict):
            raise ValueError(f"format {header['format']}")
        total = _sum(tensors, counters)
        if header.get("sum", total) != total:
            raise ValueError("values that differ from those that were written")
    except FileNotFoundError:
        raise InputError(f"{path}: expected a checkpoint, got no such file") from None
    except (OSError, KeyError, TypeError, ValueError, RecursionError, safetensors.SafetensorError) as e:
        raise InputError(f"{path}: expected a checkpoint, got a damaged file ({first_line(e)})") from None
    return tensors, counters, total
