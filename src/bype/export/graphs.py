"""The parts of a model as functions of tensors, which other formats can hold: noise is an input, nothing is drawn."""

import copy
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from bype.core.errors import InputError
from bype.distributions.mixtures import NormalMixture
from bype.distributions.normal import DiagonalNormal
from bype.evaluation.metrics import in_nats
from bype.models.vae import VAE

#: Sizes of the free axes of the tensors that a graph is recorded with; any other sizes work later.
RECORDED = {"batch": 3, "samples": 4}

#: Runs a file of a graph: inputs by name to outputs in order.
Runner: TypeAlias = Callable[[dict[str, Tensor]], list[Tensor]]


class Port(NamedTuple):
    """An input or an output of a graph."""

    name: str
    axes: tuple[str | int, ...]  # the size of each axis; a name is a free size
    meaning: str
    dtype: str = "float32"


class Graph(NamedTuple):
    """A function of tensors, with named inputs and outputs."""

    name: str
    module: nn.Module  # takes the inputs by name, and returns a dict of the outputs
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    meaning: str

    def example(
        self, dtype: torch.dtype, generator: torch.Generator, sizes: Mapping[str, int] = RECORDED
    ) -> dict[str, Tensor]:
        """Inputs with free axes of these sizes: values in [0, 1), for noise and latents standard normal ones."""
        shapes = {p.name: [a if isinstance(a, int) else sizes[a] for a in p.axes] for p in self.inputs}
        draws = {name: torch.rand if name in ("images", "uniform") else torch.randn for name in shapes}
        return {name: draws[name](shape, generator=generator, dtype=dtype) for name, shape in shapes.items()}


class FixedPrior(nn.Module):
    """p(z) with components that no longer depend on the encoder.

    Args:
        p: A normal with a diagonal covariance, or a mixture of normals.

    Raises:
        InputError: If it is another distribution.
    """

    def __init__(self, p: object) -> None:
        super().__init__()
        if not isinstance(p, DiagonalNormal | NormalMixture):
            raise InputError(f"prior: expected a normal or a mixture of normals, got {type(p).__name__}")
        self.kind: type[DiagonalNormal | NormalMixture] = type(p)
        self.loc: Tensor
        self.scale: Tensor
        self.log_weights: Tensor
        tensors = [p.loc, p.scale] + ([p.log_weights] if isinstance(p, NormalMixture) else [])
        for name, t in zip(("loc", "scale", "log_weights"), tensors, strict=False):
            self.register_buffer(name, t.detach().cpu().clone())

    @property
    def is_mixture(self) -> bool:
        """Whether p(z) has components."""
        return issubclass(self.kind, NormalMixture)

    def forward(self) -> DiagonalNormal | NormalMixture:
        """p(z)."""
        return self.kind(*self.buffers())


class EncoderGraph(nn.Module):
    """q(z|x), or q(z2|x) with two levels."""

    def __init__(self, model: VAE) -> None:
        super().__init__()
        self.encoder = _copy(model).encoder

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """The mean and the standard deviation of q(z|x)."""
        q = self.encoder(images)
        return {"mean": q.loc, "scale": q.scale}


class DecoderGraph(nn.Module):
    """The mean of p(x|z)."""

    def __init__(self, model: VAE) -> None:
        super().__init__()
        self.model = _copy(model, without=(model.encoder, model.prior))

    def forward(self, latents: Tensor, noise_z1: Tensor | None = None) -> dict[str, Tensor]:
        """The mean of p(x|z), with two levels of p(x|z1,z2) at the z1 that the noise gives."""
        return {"images": self.model.generate(latents, noise_z1)}


