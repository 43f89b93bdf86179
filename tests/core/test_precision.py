"""Precisions follow the device, and what the processor can do is asked of it."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from bype.core.errors import InputError
from bype.core.precision import bf16_is_fast, resolve_precision

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def test_auto_is_tf32_on_cuda_and_fp32_on_a_cpu():
    assert (resolve_precision("auto", CUDA), resolve_precision("auto", CPU)) == ("tf32", "fp32")
    for name in ("fp32", "bf16"):
        assert resolve_precision(name, CPU) == resolve_precision(name, CUDA) == name
    assert resolve_precision("tf32", CUDA) == "tf32"
    with pytest.raises(InputError, match="precision tf32: expected a CUDA device, got cpu"):
        resolve_precision("tf32", CPU)


@pytest.mark.parametrize(
    ("torch_says", "cpuinfo", "fast"),
    [
        ({}, "flags\t: avx2\n", False),
        ({"_is_avx512_bf16_supported": True}, "", True),
        ({"_is_amx_tile_supported": True}, "", True),
        ({}, "processor\t: 0\nFeatures\t: fp asimd bf16\n", True),
        ({}, "processor\t: 0\nFeatures\t: fp asimd\n", False),
        (None, "flags\t: avx2\n", False),  # a torch without these functions
        (None, None, False),  # and a system without this file
    ],
)
def test_bf16_is_asked_of_the_processor(monkeypatch, torch_says, cpuinfo, fast):
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    functions = {} if torch_says is None else {n: lambda n=n: torch_says.get(n, False) for n in names}
    monkeypatch.setattr(torch, "cpu", SimpleNamespace(**functions))

    def read(path, *args):
        assert str(path) == "/proc/cpuinfo"
        if cpuinfo is None:
            raise FileNotFoundError
        return cpuinfo

    monkeypatch.setattr(Path, "read_text", read)
    assert bf16_is_fast(CPU) is fast


@pytest.mark.parametrize("fast", [True, False])
def test_bf16_is_asked_of_a_gpu(monkeypatch, fast):
    def asked(including_emulation):
        assert not including_emulation
        return fast

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", asked)
    assert bf16_is_fast(CUDA) is fast
    assert not bf16_is_fast(torch.device("mps"))
