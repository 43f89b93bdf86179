"""Initial and final pseudo-points of one or more runs: `python examples/points_before_after.py RUN [RUN ...] OUT.png`.

The first row shows the initial points of the first run (which all runs share if their seeds and data are the same).
Each further row shows the final points of one run.
"""

import argparse
from pathlib import Path

import torch

from bype.models.build import model_from
from bype.runs.run import Run
from bype.viz import images as pictures

SHOWN = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", metavar="RUN")
    parser.add_argument("out", metavar="OUT.png")
    options = parser.parse_args()
    runs = [Run(path) for path in options.runs]
    data = runs[0].dataset.load()
    rows = [model_from(runs[0].config, data).prior.pseudo_inputs.detach()[:SHOWN]]
    rows += [run.checkpoints.load_model(data).prior.pseudo_inputs.detach()[:SHOWN] for run in runs]
    pictures.save_png(pictures.grid(torch.cat(rows), SHOWN), Path(options.out))


if __name__ == "__main__":
    main()
