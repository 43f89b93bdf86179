"""Items for the model of a run, as commands take them."""

from collections.abc import Sequence

from bype.core.errors import InputError
from bype.data.catalog import PUBLISHED
from bype.data.items import ItemReader, Items, named_items
from bype.runs.run import LoadedRun


def read_items(loaded: LoadedRun, items: Sequence[str], *, resize: bool = False, split: str | None = None) -> Items:
    """Reads items as the images that a run's model takes, checked to fit it (`bype.data.items.ItemReader.read`).

    The run's data are read only for an index or a split of them. Image files are resized if those of the run were.

    Args:
        loaded: The run.
        items: Test indices, names of published sets, and paths of image files, folders, zips, .npy and .npz files; for
            a run of a table, paths of tables.
        resize: Crop image files at the centre and scale them to the model's size.
        split: Of sets and files of arrays only this split: `train`, `validation`, `test` or `all`.

    Raises:
        InputError: If an item is not found, cannot be used, or does not fit the model.
    """
    found = _reader(loaded).read(items, resize=resize, split=split)
    loaded.model.check_images(found.images)
    return found


def read_upload(loaded: LoadedRun, content: bytes, name: str) -> Items:
    """Reads the content of one image file as the images that a run's model takes, resized to their size.

    Args:
        loaded: The run.
        content: The bytes of the file.
        name: Its name.

    Raises:
        InputError: If it is not an image, or does not fit the model.
    """
    found = _reader(loaded).decode(content, name)
    loaded.model.check_images(found.images)
    return found


def _reader(loaded: LoadedRun) -> ItemReader:
    config, spec = loaded.run.config, loaded.model.input_spec
    return ItemReader(
        spec.shape,
        spec.levels,
        own=lambda: loaded.data,
        device=loaded.device,
        set_=config.set,
        reading=config.reading,
        data_dir=config.data_dir,
        table=spec.table,
    )


def one_item(loaded: LoadedRun, item: str, option: str, *, resize: bool = False) -> Items:
    """One image: of a file, or the test image of an index; a file of one row is one item too.

    Raises:
        InputError: As `read_items`, or if there are several; `option` names what was given.
    """
    try:
        found = read_items(loaded, [item], resize=resize)
    except InputError as e:
        raise InputError(f"{option}: {e}") from None
    if len(found) != 1:
        raise InputError(f"{option}: expected one image, got {len(found)} in {item}")
    return found


def chosen_items(loaded: LoadedRun, items: Sequence[str] | None, *, resize: bool, split: str | None) -> Items:
    """The items that are named, or else the images of a split of the run's own data, by default the test images.

    Raises:
        InputError: As `read_items`.
    """
    own = own_split(loaded, items, split)
    return own_items(loaded, own) if own else read_items(loaded, items or (), resize=resize, split=split)


def own_split(loaded: LoadedRun, items: Sequence[str] | None, split: str | None) -> str | None:
    """The split of the run's own data that items mean: by default the test split; None if they mean something else."""
    if not items:
        return split or "test"
    if list(items) != [loaded.run.config.set]:
        return None
    return split or ("test" if items[0] in PUBLISHED else None)  # all of a file of the user's own, in its order


def own_items(loaded: LoadedRun, split: str) -> Items:
    """The images of a split of the run's own data, with their names.

    Raises:
        InputError: If there is no such split, or the data are not found.
    """
    return named_items(loaded.data, loaded.run.config.set, split, slice(None))
