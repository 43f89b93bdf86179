"""The matrix products of training and of scoring, alone: the floor below which no implementation gets.

Source of the list: the layers of the paper's MLP networks; each product forward, for the gradient of the weights, and
for the gradient of the input.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor

from bype.core import graphs
from bype.core.precision import product_precision


class Product(NamedTuple):
    """One dense layer: `rows` inputs times its weights, and the products of its backward pass."""

    rows: int
    inputs: int
    outputs: int
    backward: bool = True  # whether the gradient of the weights is computed
    input_rows: int = 0  # the number of rows, the last ones, whose input gradient is computed

    @property
    def flops(self) -> int:
        """Floating-point operations, two for each multiplication and addition."""
        return 2 * self.inputs * self.outputs * (self.rows * (1 + self.backward) + self.input_rows)


class Sizes(NamedTuple):
    """The sizes of the MLP networks."""

    pixels: int = 784
    hidden: int = 300
    latent: int = 40


class Points(NamedTuple):
    """What a prior adds to the products of a step."""

    encoded: int = 0  # the number M of points that the step encodes
    gradient: bool = False  # whether the points are learned (VampPrior, strategy `elbo`)
    variance: bool = False  # whether their variances are used too (VampPrior)
    features: int = 0  # further points whose means are computed from cached features (`reencode`)
    cached: int = 0  # components with cached means, whose products with the latents are computed (exemplar)


def training_products(sizes: Sizes, batch: int, points: Points | None = None) -> list[Product]:
    """The products of one training step of the MLP networks.

    Rows x in x out: encoder (B+M) x d x 2H, (B+M) x H x 2H, (B+M) x H x D for the means and B x H x D for the
    variances; decoder B x D x 2H, B x H x 2H, B x H x d. Each forward, for the gradient of the weights, and for the
    gradient of the input; the first layer needs no gradient of its input, except for learned points. Cached means add
    B x D x n forward and B x n x D for the gradient of the latents.

    Args:
        sizes: The sizes of the networks.
        batch: The batch size B.
        points: What the prior adds; None for nothing.

    >>> round(sum(p.flops for p in training_products(Sizes(), 100, Points(500))) / 1e9, 1)
    2.1
    """
    d, h, z = sizes
    points = points or Points()
    both = batch + points.encoded
    means = both + points.features
    variances = both if points.variance else batch
    products = [
        Product(both, d, 2 * h, input_rows=points.encoded if points.gradient else 0),
        Product(both, h, 2 * h, input_rows=both),
        Product(means, h, z, input_rows=means),
        Product(variances, h, z, input_rows=variances),
        Product(batch, z, 2 * h, input_rows=batch),
        Product(batch, h, 2 * h, input_rows=batch),
        Product(batch, h, d, input_rows=batch),
    ]
    if points.cached:
        products.append(Product(batch, z, points.cached, backward=False, input_rows=batch))
    return products


def scoring_products(sizes: Sizes, rows: int, components: int = 0, features: int = 0) -> list[Product]:
    """The products of scoring `rows` latents, forward only.

    They are decoded, rows x D x 2H, rows x H x 2H and rows x H x d, and compared with the prior's components, rows x F
    x M, F features each.
    """
    d, h, z = sizes
    widths = [(z, 2 * h), (h, 2 * h), (h, d)]
    if components:
        widths.append((features or z, components))
    return [Product(rows, i, o, backward=False) for i, o in widths]


def runner(products: Sequence[Product], device: torch.device, precision: str = "fp32") -> Callable[[], None]:
    """A function that computes the products once, into buffers allocated beforehand; on CUDA as one graph.

    The layouts are those of a dense layer: weights (out, in), gradients of the same shape.

    Args:
        products: The products.
        device: Their device.
        precision: `fp32`, `tf32` or `bf16`.
    """
    generator = torch.Generator().manual_seed(0)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(device, dtype)

    layers = [
        (p, noise(p.rows, p.inputs), noise(p.outputs, p.inputs), noise(p.rows, p.outputs), noise(p.outputs))
        for p in products
    ]
    outs = [
        (torch.empty_like(grad), torch.empty_like(weight), torch.empty_like(x[: p.input_rows]))
        for p, x, weight, grad, _ in layers
    ]

    @torch.no_grad()
    def run() -> None:
        for (_, x, weight, _, bias), (out, _, _) in zip(layers, outs, strict=True):
            torch.addmm(bias, x, weight.T, out=out)
        for (p, x, weight, grad, _), (_, out_weight, out_x) in zip(reversed(layers), reversed(outs), strict=True):
            if p.backward:
                torch.mm(grad.T, x, out=out_weight)
            if p.input_rows:
                torch.mm(grad[p.rows - p.input_rows :], weight, out=out_x)

    def settings() -> AbstractContextManager[None]:
        return nullcontext() if precision == "bf16" else product_precision(tf32=precision == "tf32")

    if graphs.available(device):
        with settings():
            return graphs.capture(run, [], torch.Generator(device), "the products alone").run

    def run_with_settings() -> None:
        with settings():
            run()

    return run_with_settings
