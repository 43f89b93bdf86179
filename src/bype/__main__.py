"""`python -m bype`, and the entry point of `bype`."""

import os


def main() -> None:
    """Runs a command. Imports happen inside, where a signal ends in one line."""
    try:
        from bype.core.signals import StoppedAtOnce
    except KeyboardInterrupt:  # within the first milliseconds, before signals have handlers
        os.write(2, b"bype: stopped\n")
        os._exit(130)

    with StoppedAtOnce():
        from bype.cli import main as run

        run()


if __name__ == "__main__":
    main()
