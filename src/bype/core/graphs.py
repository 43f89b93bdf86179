"""A step of fixed shapes as one CUDA graph: recorded once, then replayed as one launch.

On a GPU a training step of a small network is bound by the launch of its hundred kernels, not by their work. The eager
step stays the reference, and the fallback where something cannot be recorded.
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


# Eager runs before the recording: libraries set themselves up and the allocator finds its blocks.
WARMUPS = 3


def available(device: torch.device) -> bool:
    """Whether steps on this device can be recorded."""
    return device.type == "cuda"


def record_graph(step: Step, generator: torch.Generator) -> Step:
    """Records `step` on the generator's device, without running it; the draws of `generator` go on at each replay.

    Raises:
        RuntimeError: If it cannot be recorded. Streams and generators are then as before.
    """
    device, graph = generator.device, torch.cuda.CUDAGraph()
    stream = torch.cuda.current_stream(device)
    try:
        graph.register_generator_state(generator)
        # On a stream of this device: torch's own for recordings belongs to the device that was current at its first.
        with torch.cuda.device(device), torch.cuda.graph(graph, stream=torch.cuda.Stream(device)):
            step()
    except RuntimeError as e:
        # A recording that breaks leaves its stream current and every generator it knows waiting for its end.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(graph))  # for ever: torch's allocator keeps a pointer to it
        torch.cuda.set_stream(stream)
        default = torch.cuda.default_generators[stream.device_index]
        for known in (generator, default):
            fresh = torch.Generator(device)
            fresh.set_state(known.get_state())
            known.graphsafe_set_state(fresh.graphsafe_get_state())
        cause = e.__context__ if isinstance(e.__context__, RuntimeError) else e  # the end's error hides the step's
        try:
            raise cause from None
        finally:
            del cause  # whose traceback holds this frame: the broken step's tensors would live until a collection
    return graph.replay


class Capture(NamedTuple):
    """A step, recorded if possible."""

    run: Step
    #: Whether recording was tried and failed: the generator then has a new state, which earlier graphs do not know.
    failed: bool


def capture(step: Step, mutated: Sequence[Tensor], generator: torch.Generator, what: str) -> Capture:
    """Records `step` as a CUDA graph; where that is not possible, returns the step itself and logs why.

    The warm-up is rolled back: all tensors in `mutated` and the generator are restored.

    Args:
        step: Reads and writes tensors that stay where they are; never reads a value back from the device.
        mutated: All tensors that it changes and whose values outlive it.
        generator: Where its random draws come from.
        what: Its name, for the line.
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
            finally:  # what is under way there must not come after the undoing
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
