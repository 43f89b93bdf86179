"""Settings of the whole process that calls in several threads need at once."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

T = TypeVar("T")


class SharedSetting(Generic[T]):
    """A setting of the process, such as torch's default dtype, that is changed for the time of a call.

    Threads that save and restore a setting each by itself leave it changed: the second saves what the first has set.
    Here the setting is what the last call that is still inside asked for, and when none is inside any more, what it was
    before the first one.

    Args:
        read: Returns the setting.
        write: Changes it.
        restore: Changes it back to what was read; by default `write`.
    """

    def __init__(
        self, read: Callable[[], T], write: Callable[[T], None], restore: Callable[[T], None] | None = None
    ) -> None:
        self._read, self._write, self._restore = read, write, restore or write
        self._lock = threading.RLock()  # a signal's handler may use the setting while its thread is here
        self._inside: list[tuple[object, T]] = []
        self._before: T | None = None

    @contextmanager
    def set_to(self, value: T) -> Iterator[None]:
        """Sets it for the time inside."""
        call = object()
        with self._lock:
            if not self._inside:
                self._before = self._read()
            self._inside.append((call, value))
            self._write(value)
        try:
            yield
        finally:
            with self._lock:
                self._inside = [one for one in self._inside if one[0] is not call]
                if self._inside:
                    self._write(self._inside[-1][1])
                else:
                    before, self._before = self._before, None
                    assert before is not None
                    self._restore(before)
