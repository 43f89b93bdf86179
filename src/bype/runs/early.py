"""Runs of the first versions, whose files do not describe their model."""

from collections.abc import Mapping

from torch import Tensor

from bype.core.config import Config
from bype.data.catalog import PUBLISHED
from bype.models.description import Description, used_options

#: The priors whose tensors say what `config.json` does not.
PRIORS = ("standard", "vamp", "bype")


def early_description(config: Config, tensors: Mapping[str, Tensor]) -> Description | None:
    """The description of a model from the options of its run and its tensors; None if they do not tell enough.

    The shape of an image is that of a published set, of the pseudo-inputs, or of a scale per pixel; N is the sum of the
    weights of a pseudocoreset, and matters to no other prior here.

    Args:
        config: The options.
        tensors: The state dict of the model.
    """
    points, scale = tensors.get("prior.pseudo_inputs"), tensors.get("decoder.likelihood.raw_scale")
    known = PUBLISHED.get(config.set)
    if known is not None:
        shape = list(known.shape)
    elif points is not None:
        shape = list(points.shape[1:])
    elif scale is not None and scale.dim() == 3:
        shape = list(scale.shape)
    else:
        return None
    if config.prior not in PRIORS:
        return None
    weights = tensors.get("prior.weights")
    m = 2 if points is None else len(points)
    options = used_options(config.to_dict())
    return {
        "options": options | ({} if points is None else {"n_components": m}),
        "shape": shape,
        "levels": 256 if known is None else known.levels,
        "n_train": m if weights is None else max(m, round(weights.double().sum().item())),
    }
