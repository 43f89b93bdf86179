"""Few labels: does sampling from the prior help a classifier that has only some labelled images?

    python examples/few_labels.py [--set mnist] [--labels 100 1000] [--seeds 3] [--out few_labels.md]

A VAE is trained on images without labels. A classifier is then trained on the labelled ones, alone or with samples
r(z|x) of the components that they have in the prior. The table has the test error in percent.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

import bype
from bype.evaluation.augmentation import ClassifierOptions, error_rate, synthetic_source, train_classifier

METHODS = ("baseline", "posterior", "prior")


def labelled(data, n, seed):
    """The data set with n labelled training images, equally many of each class."""
    generator = torch.Generator().manual_seed(seed)
    labels = data.train.labels
    rows = []
    for c in labels.unique():
        own = (labels == c).nonzero()[:, 0]
        rows.append(own[torch.randperm(len(own), generator=generator)[: n // len(labels.unique())]])
    return replace(data, train=data.train[torch.cat(rows)])


def main(argv=None):
    """Prints the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--set", default="mnist")
    parser.add_argument("--labels", nargs="+", type=int, default=[100, 1000])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--images", type=int, default=10_000, help="images without labels")
    parser.add_argument("--epochs", type=int, default=30, help="of the VAE")
    parser.add_argument("--steps", type=int, default=2000, help="of the classifier")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args(argv)
    data = bype.load(given.set)
    errors = {n: {method: [] for method in METHODS} for n in given.labels}
    for seed in range(given.seeds):
        images = replace(data, train=data.train.first(given.images), validation=data.validation.first(1000))
        model = bype.build_model(images, prior="bype", likelihood="gaussian", n_components=100, seed=seed)
        bype.train(model, images, epochs=given.epochs, warmup=given.epochs // 5, lr=1e-3, seed=seed)
        for n in given.labels:
            few = labelled(data, n, seed)
            batch = min(100, n)
            options = ClassifierOptions(epochs=max(1, given.steps * batch // n), batch_size=batch, seed=seed)
            for method in METHODS:
                classifier = train_classifier(few, synthetic_source(model, few, method), options)
                errors[n][method].append(error_rate(classifier, data.test))
    lines = ["| labelled images | none | posterior sampling | prior sampling |", "|---|---|---|---|"]
    for n, own in errors.items():
        lines.append(f"| {n} | " + " | ".join(f"{np.mean(v):.2f} ± {np.std(v):.2f}" for v in own.values()) + " |")
    print("\n".join(lines))
    if given.out:
        given.out.write_text("\n".join(lines) + "\n")
    return lines


if __name__ == "__main__":
    main()
