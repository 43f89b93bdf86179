"""Files that are whole or not there: each is written beside its place, flushed to disk, then moved."""

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bype.core.errors import InputError, RunExistsError


def expand_path(name: str | Path) -> Path:
    """A path, its `~` or `~user` as that home where there is one; `Path.expanduser` raises where there is none."""
    return Path(os.path.expanduser(name))


def write(path: Path, fill: Callable[[Path], None]) -> None:
    """Lets `fill` write a temporary file in the same folder, flushes it and moves it to `path`.

    Raises:
        InputError: If the folder cannot be written or the disk is full; what was at `path` is then still there.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        fill(temporary)
        temporary.chmod(0o666 & ~_umask())
        with temporary.open("rb") as f:
            os.fsync(f.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as e:
        raise InputError(f"{path}: expected to write it, got {e.strerror or e}") from None
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


@contextmanager
def locked(path: Path, busy: str | None = None) -> Iterator[None]:
    """Holds a file, made if need be, or a folder for this process; the system lets go of it when the process ends.

    Args:
        path: The file or folder.
        busy: What to refuse with where another process holds it; None waits for it.

    Raises:
        RunExistsError: If another process holds it, in the words of `busy`.
        InputError: If it cannot be opened.
    """
    import fcntl

    try:
        handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as e:
        raise InputError(f"{path}: expected to write it, got {e.strerror}") from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (fcntl.LOCK_NB if busy else 0))
        except BlockingIOError:
            raise RunExistsError(busy) from None
        yield
    finally:
        os.close(handle)


def is_partial(path: Path) -> bool:
    """Whether a file is one that `write` had not finished when its process was killed."""
    return path.name.startswith(".") and path.name.endswith(".part")


def remove_partial(folder: Path) -> None:
    """Removes what killed processes left unfinished; only for who holds the folder's lock."""
    for path in folder.iterdir():
        if is_partial(path):
            path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a text file whole."""

    def fill(temporary: Path) -> None:
        temporary.write_text(text, encoding="utf-8")

    write(path, fill)


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file whole; a NaN or infinity is refused, for JSON has none."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
        InputError: If the file is missing or holds no JSON object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as e:
        raise InputError(f"{path}: expected a JSON file, got {_reason(e)}") from None
    if not isinstance(value, dict):
        raise InputError(f"{path}: expected a JSON object, got {type(value).__name__}")
    return value


def _reason(e: Exception) -> str:
    return (e.strerror if isinstance(e, OSError) else None) or type(e).__name__ + f" ({e})"


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
