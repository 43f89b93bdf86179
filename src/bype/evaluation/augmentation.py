"""Generative data augmentation: the synthetic examples of a model, with their labels.

Source: ByPE-VAE (Ai et al., 2021), section 5.4; Exemplar VAE (Norouzi et al., 2020).
"""

from typing import NamedTuple

import torch
from torch import Tensor

from bype.core.errors import InputError
from bype.core.seeds import Stream
from bype.core.torch_state import fixed_torch_state
from bype.data.images import Dataset, Images
from bype.distributions.mixtures import IsotropicMixture, categorical_sample
from bype.evaluation.classifier import TILE, Source, Synthetic, labels_of
from bype.models.observing import model_inputs
from bype.models.vae import VAE
from bype.priors.base import SharedScalePrior

METHODS = ("baseline", "posterior", "prior", "coreset")


def allowed_methods(model: VAE) -> list[str]:
    """The methods of augmentation that a model's prior allows."""
    allowed = {
        "prior": isinstance(model.prior, SharedScalePrior),
        "coreset": model.prior.pseudocoreset is not None,
    }
    return [name for name in METHODS if allowed.get(name, True)]


@fixed_torch_state(grad=False)
def synthetic_source(model: VAE, data: Dataset, method: str) -> Source | None:
    """The synthetic examples of a method.

    `posterior`: for each training example x, decoded from z ~ q(z|x), with its label. `prior`: decoded from
    z ~ r(z|x) = N(mu(x), sigma^2 I), the component that x has, or would have, in the prior, with its label. `coreset`:
    decoded from components of the pseudocoreset, drawn by their weights, labelled as `coreset_labels` says. Images are
    rounded to multiples of 1/255. `baseline` has none.

    Args:
        model: The trained model, on the device of the data.
        data: The labelled data that it was trained on.
        method: `baseline`, `posterior`, `prior` or `coreset`.

    Returns:
        A function of training rows (B,) and a generator; None for `baseline`.

    Raises:
        InputError: If the method is unknown, the data have no labels, or the model's prior has no shared sigma
            (`prior`) or no pseudocoreset (`coreset`).
    """
    if method not in METHODS:
        raise InputError(f"method: expected one of {', '.join(METHODS)}, got {method!r}")
    labels = labels_of(data.train, data.name)
    if method == "baseline":
        return None
    model.eval()
    if method == "coreset":
        return _coreset_source(model, data)
    if method == "posterior":
        loc, scale = posteriors(model, data.train)
    else:
        if not isinstance(model.prior, SharedScalePrior):
            raise InputError(
                f"prior: expected a prior whose components share one sigma (exemplar, bype), got "
                f"{type(model.prior).__name__}; use posterior"
            )
        loc = posteriors(model, data.train)[0]
        scale = model.prior.log_scale.detach().exp().expand_as(loc)

    def draw(rows: Tensor, generator: torch.Generator) -> Synthetic:
        noise = torch.randn(len(rows), loc.shape[1], generator=generator, device=loc.device, dtype=loc.dtype)
        return Synthetic(_decoded(model, loc[rows] + scale[rows] * noise, generator), labels[rows], rows)

    return draw


def _coreset_source(model: VAE, data: Dataset) -> Source:
    votes = coreset_labels(model, data)
    p = model.prior(model.encoder)
    assert isinstance(p, IsotropicMixture)
    weights = p.log_weights.exp()

    def draw(rows: Tensor, generator: torch.Generator) -> Synthetic:
        components = categorical_sample(weights, len(rows), generator)
        noise = torch.randn(len(rows), p.loc.shape[1], generator=generator, device=p.loc.device, dtype=p.loc.dtype)
        z = p.loc[components] + p.scale * noise
        return Synthetic(_decoded(model, z, generator), votes.labels[components], components)

    return draw


class Votes(NamedTuple):
    """The labels of a pseudocoreset."""

    labels: Tensor  # (M,), int64
    shares: Tensor  # (M,), the share of the winning label in the vote


@fixed_torch_state(grad=False)
def coreset_labels(model: VAE, data: Dataset) -> Votes:
    r"""The label of each pseudo-point, voted by the training examples that its component explains.

    .. math:: V_{m,c} = \sum_{n: y_n = c} r_{nm}, \qquad
        r_{nm} = \frac{w_m \mathcal{N}(\mu(x_n) \mid \mu(u_m), \sigma^2 I)}
        {\sum_k w_k \mathcal{N}(\mu(x_n) \mid \mu(u_k), \sigma^2 I)}

    The label of point m is that with the largest vote; of tied labels the smallest.

    Args:
        model: A model with a pseudocoreset prior.
        data: The labelled data that it was trained on.

    Raises:
        InputError: If the prior has no pseudocoreset, or the data have no labels.
    """
    if model.prior.pseudocoreset is None:
        raise InputError(f"coreset: expected a model with prior bype, got {type(model.prior).__name__}")
    labels = labels_of(data.train, data.name)
    classes, targets = labels.unique(return_inverse=True)
    model.eval()
    p = model.prior(model.encoder)
    assert isinstance(p, IsotropicMixture)
    means = posteriors(model, data.train)[0]
    votes = torch.zeros(p.n_components, len(classes), dtype=torch.float64, device=means.device)
    loc, scale = p.loc.double(), p.scale.double()
    for z, own in zip(means.split(TILE), targets.split(TILE), strict=True):
        log_r = p.log_weights.double() - torch.cdist(z.double(), loc).square() / (2 * scale**2)
        votes.T.index_add_(0, own, log_r.softmax(1))
    total = votes.sum(1).clamp(min=torch.finfo(votes.dtype).tiny)
    return Votes(classes[votes.argmax(1)], votes.max(1).values / total)


def posteriors(model: VAE, images: Images) -> tuple[Tensor, Tensor]:
    """The means and scales of q(z|x) of all images, (n, D) each; with two levels those of q(z2|x)."""
    both = [model.encoder(x) for x in model_inputs(model, images, Stream.AUGMENTATION)]
    return torch.cat([q.loc for q in both]), torch.cat([q.scale for q in both])


@fixed_torch_state(grad=False)
def _decoded(model: VAE, z: Tensor, generator: torch.Generator) -> Tensor:
    return (model.generate(z, generator=generator).float().clamp(0, 1) * 255).round() / 255
