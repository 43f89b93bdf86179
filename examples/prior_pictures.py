"""Draws what a mixture prior and a pseudocoreset are, from models of the digits (docs/priors.md).

python examples/prior_pictures.py MIXTURE.png PSEUDOCORESET.png [--epochs 100]
"""

import argparse

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, OffsetImage

import bype
from bype.evaluation.latents import latents
from bype.viz.axes import library_defaults
from bype.viz.palette import COLOURS


def trained(data, epochs, latent_dim, points):
    """A model with a pseudocoreset prior whose points are trained by the gradient of the loss."""
    model = bype.build_model(
        data, prior="bype", coreset="elbo", likelihood="gaussian", latent_dim=latent_dim, n_components=points, seed=0
    )
    bype.train(model, data, epochs=epochs, warmup=epochs // 5, lr=2e-3)
    return model


@library_defaults()
@torch.no_grad()
def mixture(model, data, out):
    """The codes of one latent, N(0, 1), and the mixture as the stack of its components."""
    codes = latents(model, data.train)[:, 0]
    p = model.prior(model.encoder)
    line = torch.linspace(float(codes.min()) - 1, float(codes.max()) + 1, 600)
    total = p.log_prob(line[:, None]).exp()
    parts = [(p.component(m).log_prob(line[:, None]) + p.log_weights[m]).exp() for m in range(p.n_components)]
    order = p.loc[:, 0].argsort()  # bands from left to right
    figure = Figure(figsize=(7.5, 4), dpi=120, layout="constrained")
    axis = figure.subplots()
    axis.hist(codes.numpy(), bins=60, density=True, color="0.85", label="codes of the training images")
    bands = ["#9cc9e8", "#5ba3d0"] * p.n_components
    axis.stackplot(line, *(parts[m] for m in order), colors=bands, alpha=0.85, edgecolor="white", linewidth=0.4)
    axis.fill_between(
        [], [], color=bands[1], label=f"{p.n_components} components, one on the other, each as high as its weight"
    )
    axis.plot(line, total, color="black", linewidth=1.8, label="their sum: the mixture prior")
    standard = torch.distributions.Normal(0.0, 1.0).log_prob(line).exp()
    axis.plot(line, standard, color=COLOURS[1], linestyle="--", label="N(0, 1), the standard prior")
    axis.set_xlabel("latent z")
    axis.set_ylabel("density (per unit of z)")
    axis.legend(fontsize=9)
    figure.savefig(out, pil_kwargs={"optimize": True})


@library_defaults()
@torch.no_grad()
def pseudocoreset(model, data, out):
    """The codes of two latents; and the points as pictures, where the encoder puts them."""
    codes = latents(model, data.train).numpy()
    p, points, weights = model.prior(model.encoder), model.prior.pseudo_inputs, model.prior.weights
    figure = Figure(figsize=(10, 4.8), dpi=100, layout="constrained")
    left, right = figure.subplots(1, 2, sharex=True, sharey=True)
    for label in range(10):
        own = codes[data.train.labels.numpy() == label]
        left.scatter(*own.T, color=COLOURS[label], s=5, linewidths=0, label=str(label))
    left.legend(title="digit", markerscale=3, ncols=2, loc="upper right", framealpha=0.8)
    left.set_title(f"{len(codes)} training images, by digit")
    right.scatter(*codes.T, color="0.85", s=3, linewidths=0)
    right.set_title(f"{len(points)} pseudo-points, circles of radius sigma")
    angle = np.linspace(0, 2 * np.pi, 60)
    for point, (x, y), weight in zip(points, p.loc.tolist(), weights.tolist(), strict=True):
        share = weight / float(weights.max())
        scale = float(p.scale)
        right.plot(x + scale * np.cos(angle), y + scale * np.sin(angle), color=COLOURS[0], linewidth=0.3 + 1.7 * share)
        picture = OffsetImage(1 - point[0].numpy(), cmap="gray", zoom=2.2)
        right.add_artist(AnnotationBbox(picture, (x, y), pad=0.1, bboxprops={"linewidth": 0.5}))
    for axis in (left, right):
        axis.set_aspect("equal")
        axis.set_xlabel("latent 1")
    left.set_ylabel("latent 2")
    figure.savefig(out, pil_kwargs={"optimize": True})


def main(argv=None):
    """Trains both models and writes the pictures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("mixture")
    parser.add_argument("pseudocoreset")
    parser.add_argument("--epochs", type=int, default=100)
    given = parser.parse_args(argv)
    data = bype.load("digits")
    mixture(trained(data, given.epochs, 1, 20), data, given.mixture)
    pseudocoreset(trained(data, given.epochs, 2, 20), data, given.pseudocoreset)


if __name__ == "__main__":
    main()
