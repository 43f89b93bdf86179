"""Paths, and atomic file writes: temporary file, fsync, rename."""

import csv
import errno
import io
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from bype.core.errors import InputError, RunExistsError, first_line

#: Errors of file systems that cannot flush; what they have written is as safe as they make it.
NO_FLUSH = (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


def expand_path(name: str | Path) -> Path:
    """A path with `~` or `~user` expanded; unchanged if there is no such home, where `Path.expanduser` raises."""
    return Path(os.path.expanduser(name))


def resolve_path(name: str | Path) -> str:
    """A path as text, absolute, with `~` expanded and symbolic links followed."""
    return str(expand_path(name).resolve())


def write(path: Path, fill: Callable[[Path], None]) -> None:
    """Lets `fill` write a temporary file in the same folder, flushes it to disk and renames it to `path`.

    A symbolic link at `path` stays, and the file that it points to is written.

    Raises:
        InputError: If the folder cannot be written or the disk is full; the file at `path`, if any, is then unchanged.
    """
    temporary, target = None, Path(os.path.realpath(path)) if path.is_symlink() else path
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
        os.close(handle)
        temporary = Path(name)
        fill(temporary)
        with suppress(OSError):  # some mounts set the mode of all files
            temporary.chmod(0o666 & ~_umask())
        with temporary.open("r+b") as f:
            flush(f.fileno())
        temporary.replace(target)
        _sync_folder(target.parent)
    except OSError as e:
        raise InputError(f"{path}: cannot be written ({e.strerror or e})") from None
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def refuse_foreign(folder: Path, names: Sequence[str], *, own: bool) -> None:
    """Checks that writing files to a folder replaces none but those of an earlier export.

    Args:
        folder: The folder.
        names: The names of the files.
        own: Whether the folder has the mark of an earlier export.

    Raises:
        RunExistsError: If it has files of these names and not the mark.
    """
    existing = [name for name in names if (folder / name).exists()]
    if existing and not own:
        raise RunExistsError(
            f"{folder / existing[0]}: exists and is not from an earlier export; remove it, or choose another folder"
        )


def flush(handle: int) -> None:
    """Flushes an open file or folder to disk, if its file system can."""
    try:
        os.fsync(handle)
    except OSError as e:
        if e.errno not in NO_FLUSH:
            raise


def is_partial(path: Path) -> bool:
    """Whether this is a temporary file of `write`, left behind if its process was killed."""
    return path.name.startswith(".") and path.name.endswith(".part")


def remove_partial(folder: Path) -> None:
    """Removes the temporary files of killed processes. The caller must hold the folder's lock."""
    for path in folder.iterdir():
        if is_partial(path):
            path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a text file atomically; bytes in names that are not UTF-8 are escaped."""

    def fill(temporary: Path) -> None:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace", newline="")

    write(path, fill)


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Writes a table in UTF-8 atomically, separated by commas; cells are quoted where they need it."""
    lines = io.StringIO()
    table = csv.writer(lines, lineterminator="\n")
    table.writerow(header)
    table.writerows(rows)
    write_text(path, lines.getvalue())


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
    """Flushes the entry of a new file to disk; passed over if the folder cannot be opened, as on Windows."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        flush(handle)
    finally:
        os.close(handle)
