"""Torch's global settings, fixed for a call: results do not depend on what the caller has set."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

from bype.core.precision import product_precision
from bype.core.shared_setting import SharedSetting

_DTYPE = SharedSetting(torch.get_default_dtype, torch.set_default_dtype)


@contextmanager
def fixed_torch_state(*, grad: bool | None = None, products: bool = True) -> Iterator[None]:
    """Computes in float32, without autocast, on the tensors' own device and in full matmul precision.

    Autocast, the default dtype, the default device, inference mode and matmul precision are those of a fresh process
    inside; the caller's settings are restored on exit. Usable as a decorator.

    Args:
        grad: Whether gradients are recorded inside; None keeps the caller's grad mode.
        products: Whether the precision of matmuls is fixed too; `torch.export` fails where it is.
    """
    with ExitStack() as stack:
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
            if grad is None:  # inference mode records no gradients; leaving it must not turn them on
                grad = False
        if grad is not None:
            stack.enter_context(torch.set_grad_enabled(grad))
        for device_type in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device_type):
                stack.enter_context(torch.autocast(device_type, enabled=False))
        if torch.get_default_device().type != "cpu":  # as a context it slows every call of torch a little
            stack.enter_context(torch.device("cpu"))
        if products:
            stack.enter_context(product_precision(tf32=False))
        stack.enter_context(_DTYPE.set_to(torch.float32))
        yield
