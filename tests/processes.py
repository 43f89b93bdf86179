"""Processes of their own for tests, forked from one that has imported everything: torch alone takes seconds."""

import multiprocessing
import os
import signal
import sys

import torch

from bype import cli

# torch imports the second of these when the first optimiser is made.
IMPORTED = ["pytest", "torch._dynamo", "secrets", "sklearn.datasets", "scipy.stats", "bype.cli", "bype.core.console"]
IMPORTED += ["bype.runs.fitting", "bype.runs.evaluations", "bype.training.refitting", "bype.experiments.campaign"]


def context():
    """Where `Process` comes from: a server that has imported everything and computed nothing, started when needed."""
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload(IMPORTED)
    return made


def run(log, function, *args, **options):
    """In a process of its own: calls a function as a new process would, what it prints at the end of a file."""
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for number in (1, 2):
        os.dup2(handle, number)
    sys.stdout, sys.stderr = (open(number, "w", buffering=1, closefd=False) for number in (1, 2))  # noqa: SIM115
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job inherits it ignored
    torch.set_num_threads(1)
    function(*args, **options)


def command(*words):
    """`bype` with these words."""
    sys.argv = ["bype", *map(os.fspath, words)]
    cli.main()
