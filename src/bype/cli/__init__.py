"""The command line: parse, call, print."""

from bype.cli.commands import app
from bype.cli.entry import main

__all__ = [
    "app",
    "main",
]
