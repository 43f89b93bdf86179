"""The entry point: exit codes, and signals."""

import contextlib
import os
import signal
import sys
import types
from typing import Any, NoReturn

import typer

from bype.cli.commands import Stopped, app
from bype.core.errors import BypeError, first_line, kept_notes

#: The signal that has stopped this command, if any.
_RECEIVED: list[int] = []


def main() -> None:
    """Runs a command and exits with its code; an error is one line on stderr."""
    _RECEIVED.clear()
    try:
        _handle_signals()
        _run()
    except (Exception, KeyboardInterrupt, Stopped) as e:  # a library may turn that of a signal into another one
        if not _RECEIVED:
            raise
        _fail(_stopped(e), 128 + _RECEIVED[0])


def _handle_signals() -> None:
    signal.signal(signal.SIGTERM, _stop)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # a background job is not interrupted
        signal.signal(signal.SIGINT, _interrupt)


def _run() -> None:
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the caller
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
        if hasattr(stream := getattr(sys, name), "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # file names may contain any bytes
    # The name of typer's usage error depends on its version; it is a base class of BadParameter in all of them.
    usage_error: type[Exception] = typer.BadParameter.__mro__[2]
    try:
        # typer catches an interrupt before a command starts, and returns its code; commands return None.
        if app(args=sys.argv[1:] or ["--help"], prog_name="bype", standalone_mode=False) == 130:
            raise KeyboardInterrupt
        sys.stdout.flush()  # only this detects a broken pipe or a full disk
    except BypeError as e:
        _fail(str(e), e.exit_code)
    except usage_error as e:
        _fail(f"{_usage(e)} (see `bype {' '.join(_command(e))}--help`)", 2)
    except (KeyboardInterrupt, typer.Abort) as e:
        _fail(_stopped(e), 130)
    except Stopped as e:
        _fail(_stopped(e), e.code)
    except MemoryError as e:
        _fail(f"not enough memory for this command: {str(e) or 'allocation failed'}", 2)
    except RuntimeError as e:  # torch has no error class for memory on a CPU
        if not any(sign in str(e) for sign in ("out of memory", "can't allocate memory")):
            raise
        _fail(f"not enough memory for this command: {first_line(e)}", 2)
    except BrokenPipeError:
        _give_up_stdout()
        sys.exit(1)
    except OSError as e:  # not handled by any reader or writer, such as a full disk under stdout
        _give_up_stdout()
        _fail(f"{e.filename or 'I/O error'}: {e.strerror or e}", 2)


def _give_up_stdout() -> None:
    """Redirects stdout to /dev/null, so that the flush at exit does not fail again."""
    with contextlib.suppress(OSError, ValueError):  # a stream without a file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _stop(number: int, frame: types.FrameType | None) -> NoReturn:
    _RECEIVED.append(number)
    raise Stopped(128 + number)


def _interrupt(number: int, frame: types.FrameType | None) -> NoReturn:
    _RECEIVED.append(number)
    raise KeyboardInterrupt


def _stopped(error: BaseException) -> str:
    """The last line of an interrupted command: what was saved is noted on the exception."""
    return "; ".join(["stopped", *kept_notes(error)])


def _usage(error: Any) -> str:
    """The message of a usage error, with the rejected value where typer leaves it out."""
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
