"""Prints the lowest versions that a pyproject.toml allows, as constraints for pip.

`python scripts/lowest.py PYPROJECT [EXTRA ...]`: of the package's own dependencies, and of these extras.
"""

import re
import sys
import tomllib
from pathlib import Path


def lowest(requirements: list[str]) -> list[str]:
    """`NAME==VERSION` for each `NAME>=VERSION`."""
    found = []
    for requirement in requirements:
        match = re.fullmatch(r"([\w.-]+)>=([\w.]+)", requirement)
        if match is None:
            sys.exit(f"expected NAME>=VERSION, got {requirement}")
        found.append(f"{match[1]}=={match[2]}")
    return found


def main(path: str, *extras: str) -> None:
    """Prints them, one a line."""
    project = tomllib.loads(Path(path).read_text())["project"]
    optional = project["optional-dependencies"]
    if unknown := [e for e in extras if e not in optional]:
        sys.exit(f"expected extras of {', '.join(optional)}, got {', '.join(unknown)}")
    print("\n".join(lowest(project["dependencies"] + [r for e in extras for r in optional[e]])))


if __name__ == "__main__":
    main(*sys.argv[1:])
