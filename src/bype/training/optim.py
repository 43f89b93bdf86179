"""Adam on normalised gradients."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from bype.models.vae import VAE


class NormalizedAdam(torch.optim.Adam):
    r"""Adam on gradients divided by their own 2-norm, tensor by tensor, :math:`g / (\lVert g \rVert + 10^{-7})`.

    The two halves of a gated layer are one tensor (`bype.nets.GatedLinear`) and share one norm.

    A step whose loss or gradients are not all finite changes nothing: neither parameters, nor moments, nor the count of
    steps. It is found out and skipped on the device, without synchronising. On CUDA, rates and counts are tensors
    there, so that a step can be recorded in a graph.

    Source: block-normalized gradient method (Yu et al., 2017), https://arxiv.org/abs/1707.04822

    Args:
        params: The parameters, or groups of them.
        lr: The learning rate.
    """

    def __init__(self, params: Iterable[nn.Parameter] | Iterable[dict[str, Any]], lr: float = 5e-4) -> None:
        groups: list[Any] = list(params)
        first = groups[0]["params"][0] if isinstance(groups[0], dict) else groups[0]
        cuda = first.device.type == "cuda"
        if cuda:
            for group in groups:
                if isinstance(group, dict) and "lr" in group:
                    group["lr"] = torch.tensor(group["lr"], device=first.device)
        rate: Any = torch.tensor(lr, device=first.device) if cuda else lr
        super().__init__(groups, lr=rate, betas=(0.9, 0.999), eps=1e-8, fused=True, capturable=cuda)
        #: 1 where the last step was skipped, 0 otherwise; the fused kernel reads it.
        self.found_inf: Tensor = torch.zeros((), device=first.device)
        #: Whether gradients are scaled as one long vector: three kernels, in place of one for each parameter.
        self.flat = cuda
        self._segments: Tensor | None = None  # which gradient each number of that vector belongs to

    def prepare(self) -> list[Tensor]:
        """Makes the moments and counts of every parameter that has none yet; returns all of them."""
        tensors = []
        for p in (p for group in self.param_groups for p in group["params"]):
            state = self.state[p]
            if not state:
                state["step"] = torch.zeros((), device=p.device)
                state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(p), torch.zeros_like(p)
            tensors += [state["step"], state["exp_avg"], state["exp_avg_sq"]]
        return tensors

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None, *, loss: Tensor | None = None) -> Any:
        """Normalises the gradients in place and takes one step of Adam.

        Args:
            closure: As for any optimiser of torch.
            loss: The loss, whose own finiteness then counts too: a clamp can hide a NaN from the gradients.
        """
        owners = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        grads = [p.grad for p in owners]
        norms = torch.stack(torch._foreach_norm(grads))
        # 0 times a sum is 0, or NaN if a term of it is infinite or NaN.
        checked = norms.sum() if loss is None else norms.sum() + loss.detach()
        self.found_inf = (0 * checked).nan_to_num(nan=1.0).float()
        factors = (norms + 1e-7).reciprocal()
        if self.flat:
            for p, grad in zip(owners, self._scaled_flat(grads, factors), strict=True):
                p.grad = grad
        else:
            torch._foreach_mul_(grads, factors.unbind())
        return super().step(closure)

    def _scaled_flat(self, grads: list[Tensor], factors: Tensor) -> list[Tensor]:
        """Each gradient times its factor, laid out in memory as before, as parts of one vector."""
        sizes = [g.numel() for g in grads]
        if self._segments is None or len(self._segments) != sum(sizes):
            owner = torch.arange(len(grads)).repeat_interleave(torch.tensor(sizes))
            self._segments = owner.to(factors.device)
        flat = torch.cat([g.as_strided((size,), (1,)) for g, size in zip(grads, sizes, strict=True)])
        flat *= factors[self._segments]
        parts = zip(grads, flat.split(sizes), strict=True)
        return [part.as_strided(g.shape, g.stride(), part.storage_offset()) for g, part in parts]


def parameter_groups(model: VAE) -> list[dict[str, Any]]:
    """The networks' parameters, and those for which the prior has learning rates of its own."""
    own = model.prior.parameter_groups()
    ids = {id(p) for params, _ in own for p in params}
    networks = [p for p in model.parameters() if id(p) not in ids]
    return [{"params": networks}, *({"params": params, "lr": lr} for params, lr in own)]
