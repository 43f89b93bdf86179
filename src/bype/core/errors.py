"""Errors for the user, each with its exit code, and notes of the work that was saved before one."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol


class BypeError(Exception):
    """Base class: an error whose message is one line for the user, "what: expected X, got Y"."""

    exit_code = 2


class InputError(BypeError, ValueError):
    """Invalid input: an option, a file or an array that cannot be used."""


class TrainingError(BypeError, ArithmeticError):
    """Training ended because values became non-finite."""

    exit_code = 3


class RunExistsError(BypeError, FileExistsError):
    """The run folder is in use by another process, or already contains a run."""

    exit_code = 4


def first_line(e: Exception) -> str:
    """The message of an error on one line of at most 150 characters; its type if it has no message."""
    return " ".join(str(e).split())[:150] or type(e).__name__


class _KeptNote(str):
    """A note about saved work; its type distinguishes it from other notes on an exception."""


class Keeps(Protocol):
    """An object that saves work."""

    @property
    def kept(self) -> str | None:
        """A phrase that states which work is saved; None while nothing is."""


def note_kept(error: BaseException, text: str) -> None:
    """Adds a note about saved work to an exception: Python prints it in tracebacks, the command line in its last line.

    >>> error = KeyboardInterrupt()
    >>> note_kept(error, "the last finished epoch is saved")
    >>> kept_notes(error)
    ['the last finished epoch is saved']
    """
    if text not in getattr(error, "__notes__", ()):
        error.add_note(_KeptNote(text))


def kept_notes(error: BaseException) -> list[str]:
    """The notes about saved work on an exception and on those it was raised from or during, each once."""
    texts: dict[str, None] = {}
    seen: list[BaseException] = []
    todo: list[BaseException | None] = [error]
    while todo:
        e = todo.pop()
        if e is not None and e not in seen:
            seen.append(e)
            texts |= {str(note): None for note in getattr(e, "__notes__", ()) if isinstance(note, _KeptNote)}
            todo += [e.__context__, e.__cause__]
    return list(texts)


@contextmanager
def notes_kept(parts: Sequence[Keeps]) -> Iterator[None]:
    """Adds what `parts` have saved to an exception that leaves the block; parts may be added inside the block."""
    try:
        yield
    except BaseException as e:
        for part in parts:
            if part.kept is not None:
                note_kept(e, part.kept)
        raise
