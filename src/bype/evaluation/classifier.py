r"""A classifier trained with synthetic examples beside the training examples.

Each training batch has B examples :math:`(x_i, y_i)` and B synthetic ones :math:`(\tilde x_i, \tilde y_i)`; the loss is

.. math:: -\frac{1}{B} \sum_i \lambda \log p(y_i \mid x_i) + (1 - \lambda) \log p(\tilde y_i \mid \tilde x_i)

with smoothed labels. Source: ByPE-VAE (Ai et al., 2021), section 5.4; Exemplar VAE (Norouzi et al., 2020).
"""

from collections.abc import Callable, Mapping
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

#: Images that are classified at once.
TILE = 2000


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
    state: Callable[[], dict[str, Tensor]]  # what `train_classifier` continues from


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
    state: Mapping[str, Tensor] | None = None,
) -> Classifier:
    """Trains a classifier on the training split, with synthetic examples if a source is given.

    Args:
        data: A labelled data set.
        source: The synthetic examples, from `synthetic_source`; None trains without.
        options: How it is trained; by default as in the paper.
        on_epoch: Called after each epoch.
        state: The `ClassifierInfo.state` of an earlier call with the same arguments, which is continued: it ends with
            the same bits as a call that was not interrupted.

    Raises:
        InputError: If the data have no labels.
    """
    training = _Training(data, options or ClassifierOptions(), state)
    with flush_denormals():
        while training.epoch < training.options.epochs:
            loss = training.run_epoch(source)
            if on_epoch is not None:
                on_epoch(ClassifierInfo(training.epoch, loss, training.state))
    return training.classifier.eval()


class _Training:
    """The classifier, its optimiser and its random numbers, after `epoch` epochs."""

    def __init__(self, data: Dataset, options: ClassifierOptions, state: Mapping[str, Tensor] | None) -> None:
        self.data, self.options, self.epoch = data, options, 0
        self.labels = labels_of(data.train, data.name)
        device, seed = data.train.pixels.device, options.seed + Stream.AUGMENTATION
        classes, self.targets = self.labels.unique(return_inverse=True)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.classifier = Classifier(data.shape, options.hidden_dim, classes.cpu()).to(device)
        self.generator = torch.Generator(device).manual_seed(seed)
        self.optimizer = torch.optim.SGD(self.classifier.parameters(), lr=options.lr, momentum=options.momentum)
        if state is not None:
            self._restore(state)

    def state(self) -> dict[str, Tensor]:
        """Parameters, momentum, random state and epoch."""
        names = [name for name, _ in self.classifier.named_parameters()]
        momentum = self.optimizer.state_dict()["state"]
        return {
            **{f"classifier.{name}": value for name, value in self.classifier.state_dict().items()},
            **{f"momentum.{names[i]}": value["momentum_buffer"] for i, value in momentum.items()},
            "generator": self.generator.get_state(),
            "epoch": torch.tensor(self.epoch),
        }

    def _restore(self, state: Mapping[str, Tensor]) -> None:
        own = {k.removeprefix("classifier."): v for k, v in state.items() if k.startswith("classifier.")}
        self.classifier.load_state_dict(own)
        for name, parameter in self.classifier.named_parameters():
            self.optimizer.state[parameter]["momentum_buffer"] = state[f"momentum.{name}"].to(parameter, copy=True)
        self.generator.set_state(state["generator"])
        self.epoch = int(state["epoch"])

    def run_epoch(self, source: Source | None) -> float:
        """Trains an epoch; returns its mean loss."""
        options, train, device = self.options, self.data.train, self.data.train.pixels.device
        progress = self.epoch / max(1, options.epochs - 1)
        for group in self.optimizer.param_groups:
            group["lr"] = options.lr * (1 - 0.99 * progress)
        total = torch.zeros((), device=device)
        order = torch.randperm(len(self.labels), generator=self.generator, device=device)
        for rows in order.split(options.batch_size):
            extra = source(rows, self.generator) if source is not None else None
            both = self.classifier(torch.cat([train.scaled(rows), *([extra.images] if extra else [])]))
            extra_targets = torch.searchsorted(self.classifier.classes, extra.labels) if extra else None
            loss = weighted_loss(
                both[: len(rows)], self.targets[rows], both[len(rows) :] if extra else None, extra_targets, options
            )
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
            total += loss.detach() * len(rows)
        self.epoch += 1
        return total.item() / len(self.labels)


def error_rate(classifier: Classifier, images: Images, name: str = "images") -> float:
    """The share of wrong labels, in percent."""
    labels = labels_of(images, name)
    predicted = torch.cat([classifier.predict(x) for x in images.batches(TILE)])
    return 100 * (predicted != labels).double().mean().item()


def labels_of(images: Images, name: str) -> Tensor:
    """The labels of images.

    Raises:
        InputError: If they have none.
    """
    if images.labels is None:
        raise InputError(f"{name}: expected images with labels, but there are none")
    return images.labels
