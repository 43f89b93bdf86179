"""Draws the four priors over two latents of the digits, with the codes of the training images (docs/priors.md).

python examples/latent_priors.py OUT.png [--epochs 100]
"""

import argparse

import numpy as np
import torch
from matplotlib.figure import Figure

import bype
from bype.evaluation.latents import latents
from bype.viz.axes import library_defaults
from bype.viz.palette import COLOURS


def main(argv=None):
    """Trains a model with each prior and writes the picture."""
    parser = argparse.ArgumentParser()
    parser.add_argument("out")
    parser.add_argument("--epochs", type=int, default=100)
    given = parser.parse_args(argv)
    data = bype.load("digits")
    with library_defaults():
        draw(data, given.epochs).savefig(given.out, pil_kwargs={"optimize": True})


def draw(data, epochs):
    """The figure: a model for each prior, its density and the codes."""
    figure = Figure(figsize=(10, 3.1), dpi=120, layout="constrained")
    axes = figure.subplots(1, 4)
    for axis, prior in zip(axes, ("standard", "vamp", "exemplar", "bype"), strict=True):
        model = bype.build_model(
            data, prior=prior, likelihood="gaussian", latent_dim=2, n_components=30, exemplars=200, seed=0
        )
        bype.train(model, data, epochs=epochs, warmup=epochs // 5, lr=2e-3)
        codes = latents(model, data.train).numpy()
        side = 1.1 * np.abs(codes).max()
        line = torch.linspace(-side, side, 200)
        grid = torch.cartesian_prod(line, line)
        with torch.no_grad():
            log_density = model.prior(model.encoder).log_prob(grid).view(200, 200).T
        levels = np.linspace(-8, 0, 17) + float(log_density.max())
        axis.contourf(line, line, log_density, levels=levels, cmap="Greys", extend="min", alpha=0.45)
        axis.set_aspect("equal")
        for label in range(10):
            own = codes[data.train.labels.numpy() == label]
            axis.scatter(*own.T, color=COLOURS[label], s=5, linewidths=0, label=str(label))
        axis.set_title(f"{prior}: N(0, I)" if prior == "standard" else prior)
        axis.set_xlabel("latent 1")
    axes[0].set_ylabel("latent 2")
    figure.legend(*axes[0].get_legend_handles_labels(), title="digit", loc="outside right center", markerscale=3)
    figure.suptitle("Codes of 8x8 digits over log p(z), darker is denser")
    return figure


if __name__ == "__main__":
    main()
