r"""Generative data augmentation: a classifier trained with a model's samples beside the training examples.

Each training batch has B examples :math:`(x_i, y_i)` and B synthetic ones :math:`(\tilde x_i, \tilde y_i)`; the loss is

.. math:: -\frac{1}{B} \sum_i \lambda \log p(y_i \mid x_i) + (1 - \lambda) \log p(\tilde y_i \mid \tilde x_i)

with smoothed labels. Source: ByPE-VAE (Ai et al., 2021), section 5.4; Exemplar VAE (Norouzi et al., 2020).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bype.core.errors import InputError
from bype.core.numbers import real, whole
from bype.core.precision import flush_denormals
from bype.core.seeds import Stream
from bype.core.torch_state import fixed_torch_state
from bype.data.images import Dataset, Images
from bype.distributions.mixtures import IsotropicMixture, categorical_sample
from bype.models.observing import model_inputs
from bype.models.vae import VAE
from bype.priors.base import SharedScalePrior

METHODS = ("baseline", "posterior", "prior", "coreset")
#: Latents whose distances to all components are held at once.
TILE = 2000


def allowed_methods(model: VAE) -> list[str]:
    """The methods of augmentation that a model's prior allows."""
    allowed = {
        "prior": isinstance(model.prior, SharedScalePrior),
        "coreset": model.prior.pseudocoreset is not None,
    }
    return [name for name in METHODS if allowed.get(name, True)]


class Synthetic(NamedTuple):
    """Synthetic examples."""

    images: Tensor  # (B, c, h, w), multiples of 1/255
    labels: Tensor  # (B,), int64
    sources: Tensor  # (B,), the training rows, or for `coreset` the components, that they were sampled from


#: Synthetic examples for a batch of training rows.
Source = Callable[[Tensor, torch.Generator], Synthetic]


class ClassifierInfo(NamedTuple):
    """The measurements of an epoch of the classifier."""

    epoch: int
    loss: float  # the mean weighted cross-entropy, nats


@dataclass(frozen=True)
class ClassifierOptions:
    """How the classifier is trained; the defaults are the paper's.

    Args:
        epochs: The number of epochs.
        batch_size: Training examples per step, and as many synthetic ones.
        weight: The weight lambda of the training examples' loss, from 0 to 1.
        hidden_dim: The width of the two hidden layers.
        lr: The learning rate of SGD, which falls linearly to 1 % of it.
        momentum: The momentum of SGD.
        smoothing: The label smoothing.
        seed: The seed of the initial weights, the order of the data and the synthetic examples.

    Raises:
        InputError: If a value is out of range.
    """

    epochs: int = 100
    batch_size: int = 100
    weight: float = 0.4
    hidden_dim: int = 1024
    lr: float = 0.1
    momentum: float = 0.9
    smoothing: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        for name, low in (("epochs", 1), ("batch_size", 1), ("hidden_dim", 1), ("seed", 0)):
            object.__setattr__(self, name, whole(name, getattr(self, name), low))
        for name in ("weight", "momentum", "smoothing"):
            if not 0 <= real(name, getattr(self, name)) <= 1:
                raise InputError(f"{name}: expected from 0 to 1, got {getattr(self, name)}")
        object.__setattr__(self, "lr", real("lr", self.lr, 0))


class Classifier(nn.Module):
    """An MLP with two hidden layers and ReLU; returns logits (B, C) for images (B, c, h, w).

    Args:
        shape: The shape (c, h, w) of an image.
        hidden_dim: The width of the hidden layers.
        classes: The label of each output, (C,).
    """

    classes: Tensor

    def __init__(self, shape: tuple[int, int, int], hidden_dim: int, classes: Tensor) -> None:
        super().__init__()
        c, h, w = shape
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(c * h * w, hidden_dim), nn.ReLU(),
            nn.Linear(hidden_dim, hidden_dim), nn.ReLU(),
            nn.Linear(hidden_dim, len(classes)),
        )  # fmt: skip
        self.register_buffer("classes", classes)

    def forward(self, x: Tensor) -> Tensor:
        """The logits of the classes."""
        logits: Tensor = self.layers(x)
        return logits

    def features(self, x: Tensor) -> Tensor:
        """The last hidden layer, (B, hidden_dim), of images (B, c, h, w)."""
        hidden: Tensor = self.layers[:-1](x)
        return hidden

    @fixed_torch_state(grad=False)
    def predict(self, images: Tensor) -> Tensor:
        """The most probable label of each image, (B,)."""
        return torch.cat([self.classes[self(x).argmax(1)] for x in images.split(TILE)])


def weighted_loss(
    logits: Tensor, targets: Tensor, synthetic_logits: Tensor | None, synthetic_targets: Tensor | None,
    options: ClassifierOptions,
) -> Tensor:  # fmt: skip
    """The mean loss of a batch, nats; without synthetic examples the plain cross-entropy.

    Args:
        logits: Of the training examples, (B, C).
        targets: Their classes, (B,).
        synthetic_logits: Of the synthetic examples, (B, C), or None.
        synthetic_targets: Their classes, (B,), or None.
        options: The weight lambda and the label smoothing.
    """
    own = F.cross_entropy(logits, targets, label_smoothing=options.smoothing)
    if synthetic_logits is None or synthetic_targets is None:
        return own
    synthetic = F.cross_entropy(synthetic_logits, synthetic_targets, label_smoothing=options.smoothing)
    return options.weight * own + (1 - options.weight) * synthetic


