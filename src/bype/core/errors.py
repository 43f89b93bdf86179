"""The errors that a user can cause or meet, each with the exit code of the command line."""


class BypeError(Exception):
    """An error with a message made for the user: one line that says what, where, expected and got."""

    exit_code = 2


class InputError(BypeError, ValueError):
    """Bad input: an option, a file or an array that cannot be used."""


class TrainingError(BypeError, ArithmeticError):
    """Training gave up: its values stopped being finite."""

    exit_code = 3


class RunExistsError(BypeError, FileExistsError):
    """The run folder is in use by another process, or holds a run already."""

    exit_code = 4


def first_line(e: Exception) -> str:
    """An error's text on one line, not too long; its type where it has none."""
    return " ".join(str(e).split())[:150] or type(e).__name__
