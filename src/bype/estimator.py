"""The scikit-learn estimator: density estimation, latents and samples of tables and images."""

import math
import numbers
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Self, cast

import numpy as np
import torch
from numpy.random import RandomState
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, DensityMixin, TransformerMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import Tags, check_array, check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from bype.core.devices import resolve_device
from bype.core.errors import InputError
from bype.core.files import expand_path
from bype.core.names import LIKELIHOODS
from bype.core.numbers import whole
from bype.core.precision import flush_denormals
from bype.core.recipes import training_options
from bype.core.seeds import Stream
from bype.core.tensors import read_tensors, write_tensors
from bype.core.torch_state import fixed_torch_state
from bype.data.frames import frame_columns
from bype.data.images import Dataset, Images
from bype.data.tables import TableSpec, find_columns
from bype.distributions.mixtures import NormalMixture
from bype.evaluation.metrics import in_nats
from bype.evaluation.scores import bounds_with, shared_noise
from bype.models.build import build_model
from bype.models.saved import rebuilt
from bype.models.vae import VAE
from bype.training.epoch import EpochInfo
from bype.training.trainer import Trainer

#: Latents decoded at once.
AT_ONCE = 8192
#: The name under which a saved file has the training items of an exemplar prior.
ITEMS = "items"


def _pixel_type(X: object) -> type:
    return np.uint8 if getattr(X, "dtype", None) == np.uint8 else np.float64


class Pseudocoreset(NamedTuple):
    """The weighted points that stand for the training rows."""

    points: np.ndarray  # (M, d), in the units of X
    weights: np.ndarray  # (M,), which sum to the number of training rows


