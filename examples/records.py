"""Results of an example, one JSON line per piece, so that an interrupted run continues; and tables of them."""

import json
import re
from pathlib import Path

import numpy as np


class Records:
    """The pieces of a file; without a path they are only held.

    Args:
        path: A file of JSON lines; a piece is appended as soon as it is computed.
    """

    def __init__(self, path=None):
        self.path = path
        there = path is not None and path.exists()
        self.pieces = [json.loads(line) for line in path.read_text().splitlines()] if there else []

    def find(self, **key):
        """The pieces with these values."""
        return [p for p in self.pieces if all(p.get(name) == value for name, value in key.items())]

    def piece(self, compute, **key):
        """Computes and records a piece, unless it is recorded.

        Args:
            compute: Returns the figures by name.
            key: What they are figures of.
        """
        if self.find(**key):
            return
        found = key | compute()
        self.pieces.append(found)
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a") as f:
                f.write(json.dumps(found) + "\n")
        print(json.dumps(found), flush=True)

    def piece_if_installed(self, compute, **key):
        """The same, but left out, with a line, if a package is missing."""
        try:
            self.piece(compute, **key)
        except ImportError as e:
            print(f"left out: {', '.join(map(str, key.values()))} ({e})")

    def values(self, name, **key):
        """The figures of this name in the pieces with these values, in the order of the seeds."""
        return [p[name] for p in sorted(self.find(**key), key=lambda p: p["seed"]) if name in p]


def with_error(values, digits):
    """The mean and its standard error, as text; of one value that value."""
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    error = np.std(values, ddof=1) / len(values) ** 0.5
    return f"{np.mean(values):.{digits}f} ± {error:.{digits}f}"


def bold_best(rows, digits, best=max):
    """Cells of lists of values; that of the best mean is bold."""
    means = [best(np.mean(v), -np.inf if best is max else np.inf) if v else None for v in rows]
    top = best((m for m in means if m is not None), default=None)
    texts = [with_error(v, digits) if v else "-" for v in rows]
    return [
        f"**{text}**" if mean is not None and mean == top else text for text, mean in zip(texts, means, strict=True)
    ]


def show(lines, page):
    """Prints a table; with a page, also replaces its table, which stands between two comments."""
    table = "\n".join(lines)
    print(table)
    if page is None:
        return
    text = page.read_text()
    found = re.subn(r"(<!-- table -->\n).*?(<!-- end -->)", lambda m: f"{m[1]}{table}\n{m[2]}", text, flags=re.S)
    assert found[1] == 1, f"{page}: expected one pair of comments"
    page.write_text(found[0])


def draw_dots(panels, names, own, title, path):
    """Draws panels side by side: for each name a dot per seed, and a bar at their mean.

    Args:
        panels: By the title of each panel the label of its axis, and the values of each name.
        names: The names, from top to bottom.
        own: Those that stand out.
        title: The title of the figure.
        path: The picture.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.2 + 2.2 * len(panels), 1 + 0.36 * len(names)), layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for ax, (head, (label, rows)) in zip(axes, panels.items(), strict=True):
        for i, (name, values) in enumerate(zip(names, rows, strict=True)):
            color = "#0072B2" if name in own else "#555555"
            ax.scatter(values, [i] * len(values), s=14, color=color, alpha=0.45, linewidths=0)
            ax.scatter([np.mean(values)] if values else [], [i] if values else [], s=70, color=color, marker="|")
        ax.set(title=head, xlabel=label)
        ax.set_yticks(range(len(names)), names)
    axes[0].set_ylim(len(names) - 0.5, -0.5)
    figure.suptitle(f"{title}: dots are seeds, bars their mean")
    figure.savefig(path, dpi=110)


def add_options(parser):
    """Options of every example."""
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--results", type=Path, help="file of results; what is there is not computed again")
    parser.add_argument("--recorded", action="store_true", help="compute nothing: make the table of the results file")
    parser.add_argument("--page", type=Path, help="page whose table is replaced")
    parser.add_argument("--picture", type=Path, help="picture to draw")
