"""Paths, locks, and atomic file writes: temporary file, fsync, rename."""

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bype.core.errors import InputError, RunExistsError, first_line


def expand_path(name: str | Path) -> Path:
    """A path with `~` or `~user` expanded; unchanged if there is no such home, where `Path.expanduser` raises."""
    return Path(os.path.expanduser(name))


def resolve_path(name: str | Path) -> str:
    """A path as text, absolute, with `~` expanded and symbolic links followed."""
    return str(expand_path(name).resolve())


def write(path: Path, fill: Callable[[Path], None]) -> None:
    """Lets `fill` write a temporary file in the same folder, flushes it to disk and renames it to `path`.

    Raises:
        InputError: If the folder cannot be written or the disk is full; the file at `path`, if any, is then unchanged.
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
        raise InputError(f"{path}: cannot be written ({e.strerror or e})") from None
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


@contextmanager
def locked(path: Path, busy: str | None = None) -> Iterator[None]:
    """Locks a file, created if necessary, or a folder for this process; the lock is released when the process ends.

    Args:
        path: The file or folder.
        busy: The message of the error that is raised if another process holds the lock; None waits for the lock.

    Raises:
        RunExistsError: If another process holds the lock.
        InputError: If the file or folder cannot be opened.
    """
    import fcntl

    try:
        handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as e:
        raise InputError(f"{path}: cannot be written ({e.strerror})") from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (fcntl.LOCK_NB if busy else 0))
        except BlockingIOError:
            raise RunExistsError(busy) from None
        yield
    finally:
        os.close(handle)


def is_partial(path: Path) -> bool:
    """Whether this is a temporary file of `write`, left behind if its process was killed."""
    return path.name.startswith(".") and path.name.endswith(".part")


def remove_partial(folder: Path) -> None:
    """Removes the temporary files of killed processes. The caller must hold the folder's lock."""
    for path in folder.iterdir():
        if is_partial(path):
            path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a text file atomically."""

    def fill(temporary: Path) -> None:
        temporary.write_text(text, encoding="utf-8")

    write(path, fill)


def write_json(path: Path, value: object) -> None:
    """Writes a JSON file atomically; NaN and infinity, which JSON lacks, raise a ValueError."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
        InputError: If the file cannot be read or its content is not a JSON object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as e:
        raise InputError(f"{path}: cannot be read as JSON ({_reason(e)})") from None
    if not isinstance(value, dict):
        raise InputError(f"{path}: expected a JSON object, got {type(value).__name__}")
    return value


def _reason(e: Exception) -> str:
    return (e.strerror if isinstance(e, OSError) else None) or first_line(e)


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
