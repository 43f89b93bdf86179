"""Plain layers and their initialisation: tensors in, tensors out."""

import math
from itertools import pairwise
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

Init = Literal["he", "glorot"]


class GatedLinear(nn.Module):
    r"""A gated dense layer, :math:`h(x) \odot \mathrm{sigmoid}(g(x))`, without any other activation.

    h and g are the two halves of one affine map, so that a layer is one matrix product.

    Args:
        in_features: The input's width.
        out_features: The output's width.
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.affine = nn.Linear(in_features, 2 * out_features)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (\\*, in_features) to (\\*, out_features)."""
        return F.glu(self.affine(x), dim=-1)


def gated_mlp(*widths: int) -> nn.Sequential:
    """Gated dense layers of the given widths, input first."""
    return nn.Sequential(*(GatedLinear(i, o) for i, o in pairwise(widths)))


def init_dense(module: nn.Module, scheme: Init = "he") -> None:
    """Draws every dense layer's weights anew, biases and convolutions left as torch made them.

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
    """Float32 where autocast left half precision; anything wider as it is."""
    return t.float() if t.element_size() < 4 else t
