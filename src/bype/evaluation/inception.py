"""The features of torch-fidelity's InceptionV3, whose weights are downloaded once and never unpickled as objects."""

import hashlib
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from bype.core.errors import InputError, first_line

#: The extra that installs what the features need.
EXTRA = "pip install 'bype[quality]'"


def inception_features(device: torch.device) -> Callable[[Tensor], Tensor]:
    """A function from pixels in [0, 1], (B, c, h, w), to the 2,048 features (B, 2048) of torch-fidelity's InceptionV3.

    Raises:
        InputError: If torch-fidelity or a library that it needs is missing, or its weights are not here and cannot be
            downloaded.
    """
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3, FeatureExtractorInceptionV3
    except ModuleNotFoundError as e:
        missing = (e.name or "torch_fidelity").partition(".")[0]
        raise InputError(
            f"features inception: {missing} is not installed; {EXTRA} installs it, or use pca or classifier"
        ) from None
    except (ImportError, RuntimeError) as e:  # torchvision made for another build of torch
        raise InputError(
            f"features inception: torch-fidelity cannot be imported ({first_line(e)}); torchvision must be of the same "
            "index as torch, or use pca or classifier"
        ) from None
    state = read_weights(weights_file(URL_INCEPTION_V3))
    with tempfile.TemporaryDirectory() as folder:  # torch-fidelity unpickles what it reads: it gets tensors alone
        place = Path(folder) / "weights.pth"
        torch.save(state, place)
        extractor = FeatureExtractorInceptionV3(
            "inception-v3-compat", ["2048"], feature_extractor_weights_path=str(place)
        ).to(device)

    def function(images: Tensor) -> Tensor:
        stored = (images[:, :3] * 255).round().byte()
        (found,) = extractor(stored.expand(-1, 3, -1, -1) if stored.shape[1] == 1 else stored)
        return found.float()

    return function


def weights_file(url: str) -> Path:
    """The file of weights in torch's cache, downloaded if it is not there; its name has the start of its SHA-256.

    Raises:
        InputError: If it cannot be downloaded, or the file is another one than its name says.
    """
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if not path.is_file():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), progress=False)
        except Exception as e:  # urllib's, the system's and torch's own errors have no common class
            raise InputError(
                f"features inception: the weights cannot be downloaded ({first_line(e)}); save {url} as {path}, or use "
                "pca or classifier"
            ) from None
    start = re.findall(r"-([0-9a-f]{8,})\.", path.name)
    with path.open("rb") as f:
        found = hashlib.file_digest(f, "sha256").hexdigest()
    if not start or not found.startswith(start[-1]):
        raise InputError(f"{path}: expected the SHA-256 that its name has, got {found[:8]}; remove the file")
    return path


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a file of torch by their names, without unpickling anything else.

    Raises:
        InputError: If the file is damaged, or holds anything but tensors.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as e:  # pickle's, zipfile's and torch's errors have no common class
        raise InputError(f"{path}: expected weights, tensors alone, got another file ({first_line(e)})") from None
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise InputError(f"{path}: expected weights, tensors by their names, got {type(state).__name__}")
    return state
