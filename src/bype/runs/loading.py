"""Loading a trained model by its path."""

from pathlib import Path

from bype.core.devices import resolve_device
from bype.core.files import expand_path
from bype.data.coerce import DataLike, as_dataset
from bype.data.images import Dataset
from bype.models.saved import OwnModel, load_saved
from bype.models.vae import VAE
from bype.runs.run import Run


def load_model(
    path: str | Path, device: str = "auto", *, model: OwnModel | None = None, data: DataLike | None = None
) -> VAE:
    """Loads the model of a run folder, or of a file written by `VAE.save`, in `eval` mode.

    The file says how to build the model, so that neither data nor code are needed; nothing in it is imported or
    unpickled. There are two exceptions. An exemplar prior is made of the training items, which are not saved: those of
    a run are read from where they were, or from `data`. Networks of the user's own are given as `model`, or registered.

    Args:
        path: A run folder, whose best model is loaded, or a file.
        device: `auto`, `cpu` or `cuda`.
        model: For networks of the user's own, a model of the same classes and sizes, whose tensors are replaced, or a
            function that builds one for a data set, if it is not registered (`bype.register_model`).
        data: The data that the model was trained on, in any form that `bype.train` takes, if they are needed and have
            moved.

    Raises:
        InputError: If there is no such file, it is damaged, it is of networks that are not bype's and no `model` is
            given, or its prior needs data that are not found.
    """
    where = expand_path(path)
    if where.is_dir():
        return Run.open(where).load(device, data=data, model=model).model
    target = resolve_device(device)

    def given() -> Dataset:
        assert data is not None
        return as_dataset(data).to(target)

    return load_saved(where, target, model=model, data=None if data is None else given)
