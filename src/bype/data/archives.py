"""Opening files and zip archives that may be damaged or hostile."""

import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from bype.core.errors import InputError, first_line

BOMB_BYTES, BOMB_RATIO = 2**26, 500  # a zip of this size and compression ratio is rejected as a bomb


def opened(path: Path) -> IO[bytes]:
    """Opens a regular file for reading; anything else is rejected, since a pipe might never end.

    Raises:
        InputError: If there is no such file, or it cannot be read.
    """
    try:
        if path.exists() and not path.is_file():
            raise InputError(f"{path}: expected a file, got a folder or a device")
        return path.open("rb")
    except OSError as e:
        raise InputError(f"{path}: cannot be read: {e.strerror}") from None


def archive(stream: IO[bytes], where: str) -> zipfile.ZipFile:
    """Opens a zip for reading.

    Raises:
        InputError: If it is not a zip, or has members that are not safe to read.
    """
    try:
        packed = zipfile.ZipFile(stream)
    except Exception as e:  # zipfile raises many kinds of error on a damaged file
        raise InputError(f"{where}: expected a zip, got a damaged file ({first_line(e)})") from None
    seen = set()
    for info in packed.infolist():
        stored = info.orig_filename  # zipfile ends `filename` at a zero byte
        parts = stored.replace("\\", "/").split("/")
        if not info.filename or not parts[0] or ".." in parts or ":" in parts[0] or "\0" in stored:
            raise InputError(f"{where}: expected names inside the archive, got {stored!r}")
        if (name := member_name(info)) in seen:
            raise InputError(f"{where}: expected each name once, got {name!r} twice")
        if info.flag_bits & 1:
            raise InputError(f"{where}: expected an archive without a password, got {info.filename!r} encrypted")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise InputError(
                f"{where}: expected members stored or deflated, got another compression of {info.filename!r}"
            )
        seen.add(name)
    return packed


def normal_name(name: str) -> str:
    """A name inside a folder or an archive with slashes between its parts, also if it was written with backslashes.

    >>> normal_name("cats\\\\1.png"), normal_name("./cats//1.png")
    ('cats/1.png', 'cats/1.png')
    """
    text = name.replace("\\", "/")
    parts = [part for part in text.split("/") if part not in ("", ".")]
    return "/".join(parts) + ("/" if text.endswith("/") else "")


def member_name(info: zipfile.ZipInfo) -> str:
    """The name of a member, as `normal_name` writes it; it ends in a slash if the member is a folder."""
    return normal_name(info.filename)


def check_bombs(members: Sequence[zipfile.ZipInfo], where: str) -> None:
    """Rejects members whose compression ratio is that of a zip bomb, alone or together."""
    packed, size = sum(m.compress_size for m in members), sum(m.file_size for m in members)
    if size > BOMB_BYTES and size > BOMB_RATIO * packed:
        raise InputError(f"{where}: expected data, got a zip bomb: {packed} bytes that unpack to {size}")


def check_room(size: int, where: str) -> None:
    """Rejects data that would fill more than half of the machine's memory, where the system states it."""
    try:
        room = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, OSError, ValueError):  # not on this system
        return
    if size > room:
        raise InputError(
            f"{where}: expected at most {room / 1e9:.1f} GB, half of this machine's memory, got {size / 1e9:.1f} GB; "
            "a .npy can be memory-mapped instead"
        )
