"""Devices, and the versions that a result depends on."""

import hashlib
import platform
import time
from pathlib import Path

import torch

from bype.core.errors import InputError, first_line
from bype.core.version import __version__


def resolve_device(name: str) -> torch.device:
    """Returns the device for `auto`, `cpu` or `cuda`; `auto` is `cuda` if available, else `cpu`.

    Raises:
        InputError: If there is no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: no CUDA device is available; use --device cpu")
    try:
        return torch.device(name)
    except RuntimeError:
        raise InputError(f"device: expected auto, cpu or cuda, got {name!r}") from None


def seconds_now(device: torch.device) -> float:
    """The time in seconds, after the work that the device has been given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def check_device(device: torch.device | str) -> torch.device:
    """The device, if this machine and this torch have it.

    Raises:
        InputError: If they do not.
    """
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError, NotImplementedError) as e:
        raise InputError(f"device {device}: not available ({first_line(e)})") from None


def device_model(device: torch.device) -> str:
    """The model name of a device; for a CPU with the number of threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return f"{line.split(':', 1)[1].strip()}, {torch.get_num_threads()} threads"
    except OSError:
        pass
    return f"{platform.machine()}, {torch.get_num_threads()} threads"


def source_tree(folder: Path) -> str:
    """The git tree hash of a folder, over all of its files but compiled ones.

    `git log -t --find-object=HASH` lists the commits with this tree.
    """

    def object_hash(kind: str, content: bytes) -> bytes:
        return hashlib.sha1(f"{kind} {len(content)}\0".encode() + content, usedforsecurity=False).digest()

    def tree(path: Path) -> bytes:
        entries = []
        for part in path.iterdir():
            if part.is_dir() and part.name != "__pycache__" and any(part.iterdir()):
                entries.append((f"{part.name}/", b"40000 ", tree(part)))
            elif part.is_file() and part.suffix != ".pyc":
                entries.append((part.name, b"100644 ", object_hash("blob", part.read_bytes())))
        lines = (mode + name.rstrip("/").encode() + b"\0" + id for name, mode, id in sorted(entries))
        return object_hash("tree", b"".join(lines))

    return tree(folder).hex()


#: Computed on import, since the files on disk may change while the process runs.
_SOURCE = source_tree(Path(__file__).parents[1])


def versions() -> dict[str, str]:
    """The versions that a result depends on; `source` is the git tree hash of the package's folder."""
    import numpy

    return {
        "bype": __version__,
        "source": _SOURCE,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
    }
