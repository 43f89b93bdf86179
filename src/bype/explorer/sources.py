"""What samples are drawn from: the prior, a class, a component, or the surroundings of a test image."""

from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlencode

KINDS = ("point", "class", "item")


class Source(NamedTuple):
    """A kind (`prior`, `point`, `class`, `item`) and its number or name."""

    kind: str = "prior"
    value: str = ""

    @classmethod
    def of_query(cls, query: Mapping[str, str]) -> "Source":
        """The source that a query names; the prior if it names none."""
        return next((cls(kind, query[kind]) for kind in KINDS if kind in query), cls())

    @property
    def query(self) -> str:
        """The source as a query; empty for the prior."""
        return "" if self.kind == "prior" else urlencode({self.kind: self.value})
