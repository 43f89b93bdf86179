"""Locks on files and folders, which end with the process that holds them."""

import errno
import json
import logging
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from bype.core.errors import InputError, RunExistsError

log = logging.getLogger("bype")

#: Errors of file systems without `flock`; EBADF is NFS, which cannot lock a folder.
NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL, errno.EBADF)
#: Seconds between two attempts to make a lock file that exists.
PAUSE = 0.05

#: The file descriptors of the locks of this process.
_HELD: set[int] = set()


@contextmanager
def locked(path: Path, busy: str | None = None) -> Iterator[None]:
    """Locks a file, created if necessary, or a folder for this process; the lock is released when the process ends.

    A child that is forked meanwhile does not hold the lock. On systems and file systems without `flock`, the lock is
    a file `.NAME.held` beside the file or in the folder, which names the process; that of a dead process on the same
    machine is taken over.

    Args:
        path: The file or folder.
        busy: The message of the error that is raised if another process holds the lock; None waits for the lock.

    Raises:
        RunExistsError: If another process holds the lock.
        InputError: If the file or folder cannot be opened or locked.
    """
    release = _flock(path, busy) or _make_lock_file(path, busy)
    try:
        yield
    finally:
        release()


def is_lock_file(path: Path) -> bool:
    """Whether this is a lock file of `locked` on a file system without locks."""
    return path.name.startswith(".") and path.name.endswith(".held")


def _flock(path: Path, busy: str | None) -> Callable[[], None] | None:
    """Locks with the system's `flock`; returns the function that releases the lock, or None if there is no `flock`."""
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    try:
        handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as e:
        raise InputError(f"{path}: cannot be written ({e.strerror})") from None
    _HELD.add(handle)

    def release() -> None:
        if handle in _HELD:  # not in a forked child
            _HELD.remove(handle)
            with suppress(OSError):  # a child that another library forked may hold a copy of the handle
                fcntl.flock(handle, fcntl.LOCK_UN)
            os.close(handle)

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (fcntl.LOCK_NB if busy else 0))
    except BlockingIOError:
        release()
        raise RunExistsError(busy) from None
    except OSError as e:
        release()
        if e.errno in NO_LOCKS:
            return None
        raise InputError(f"{path}: cannot be locked ({e.strerror})") from None
    except BaseException:
        release()
        raise
    return release


def _close_in_child() -> None:
    """Closes a forked child's copies of the handles, which would hold the locks after their owner has ended."""
    for handle in _HELD:
        with suppress(OSError):
            os.close(handle)
    _HELD.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)


@cache
def _warn_of_lock_files() -> None:
    log.warning("no file locks on this file system; the lock is a file, which a killed process leaves behind")


def _make_lock_file(path: Path, busy: str | None) -> Callable[[], None]:
    """Locks by the exclusive creation of a file; returns the function that releases the lock."""
    _warn_of_lock_files()
    held = path / ".folder.held" if path.is_dir() else path.with_name(f".{path.name}.held")
    owner = json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "lock": secrets.token_hex(8)})
    while True:
        try:
            handle = os.open(held, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            if _remove_dead(held):
                continue
            if busy is not None:
                raise RunExistsError(f"{busy}; if no process uses it, remove {held}") from None
            time.sleep(PAUSE)
            continue
        except OSError as e:
            raise InputError(f"{held}: cannot be written ({e.strerror})") from None
        break
    with os.fdopen(handle, "w", encoding="ascii") as f:
        f.write(owner)

    def release() -> None:
        if _read(held) == owner and json.loads(owner)["pid"] == os.getpid():  # neither taken over nor a forked child
            held.unlink(missing_ok=True)

    return release


def _remove_dead(held: Path) -> bool:
    """Removes the lock file of a dead process of this machine; returns whether the file may be gone."""
    before = _read(held)
    if before is None:
        return True
    try:
        owner = json.loads(before)
        if owner["host"] != socket.gethostname() or _is_alive(int(owner["pid"])):
            return False
    except (ValueError, TypeError, KeyError):  # not written yet
        return False
    # Another process may take it over at the same time, and hold it by now: only what was read is removed.
    apart = held.with_name(f"{held.name}.{secrets.token_hex(4)}.part")
    try:
        held.rename(apart)
    except OSError:
        return True
    if _read(apart) != before:
        apart.rename(held)
        return False
    apart.unlink(missing_ok=True)
    return True


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return None


def _is_alive(pid: int) -> bool:
    if os.name != "posix":  # elsewhere signal 0 is not a question
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # of another user
        return True
    return True
