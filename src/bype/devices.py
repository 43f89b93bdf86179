"""Where things are computed, and what a result depends on."""

import platform
from pathlib import Path

import torch

import bype
from bype.errors import InputError


def device_of(name: str) -> torch.device:
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


def versions() -> dict[str, str]:
    """The versions a result depends on."""
    import numpy

    return {
        "bype": bype.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
    }
