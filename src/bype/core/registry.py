"""Registries: names for priors, networks, likelihoods, strategies and experiments, imported on first use.

A registry is a mapping from names to objects. The entries of bype are strings `module:attribute`, so that the command
line can list them without importing torch. `register` adds others, from a script or from a plugin: a module that
registers names when it is imported. Plugins are the entry points of the group `bype.plugins`, and the modules in the
environment variable BYPE_PLUGINS (comma-separated); they are imported when an unknown name is looked up.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from operator import attrgetter
from typing import TypeVar, cast, overload

from bype.core.errors import InputError, first_line

T = TypeVar("T")
S = TypeVar("S")


@dataclass(frozen=True)
class Entry:
    """An entry of a registry.

    Args:
        target: The object, or its location `module:attribute`.
        uses: The options of a run that it uses, of the options that only some entries use.
    """

    target: object
    uses: tuple[str, ...] = ()


class Registry(Mapping[str, T]):
    """Objects by name.

    Args:
        kind: The kind of object, for error messages.
        entries: The entries of bype itself.
        unlisted: Entries that have a name and are not offered as a choice.
    """

    def __init__(
        self, kind: str, entries: Mapping[str, Entry | str], unlisted: Mapping[str, Entry] | None = None
    ) -> None:
        self.kind = kind
        self._unlisted = dict(unlisted or {})
        self._own = {name: e if isinstance(e, Entry) else Entry(e) for name, e in entries.items()}
        self._added: dict[str, Entry] = {}

    def __getitem__(self, name: str) -> T:
        """Returns the object registered under a name.

        Raises:
            InputError: If the name is unknown, or a plugin cannot be imported.
        """
        target = self._entry(name).target
        if isinstance(target, str):
            module, _, attribute = target.partition(":")
            target = attrgetter(attribute)(import_module(module))
        return cast(T, target)

    @overload
    def get(self, name: str, /) -> T | None: ...

    @overload
    def get(self, name: str, /, default: T | S) -> T | S: ...

    def get(self, name: str, /, default: T | S | None = None) -> T | S | None:
        """The object registered under a name, or the default if there is none.

        Raises:
            InputError: If a plugin cannot be imported.
        """
        return self[name] if name in self else default  # noqa: SIM401 (this is `get`)

    def __iter__(self) -> Iterator[str]:
        return iter([*self._own, *self._added])

    def __len__(self) -> int:
        return len(self._own) + len(self._added)

    def __contains__(self, name: object) -> bool:
        if not isinstance(name, str):
            return False
        known = (self._own, self._unlisted, self._added)
        if not any(name in names for names in known):
            import_plugins()
        return any(name in names for names in known)

    def _entry(self, name: str) -> Entry:
        if name not in self:
            raise InputError(f"{self.kind}: expected one of {', '.join(self)}, got {name!r}")
        return self._own.get(name) or self._unlisted.get(name) or self._added[name]

    def uses(self, option: str, name: str) -> bool:
        """Whether the entry `name` uses an option. An option that no entry declares is used by all."""
        entries = [*self._own.values(), *self._added.values()]
        return option in self._entry(name).uses or not any(option in e.uses for e in entries)

    def register(self, name: str, target: T, *, uses: tuple[str, ...] = ()) -> None:
        """Adds an entry, replacing an earlier one of the same name, as when a notebook cell is run again.

        Args:
            name: The name; letters, digits, `.`, `_` and `-`, since it becomes part of file names.
            target: The object.
            uses: The options of a run that it uses, of the options that only some entries use.

        Raises:
            InputError: If the name is one of bype's own, or is not valid.
        """
        if name in self._own or name in self._unlisted:
            raise InputError(f"{self.kind} {name!r}: the name is taken by bype; choose another")
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
            raise InputError(f"{self.kind}: expected a name of letters, digits, '.', '_' and '-', got {name!r}")
        self._added[name] = Entry(target, uses)

    def decorator(self, name: str, uses: tuple[str, ...]) -> Callable[[S], S]:
        """`register` as a decorator."""

        def add(target: S) -> S:
            self.register(name, cast(T, target), uses=uses)
            return target

        return add


def import_plugins() -> None:
    """Imports all plugins, which register their names.

    Raises:
        InputError: If a plugin cannot be imported.
    """
    modules = {name: name for name in os.environ.get("BYPE_PLUGINS", "").split(",") if name}
    modules |= {e.name: e.value for e in entry_points(group="bype.plugins")}
    for name, module in modules.items():
        try:
            import_module(module.partition(":")[0])
        except Exception as e:  # a plugin may raise anything
            raise InputError(f"plugin {name}: the import failed: {type(e).__name__} {first_line(e)}") from e
