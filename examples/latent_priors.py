"""Draws the four priors over two latents of the digits, with the codes of the training images (docs/priors.md).

python examples/latent_priors.py OUT.png [--epochs 100]
"""

import argparse

import numpy as np
import torch
from matplotlib.figure import Figure

import bype
from bype.evaluation.latents import latents

TITLES = {"standard": "standard: N(0, I)", "vamp": "vamp", "exemplar": "exemplar", "bype": "bype"}


def main(argv=None):
    """Trains a model with each prior and writes the picture."""
    parser = argparse.ArgumentParser()
    parser.add_argument("out")
    parser.add_argument("--epochs", type=int, default=100)
    given = parser.parse_args(argv)
    data = bype.load("digits")
    figure = Figure(figsize=(12, 3.5), dpi=110, layout="constrained")
    for axis, (prior, title) in zip(figure.subplots(1, 4), TITLES.items(), strict=True):
        model = bype.build_model(data, prior=prior, likelihood="gaussian", latent_dim=2, n_components=30, exemplars=200)
        bype.train(model, data, epochs=given.epochs, warmup=given.epochs // 5, lr=2e-3)
        codes = latents(model, data.train).numpy()
        side = 1.1 * np.abs(codes).max()
        line = torch.linspace(-side, side, 200)
        grid = torch.cartesian_prod(line, line)
        with torch.no_grad():
            log_density = model.prior(model.encoder).log_prob(grid).view(200, 200).T
        levels = np.linspace(-8, 0, 17) + float(log_density.max())
        axis.contourf(line, line, log_density, levels=levels, cmap="Greys", extend="min", alpha=0.8)
        axis.set_aspect("equal")
        axis.scatter(*codes.T, c=data.train.labels, cmap="tab10", s=4, linewidths=0)
        axis.set_title(title, fontsize=11)
        axis.set_xlabel("z₁")
    figure.axes[0].set_ylabel("z₂")
    figure.savefig(given.out)


if __name__ == "__main__":
    main()
