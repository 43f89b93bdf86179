"""The checkout around the tests: its documentation, examples, scripts and results.

A test file that imports from here is skipped where the tests stand beside an installed wheel alone, and a single test
that takes the fixture `root` is. Nothing else in the tests names a path outside of their own folder.
"""

from pathlib import Path

import pytest

TESTS = Path(__file__).parent
ROOT = TESTS.parent
MISSING = "needs a checkout: the tests stand alone"


def is_checkout(folder: Path) -> bool:
    """Whether a folder holds the package's source and all that belongs to it."""
    return all((folder / name).exists() for name in ("pyproject.toml", "src/bype", "docs", "examples", "results"))


def require() -> Path:
    """The root of the checkout; skips the test, or the file that is being imported, where there is none."""
    if not is_checkout(ROOT):
        pytest.skip(MISSING, allow_module_level=True)
    return ROOT
