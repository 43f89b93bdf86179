"""Terminal output: progress on stderr (a live bar on a terminal, plain lines otherwise), tables on stdout."""

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from bype.core.notebook import NotebookBar, in_notebook
from bype.core.numbers import readable


def report(text: str) -> None:
    """Prints one line to stderr."""
    print(text, file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """A duration in one unit.

    >>> duration(45.3), duration(700), duration(12000), duration(5e6)
    ('45 s', '12 min', '3.3 h', '1,389 h')
    """
    if seconds < 90:
        return f"{max(seconds, 0):.0f} s"
    hours = seconds / 3600
    return f"{seconds / 60:.0f} min" if hours < 1.5 else f"{hours:.1f} h" if hours < 100 else f"{hours:,.0f} h"


@contextmanager
def items(title: str, unit: str = "examples") -> Iterator[Callable[[int, int], None]]:
    """Shows the progress of a long evaluation; yields a function of the number of examples done and their total."""
    before = (0, -1)  # done, total
    started = last = time.monotonic()
    first = 0

    def begins(done: int, total: int) -> bool:
        """Whether another evaluation starts, of this run or the next; it may be partly done already."""
        nonlocal before
        new = total != before[1] or done <= before[0]
        before = (done, total)
        return new

    if is_live():
        with progress_bar() as bar:
            task = bar.add_task(title, total=None)

            def move(done: int, total: int) -> None:
                if begins(done, total):
                    bar.reset(task, completed=done, total=total)
                bar.update(task, completed=done)

            yield move
        return

    def call(done: int, total: int) -> None:
        nonlocal started, last, first
        now = time.monotonic()
        if begins(done, total):
            started, first = now, done
        elif now - last > 30 and done < total:
            last = now
            report(f"{title}  {done}/{total} {unit}  {(now - started) / (done - first) * (total - done):.0f} s left")

    yield call


@contextmanager
def downloads() -> Iterator[Callable[[str, int, int], None]]:
    """Shows the progress of each download; yields a function of a file's name, the bytes received and their total."""
    if is_live():
        with progress_bar() as bar:
            tasks: dict[str, TaskID] = {}

            def update(name: str, done: int, total: int) -> None:
                if name not in tasks:
                    tasks[name] = bar.add_task(name, total=total)
                bar.update(tasks[name], completed=done)

            yield update
        return
    shown: dict[str, int] = {}

    def call(name: str, done: int, total: int) -> None:
        tenth = 10 * done // total
        if shown.get(name) != tenth:
            shown[name] = tenth
            report(f"{name}  {done / 1e6:.1f} of {total / 1e6:.1f} MB")

    yield call


def is_live() -> bool:
    """Whether progress is one line that changes: on a terminal, and in a notebook."""
    return in_notebook() or sys.stderr.isatty()


def progress_bar() -> "Progress | NotebookBar":
    """A progress bar on stderr, or in the output of a notebook's cell."""
    if in_notebook():
        return NotebookBar()
    description = TextColumn("{task.description}", markup=False)  # brackets in a name are not markup
    columns = [MofNCompleteColumn(), BarColumn(bar_width=20), description, TimeRemainingColumn()]
    return Progress(*columns, console=_console(stderr=True))


def _console(*, stderr: bool = False) -> Console:
    """A terminal, of at least 20 columns: COLUMNS=0 means the width of the terminal itself, 80 if that is unknown."""
    console = Console(stderr=stderr)
    if console.width >= 20:
        return console
    try:
        own = os.get_terminal_size((sys.stderr if stderr else sys.stdout).fileno()).columns
    except (OSError, ValueError, AttributeError):
        own = 0
    return Console(stderr=stderr, width=own if own >= 20 else 80)


def table(rows: Sequence[Mapping[str, object]], title: str | None = None) -> None:
    """Prints a table to stdout with a column for each key; missing values are blank."""
    keys = list(dict.fromkeys(k for row in rows for k in row))
    out = Table(title=None if title is None else Text(title), title_justify="left")
    for key in keys:
        out.add_column(Text(key), justify="left" if isinstance(rows[0].get(key), str) else "right")
    for row in rows:
        out.add_row(*(Text(_cell(row[k])) if k in row else "" for k in keys))
    # Cells are cut to the width of a terminal only if stdout is one.
    (_console() if sys.stdout.isatty() else Console(width=200)).print(out)


def _cell(value: object) -> str:
    return readable(value) if isinstance(value, float) else str(value)
