"""Errors for the user, each with the exit code of the command line."""


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
