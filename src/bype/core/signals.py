"""Signals while modules are imported, when nothing is saved yet. This module imports little, since it is the first."""

import os
import signal

NUMBERS = (signal.SIGINT, signal.SIGTERM)


class StoppedAtOnce:
    """Ends the process with one line at SIGINT or SIGTERM, within this context.

    An exception raised by a signal handler amid an import appears as a traceback, as another error, or, in the C++ code
    of torch, as an abort. In threads other than the main one this does nothing, since they receive no signals.
    """

    def __enter__(self) -> None:
        self.before = {}
        for number in NUMBERS:
            handler = signal.getsignal(number)
            if handler is not signal.SIG_IGN:  # a background job is not interrupted
                try:
                    signal.signal(number, _stop)
                except ValueError:  # not the main thread
                    return
                self.before[number] = handler

    def __exit__(self, *exception: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)


def _stop(number: int, frame: object) -> None:
    try:
        os.write(2, b"bype: stopped\n")
    finally:
        os._exit(128 + number)
