"""Numbers from the user: whole and real, checked and converted, numpy's scalars among them."""

import math
import re
from numbers import Integral, Real

from bype.core.errors import InputError

#: The largest whole number of an option. A CPU's generator takes seeds of 32 bits, and offsets are added.
MAX_INT = 2**31


def whole(name: str, value: object, low: int = 0, high: int = MAX_INT) -> int:
    """A whole number from `low` to `high`; a float that is whole counts as one.

    Raises:
        InputError: If it is no whole number or out of range.

    >>> whole("epochs", 3.0, 1)
    3
    """
    number: object = value
    if isinstance(value, Real) and not isinstance(value, Integral) and float(value).is_integer():
        number = int(float(value))
    if isinstance(number, bool) or not isinstance(number, Integral) or not low <= int(number) <= high:
        limit = "2^31" if high == MAX_INT else str(high)
        raise InputError(f"{name}: expected a whole number from {low} to {limit}, got {shown(value)}")
    return int(number)


def real(name: str, value: object, low: float = -math.inf) -> float:
    """A finite number of at least `low`.

    Raises:
        InputError: If it is no number, not finite or too small.
    """
    if isinstance(value, bool) or not isinstance(value, Real) or not low <= float(value) < math.inf:
        least = "a finite number" if low == -math.inf else f"a number of at least {low:g}"
        raise InputError(f"{name}: expected {least}, got {shown(value)}")
    return float(value)


def plain(value: object, *, whole: bool) -> object:
    """A number of numpy or another library as Python's own; with `whole`, a float that is whole as an int.

    >>> plain(3.0, whole=True), plain(3.0, whole=False), plain("3", whole=True)
    (3, 3.0, '3')
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        return value
    if isinstance(value, Integral):
        return int(value)
    number = float(value)
    return int(number) if whole and number.is_integer() else number


def readable(value: float) -> str:
    """A number for a reader, in figures, pages and tables: whole as it is, else two decimals, or three digits below 1.

    >>> readable(12), readable(-123.456), readable(0.012345), readable(0.2)
    ('12', '-123.46', '0.0123', '0.200')
    """
    if isinstance(plain(value, whole=False), int):
        return str(value)
    if value != 0 and abs(value) < 1:
        text = f"{value:#.3g}"
        return text if "e" not in text else f"{value:.1e}"
    return f"{value:.2f}"


def shown(value: object) -> str:
    """A value for an error message: its repr if that is short, its type otherwise.

    >>> shown("4"), shown(list(range(100)))
    ("'4'", 'a list')
    """
    text = repr(value) if isinstance(value, str | int | float | bool | None) else ""
    return (
        text
        if 0 < len(text) <= 60
        else f"{'an' if type(value).__name__[0] in 'aeiouAEIOU' else 'a'} {type(value).__name__}"
    )


def parse_int(text: str) -> int | None:
    """Parses a whole number from 0 to 2^31; returns None for any other text.

    >>> parse_int("12"), parse_int("12.png"), parse_int("-1")
    (12, None, None)
    """
    return int(text) if re.fullmatch("[0-9]{1,10}", text) and int(text) <= MAX_INT else None
