"""Checkpoints: safetensors files with JSON counters and a CRC-32 checksum in the header, written atomically."""

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

FORMAT = 1  # version of the file format of a run


def write_tensors(path: Path, tensors: Mapping[str, Tensor], counters: Mapping[str, object]) -> None:
    """Writes a safetensors file atomically.

    Args:
        path: The file.
        tensors: Tensors by name.
        counters: Values that JSON can represent, for the header.

    Raises:
        InputError: If the file cannot be written.
    """
    # safetensors rejects tensors that are not contiguous or that share memory.
    flat = {k: v.detach().cpu().contiguous() for k, v in sorted(tensors.items())}
    # A single key: the order in which safetensors writes several keys differs between processes.
    header = json.dumps(
        {"format": FORMAT, "counters": counters, "sum": _sum(flat, counters)}, allow_nan=False, sort_keys=True
    )
    layout = _layout(flat, header)

    def fill(temporary: Path) -> None:
        with temporary.open("wb") as f:
            f.write(len(layout).to_bytes(8, "little") + layout)
            for name in json.loads(layout):
                if name in flat:
                    f.write(_bytes(flat[name]))

    write(path, fill)


def _layout(tensors: Mapping[str, Tensor], header: str) -> bytes:
    """The first part of a safetensors file: the header, and the place of each tensor in the second part.

    With `safetensors.torch.save`, the whole file would be built in memory, and `save_file` raises no OSError on a full
    disk. Both give the same bytes.
    """
    empty = safetensors.torch.save({k: t.new_empty(0) for k, t in tensors.items()}, metadata={"bype": header})
    places, start = json.loads(empty[8:]), 0
    for name, place in places.items():  # in the order of safetensors
        if name in tensors:
            end = start + tensors[name].nbytes
            place["shape"], place["data_offsets"], start = list(tensors[name].shape), [start, end], end
    text = json.dumps(places, ensure_ascii=False, separators=(",", ":")).encode()
    return text + b" " * (-len(text) % 8)


def _bytes(t: Tensor) -> memoryview:
    """The bytes of a contiguous tensor, not copied."""
    return t.reshape(-1).view(torch.uint8).numpy().data


def _sum(tensors: Mapping[str, Tensor], counters: Mapping[str, object]) -> str:
    """The CRC-32 checksum of all tensors and counters, which detects flipped bits."""
    total = zlib.crc32(json.dumps(counters, sort_keys=True).encode())
    for name, t in sorted(tensors.items()):
        total = zlib.crc32(f"{name} {t.dtype} {tuple(t.shape)}".encode(), total)
        total = zlib.crc32(_bytes(t), total)
    return f"{total:08x}"


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Reads a file written by `write_tensors`.

    Returns:
        The tensors by name, and the counters.

    Raises:
        InputError: If the file is missing or damaged.
    """
    tensors, counters, _ = read_checkpoint(path)
    return tensors, counters


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any], str]:
    """Reads a file written by `write_tensors`, with its checksum, which identifies the contents.

    Returns:
        The tensors by name, the counters, and the checksum.

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
            raise ValueError("wrong checksum")
    except FileNotFoundError:
        raise InputError(f"{path}: expected a checkpoint, got no such file") from None
    except (OSError, KeyError, TypeError, ValueError, RecursionError, safetensors.SafetensorError) as e:
        raise InputError(f"{path}: expected a checkpoint, got a damaged file ({first_line(e)})") from None
    return tensors, counters, total
