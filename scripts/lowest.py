"""Prints the lowest versions that a pyproject.toml allows for the package's own dependencies, as pip constraints."""

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


if __name__ == "__main__":
    print("\n".join(lowest(tomllib.loads(Path(sys.argv[1]).read_text())["project"]["dependencies"])))
