"""Pseudo-points as they started and as they ended: `python examples/points_before_after.py RUN [RUN ...] OUT.png`.

The first row holds the points as they started (the runs' own, if their seeds and data agree), each further row a run's.
"""

import sys
from pathlib import Path

import torch

from bype import pictures
from bype.runs import Run, model_from

SHOWN = 20


def main() -> None:
    *paths, out = sys.argv[1:]
    runs = [Run(path) for path in paths]
    data = runs[0].load_data()
    rows = [model_from(runs[0].config(), data).prior.pseudo_inputs.detach()[:SHOWN]]
    rows += [run.load_model(data).prior.pseudo_inputs.detach()[:SHOWN] for run in runs]
    pictures.save_png(pictures.grid(torch.cat(rows), SHOWN), Path(out))


if __name__ == "__main__":
    main()
