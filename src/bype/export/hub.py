"""Sharing a model: a folder with safetensors weights and a model card, and the Hugging Face Hub.

The client is the extra `hub`; a local folder needs none. Nothing is pickled, and no code is loaded with a model.
"""

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType

from bype.core.errors import InputError, first_line
from bype.core.files import expand_path, read_json, refuse_foreign, write_json, write_text
from bype.data.coerce import DataLike
from bype.export.cards import Card, card_text
from bype.models.saved import OwnModel
from bype.models.vae import VAE
from bype.runs.loading import load_model
from bype.runs.run import LoadedRun, Run

WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"
FILES = (WEIGHTS, CONFIG, CARD)
LIBRARY = "bype"


def save_pretrained(
    source: VAE | LoadedRun | str | Path,
    folder: str | Path,
    *,
    license: str = "unknown",
    data_license: str | None = None,
    refit: str | None = None,
    name: str | None = None,
    data: DataLike | None = None,
) -> Path:
    """Writes a model as a folder to share: `model.safetensors`, `config.json` and `README.md`, its model card.

    Args:
        source: A model; or a run, as its folder or loaded: then the card has its options, data and recorded figures.
        folder: The folder.
        license: The licence of the model, as an identifier of the Hub such as `mit`.
        data_license: That of the data, in words. If it is not given, the card has the licence that their authors
            publish with them (fashion-mnist), or the address of their source.
        refit: The name of a refit of the run, whose prior replaces the trained one.
        name: The title of the card, such as the name on the Hub.
        data: Where the data of the run are now, if they have moved and its prior is made of them.

    Returns:
        The folder.

    Raises:
        InputError: If the run or the refit cannot be loaded, the licence is no identifier, or a file cannot be written.
        RunExistsError: If the folder holds files of these names that are not from an earlier call.
    """
    model, run = _loaded(source, refit, data)
    card = card_text(model, Card(license, data_license, run, name), refit=refit)
    out = expand_path(folder)
    refuse_foreign(out, FILES, own=_is_shared_model(out))
    write_json(out / CONFIG, {"library_name": LIBRARY, "model": model.metadata()})  # it identifies the folder
    model.save(out / WEIGHTS)
    write_text(out / CARD, card)
    return out


def from_pretrained(
    name: str | Path,
    *,
    revision: str | None = None,
    device: str = "auto",
    data: DataLike | None = None,
    model: OwnModel | None = None,
) -> VAE:
    """Loads a shared model, in `eval` mode, from a folder of `save_pretrained` or from the Hugging Face Hub.

    Only `model.safetensors`, `config.json` and the card are fetched, and kept in the Hub's own cache; a model that is
    there is found without a network (`HF_HUB_OFFLINE=1`).

    Args:
        name: A folder; or a name on the Hub, USER/MODEL.
        revision: A branch, tag or commit of the Hub.
        device: `auto`, `cpu` or `cuda`.
        data: The training data, in any form that `bype.train` takes, which an exemplar prior needs.
        model: For networks of the user's own, a model of the same classes, or a function that builds one.

    Raises:
        InputError: If there is no such folder or model, the Hub cannot be reached, the extra `hub` is missing, or the
            file is damaged or of networks that bype does not know.
    """
    folder = expand_path(name)
    if not folder.is_dir():
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", str(name)) or str(name).startswith((".", "~")):
            raise InputError(f"{name}: expected a folder, or a name on the Hub as USER/MODEL, got neither")
        folder = _fetched(str(name), revision)
    if not (folder / WEIGHTS).is_file():
        raise InputError(f"{name}: expected {WEIGHTS} in it, got none; bype reads no other file of weights")
    return load_model(folder / WEIGHTS, device, model=model, data=data)


def push_to_hub(
    source: VAE | LoadedRun | str | Path,
    name: str,
    *,
    license: str = "unknown",
    data_license: str | None = None,
    refit: str | None = None,
    private: bool = True,
    revision: str | None = None,
    token: str | None = None,
) -> str:
    """Uploads a model with its card to the Hugging Face Hub, as one commit; a new model is created, private by default.

    Args:
        source: A model or a run, as for `save_pretrained`.
        name: The name on the Hub, USER/MODEL.
        license: The licence of the model.
        data_license: That of the data.
        refit: The name of a refit of the run.
        private: Whether a new model is private; an existing one is left as it is.
        revision: A branch.
        token: An access token; by default the one that the client has stored.

    Returns:
        The address of the commit.

    Raises:
        InputError: If the extra `hub` is missing, the Hub cannot be reached or refuses, or as `save_pretrained`.
    """
    hub = _client()
    with tempfile.TemporaryDirectory() as temporary:
        folder = save_pretrained(
            source, Path(temporary) / "model", license=license, data_license=data_license, refit=refit, name=name
        )
        with _said_in_one_line(name):
            api = hub.HfApi(token=token, library_name=LIBRARY)
            api.create_repo(name, private=private, exist_ok=True)
            message = "Upload a model of bype"
            commit = api.upload_folder(repo_id=name, folder_path=folder, revision=revision, commit_message=message)
    return str(commit.commit_url)


def _loaded(
    source: VAE | LoadedRun | str | Path, refit: str | None, data: DataLike | None
) -> tuple[VAE, LoadedRun | None]:
    if isinstance(source, str | Path):
        source = Run.open(source).load("cpu", refit, data=data)
    elif refit is not None:
        raise InputError("refit: expected the folder of a run as source; a loaded run or model has its prior already")
    return (source.model, source) if isinstance(source, LoadedRun) else (source, None)


def _is_shared_model(folder: Path) -> bool:
    return (folder / CONFIG).exists() and read_json(folder / CONFIG).get("library_name") == LIBRARY


def _fetched(name: str, revision: str | None) -> Path:
    hub = _client()
    with _said_in_one_line(name):
        return Path(hub.snapshot_download(name, revision=revision, allow_patterns=list(FILES)))


def _client() -> ModuleType:
    """The package huggingface_hub, which is imported only where it is needed."""
    try:
        return import_module("huggingface_hub")
    except ImportError:
        raise InputError("the Hub: needs huggingface_hub: pip install 'bype[hub]'") from None


@contextmanager
def _said_in_one_line(name: str) -> Iterator[None]:
    """Turns the client's errors into one line."""
    errors = import_module("huggingface_hub.errors")
    try:
        yield
    except errors.OfflineModeIsEnabled:
        raise InputError(f"{name}: HF_HUB_OFFLINE is set, so that nothing can be sent to the Hub or asked") from None
    except errors.LocalEntryNotFoundError as e:
        offline = import_module("huggingface_hub.constants").HF_HUB_OFFLINE
        why = "HF_HUB_OFFLINE is set" if offline else f"the Hub cannot be reached ({first_line(e)})"
        raise InputError(f"{name}: not in the Hub's cache on this machine, and {why}") from None
    except errors.GatedRepoError:
        raise InputError(f"{name}: access must be granted by its owner first") from None
    except errors.RepositoryNotFoundError:
        raise InputError(f"{name}: no such model on the Hub, or it is private; log in with `hf auth login`") from None
    except errors.HFValidationError as e:
        raise InputError(f"{name}: expected a name on the Hub as USER/MODEL ({first_line(e)})") from None
    except (errors.HfHubHTTPError, errors.LocalTokenNotFoundError, OSError) as e:
        raise InputError(f"{name}: the Hub cannot be used ({first_line(e)})") from None
