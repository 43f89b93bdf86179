"""The entry point: exit codes, and signals."""

import contextlib
import os
import signal
import sys
import types
from typing import Any, NoReturn

import typer

from bype.cli.commands import app
from bype.core.errors import BypeError, first_line


def main() -> None:
    """Runs a command and ends with its exit code: an error is one line on stderr."""
    signal.signal(signal.SIGTERM, _stop)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by who called
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
        if hasattr(stream := getattr(sys, name), "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # names of files may hold any bytes
    # What a usage error is called differs between typer's versions; it is always what BadParameter derives from.
    usage_error: type[Exception] = typer.BadParameter.__mro__[2]
    try:
        # A command returns nothing; an interrupt is caught below us and comes back as a code.
        if app(args=sys.argv[1:] or ["--help"], prog_name="bype", standalone_mode=False) == 130:
            raise KeyboardInterrupt
        sys.stdout.flush()  # a pipe that broke or a disk that is full is known only then
    except BypeError as e:
        _fail(str(e), e.exit_code)
    except usage_error as e:
        _fail(f"{_usage(e)} (see `bype {' '.join(_command(e))}--help`)", 2)
    except (KeyboardInterrupt, typer.Abort):
        _fail(_what_is_kept(), 130)
    except _Stopped:
        _fail(_what_is_kept(), 143)
    except MemoryError as e:
        _fail(f"expected enough memory for this command, got {str(e) or 'none left'}", 2)
    except RuntimeError as e:  # torch has no error of its own for memory on a CPU
        if not any(sign in str(e) for sign in ("out of memory", "can't allocate memory")):
            raise
        _fail(f"expected enough memory for this command, got {first_line(e)}", 2)
    except BrokenPipeError:
        _give_up_stdout()
        sys.exit(1)
    except OSError as e:  # what no reader or writer saw coming, a full disk under stdout among it
        _give_up_stdout()
        _fail(f"{e.filename or 'a file'}: expected to use it, got {e.strerror or e}", 2)


def _give_up_stdout() -> None:
    """Leaves what is still to be written nowhere to fail again when the process ends."""
    with contextlib.suppress(OSError, ValueError):  # a stream that is no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Stopped(BaseException):
    """SIGTERM."""


def _stop(number: int, frame: types.FrameType | None) -> NoReturn:
    raise _Stopped


def _what_is_kept() -> str:
    kept = {
        "bype.runs.saving": "the last finished epoch is saved",
        "bype.runs.scoring": "what is scored is kept, and the same command goes on from there",
    }
    told = [text for name, text in kept.items() if name in sys.modules and sys.modules[name].saved()]
    return "; ".join(["stopped", *told])


def _usage(error: Any) -> str:
    """What is wrong with a command's words, and where it is a value that does not fit, which value was given."""
    message = error.format_message().rstrip(".")
    options = getattr(getattr(error, "param", None), "opts", ())
    for word, following in zip(sys.argv, [*sys.argv[1:], ""], strict=True):
        name, equals, value = word.partition("=")
        if name in options:
            given = value if equals else following
            return message if repr(given) in message else f"{message}, got {given!r}"
    return message


def _command(error: Any) -> list[str]:
    context = getattr(error, "ctx", None)
    return [*context.command_path.split()[1:], ""] if context is not None else [""]


def _fail(message: str, code: int) -> NoReturn:
    print("bype: " + " ".join(message.split()), file=sys.stderr)
    sys.exit(code)
