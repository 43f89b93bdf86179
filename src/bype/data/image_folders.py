"""The image files of a folder or a zip: which there are, which cannot be used, and their class subfolders."""

import io
import logging
import os
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from bype.core.errors import InputError, first_line
from bype.data.archives import archive, check_bombs, member_name, normal_name, opened
from bype.data.formats import HEAD, OTHERS, READABLE, SUFFIXES, other_format, readable_format, suffix

log = logging.getLogger("bype")

MAX_FILE = 2**27  # bytes of one image file
MAX_DEPTH = 16  # of nested folders
NAMED = 20  # files that a message names; of more it gives the number

Read = Callable[[], IO[bytes]]


class BadFiles:
    """The files of a folder or zip that cannot be used, and why: named together, or left out.

    Args:
        where: The folder or zip, for messages.
        skip: Leave them out instead of raising an error.
        may_skip: Whether the error says that `--skip-bad` leaves them out; items of a trained model do not have it.
    """

    def __init__(self, where: str, *, skip: bool = False, may_skip: bool = True) -> None:
        self.where, self.skip, self.may_skip = where, skip, may_skip
        self.reasons: dict[str, str] = {}

    def __contains__(self, name: str) -> bool:
        return name in self.reasons

    def __len__(self) -> int:
        return len(self.reasons)

    def add(self, name: str, reason: object) -> None:
        """Adds a file; only its first reason is kept."""
        self.reasons.setdefault(name, str(reason).removeprefix(f"{self.where}: {name}: "))

    def settle(self, total: int) -> None:
        """Raises an error that names the files, or reports that they are left out.

        Raises:
            InputError: If there are any, and they are not to be left out, or none of the `total` files is left.
        """
        if not self.reasons:
            return
        if self.skip and len(self) < total:
            names = enumerated(list(self.reasons))
            log.warning("%s: left out %d of %d image files: %s", self.where, len(self), total, names)
            return
        if len(self) == 1:
            ((name, reason),) = self.reasons.items()
            text = f"{name}: {reason}"
        else:
            each = enumerated([f"{name} ({reason})" for name, reason in self.reasons.items()])
            text = f"{len(self)} of {total} image files cannot be used: {each}"
        raise InputError(
            f"{self.where}: {text}" + ("; --skip-bad leaves bad files out" if self.may_skip and not self.skip else "")
        )


def enumerated(texts: Sequence[str]) -> str:
    """The first `NAMED` texts, then the number of the others."""
    rest = len(texts) - NAMED
    return ", ".join(texts[:NAMED]) + (f", and {rest} more" if rest > 0 else "")


@contextmanager
def image_files(path: Path, bad: BadFiles) -> Iterator[dict[str, Read]]:
    """The image files of a folder or zip by name, sorted, so that both give the same data set.

    Files that cannot be used are added to `bad`.
    """
    if path.is_dir():
        yield _some(dict(sorted(_walk(path, bad), key=lambda found: normal_name(found[0]))), bad)
        return
    with opened(path) as stream, archive(stream, str(path)) as packed:
        members: dict[str, zipfile.ZipInfo] = {}
        for info in packed.infolist():
            name = member_name(info)
            if not name.endswith("/") and _is_image(name, lambda i=info: packed.open(i), bad):  # type: ignore[misc]
                members[name] = info
        check_bombs(list(members.values()), str(path))
        files = {
            name: _member(packed, info) for name, info in sorted(members.items()) if _fits(name, info.file_size, bad)
        }
        yield _some(files, bad)


def _member(packed: zipfile.ZipFile, info: zipfile.ZipInfo) -> Read:
    def read() -> IO[bytes]:
        return io.BytesIO(packed.read(info))

    return read


def _walk(root: Path, bad: BadFiles) -> Iterator[tuple[str, Read]]:
    """The image files below a folder; links are followed, except in a cycle."""
    stack: list[tuple[Path, str, frozenset[tuple[int, int]]]] = [(root, "", frozenset())]
    try:
        while stack:
            folder, prefix, above = stack.pop()
            status = folder.stat()
            own = (status.st_dev, status.st_ino)
            if own in above:
                raise InputError(f"{folder}: cyclic link to a parent folder")
            if len(above) >= MAX_DEPTH:
                raise InputError(f"{folder}: expected folders at most {MAX_DEPTH} deep, got deeper ones")
            with os.scandir(folder) as entries:
                for entry in entries:
                    place, name = Path(entry.path), prefix + entry.name
                    if entry.name.startswith("."):
                        continue
                    kind = _kind(entry, name, bad)
                    if kind == "folder":
                        stack.append((place, name + "/", above | {own}))
                    if kind != "file":
                        continue

                    def read(place: Path = place) -> IO[bytes]:
                        return opened(place)

                    if _is_image(name, read, bad) and _fits(name, entry.stat().st_size, bad):
                        yield name, read
    except OSError as e:
        raise InputError(f"{e.filename or root}: cannot be read: {e.strerror}") from None