@fixed_torch_state(grad=True)
def train_classifier(
    data: Dataset,
    source: Source | None = None,
    options: ClassifierOptions | None = None,
    *,
    on_epoch: Callable[[ClassifierInfo], None] | None = None,
) -> Classifier:
    """Trains a classifier on the training split, with synthetic examples if a source is given.

    Args:
        data: A labelled data set.
        source: The synthetic examples, from `synthetic_source`; None trains without.
        options: How it is trained; by default as in the paper.
        on_epoch: Called after each epoch.

    Raises:
        InputError: If the data have no labels.
    """
    options = options or ClassifierOptions()
    labels, device = labels_of(data.train, data.name), data.train.pixels.device
    classes, targets = labels.unique(return_inverse=True)
    seed = options.seed + Stream.AUGMENTATION
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        classifier = Classifier(data.shape, options.hidden_dim, classes.cpu()).to(device)
    generator = torch.Generator(device).manual_seed(seed)
    optimizer = torch.optim.SGD(classifier.parameters(), lr=options.lr, momentum=options.momentum)
    with flush_denormals():
        for epoch in range(1, options.epochs + 1):
            progress = (epoch - 1) / max(1, options.epochs - 1)
            for group in optimizer.param_groups:
                group["lr"] = options.lr * (1 - 0.99 * progress)
            total = torch.zeros((), device=device)
            for rows in torch.randperm(len(labels), generator=generator, device=device).split(options.batch_size):
                extra = source(rows, generator) if source is not None else None
                both = classifier(torch.cat([data.train.scaled(rows), *([extra.images] if extra else [])]))
                extra_targets = torch.searchsorted(classes, extra.labels) if extra else None
                loss = weighted_loss(
                    both[: len(rows)], targets[rows], both[len(rows) :] if extra else None, extra_targets, options
                )
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                total += loss.detach() * len(rows)
            if on_epoch is not None:
                on_epoch(ClassifierInfo(epoch, total.item() / len(labels)))
    return classifier.eval()


def error_rate(classifier: Classifier, images: Images, name: str = "images") -> float:
    """The share of wrong labels, in percent."""
    labels = labels_of(images, name)
    predicted = torch.cat([classifier.predict(x) for x in images.batches(TILE)])
    return 100 * (predicted != labels).double().mean().item()


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


@fixed_torch_state(grad=False)
def plate_agreement(model: VAE, classifier: Classifier, n: int = 16, seed: int = 0) -> float:
    """The share of a component's samples that a classifier labels as the image of the component's point, in percent.

    The mean over all components with a positive weight.

    Args:
        model: A model whose prior is made of points.
        classifier: A classifier trained on data alone.
        n: Samples per component.
        seed: The seed of the samples.

    Raises:
        InputError: If the prior's components are not made from images.
    """
    model.eval()
    p = model.prior(model.encoder)
    device = next(model.parameters()).device
    first = torch.zeros(1, dtype=torch.long, device=device)
    if not isinstance(p, IsotropicMixture) or model.prior.points_at(first) is None:
        raise InputError(f"plates: expected a prior made of points, got {type(model.prior).__name__}")
    generator = torch.Generator(device).manual_seed(seed + Stream.AUGMENTATION)
    agreeing = []
    for rows in (p.log_weights > -torch.inf).nonzero()[:, 0].split(max(1, TILE // n)):
        points = model.prior.points_at(rows)
        assert points is not None
        noise = torch.randn(len(rows), n, p.loc.shape[1], generator=generator, device=device, dtype=p.loc.dtype)
        samples = model.generate(p.loc[rows, None] + p.scale * noise, generator=generator)
        own = classifier.predict(points.float().clamp(0, 1))
        agreeing.append(classifier.predict(samples.float().flatten(0, 1)).view(len(rows), n) == own[:, None])
    return 100 * torch.cat(agreeing).double().mean().item()


def posteriors(model: VAE, images: Images) -> tuple[Tensor, Tensor]:
    """The means and scales of q(z|x) of all images, (n, D) each; with two levels those of q(z2|x)."""
    both = [model.encoder(x) for x in model_inputs(model, images, Stream.AUGMENTATION)]
    return torch.cat([q.loc for q in both]), torch.cat([q.scale for q in both])


@fixed_torch_state(grad=False)
def _decoded(model: VAE, z: Tensor, generator: torch.Generator) -> Tensor:
    return (model.generate(z, generator=generator).float().clamp(0, 1) * 255).round() / 255


def labels_of(images: Images, name: str) -> Tensor:
    """The labels of images.

    Raises:
        InputError: If they have none.
    """
    if images.labels is None:
        raise InputError(f"{name}: expected images with labels, but there are none")
    return images.labels
