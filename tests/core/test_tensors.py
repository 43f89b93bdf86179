import json
import tracemalloc

import safetensors.torch
import torch

from bype.core.tensors import read_tensors, write_tensors


def test_the_bytes_are_those_of_safetensors(tmp_path):
    dtypes = (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.uint8)
    tensors = {f"{i}-{dtype}": torch.arange(i + 3).to(dtype) for i, dtype in enumerate(dtypes)}
    tensors |= {"scalar": torch.tensor(2.0), "none": torch.zeros(0, 3), "matrix": torch.randn(3, 4)}
    tensors |= {'é "\n': torch.tensor([True, False]), "c": torch.randn(2, dtype=torch.complex64)}
    path = tmp_path / "x.safetensors"
    for some in (tensors, {}):
        write_tensors(path, some, {"epoch": 3, "name": "ü"})
        written = path.read_bytes()
        length = int.from_bytes(written[:8], "little")
        about = json.loads(written[8 : 8 + length])["__metadata__"]
        assert written == safetensors.torch.save(dict(sorted(some.items())), metadata=about)
        read, counters = read_tensors(path)
        assert counters == {"epoch": 3, "name": "ü"}
        assert {k: v.tolist() for k, v in read.items()} == {k: v.tolist() for k, v in some.items()}


def test_a_transposed_tensor_keeps_its_values_and_others_are_not_copied(tmp_path):
    large = torch.zeros(2000, 1000)
    write_tensors(tmp_path / "t.safetensors", {"t": torch.arange(6).view(2, 3).T}, {})
    assert read_tensors(tmp_path / "t.safetensors")[0]["t"].tolist() == [[0, 3], [1, 4], [2, 5]]
    tracemalloc.start()
    write_tensors(tmp_path / "x.safetensors", {"large": large}, {})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < large.nbytes / 8, "the file is not built in memory"
