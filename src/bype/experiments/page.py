"""The results page: `results/README.md` and its pictures, made from the ledger alone."""

from collections.abc import Sequence
from pathlib import Path

from bype.core.errors import InputError
from bype.core.files import write_text
from bype.experiments.catalog.registry import EXPERIMENTS
from bype.experiments.ledger import read
from bype.experiments.records import CellRecord

#: What every page begins with: a page without it is somebody else's, and is left alone.
MARK = "Made by `bype reproduce --render`"


def render(ledger: Path) -> Path:
    """Writes README.md and the pictures beside a ledger's folder.

    Returns:
        The page.

    Raises:
        InputError: If there is no such folder, or the README.md beside it is none that was made so.
    """
    if ledger.name in ("", ".."):  # `.` has no name to be linked by, and no folder above it
        ledger = ledger.resolve()
    if not ledger.is_dir():
        raise InputError(f"--ledger {ledger}: expected a folder of finished cells, got none there")
    page = ledger.parent / "README.md"
    if page.exists() and MARK not in page.read_text(encoding="utf-8", errors="replace"):
        raise InputError(
            f"{page}: expected a page made by reproduce --render, or none, got another; move it, or --ledger"
        )
    cells, left_out = read(ledger)
    lines = _head(ledger, cells, left_out)
    for experiment in EXPERIMENTS.values():
        if experiment.section is not None:
            lines += experiment.section(cells, ledger.parent)
    write_text(page, "\n".join(lines) + "\n")
    return page


def _head(ledger: Path, cells: Sequence[CellRecord], left_out: Sequence[str]) -> list[str]:
    lines = [
        "# Results",
        "",
        f"{MARK} from the {len(cells)} cells of [`{ledger.name}`]({ledger.name}) and from "
        "nothing else: one file for each run, with all its settings and figures. Means over seeds; intervals are 95 %, "
        "by Student's t; differences are paired by seed.",
        "",
    ]
    names = [Path(line.split(": ")[1]).name for line in left_out]
    return lines + ([f"Left out, damaged or foreign: {', '.join(names)}.", ""] if names else [])
