"""Progress in a Jupyter notebook: one output that is replaced as work goes on."""

import sys
import time
from html import escape
from types import TracebackType
from typing import Protocol, Self

from rich.progress import TaskID

#: Seconds between two updates.
UPDATE_EVERY = 0.2


class Handle(Protocol):
    """An output of a cell that can be replaced (`IPython.display.DisplayHandle`)."""

    def update(self, obj: object, /, *, raw: bool) -> None:
        """Replaces the output by data by media type."""


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook, whose cells show HTML."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return hasattr(shell, "kernel")


class _Task:
    def __init__(self, description: str, total: float | None) -> None:
        self.description, self.total, self.completed, self.start = description, total, 0.0, time.monotonic()

    def text(self) -> str:
        if self.total is None:
            return self.description
        done = self.completed
        left = (time.monotonic() - self.start) / done * (self.total - done) if 0 < done < self.total else None
        return f"{done:.0f}/{self.total:.0f}  {self.description}" + ("" if left is None else f"  {left:.0f} s left")

    def html(self) -> str:
        value = "" if self.total is None else f' value="{self.completed}" max="{self.total}"'
        return f'<div><progress aria-label="progress"{value}></progress> {escape(self.text())}</div>'


class NotebookBar:
    """The part of `rich.progress.Progress` that bype uses, as an output of a notebook's cell."""

    def __init__(self) -> None:
        self._tasks: list[_Task] = []
        self._handle: Handle | None = None
        self._last = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._show(at_once=True)

    def add_task(self, description: str, total: float | None = None) -> TaskID:
        """Adds a line; returns its number."""
        self._tasks.append(_Task(description, total))
        return TaskID(len(self._tasks) - 1)

    def reset(self, task: TaskID, *, completed: float = 0, total: float | None = None) -> None:
        """Starts a line again."""
        self._tasks[task] = _Task(self._tasks[task].description, total)
        self.update(task, completed=completed)

    def update(
        self,
        task: TaskID,
        *,
        completed: float | None = None,
        total: float | None = None,
        description: str | None = None,
    ) -> None:
        """Changes a line."""
        line = self._tasks[task]
        line.completed = line.completed if completed is None else completed
        line.total = line.total if total is None else total
        line.description = line.description if description is None else description
        self._show(at_once=line.completed == line.total)

    def _show(self, *, at_once: bool) -> None:
        now = time.monotonic()
        if not self._tasks or (now - self._last < UPDATE_EVERY and not at_once):
            return
        self._last = now
        from IPython.display import display

        shown = {
            "text/plain": "\n".join(task.text() for task in self._tasks),
            "text/html": "".join(task.html() for task in self._tasks),
        }
        if self._handle is None:
            self._handle = display(shown, raw=True, display_id=True)
        else:
            self._handle.update(shown, raw=True)