def _kind(entry: "os.DirEntry[str]", name: str, bad: BadFiles) -> str | None:
    """`folder`, `file`, or None for anything else, which is added to `bad` if it may be an image."""
    try:
        if entry.is_dir():
            return "folder"
        if entry.is_file():
            return "file"
        if entry.is_symlink() and not os.path.exists(entry.path):  # it may be a class subfolder that is gone
            bad.add(name, f"broken symbolic link to {os.readlink(entry.path)}")
        elif suffix(name) in (*SUFFIXES, *OTHERS):
            bad.add(name, f"expected a {READABLE}, got a pipe or a device")
    except OSError as e:  # a link to itself
        bad.add(name, f"cannot be read: {e.strerror}")
    return None


def _is_image(name: str, read: Read, bad: BadFiles) -> bool:
    """Whether a file is an image, by its suffix or its content; one of a format that is not read is added to `bad`."""
    if any(part.startswith(".") or part == "__MACOSX" for part in normal_name(name).split("/")):
        return False
    if suffix(name) in SUFFIXES:
        return True
    try:
        with read() as stream:
            head = stream.read(HEAD)
    except Exception as e:  # zipfile raises many kinds of error on damage
        bad.add(name, first_line(e).removeprefix(f"{bad.where}/{name}: "))
        return False
    if readable_format(head):
        return True
    other = other_format(head)
    if other or suffix(name) in OTHERS:
        bad.add(name, f"expected a {READABLE}, got a {other or suffix(name)} file")
    return False


def _fits(name: str, size: int, bad: BadFiles) -> bool:
    if reason := why_too_large(size):
        bad.add(name, reason)
    return not reason


def why_too_large(size: int) -> str:
    """Why an image file of this many bytes is refused; empty if it is not."""
    return f"expected an image file of at most {MAX_FILE} bytes, got {size}" if size > MAX_FILE else ""


def _some(files: dict[str, Read], bad: BadFiles) -> dict[str, Read]:
    if not files:
        bad.settle(len(bad))
        raise InputError(f"{bad.where}: expected PNG, JPEG, WebP, BMP or PNM images, got none")
    return files


def class_labels(names: Sequence[str], bad: BadFiles) -> tuple[dict[str, int], list[str]]:
    """The index of each file's class subfolder, and the names of the subfolders, sorted; both empty if there are none.

    Images next to class subfolders are added to `bad`.

    Raises:
        InputError: If the subfolders are splits, or most of the images are next to them.
    """
    # Leading folders that all files share are dropped, such as the single folder of an archive.
    parts = {name: normal_name(name).split("/") for name in names}
    while len({p[0] for p in parts.values()}) == 1 and all(len(p) > 1 for p in parts.values()):
        parts = {name: p[1:] for name, p in parts.items()}
    tops = {name: p[0] for name, p in parts.items() if len(p) > 1}
    classes = sorted(set(tops.values()))
    if not classes:
        return {}, []
    strays = [name for name in names if name not in tops]
    for name in strays:
        bad.add(name, f"expected all images in class subfolders or none, got this file next to the folder {classes[0]}")
    if strays and bad.skip:
        if len(strays) >= len(tops):
            raise InputError(
                f"{bad.where}: expected few images next to class subfolders to leave out, got {len(strays)} of "
                f"{len(names)} next to the folder {classes[0]}"
            )
        return class_labels(list(tops), bad)
    if {c.lower() for c in classes} <= {"train", "training", "test", "testing", "val", "valid", "validation"}:
        raise InputError(
            f"{bad.where}: expected class subfolders, got the splits {', '.join(classes)}; give one of them"
        )
    number = {c: i for i, c in enumerate(classes)}
    return {name: number[top] for name, top in tops.items()}, classes
