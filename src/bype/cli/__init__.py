"""The command line. torch is imported by the commands that compute, not here: `bype --help` is quick."""

import contextlib
import os
import signal
import sys
import types
from collections.abc import Sequence
from typing import Annotated, Any, NoReturn

import typer

# Each adds its commands, in the order of --help.
# isort: off
from bype.cli import train, evaluate, generate, export, data, reproduce  # noqa: F401

# isort: on
from bype.cli.app import Stopped, app
from bype.core.errors import BypeError, first_line, kept_notes


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
        # A command returns nothing; an interrupt before it began is caught by typer and comes back as a code.
        if app(args=sys.argv[1:] or ["--help"], prog_name="bype", standalone_mode=False) == 130:
            raise KeyboardInterrupt
        sys.stdout.flush()  # a pipe that broke or a disk that is full is known only then
    except BypeError as e:
        _fail(str(e), e.exit_code)
    except usage_error as e:
        _fail(f"{_usage(e)} (see `bype {' '.join(_command(e))}--help`)", 2)
    except (KeyboardInterrupt, typer.Abort) as e:
        _fail(_stopped(e), 130)
    except Stopped as e:
        _fail(_stopped(e), e.code)
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


def _stop(number: int, frame: types.FrameType | None) -> NoReturn:
    raise Stopped(143)


def _stopped(error: BaseException) -> str:
    """The last line of an interrupted command: what was saved is noted on the exception."""
    return "; ".join(["stopped", *kept_notes(error)])


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


def _version(show: bool) -> None:
    if show:
        from bype.core.version import __version__

        print(f"bype {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="The version.")] = False,
) -> None:
    pass


__all__: Sequence[str] = ("app", "main")
