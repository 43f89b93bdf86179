"""Export of a model's encoder, decoder, sampler and score as files that run without bype."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple, TypedDict

import torch
from torch.export import Dim, ExportedProgram

from bype.core.devices import versions
from bype.core.errors import InputError, first_line
from bype.core.files import expand_path, refuse_foreign, write, write_json
from bype.core.torch_state import fixed_torch_state
from bype.export.graphs import RECORDED, Graph, Port, Runner, graphs_of
from bype.export.onnx import check_packages, onnx_runner, package_versions, save_onnx
from bype.models.vae import VAE

RECORD = "export.json"
#: Sizes of the free axes that a written file is compared with torch at.
COMPARED = ({"batch": 1, "samples": 1}, {"batch": 5, "samples": 2})
#: The largest difference to torch, relative to max(1, |value|), that needs no remark.
TOLERANCE = 1e-5


class Format(NamedTuple):
    """How a recorded graph is written to a file, and how the file is run."""

    suffix: str
    versions: Mapping[str, str]
    save: Callable[[ExportedProgram, Graph, Path], None]
    runner: Callable[[Path, Graph], Runner]


class GraphRecord(TypedDict):
    """A graph in export.json."""

    file: str
    meaning: str
    inputs: list[dict[str, object]]
    outputs: list[dict[str, object]]
    difference: float  # the largest to torch on random inputs, relative to max(1, |value|)


class ExportRecord(TypedDict):
    """The content of export.json."""

    format: str
    model: dict[str, object]  # what `VAE.metadata` says
    images: dict[str, object]  # their shape, and how stored values are scaled
    noise: str
    graphs: dict[str, GraphRecord]
    versions: dict[str, str]
    about: dict[str, object]


def export_model(
    model: VAE, out: str | Path, format: str = "onnx", *, about: Mapping[str, object] | None = None
) -> ExportRecord:
    """Writes a model's encoder, decoder, sampler and score as programs that run without bype.

    Each takes a batch of any size. None draws random numbers: noise is an input. The components of the prior are
    computed once and stored, so that an exemplar prior needs no training items later. After writing, each file is run
    on random inputs of other sizes, and its largest difference to torch is recorded.

    Args:
        model: The model.
        out: The folder; it gets `encoder`, `decoder`, `sampler` and `score` with the suffix .onnx or .pt2, and
            `export.json` with their inputs and outputs, the scaling of images, and versions.
        format: `onnx`, which needs the extra `onnx`; or `torch`, programs of `torch.export`.
        about: Further JSON values for export.json.

    Raises:
        InputError: If the format is unknown, its packages are missing, the prior is neither a normal nor a mixture of
            normals, torch cannot record networks of the user's own, or a file cannot be written.
        RunExistsError: If the folder has files of these names that are not from an earlier export.
    """
    target, folder = _format(format), expand_path(out)
    graph_records: dict[str, GraphRecord] = {}
    with fixed_torch_state(grad=False, products=False):
        graphs = graphs_of(model)
        names = [f"{graph.name}{target.suffix}" for graph in graphs]
        refuse_foreign(folder, names, own=(folder / RECORD).exists())
        record = _record(model, format, target, graph_records, about or {})
        write_json(folder / RECORD, record)  # first: it identifies the folder as an export
        for graph in graphs:
            program = _recorded(graph, model.dtype)
            path = folder / f"{graph.name}{target.suffix}"

            def fill(temporary: Path, program: ExportedProgram = program, graph: Graph = graph) -> None:
                target.save(program, graph, temporary)

            write(path, fill)
            graph_records[graph.name] = {
                "file": path.name,
                "meaning": graph.meaning,
                "inputs": [_port(p) for p in graph.inputs],
                "outputs": [_port(p) for p in graph.outputs],
                "difference": _difference(graph, target.runner(path, graph), model.dtype),
            }
        write_json(folder / RECORD, record)
    return record


def _format(name: str) -> Format:
    if name == "onnx":
        check_packages()
        return Format(".onnx", package_versions(), save_onnx, onnx_runner)
    if name == "torch":
        return Format(".pt2", {}, _save_program, _program_runner)
    raise InputError(f"--format: expected onnx or torch, got {name!r}")


def _save_program(program: ExportedProgram, graph: Graph, path: Path) -> None:
    program.example_inputs = None  # which torch would pickle
    with path.open("wb") as f:
        torch.export.save(program, f)


def _program_runner(path: Path, graph: Graph) -> Runner:
    with path.open("rb") as f:
        module = torch.export.load(f).module()
    return lambda inputs: [module(**inputs)[p.name] for p in graph.outputs]


def _recorded(graph: Graph, dtype: torch.dtype) -> ExportedProgram:
    """The graph as torch records it, with free sizes."""
    free = {name: Dim(name) for name in RECORDED}
    shapes = {p.name: {i: free[a] for i, a in enumerate(p.axes) if isinstance(a, str)} for p in graph.inputs}
    example = graph.example(dtype, torch.Generator().manual_seed(0))
    try:
        return torch.export.export(graph.module, (), example, dynamic_shapes=shapes)
    except Exception as e:  # torch raises many; networks of the user's own may do anything
        raise InputError(f"{graph.name}: torch.export cannot record these networks ({first_line(e)})") from e


def _difference(graph: Graph, run: Runner, dtype: torch.dtype) -> float:
    largest, generator = 0.0, torch.Generator().manual_seed(1)
    for sizes in COMPARED:
        inputs = graph.example(dtype, generator, sizes)
        expected = graph.module(**inputs)
        for port, got in zip(graph.outputs, run(inputs), strict=True):
            value = expected[port.name].double()
            relative = (got.double() - value).abs() / value.abs().clamp(min=1)
            largest = max(largest, float(relative.max()))
    return largest


def _port(port: Port) -> dict[str, object]:
    return {"name": port.name, "shape": list(port.axes), "dtype": port.dtype, "meaning": port.meaning}


def _record(
    model: VAE, format: str, target: Format, graphs: dict[str, GraphRecord], about: Mapping[str, object]
) -> ExportRecord:
    levels = model.levels
    scaling = "floats in [0, 1], unchanged" if levels is None else f"(v + 1/2)/{levels} of a stored value v"
    if model.binary:
        scaling += "; then binarised: 1 with that probability, else 0"
    return {
        "format": format,
        "model": model.metadata(),
        "images": {"shape": list(model.decoder.shape), "levels": levels, "scaling": scaling},
        "noise": "an input: nothing is drawn inside, the same inputs give the same outputs",
        "graphs": graphs,
        "versions": {**versions(), **target.versions},
        "about": dict(about),
    }
