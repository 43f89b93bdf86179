"""Layers and their initialisation: tensors in, tensors out."""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

Init = Literal["he", "glorot"]


# Activations that a convolutional network may keep for the backward pass, in floats: 2 GiB.
KEPT_FLOATS = 2**29
# Activations of the rows in one chunk. On a CPU 128 MiB: much larger arrays are allocated from and returned to the OS
# each time (a step of ConvHVAE on CIFAR10 takes 1.3 times as long in one pass, one of the network for faces 1.7 times).
# A GPU needs many rows: 2 GiB.
PASSING_FLOATS = {"cpu": 2**25, "cuda": 2**29}


class _Context(Protocol):
    """The part of autograd's context that `_JoinedLinear` uses."""

    n_x: int
    saved_tensors: tuple[Tensor, ...]

    def save_for_backward(self, *tensors: Tensor) -> None: ...


class _JoinedLinear(torch.autograd.Function):
    """A dense layer on the rows [x; points], whose backward pass computes the gradient of the points, not that of x."""

    @staticmethod
    def forward(ctx: _Context, x: Tensor, points: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        rows = torch.cat([x, points])
        ctx.n_x = len(x)
        ctx.save_for_backward(rows, weight)
        return F.linear(rows, weight, bias)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: _Context, grad: Tensor) -> tuple[None, Tensor, Tensor, Tensor]:
        rows, weight = ctx.saved_tensors
        return None, grad[ctx.n_x :] @ weight, grad.T @ rows, grad.sum(0)


class GatedLinear(nn.Module):
    r"""A gated dense layer, :math:`h(x) \odot \mathrm{sigmoid}(g(x))`, without any other activation.

    h and g are the two halves of one affine map, so that a layer is one matrix product, and a single tensor for
    `bype.training.optim.NormalizedAdam`.

    Args:
        in_features: The width of the input.
        out_features: The width of the output.
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.affine = nn.Linear(in_features, 2 * out_features)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (\\*, in_features) to (\\*, out_features)."""
        return F.glu(self.affine(x), dim=-1)

    def joined(self, x: Tensor, points: Tensor) -> Tensor:
        """Maps the rows [x; points], (B + M, in_features), to (B + M, out_features); the gradient of x is left out.

        Autograd would compute the gradient of all rows for that of the points. All other gradients are the same.
        """
        device = x.device.type
        cast = torch.is_autocast_enabled(device)
        dtype = torch.get_autocast_dtype(device) if cast else self.affine.weight.dtype
        tensors = (t.to(dtype) for t in (x, points, self.affine.weight, self.affine.bias))
        return F.glu(_JoinedLinear.apply(*tensors), dim=-1)


def gated_mlp(*widths: int) -> nn.Sequential:
    """A stack of gated dense layers with the given widths, input first."""
    return nn.Sequential(*(GatedLinear(i, o) for i, o in pairwise(widths)))


class GatedConv2d(nn.Module):
    r"""A gated convolution, :math:`h(x) \odot \mathrm{sigmoid}(g(x))`, without any other activation.

    h and g are the two halves of the channels of one convolution. Padding preserves height and width, which a stride of
    s divides by s, rounded up.

    Args:
        in_channels: The number of input channels.
        out_channels: The number of output channels.
        kernel_size: The height and width of the kernel, odd.
        stride: The stride.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> None:
        super().__init__()
        self.affine = nn.Conv2d(in_channels, 2 * out_channels, kernel_size, stride, padding=kernel_size // 2)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (n, in_channels, h, w) to (n, out_channels, ceil(h/stride), ceil(w/stride))."""
        return F.glu(self.affine(x), dim=1)


def halved(size: tuple[int, int], times: int = 1) -> tuple[int, int]:
    """Height and width after `times` convolutions of stride 2.

    >>> halved((28, 9), 2)
    (7, 3)
    """
    for _ in range(times):
        size = ((size[0] + 1) // 2, (size[1] + 1) // 2)
    return size


def channels_last(x: Tensor) -> Tensor:
    """Converts images to the memory format of tensor cores on CUDA; on a CPU convolutions reorder internally."""
    return x.contiguous(memory_format=torch.channels_last) if x.is_cuda else x


def in_chunks(network: Callable[[Tensor], Tensor], x: Tensor, floats: int) -> Tensor:
    """Applies a network to the rows of x in chunks.

    If the backward pass would keep more than `KEPT_FLOATS`, the activations are recomputed instead (gradient
    checkpointing), which costs a third more arithmetic.

    Args:
        network: Maps (n, \\*) to (n, \\*), row by row.
        x: The rows.
        floats: The activations kept per row for the backward pass, in floats.
    """
    if torch.compiler.is_exporting():  # a program for any number of rows has no chunks
        return network(x)
    recompute = torch.is_grad_enabled() and len(x) * floats > KEPT_FLOATS
    parts = x.split(max(1, PASSING_FLOATS.get(x.device.type, KEPT_FLOATS) // floats))
    if recompute:
        out = [checkpoint(network, part, use_reentrant=False, preserve_rng_state=False) for part in parts]
    else:
        out = [network(part) for part in parts]
    return out[0] if len(out) == 1 else torch.cat(out)


def init_dense(module: nn.Module, scheme: Init = "he") -> None:
    """Re-initialises the weights of all dense layers; biases and convolutions keep torch's defaults.

    `he` is N(0, 2/fan_in), as in the published code; `glorot` is N(0, 2/(fan_in + fan_out)), as in the paper's text.
    The two halves of a gated layer count as two layers.
    """
    for layer in module.modules():
        if isinstance(layer, GatedLinear):
            _init_weight(layer.affine, layer.affine.out_features // 2, scheme)
    gated = {layer.affine for layer in module.modules() if isinstance(layer, GatedLinear)}
    for layer in module.modules():
        if isinstance(layer, nn.Linear) and layer not in gated:
            _init_weight(layer, layer.out_features, scheme)


def _init_weight(layer: nn.Linear, fan_out: int, scheme: Init) -> None:
    fan = layer.in_features + (fan_out if scheme == "glorot" else 0)
    nn.init.normal_(layer.weight, std=math.sqrt(2 / fan))


def full_precision(t: Tensor) -> Tensor:
    """Converts half precision (from autocast) to float32; wider types are unchanged."""
    return t.float() if t.element_size() < 4 else t