class ByPEVAE(ClassNamePrefixFeaturesOutMixin, TransformerMixin, DensityMixin, BaseEstimator):
    r"""A variational autoencoder whose prior is built from the data, as a scikit-learn estimator.

    Rows of a table: real columns are standardised within; densities count the Jacobian, so that they are in the units
    of X. With `image_shape` each row is an image with pixels in [0, 1], or uint8.

    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(200, 3))
    >>> model = ByPEVAE(max_epochs=2, random_state=0).fit(X)
    >>> model.score_samples(X).shape, model.transform(X).shape
    ((200,), (200, 2))

    Args:
        prior: `standard`, `vamp`, `exemplar` or `bype`.
        arch: The networks; tables take `vae`.
        n_components: The number of components of `vamp` and `bype`; by default min(500, n // 2).
        latent_dim: The dimension of the latents; `auto` is half the number of features, from 1 to 40.
        hidden_dim: The width of the hidden layers; `auto` is 300 for 64 features or more, else 100.
        likelihood: `gaussian` for real columns and images; `mixed` for tables with binary and categorical columns;
            for images also `mse`, `bernoulli` and `logistic`.
        recipe: The named set of options of training, `fast` or `paper` (`bype recipes`).
        max_epochs: The largest number of epochs; by default the recipe's.
        batch_size: Rows per step; by default the recipe's.
        learning_rate: The learning rate; by default the recipe's.
        coreset: The strategy of step (ii) of `bype`: `paper`, `none`, `published` or `elbo`.
        image_shape: (h, w) or (c, h, w), if rows are images.
        categorical: With `mixed`, columns of numbers that are categories: names, or indices.
        n_importance_samples: Samples of the log-likelihood of each row.
        validation_fraction: The fraction of the rows that early stopping is judged on.
        warm_start: Whether `fit` continues from the networks of the last fit.
        device: `auto`, `cpu` or `cuda`.
        random_state: Seed of all random numbers: an int, a `RandomState`, or None.
        verbose: Print each epoch, if above 0.

    Attributes:
        model_: The fitted `bype.VAE`.
        table_: The columns (`bype.data.tables.TableSpec`); None for images.
        history_: A list of values by name, one value per epoch.
        n_iter_: The number of epochs.
        pseudocoreset_: With prior `bype`, the points in the units of X and their weights.
        n_features_in_: The number of features.
        feature_names_in_: Their names, if X has names.
    """

    def __init__(
        self,
        prior: str = "bype",
        arch: str = "vae",
        n_components: int | None = None,
        latent_dim: int | str = "auto",
        likelihood: str = "gaussian",
        recipe: str = "fast",
        max_epochs: int | None = None,
        image_shape: Sequence[int] | None = None,
        n_importance_samples: int = 100,
        device: str = "auto",
        random_state: int | RandomState | None = None,
        verbose: int = 0,
        hidden_dim: int | str = "auto",
        batch_size: int | None = None,
        learning_rate: float | None = None,
        coreset: str = "paper",
        categorical: Sequence[str | int] = (),
        validation_fraction: float = 0.1,
        warm_start: bool = False,
    ) -> None:
        self.prior, self.arch, self.n_components, self.latent_dim = prior, arch, n_components, latent_dim
        self.likelihood, self.recipe, self.max_epochs, self.image_shape = likelihood, recipe, max_epochs, image_shape
        self.n_importance_samples, self.device, self.random_state = n_importance_samples, device, random_state
        self.verbose, self.hidden_dim, self.batch_size = verbose, hidden_dim, batch_size
        self.learning_rate, self.coreset, self.categorical = learning_rate, coreset, categorical
        self.validation_fraction, self.warm_start = validation_fraction, warm_start

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = tags.input_tags.categorical = self.likelihood == "mixed"
        return tags

    # Fitting

    def fit(self, X: object, y: object = None) -> Self:
        """Trains the model. If training is interrupted (Ctrl-C), the best epoch so far is kept.

        Args:
            X: Rows, (n, d): an array, or a pandas or polars data frame.
            y: Ignored.

        Raises:
            InputError: If a value is missing or not finite, or a parameter does not fit.
        """
        whole("n_importance_samples", self.n_importance_samples, 1)
        if not 0 < self.validation_fraction < 1:
            raise InputError(f"validation_fraction: expected above 0 and below 1, got {self.validation_fraction}")
        columns = self._columns(X, reset=True)
        again = self.warm_start and hasattr(self, "model_")
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        n = len(columns[0])
        order = np.random.RandomState(seed).permutation(n)
        held = max(1, round(self.validation_fraction * n)) if n >= 10 else 0
        train, validation = np.sort(order[held:]), np.sort(order[:held] if held else order)
        if not again:
            self.table_ = None if self.image_shape is not None else self._find_table(columns, train)
            self.uint8_ = self.image_shape is not None and columns[0].dtype == np.uint8
        data = self._dataset(columns, train, validation).to(resolve_device(self.device))
        model: VAE = self.model_.float() if again else self._build(data, seed)
        self._train(model, data, seed)
        # Rows of a table are scored in float64: a row's figures then do not depend on the size of the batch.
        self.model_: VAE = model.eval() if self.table_ is None else model.double().eval()
        return self

    def _find_table(self, columns: Sequence[np.ndarray], train: np.ndarray) -> TableSpec:
        names = self._names(len(columns))
        chosen = [c if isinstance(c, str) else names[c] for c in self.categorical]
        return find_columns(columns, names, mixed=self.likelihood == "mixed", categorical=chosen, train=train)

    def _names(self, n: int) -> list[str]:
        names = getattr(self, "feature_names_in_", None)
        return [f"x{i}" for i in range(n)] if names is None else [str(name) for name in names]

    def _dataset(self, columns: Sequence[np.ndarray], train: np.ndarray, validation: np.ndarray) -> Dataset:
        stored = self._stored(columns)
        levels = 256 if stored.dtype == torch.uint8 else None
        own, held = (Images(stored[torch.from_numpy(rows)], levels=levels) for rows in (train, validation))
        return Dataset("X", own, held, held, table=self.table_)

    def _stored(self, columns: Sequence[np.ndarray]) -> Tensor:
        """The rows as a model takes them: float32 images with values in [0, 1], or uint8."""
        if self.table_ is not None:
            rows = torch.from_numpy(self.table_.encode(columns))
            return rows.float().view(-1, *self.table_.shape)
        pixels = np.stack(columns, 1)
        if pixels.dtype != np.uint8:
            if not (pixels.min() >= 0 and pixels.max() <= 1):
                raise InputError(
                    f"X: expected pixels in [0, 1] or uint8, got from {pixels.min():g} to {pixels.max():g}"
                )
            pixels = pixels.astype(np.float32)
        return torch.from_numpy(pixels).view(-1, *self._shape())

    def _shape(self) -> tuple[int, int, int]:
        sides = [whole("image_shape", side, 1) for side in cast(Sequence[int], self.image_shape)]
        shape = (1, *sides) if len(sides) == 2 else tuple(sides)
        if len(shape) != 3 or math.prod(shape) != self.n_features_in_:
            raise InputError(
                f"image_shape: expected (h, w) or (c, h, w) of {self.n_features_in_} features, got {self.image_shape!r}"
            )
        return shape[0], shape[1], shape[2]

    def _build(self, data: Dataset, seed: int) -> VAE:
        if self.likelihood not in LIKELIHOODS:
            raise InputError(f"likelihood: expected one of {', '.join(LIKELIHOODS)}, got {self.likelihood!r}")
        d, n = math.prod(data.shape), len(data.train)
        latent_dim = min(40, max(1, math.ceil(d / 2))) if self.latent_dim == "auto" else self.latent_dim
        hidden_dim = (300 if d >= 64 else 100) if self.hidden_dim == "auto" else self.hidden_dim
        n_components = max(1, min(500, n // 2)) if self.n_components is None else self.n_components
        return build_model(
            data, arch=self.arch, prior=self.prior, likelihood=self.likelihood, coreset=self.coreset, seed=seed,
            n_components=n_components, latent_dim=cast(int, latent_dim), hidden_dim=cast(int, hidden_dim),
        )  # fmt: skip

    def _train(self, model: VAE, data: Dataset, seed: int) -> None:
        given = {"batch_size": self.batch_size, "lr": self.learning_rate}
        if self.max_epochs is not None:
            given["epochs"] = whole("max_epochs", self.max_epochs, 1)
        options = training_options(self.recipe, len(data.train), given)
        options["warmup"] = min(options["warmup"], options["epochs"] // 2)  # of few epochs, most are at beta = 1
        trainer = Trainer(model, data, seed=seed, **options)
        infos: list[EpochInfo] = []
        try:
            while not trainer.finished:  # small tables are expected here: without the trainer's advice on them
                info = trainer.run_epoch()
                infos.append(info)
                if self.verbose:
                    print(f"epoch {info.epoch}  loss {info.loss:.4f}  validation loss {info.val_loss:.4f}", flush=True)
        except KeyboardInterrupt:
            if not infos:
                raise
            message = f"interrupted after {len(infos)} epochs; the best one is kept"
            warnings.warn(message, ConvergenceWarning, stacklevel=3)
        trainer.load_best()
        names = ("epoch", "beta", "loss", "reconstruction", "kl", "val_loss", "seconds")
        self.history_ = {name: [getattr(info, name) for info in infos] for name in names}
        self.n_iter_ = len(infos)

    def _columns(self, X: object, *, reset: bool = False) -> list[np.ndarray]:
        """The columns of X after scikit-learn's checks of its shape and names.

        Raises:
            InputError: If a value is missing, and of `ValueError` or `TypeError` as scikit-learn does.
        """
        least = 2 if reset else 1
        named = frame_columns(X, "X")
        if named is not None:
            frame = list(named.values())
            validate_data(self, X, reset=reset, skip_check_array=True)
            if len(frame[0]) < least:
                raise InputError(f"X: expected at least {least} rows, got {len(frame[0])}")
            if self.image_shape is None:
                return frame
            pixels = np.stack(frame, 1)
            return list(np.ascontiguousarray(check_array(pixels, dtype=_pixel_type(pixels)).T))
        if self.image_shape is not None:
            rows = validate_data(self, X, reset=reset, dtype=_pixel_type(X), ensure_min_samples=least)
            return list(np.ascontiguousarray(rows.T))
        options = {"dtype": None} if self.likelihood == "mixed" else {"dtype": np.float64}
        rows = validate_data(self, X, reset=reset, ensure_min_samples=least, ensure_all_finite=False, **options)
        return list(rows.T)

    # Using the fitted model

    def _rows(self, X: object) -> Tensor:
        """The rows of X, (n, c, h, w), in the model's dtype on its device."""
        check_is_fitted(self, "model_")
        columns = self._columns(X)
        parameter = next(self.model_.parameters())
        if self.table_ is not None:  # in full, and possibly outside [0, 1]
            rows = torch.from_numpy(self.table_.encode(columns)).view(-1, *self.table_.shape)
            return rows.to(parameter)
        stored = self._stored(columns)
        levels = 256 if stored.dtype == torch.uint8 else None
        return Images(stored, levels=levels).scaled().to(parameter)

    def _units(self, images: Tensor) -> np.ndarray:
        """Stored rows in the units of X, (n, d)."""
        rows = images.detach().double().flatten(1).cpu().numpy()
        if self.table_ is None:
            return rows * 256 - 0.5 if self.uint8_ else rows
        columns = self.table_.decode(rows)
        if all(c.dtype.kind in "fiub" for c in columns):
            return np.stack([c.astype(np.float64) for c in columns], 1)
        return np.stack([c.astype(object) for c in columns], 1)

    @fixed_torch_state(grad=False)
    def transform(self, X: object) -> np.ndarray:
        """The latents: means of q(z|x), (n, D)."""
        rows = self._rows(X)
        means = torch.cat([self.model_.encoder(x).loc for x in rows.split(AT_ONCE)])
        return means.cpu().numpy()

    @fixed_torch_state(grad=False)
    def inverse_transform(self, Z: object) -> np.ndarray:
        """The mean row of p(x|z), (n, d), in the units of X; of a categorical column the most probable category."""
        check_is_fitted(self, "model_")
        parameter = next(self.model_.parameters())
        values = torch.from_numpy(np.array(Z, np.float64))
        width = self.model_.encoder.latent_dim
        if values.dim() != 2 or values.shape[1] != width:
            raise InputError(f"Z: expected latents of shape (n, {width}), got {tuple(values.shape)}")
        means = [self.model_.generate(z, sample_lower=False) for z in values.to(parameter).split(AT_ONCE)]
        return self._units(torch.cat(means))

    @fixed_torch_state(grad=False)
    def score_samples(self, X: object) -> np.ndarray:
        r"""The log-likelihood of each row in nats, (n,), in the units of X, by importance weighting.

        .. math:: \log \frac{1}{S} \sum_{s=1}^S \frac{p(x|z_s) p(z_s)}{q(z_s|x)}, \qquad
            z_s = \mu(x) + \sigma(x) \epsilon_s

        The noise is the same for every row: a row's value does not depend on the others.
        """
        rows, model = self._rows(X), self.model_
        generator = torch.Generator(rows.device).manual_seed(Stream.EVALUATION)
        noise = shared_noise(model, self.n_importance_samples, generator)
        with flush_denormals():
            p = model.prior(model.encoder)
            step = max(1, AT_ONCE // self.n_importance_samples)
            scores = [bounds_with(model, x, p, noise)[:, 0] for x in rows.split(step)]
        d = math.prod(rows.shape[1:])
        log_p = in_nats(model, torch.cat(scores), d)
        if self.uint8_ and not model.decoder.likelihood.discrete:
            log_p = log_p - d * math.log(256)  # a pixel of 0 to 255 spans 256 times the range
        return log_p.double().cpu().numpy()

    def score(self, X: object, y: object = None) -> float:
        """The mean log-likelihood of the rows, nats."""
        return float(self.score_samples(X).mean())

    @fixed_torch_state(grad=False)
    def predict(self, X: object) -> np.ndarray:
        """The component of the prior that best explains each row's latent mean, (n,); 0 with the prior `standard`."""
        rows = self._rows(X)
        p = self.model_.prior(self.model_.encoder)
        means = torch.cat([self.model_.encoder(x).loc for x in rows.split(AT_ONCE)])
        if not isinstance(p, NormalMixture):
            return np.zeros(len(means), np.int64)
        scale = p.scale if p.scale.dim() else p.scale.expand(p.loc.shape)
        precision = scale.square().reciprocal()
        constant = p.log_weights - scale.log().sum(1) - 0.5 * (p.loc.square() * precision).sum(1)
        best = [
            (constant + z @ (p.loc * precision).T - 0.5 * z.square() @ precision.T).argmax(1) for z in means.split(2000)
        ]
        return torch.cat(best).cpu().numpy()

    @fixed_torch_state(grad=False)
    def sample(self, n_samples: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """Draws rows from the fitted density, as `GaussianMixture.sample` does.

        Rows of a table are samples of p(x|z); images are its means.

        Returns:
            The rows (n_samples, d) in the units of X, and the component of the prior of each, (n_samples,).
        """
        check_is_fitted(self, "model_")
        n = whole("n_samples", n_samples, 1)
        model = self.model_
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        generator = torch.Generator(next(model.parameters()).device).manual_seed(seed)
        drawn = model.sample(n, generator=generator)
        images = drawn.images
        if self.table_ is not None:
            images = model.decoder(drawn.latents).sample(generator=generator)
        components = np.zeros(n, np.int64) if drawn.components is None else drawn.components.cpu().numpy()
        return self._units(images), components

    @property
    def pseudocoreset_(self) -> Pseudocoreset:
        """The points in the units of X, and their weights.

        Raises:
            AttributeError: If the prior is not `bype`.
        """
        check_is_fitted(self, "model_")
        points = self.model_.prior.pseudocoreset
        if points is None:
            raise AttributeError(f"pseudocoreset_: expected prior 'bype', got {self.prior!r}")
        weights = points.weights.detach().double().cpu().numpy()
        return Pseudocoreset(self._units(points.pseudo_inputs), weights)

    @property
    def _n_features_out(self) -> int:
        return self.model_.encoder.latent_dim

    # Files

    def save(self, path: str | Path) -> None:
        """Writes the fitted estimator to a safetensors file, without pickle.

        With the prior `exemplar` the file holds the training rows too.

        Raises:
            InputError: If the file cannot be written, or `random_state` is not a number.
        """
        check_is_fitted(self, "model_")
        params = {k: list(v) if isinstance(v, tuple) else v for k, v in self.get_params().items()}
        if not (params["random_state"] is None or isinstance(params["random_state"], numbers.Integral)):
            raise InputError("random_state: expected an int or None in an estimator that is saved")
        params["random_state"] = None if params["random_state"] is None else int(params["random_state"])
        tensors = self.model_.state_dict()
        if self.model_.prior.needs_items:
            tensors[ITEMS] = self._training_items()
        names = getattr(self, "feature_names_in_", None)
        about = {
            "params": params, "n_features_in": self.n_features_in_, "uint8": self.uint8_,
            "feature_names_in": None if names is None else [str(name) for name in names],
            "history": self.history_,
        }  # fmt: skip
        write_tensors(expand_path(path), tensors, {"model": self.model_.metadata(), "estimator": about})

    def _training_items(self) -> Tensor:
        prior = self.model_.prior
        rows = torch.arange(cast(int, prior.metadata()["n_data"]), device=next(self.model_.parameters()).device)
        items = prior.points_at(rows)
        assert items is not None
        return items

    @classmethod
    def load(cls, path: str | Path, device: str = "auto") -> Self:
        """Reads an estimator that `save` wrote.

        Raises:
            InputError: If the file is missing, damaged, or not an estimator's.
        """
        tensors, counters = read_tensors(expand_path(path))
        about, stored = counters.get("estimator"), counters.get("model")
        if not isinstance(about, dict) or not isinstance(stored, dict):
            raise InputError(f"{path}: expected a file written by ByPEVAE.save, got another checkpoint")
        estimator = cls(**cast(dict[str, object], about["params"]))  # type: ignore[arg-type]
        items, place = tensors.pop(ITEMS, None), resolve_device(device)
        columns = cast(dict[str, object], stored.get("build", {})).get("table")
        table = None if columns is None else TableSpec.from_json(columns, str(path))

        def training() -> Dataset:
            if items is None:
                raise InputError(f"{path}: expected the training rows of an exemplar prior, got none")
            images = Images(items.float().to(place), checked=True, levels=None)
            return Dataset("X", images, images, images, table=table)

        estimator.model_ = rebuilt(tensors, stored, str(path), place, data=training)
        estimator.table_ = table
        estimator.uint8_, estimator.n_features_in_ = bool(about["uint8"]), int(about["n_features_in"])
        if about["feature_names_in"] is not None:
            estimator.feature_names_in_ = np.array(about["feature_names_in"], object)
        estimator.history_ = cast(dict[str, list[float]], about["history"])
        estimator.n_iter_ = len(estimator.history_["epoch"])
        return estimator
