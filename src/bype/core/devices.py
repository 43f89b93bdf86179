"""Where things are computed, and what a result depends on."""

import hashlib
import platform
from pathlib import Path

import torch

from bype.core.errors import InputError
from bype.core.version import __version__


def resolve_device(name: str) -> torch.device:
    """The device that `auto`, `cpu` or `cuda` means here.

    Raises:
        InputError: If there is no CUDA device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("--device: expected a CUDA device, got none on this machine")
    return torch.device(name)


def device_model(device: torch.device) -> str:
    """The device's model name."""
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
    """What git calls a folder with these Python files, so that the commits it belongs to can be found.

    `git log -t --find-object=ID` names them.
    """

    def named(kind: str, content: bytes) -> bytes:
        return hashlib.sha1(f"{kind} {len(content)}\0".encode() + content, usedforsecurity=False).digest()

    def tree(path: Path) -> bytes:
        entries = []
        for part in path.iterdir():
            if part.is_dir() and any(part.glob("*.py")):
                entries.append((f"{part.name}/", b"40000 ", tree(part)))
            elif part.suffix in (".py", ".pyi") or part.name == "py.typed":
                entries.append((part.name, b"100644 ", named("blob", part.read_bytes())))
        lines = (mode + name.rstrip("/").encode() + b"\0" + id for name, mode, id in sorted(entries))
        return named("tree", b"".join(lines))

    return tree(folder).hex()


#: Of this process: what lies on the disk may be replaced while it runs.
_SOURCE = source_tree(Path(__file__).parents[1])


def versions() -> dict[str, str]:
    """The versions a result depends on; `source` is what git calls the package's folder."""
    import numpy

    return {
        "bype": __version__,
        "source": _SOURCE,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
    }
