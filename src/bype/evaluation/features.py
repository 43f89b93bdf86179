"""Features of images, in which samples are compared with real images."""

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
import torch
from torch import Tensor

from bype.core.errors import InputError
from bype.core.sampling import random_subset
from bype.core.seeds import Stream
from bype.core.torch_state import fixed_torch_state
from bype.data.images import Dataset, Images
from bype.evaluation.classifier import ClassifierOptions, error_rate, train_classifier
from bype.evaluation.inception import inception_features

FEATURES = ("pca", "classifier", "inception")
#: Of `pca`: the number of directions, and of training images that they are fitted on, at most.
PCA_DIRECTIONS, PCA_IMAGES = 64, 5000
#: The classifier of `classifier`.
CLASSIFIER: Final = ClassifierOptions(epochs=10, hidden_dim=256)
BATCH_SIZE = 500


class Features:
    """A fitted map from images to features.

    Args:
        function: Maps pixels in [0, 1], (B, c, h, w), to features (B, d).
        figures: What is reported of it.
    """

    def __init__(self, function: Callable[[Tensor], Tensor], figures: Mapping[str, float] | None = None) -> None:
        self._function, self.figures = function, dict(figures or {})

    @fixed_torch_state(grad=False)
    def __call__(self, images: Images) -> Tensor:
        """The features of images, (n, d), on the CPU."""
        return torch.cat([self._function(x).cpu() for x in images.batches(BATCH_SIZE)])


def fit_features(name: str, data: Dataset, seed: int = 0) -> Features:
    """Fits features on training images.

    `pca`: the projection of the centred pixels on the first 64 principal directions of at most 5,000 training images,
    not whitened. `classifier`: the last hidden layer, 256 units, of an MLP trained for 10 epochs on the labelled
    training images. `inception`: the 2,048 features of torch-fidelity's InceptionV3, trained on ImageNet; grey images
    are repeated in three channels.

    Args:
        name: `pca`, `classifier` or `inception`.
        data: The data; the features are fitted on its training images. The validation images only give the accuracy of
            the classifier.
        seed: Seed of the choice of images and of the classifier.

    Raises:
        InputError: If the name is unknown, the data have no labels (`classifier`), or torch-fidelity or its weights are
            missing (`inception`).
    """
    if name not in FEATURES:
        raise InputError(f"features: expected one of {', '.join(FEATURES)}, got {name!r}")
    if name == "pca":
        return _pca(data, seed)
    if name == "classifier":
        return _classifier(data, seed)
    return Features(inception_features(data.train.pixels.device))


def _pca(data: Dataset, seed: int) -> Features:
    from sklearn.decomposition import PCA

    generator = torch.Generator().manual_seed(seed + Stream.QUALITY)
    rows = random_subset(len(data.train), min(PCA_IMAGES, len(data.train)), generator).sort().values
    x = data.train.scaled(rows.to(data.train.pixels.device)).flatten(1).cpu().numpy()
    fitted = PCA(min(PCA_DIRECTIONS, *x.shape), svd_solver="randomized", random_state=0).fit(x)
    mean, directions = (torch.from_numpy(np.asarray(a, np.float64)) for a in (fitted.mean_, fitted.components_.T))
    return Features(lambda images: (images.flatten(1).cpu().double() - mean) @ directions)


def _classifier(data: Dataset, seed: int) -> Features:
    classifier = train_classifier(
        data, options=ClassifierOptions(epochs=CLASSIFIER.epochs, hidden_dim=CLASSIFIER.hidden_dim, seed=seed)
    )
    accuracy = 100 - error_rate(classifier, data.validation, data.name)
    return Features(classifier.features, {"quality_classifier_accuracy": accuracy})
