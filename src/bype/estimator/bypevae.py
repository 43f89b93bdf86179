"""The estimator."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Self, cast

import numpy as np
import torch
from numpy.random import RandomState
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, DensityMixin, TransformerMixin
from sklearn.utils import Tags, check_random_state
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from bype.core.devices import resolve_device
from bype.core.display import as_html
from bype.core.errors import InputError
from bype.core.names import LIKELIHOODS
from bype.core.numbers import whole
from bype.core.torch_state import fixed_torch_state
from bype.data.images import Dataset
from bype.data.tables import TableSpec, find_columns
from bype.estimator.density import AT_ONCE, components, latent_means, log_likelihoods
from bype.estimator.files import Saved, read_estimator, write_estimator
from bype.estimator.fitting import Names, continued, held_out, sizes_for, train
from bype.estimator.rows import RowFormat, checked_columns, image_shape_of
from bype.models.build import build_model
from bype.models.generation import sample_rows
from bype.models.vae import VAE


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
        verbose: Print each epoch, if above 0; in a notebook as a bar.

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

    def _html_repr(self) -> str:
        """scikit-learn's diagram, and below it the fitted model."""
        shown: str = super()._html_repr()
        return shown + as_html(self.model_.card()) if hasattr(self, "model_") else shown

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
        rows, held = held_out(len(columns[0]), self.validation_fraction, seed)
        if not again:
            self.table_ = None if self.image_shape is not None else self._find_table(columns, rows)
        self.uint8_ = self.image_shape is not None and columns[0].dtype == np.uint8
        data = self._format().dataset(columns, rows, held).to(resolve_device(self.device))
        model = self._build(data, seed, again=again)
        self.history_ = train(
            model, data, recipe=self.recipe, epochs=self.max_epochs, batch_size=self.batch_size,
            lr=self.learning_rate, seed=seed, verbose=self.verbose,
        )  # fmt: skip
        self.n_iter_ = len(self.history_["epoch"])
        # Rows of a table are scored in float64: a row's figures then do not depend on the size of the batch.
        self.model_: VAE = model.eval() if self.table_ is None else model.double().eval()
        return self

    def _columns(self, X: object, *, reset: bool = False) -> list[np.ndarray]:
        return checked_columns(
            self, X, images=self.image_shape is not None, mixed=self.likelihood == "mixed", reset=reset
        )

    def _find_table(self, columns: Sequence[np.ndarray], rows: np.ndarray) -> TableSpec:
        given = getattr(self, "feature_names_in_", None)
        names = [f"x{i}" for i in range(len(columns))] if given is None else [str(name) for name in given]
        chosen = [c if isinstance(c, str) else names[c] for c in self.categorical]
        return find_columns(columns, names, mixed=self.likelihood == "mixed", categorical=chosen, train=rows)

    def _format(self) -> RowFormat:
        if self.table_ is not None:
            return RowFormat(self.table_.shape, self.table_, uint8=False)
        shape = image_shape_of(cast(Sequence[int], self.image_shape), self.n_features_in_)
        return RowFormat(shape, None, self.uint8_)

    def _build(self, data: Dataset, seed: int, *, again: bool) -> VAE:
        if self.likelihood not in LIKELIHOODS:
            raise InputError(f"likelihood: expected one of {', '.join(LIKELIHOODS)}, got {self.likelihood!r}")
        names: Names = {"arch": self.arch, "prior": self.prior, "likelihood": self.likelihood, "coreset": self.coreset}
        if again:
            return continued(self.model_, data, names, seed)
        sizes = sizes_for(data, n_components=self.n_components, latent_dim=self.latent_dim, hidden_dim=self.hidden_dim)
        return build_model(data, **names, **sizes, seed=seed)

    # Using the fitted model

    def _rows(self, X: object) -> Tensor:
        """The rows of X, (n, c, h, w), in the model's dtype on its device."""
        check_is_fitted(self, "model_")
        return self._format().inputs(self._columns(X), next(self.model_.parameters()))

    @fixed_torch_state(grad=False)
    def transform(self, X: object) -> np.ndarray:
        """The latents: means of q(z|x), (n, D)."""
        return latent_means(self.model_, self._rows(X)).cpu().numpy()

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
        return self._format().units(torch.cat(means))

    @fixed_torch_state(grad=False)
    def score_samples(self, X: object) -> np.ndarray:
        r"""The log-likelihood of each row in nats, (n,), in the units of X, by importance weighting.

        .. math:: \log \frac{1}{S} \sum_{s=1}^S \frac{p(x|z_s) p(z_s)}{q(z_s|x)}, \qquad
            z_s = \mu(x) + \sigma(x) \epsilon_s

        The noise is the same for every row: a row's value does not depend on the others.
        """
        rows, model = self._rows(X), self.model_
        log_p = log_likelihoods(model, rows, self.n_importance_samples)
        if self.uint8_ and not model.decoder.likelihood.discrete:
            log_p = log_p - math.prod(rows.shape[1:]) * math.log(256)  # 0 to 255 spans 256 times the range
        return log_p.cpu().numpy()

    def score(self, X: object, y: object = None) -> float:
        """The mean log-likelihood of the rows, nats."""
        return float(self.score_samples(X).mean())

    @fixed_torch_state(grad=False)
    def predict(self, X: object) -> np.ndarray:
        """The component of the prior that best explains each row's latent mean, (n,); 0 with the prior `standard`."""
        rows = self._rows(X)
        return components(self.model_, rows)

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
            images = sample_rows(model, drawn.latents, generator=generator)
        chosen = np.zeros(n, np.int64) if drawn.components is None else drawn.components.cpu().numpy()
        return self._format().units(images), chosen

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
        return Pseudocoreset(self._format().units(points.pseudo_inputs), weights)

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
        names = getattr(self, "feature_names_in_", None)
        names = None if names is None else [str(name) for name in names]
        saved = Saved(
            self.get_params(), self.model_, self.table_, self.uint8_, self.n_features_in_, names, self.history_
        )
        write_estimator(path, saved)

    @classmethod
    def load(cls, path: str | Path, device: str = "auto") -> Self:
        """Reads an estimator that `save` wrote.

        Raises:
            InputError: If the file is missing, damaged, or not an estimator's.
        """
        saved = read_estimator(path, device)
        estimator = cls(**saved.params)  # type: ignore[arg-type]
        estimator.model_, estimator.table_, estimator.uint8_ = saved.model, saved.table, saved.uint8
        estimator.n_features_in_, estimator.history_ = saved.n_features_in, saved.history
        if saved.feature_names_in is not None:
            estimator.feature_names_in_ = np.array(saved.feature_names_in, object)
        estimator.n_iter_ = len(estimator.history_["epoch"])
        return estimator
