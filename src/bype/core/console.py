"""What a command says: while it works on stderr, a live bar on a terminal, plain lines elsewhere; tables on stdout."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any


def report(text: str) -> None:
    """One line on stderr."""
    print(text, file=sys.stderr, flush=True)


@contextmanager
def items(title: str) -> Iterator[Callable[[int, int], None]]:
    """Shows how many items of a long evaluation are done; yields what to call."""
    before = (0, -1)  # done, in all
    started = last = time.monotonic()
    first = 0

    def begins(done: int, total: int) -> bool:
        """Whether another scoring begins, of this run or of the next one; a part of it may be done already."""
        nonlocal before
        new = total != before[1] or done <= before[0]
        before = (done, total)
        return new

    if sys.stderr.isatty():
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
            report(f"{title}  {done}/{total} items  {(now - started) / (done - first) * (total - done):.0f} s left")

    yield call


@contextmanager
def downloads() -> Iterator[Callable[[str, int, int], None]]:
    """Shows how far each file of a download is; yields what to call with its name, the bytes there and in all."""
    if sys.stderr.isatty():
        with progress_bar() as bar:
            tasks: dict[str, Any] = {}

            def update(name: str, done: int, total: int) -> None:
                if name not in tasks:
                    tasks[name] = bar.add_task(name, total=total)
                bar.update(tasks[name], completed=done)

            yield update
        return
    said: dict[str, int] = {}

    def call(name: str, done: int, total: int) -> None:
        tenth = 10 * done // total
        if said.get(name) != tenth:
            said[name] = tenth
            report(f"{name}  {done / 1e6:.1f} of {total / 1e6:.1f} MB")

    yield call


def progress_bar() -> Any:
    """A progress bar on stderr."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    told = TextColumn("{task.description}", markup=False)  # a name in brackets is a name
    columns = [MofNCompleteColumn(), BarColumn(bar_width=20), told, TimeRemainingColumn()]
    return Progress(*columns, console=Console(stderr=True))


def table(rows: Sequence[Mapping[str, Any]], title: str | None = None) -> None:
    """A table on stdout, a column for each key; a key that a row lacks is left blank."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    keys = list(dict.fromkeys(k for row in rows for k in row))
    out = Table(title=None if title is None else Text(title), title_justify="left")
    for key in keys:
        out.add_column(Text(key), justify="left" if isinstance(rows[0].get(key), str) else "right")
    for row in rows:
        out.add_row(*(Text(_cell(row[k])) if k in row else "" for k in keys))
    # Where nobody reads along, nothing is cut to a terminal's width.
    Console(width=None if sys.stdout.isatty() else 200).print(out)


def _cell(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
