"""Adam on normalised gradients."""

from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor, nn

from bype.models.vae import VAE

# A parameter group as torch's optimisers define it: the list "params", and options of different types such as "lr".
ParamGroup = dict[str, Any]


class NormalizedAdam(torch.optim.Adam):
    r"""Adam on gradients divided by their own 2-norm, tensor by tensor, :math:`g / (\lVert g \rVert + 10^{-7})`.

    The two halves of a gated layer are one tensor (`bype.networks.layers.GatedLinear`) and share one norm.

    A step with a non-finite loss or gradient changes nothing: neither parameters, nor moments, nor the step count.
    Detected and skipped on the device, without a synchronisation. On CUDA, learning rates and step counts are tensors
    on the device, so that a step can be captured in a CUDA graph.

    Source: block-normalized gradient method (Yu et al., 2017), https://arxiv.org/abs/1707.04822

    Args:
        params: The parameters, or parameter groups.
        lr: The learning rate.
    """

    def __init__(self, params: Iterable[nn.Parameter] | Iterable[ParamGroup], lr: float = 5e-4) -> None:
        given = list(params)
        groups: list[ParamGroup] = [g for g in given if isinstance(g, dict)] or [{"params": given}]
        device: torch.device = groups[0]["params"][0].device
        cuda = device.type == "cuda"
        rates = [float(group.get("lr", lr)) for group in groups]
        if cuda:
            for group in groups:
                if "lr" in group:
                    group["lr"] = torch.tensor(group["lr"], device=device)
        rate = torch.tensor(lr, device=device) if cuda else lr
        super().__init__(groups, lr=rate, betas=(0.9, 0.999), eps=1e-8, fused=True, capturable=cuda)
        #: 1 if the last step was skipped, else 0; read by torch's fused kernel.
        self.found_inf: Tensor = torch.zeros((), device=device)
        #: Whether gradients are scaled as one concatenated vector: three kernels instead of one per parameter.
        self.flat = cuda
        self._initial_rates = rates
        self._segments: Tensor | None = None  # for each element of that vector, the index of its gradient

    def __getstate__(self) -> dict[str, object]:
        return super().__getstate__() | {
            "found_inf": self.found_inf,
            "flat": self.flat,
            "_initial_rates": self._initial_rates,
            "_segments": self._segments,
        }

    def scale_rates(self, factor: float) -> None:
        """Sets the learning rate of each group to its initial value times `factor`; on CUDA in place."""
        for group, initial in zip(self.param_groups, self._initial_rates, strict=True):
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(initial * factor)
            else:
                group["lr"] = initial * factor

    def prepare(self) -> list[Tensor]:
        """Creates the missing moments and step counts of all parameters; returns all of them."""
        tensors = []
        for p in (p for group in self.param_groups for p in group["params"]):
            state = self.state[p]
            if not state:
                state["step"] = torch.zeros((), device=p.device)
                state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(p), torch.zeros_like(p)
            tensors += [state["step"], state["exp_avg"], state["exp_avg_sq"]]
        return tensors

    @overload
    def step(self, closure: None = None, *, loss: Tensor | None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float], *, loss: Tensor | None = None) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None, *, loss: Tensor | None = None) -> float | None:
        """Normalises the gradients in place and takes one step of Adam.

        Args:
            closure: As in `torch.optim.Optimizer.step`.
            loss: The loss. If given, it must be finite too: a clamp can hide a NaN from the gradients.
        """
        owners = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        grads = [p.grad for p in owners]
        norms = torch.stack(torch._foreach_norm(grads))
        # 0 * sum is 0, or NaN if a term of the sum is infinite or NaN.
        checked = norms.sum() if loss is None else norms.sum() + loss.detach()
        self.found_inf = (0 * checked).nan_to_num(nan=1.0).float()
        divisors = norms + 1e-7
        if self.flat:
            for p, grad in zip(owners, self._scaled_flat(grads, divisors.reciprocal()), strict=True):
                p.grad = grad
        elif divisors.dtype == torch.float32 and closure is None:
            self._step_by_tensor(divisors)
            return None
        else:  # torch's kernel takes no divisor in float64
            torch._foreach_mul_(grads, divisors.reciprocal().unbind())
        return super().step(closure)

    def _step_by_tensor(self, divisors: Tensor) -> None:
        """Divides each gradient and takes its step of Adam, in one pass over each tensor.

        The kernel is the one that `torch.optim.Adam` calls for all tensors of a group at once, with one divisor.
        """
        self.prepare()
        divisor = iter(divisors.unbind())
        for group in self.param_groups:
            owners = [p for p in group["params"] if p.grad is not None]
            states = [self.state[p] for p in owners]
            if not owners:
                continue
            torch._foreach_add_([state["step"] for state in states], 1 - self.found_inf)
            beta1, beta2 = group["betas"]
            for p, state in zip(owners, states, strict=True):
                torch._fused_adam_(
                    [p], [p.grad], [state["exp_avg"]], [state["exp_avg_sq"]], [], [state["step"]],
                    lr=group["lr"], beta1=beta1, beta2=beta2, weight_decay=group["weight_decay"], eps=group["eps"],
                    amsgrad=False, maximize=False, grad_scale=next(divisor), found_inf=self.found_inf,
                )  # fmt: skip

    def _scaled_flat(self, grads: list[Tensor], factors: Tensor) -> list[Tensor]:
        """Each gradient times its factor, with its strides, as a view into one concatenated vector."""
        sizes = [g.numel() for g in grads]
        if self._segments is None or len(self._segments) != sum(sizes):
            owner = torch.arange(len(grads)).repeat_interleave(torch.tensor(sizes))
            self._segments = owner.to(factors.device)
        flat = torch.cat([g.as_strided((size,), (1,)) for g, size in zip(grads, sizes, strict=True)])
        flat *= factors[self._segments]
        parts = zip(grads, flat.split(sizes), strict=True)
        return [part.as_strided(g.shape, g.stride(), part.storage_offset()) for g, part in parts]


def parameter_groups(model: VAE) -> list[ParamGroup]:
    """The parameter groups of a model: the networks, and the parameters for which the prior sets a learning rate."""
    own = model.prior.parameter_groups()
    ids = {id(p) for params, _ in own for p in params}
    networks = [p for p in model.parameters() if id(p) not in ids]
    return [{"params": networks}, *({"params": params, "lr": lr} for params, lr in own)]
