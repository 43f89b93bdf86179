"""All functions of `bype.plot` on the axes of one figure (docs/plots.md): `python examples/plots.py RUN OUT.png`."""

import argparse

from matplotlib.figure import Figure

import bype


def main(argv=None):
    """Draws the figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", metavar="RUN")
    parser.add_argument("out", metavar="OUT.png")
    given = parser.parse_args(argv)
    run = bype.Run.open(given.run).load()
    figure = Figure(figsize=(13, 16), layout="constrained")
    axes = figure.subplots(4, 2)
    bype.plot.curves(run, ax=axes[0, 0])
    bype.plot.knn(run, ax=axes[0, 1])
    bype.plot.latent_map(run, n=600, ax=axes[1, 0])
    bype.plot.scores(run, ax=axes[1, 1])
    bype.plot.pseudocoreset(run, ax=axes[2, 0])
    bype.plot.samples(run, n=49, ax=axes[2, 1])
    bype.plot.reconstructions(run, n=16, ax=axes[3, 0])
    bype.plot.interpolation(run, ax=axes[3, 1])
    figure.savefig(given.out, dpi=70)


if __name__ == "__main__":
    main()