class SamplerGraph(nn.Module):
    """Ancestral sampling (Algorithm 1): `uniform` chooses the component, by inversion of the cumulative weights."""

    def __init__(self, model: VAE, prior: FixedPrior) -> None:
        super().__init__()
        self.model, self.prior = _copy(model, without=(model.encoder, model.prior)), prior
        self.cumulative: Tensor | None
        weights = prior.log_weights.double().softmax(0).cumsum(0) if prior.is_mixture else None
        self.register_buffer("cumulative", None if weights is None else weights.to(model.dtype))

    def forward(
        self, noise: Tensor, uniform: Tensor | None = None, noise_z1: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Latents, the mean of p(x|z) at each, and the component that each was sampled from."""
        p, out = self.prior(), {}
        if uniform is not None and self.cumulative is not None and isinstance(p, NormalMixture):
            # As searchsorted does, which ONNX lacks.
            m = (self.cumulative <= uniform[:, None]).sum(1).clamp(max=len(self.cumulative) - 1)
            p, out = p.component(m), {"components": m}
        latents = torch.addcmul(p.loc, p.scale, noise)
        return {"images": self.model.generate(latents, noise_z1), "latents": latents, **out}


class ScoreGraph(nn.Module):
    r"""The importance-weighted log-likelihood and the evidence lower bound, of S samples of z.

    .. math:: \log \frac{1}{S} \sum_s w_s, \quad \frac{1}{S} \sum_s \log w_s, \qquad w_s = p(x|z_s) p(z_s) / q(z_s|x)
    """

    def __init__(self, model: VAE, prior: FixedPrior) -> None:
        super().__init__()
        self.model, self.prior = _copy(model, without=(model.prior,)), prior

    def forward(self, images: Tensor, noise: Tensor, noise_z1: Tensor | None = None) -> dict[str, Tensor]:
        """Both in nats, one value per image."""
        z, log_q = self.model.encoder(images).rsample_and_log_prob(noise)
        log_w = self.model.likelihood_terms(images, z, noise_z1).log_weight + self.prior().log_prob(z) - log_q
        log_w = in_nats(self.model, log_w, images[0].numel())
        largest = log_w.amax(0)
        return {"log_likelihood": (log_w - largest).exp().mean(0).log() + largest, "elbo": log_w.mean(0)}


def graphs_of(model: VAE) -> list[Graph]:
    """The encoder, the decoder, the sampler and the score of a model, on the CPU.

    Raises:
        InputError: If the prior is neither a normal nor a mixture of normals.
    """
    prior, d, lower = FixedPrior(model.prior(model.encoder)), model.encoder.latent_dim, model.lower_dim
    pixels = "in [0, 1], scaled as stated under `images`"
    images = Port("images", ("batch", *model.decoder.shape), pixels)
    means = Port("images", ("batch", *model.decoder.shape), "the mean of p(x|z), in the same scale as the input images")
    latents = Port("latents", ("batch", d), "z2" if lower else "z")
    uniform = (Port("uniform", ("batch",), "uniform numbers in [0, 1), which choose the component"),)
    noise = Port("noise", ("batch", d), "standard normal numbers")
    lower_noise = (Port("noise_z1", ("batch", lower), "standard normal numbers for z1"),) if lower else ()
    all_noise = tuple(
        p._replace(axes=("samples", *p.axes), meaning=f"{p.meaning}, S for each image") for p in (noise, *lower_noise)
    )
    components = (Port("components", ("batch",), "the component of the prior that z is from", "int64"),)
    moments = Port("mean", ("batch", d), "the mean of q(z|x)"), Port("scale", ("batch", d), "its standard deviations")
    scores = (
        Port("log_likelihood", ("batch",), "log p(x), importance-weighted, nats"),
        Port("elbo", ("batch",), "the evidence lower bound, nats"),
    )
    return [
        Graph("encoder", EncoderGraph(model), (images,), moments, "q(z|x)"),
        Graph("decoder", DecoderGraph(model), (latents, *lower_noise), (means,), "the mean of p(x|z)"),
        Graph(
            "sampler",
            SamplerGraph(model, prior),
            (noise, *(uniform if prior.is_mixture else ()), *lower_noise),
            (means, latents, *(components if prior.is_mixture else ())),
            "z from p(z), and the mean of p(x|z)",
        ),
        Graph("score", ScoreGraph(model, prior), (images, *all_noise), scores, "log p(x) and its lower bound"),
    ]


def _copy(model: VAE, without: tuple[nn.Module, ...] = ()) -> VAE:
    """A copy on the CPU, in `eval` mode, without some parts."""
    left_out = {id(part): nn.Identity() for part in without} | {id(model.cached_features): None}
    return copy.deepcopy(model, left_out).cpu().eval()
