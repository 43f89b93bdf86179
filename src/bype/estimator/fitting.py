"""Building, continuing and training the model of an estimator."""

import math
import warnings
from typing import TypedDict

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from bype.core.errors import InputError
from bype.core.numbers import whole
from bype.core.recipes import training_options
from bype.data.images import Dataset
from bype.models.build import build_model
from bype.models.vae import VAE, load_state_checked
from bype.training.epoch import EpochInfo
from bype.training.terminal import epochs_in_notebooks
from bype.training.trainer import Trainer

#: Values of each epoch in `history_`.
HISTORY = ("epoch", "beta", "loss", "reconstruction", "kl", "val_loss", "seconds")


class Names(TypedDict):
    """The names of a model's parts, as `build_model` takes them."""

    arch: str
    prior: str
    likelihood: str
    coreset: str


class Sizes(TypedDict):
    """The sizes of a model, as `build_model` takes them."""

    n_components: int
    latent_dim: int
    hidden_dim: int


def held_out(n: int, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows to train on and those that early stopping is judged on; below 10 rows, all are both.

    Args:
        n: The number of rows.
        fraction: The fraction that is held out.
        seed: The seed.
    """
    order = np.random.RandomState(seed).permutation(n)
    held = max(1, round(fraction * n)) if n >= 10 else 0
    return np.sort(order[held:]), np.sort(order[:held] if held else order)


def sizes_for(data: Dataset, *, n_components: int | None, latent_dim: int | str, hidden_dim: int | str) -> Sizes:
    """The sizes that are given, and the estimator's defaults for the others.

    Args:
        data: The training set, of n rows with d values.
        n_components: The number of components; None for min(500, n // 2).
        latent_dim: The dimension of the latents; `auto` for d / 2, from 1 to 40.
        hidden_dim: The width of the hidden layers; `auto` for 300 if d is 64 or more, else 100.
    """
    d, n = math.prod(data.shape), len(data.train)
    return {
        "n_components": max(1, min(500, n // 2)) if n_components is None else n_components,
        "latent_dim": min(40, max(1, math.ceil(d / 2))) if latent_dim == "auto" else whole("latent_dim", latent_dim, 1),
        "hidden_dim": (300 if d >= 64 else 100) if hidden_dim == "auto" else whole("hidden_dim", hidden_dim, 1),
    }


def continued(last: VAE, data: Dataset, names: Names, seed: int) -> VAE:
    """A model with the networks and the points of the last fit, for training rows that may be others.

    The weights of a pseudocoreset sum to the number of the new rows; the exemplars are the new rows.

    Args:
        last: The model of the last fit.
        data: The new training set.
        names: The names of networks, prior, likelihood and strategy, which must be those of the last fit.
        seed: A seed.

    Raises:
        InputError: If a name is another one, or there are fewer rows than points.
    """
    assert last.description is not None
    options = dict(last.description["options"])
    for key, name in names.items():
        if options.get(key, name) != name:
            raise InputError(
                f"warm_start: expected {key} {options[key]!r} as in the last fit, got {name!r}; use warm_start=False"
            )
    tensors = last.state_dict()
    points = last.prior.pseudocoreset
    m = len(tensors["prior.pseudo_inputs"]) if "prior.pseudo_inputs" in tensors else None
    if points is not None and m is not None and len(data.train) < m:
        raise InputError(
            f"warm_start: expected at least the {m} training rows that the prior's points stand for, got "
            f"{len(data.train)}; give more rows, or fit with warm_start=False"
        )
    model = build_model(data, **options | {"n_components": m}, seed=seed)
    if points is not None:
        tensors["prior.weights"] = points.weights * (len(data.train) / points.n_data)
    load_state_checked(model, tensors, "warm_start")
    return model


def train(
    model: VAE,
    data: Dataset,
    *,
    recipe: str,
    epochs: int | None,
    batch_size: int | None,
    lr: float | None,
    seed: int,
    verbose: int,
) -> dict[str, list[float]]:
    """Trains a model, which ends with the parameters of its best epoch, also if it is interrupted (Ctrl-C).

    Args:
        model: The model.
        data: The data set.
        recipe: The name of the options of training; the three that follow override it.
        epochs: The largest number of epochs.
        batch_size: Rows per step.
        lr: The learning rate.
        seed: The seed.
        verbose: Print each epoch, if above 0; in a notebook as a bar.

    Returns:
        The values named in `HISTORY`, one per epoch.

    Raises:
        InputError: If an option does not fit.
    """
    given = {
        "batch_size": batch_size, "lr": lr, "epochs": None if epochs is None else whole("max_epochs", epochs, 1),
    }  # fmt: skip
    options = training_options(recipe, len(data.train), given)
    options["warmup"] = min(options["warmup"], options["epochs"] // 2)  # of few epochs, most are at beta = 1
    trainer = Trainer(model, data, seed=seed, **options)
    infos: list[EpochInfo] = []
    try:
        with epochs_in_notebooks(None if verbose else False) as show:
            while not trainer.finished:  # small tables are expected here: without the trainer's advice on them
                info = trainer.run_epoch()
                infos.append(info)
                if show is not None:
                    show(info, trainer)
                elif verbose:
                    print(f"epoch {info.epoch}  loss {info.loss:.4f}  validation loss {info.val_loss:.4f}", flush=True)
    except KeyboardInterrupt:
        if not infos:
            raise
        message = f"interrupted after {len(infos)} epochs; the best one is kept"
        warnings.warn(message, ConvergenceWarning, stacklevel=4)
    trainer.load_best()
    return {name: [getattr(info, name) for info in infos] for name in HISTORY}
