"""CUDA graphs: a step with fixed shapes is captured once, then replayed with a single launch.

On a GPU, the time of a training step of a small network is dominated by the launches of about a hundred kernels. The
eager step remains the reference, and the fallback if the capture fails.
"""

import ctypes
import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from bype.core.errors import first_line

log = logging.getLogger("bype")


Step = Callable[[], None]


# Eager runs before the capture, for the lazy initialisation of libraries and of the caching allocator.
WARMUPS = 3


def available(device: torch.device) -> bool:
    """Whether steps on this device can be captured."""
    return device.type == "cuda"


def record_graph(step: Step, generator: torch.Generator) -> Step:
    """Captures `step` on the generator's device, without running it; each replay advances `generator`.

    Args:
        step: The step, with fixed shapes and without synchronisation.
        generator: The random generator that the step uses.

    Returns:
        A function that replays the step.

    Raises:
        RuntimeError: If the capture fails. The current stream and the generators' values are then restored.
    """
    device, graph = generator.device, torch.cuda.CUDAGraph()
    stream = torch.cuda.current_stream(device)
    try:
        graph.register_generator_state(generator)
        # A stream of this device: torch's default capture stream belongs to the device of the first capture.
        with torch.cuda.device(device), torch.cuda.graph(graph, stream=torch.cuda.Stream(device)):
            step()
    except RuntimeError as e:
        # A failed capture leaves its stream current, and its generators waiting for the end of the capture.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(graph))  # never freed: torch's allocator keeps a pointer to it
        torch.cuda.set_stream(stream)
        default = torch.cuda.default_generators[stream.device_index]
        for known in (generator, default):
            fresh = torch.Generator(device)
            fresh.set_state(known.get_state())
            known.graphsafe_set_state(fresh.graphsafe_get_state())
        cause = e.__context__ if isinstance(e.__context__, RuntimeError) else e  # the capture's error hides the step's
        try:
            raise cause from None
        finally:
            del cause  # its traceback refers to this frame: the cycle would keep the step's tensors alive
    return graph.replay


class Capture(NamedTuple):
    """A step, captured as a CUDA graph if possible."""

    run: Step
    #: Whether a capture was tried and failed. It replaces the generator's state and so invalidates earlier graphs.
    failed: bool


def capture(step: Step, mutated: Sequence[Tensor], generator: torch.Generator, what: str) -> Capture:
    """Captures `step` as a CUDA graph. If that fails, logs the reason and returns the eager step.

    The warm-up is rolled back: all tensors in `mutated` and the generator are restored.

    Args:
        step: A function that reads and writes tensors at fixed addresses and never reads a value back from the device.
        mutated: All tensors that `step` changes and whose values are used afterwards.
        generator: The random generator that the step uses.
        what: The name of the step, for the log.
    """
    device = generator.device
    if not available(device):
        return Capture(step, failed=False)
    failed = False
    values, state = [t.detach().clone() for t in mutated], generator.get_state()
    try:
        if device.type == "cuda":
            side = torch.cuda.Stream(device)
            side.wait_stream(torch.cuda.current_stream(device))
            try:
                with torch.cuda.stream(side):
                    _repeat(step)
            finally:  # kernels on that stream must finish before the roll-back
                torch.cuda.current_stream(device).wait_stream(side)
        else:
            _repeat(step)
        replay = record_graph(step, generator)
    except RuntimeError as e:
        log.warning("%s: CUDA graph disabled, running eagerly (%s)", what, first_line(e))
        replay, failed = step, True
    finally:
        with torch.no_grad():
            for tensor, value in zip(mutated, values, strict=True):
                tensor.copy_(value)
        generator.set_state(state)
    return Capture(replay, failed)


def _repeat(step: Step) -> None:
    for _ in range(WARMUPS):
        step()
