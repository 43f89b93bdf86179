"""The results page: `results/README.md` and its pictures, generated from the ledger alone."""

from collections.abc import Sequence
from pathlib import Path

from bype.core.errors import InputError
from bype.core.files import write_text
from bype.experiments import claims
from bype.experiments.catalog.registry import EXPERIMENTS
from bype.experiments.ledger import read
from bype.experiments.records import CellRecord

#: The first words of a generated page; a README.md without them is not overwritten.
MARK = "Made by `bype reproduce --render`"


def render(ledger: Path) -> Path:
    """Writes README.md and the pictures next to the ledger's folder.

    Returns:
        The path of the page.

    Raises:
        InputError: If there is no such folder, or the README.md next to it is not a generated page.
    """
    if ledger.name in ("", ".."):  # `.` has neither a name to link to nor a parent
        ledger = ledger.resolve()
    if not ledger.is_dir():
        raise InputError(f"--ledger {ledger}: expected a folder of finished cells, but there is none")
    page = ledger.parent / "README.md"
    if page.exists() and MARK not in page.read_text(encoding="utf-8", errors="replace"):
        raise InputError(f"{page}: not a page made by reproduce --render; move it, or choose another --ledger")
    cells, skipped = read(ledger)
    lines = [*_head(ledger, cells, skipped), *claims.section(cells)]
    for experiment in EXPERIMENTS.values():
        if experiment.section is not None:
            lines += experiment.section(cells, ledger.parent)
    write_text(page, "\n".join(lines) + "\n")
    return page


def _head(ledger: Path, cells: Sequence[CellRecord], skipped: Sequence[str]) -> list[str]:
    lines = [
        "# Results",
        "",
        f"{MARK} from the {len(cells)} cells in [`{ledger.name}`]({ledger.name}) and nothing "
        "else: one file per run, with all its settings and metrics. Values are means over seeds; intervals are 95 % "
        "intervals by Student's t; differences are paired by seed.",
        "",
    ]
    names = [Path(line.split(": ")[1]).name for line in skipped]
    return lines + ([f"Skipped files, damaged or not cells: {', '.join(names)}.", ""] if names else [])
