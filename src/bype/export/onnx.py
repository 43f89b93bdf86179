"""ONNX files: written by torch's exporter, run with onnxruntime. Their packages are the extra `onnx`."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor
from torch.export import ExportedProgram

from bype.core.errors import InputError
from bype.export.graphs import Graph, Runner

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
#: The version of ONNX's operators, which onnxruntime 1.14 and later have.
OPSET = 18


def check_packages() -> None:
    """Raises an InputError that names a missing package and the extra that installs it."""
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise InputError(f"--format onnx: needs {', '.join(missing)}: pip install 'bype[onnx]'")


def package_versions() -> dict[str, str]:
    """The versions of the packages, and of the operators."""
    return {name: version(name) for name in PACKAGES} | {"opset": str(OPSET)}


def save_onnx(program: ExportedProgram, graph: Graph, path: Path) -> None:
    """Writes a recorded graph as one file, with its weights."""
    with _quiet():
        written = torch.onnx.export(
            program,
            dynamo=True,
            verbose=False,
            opset_version=OPSET,
            input_names=[p.name for p in graph.inputs],
            output_names=[p.name for p in graph.outputs],
        )
        assert written is not None
        written.save(path, external_data=False)


def onnx_runner(path: Path, graph: Graph) -> Runner:
    """Runs a file with onnxruntime on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [p.name for p in graph.outputs]

    def run(inputs: dict[str, Tensor]) -> list[Tensor]:
        return [torch.from_numpy(v) for v in session.run(names, {k: v.numpy() for k, v in inputs.items()})]

    return run


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's remarks on packages that bype does not use."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
