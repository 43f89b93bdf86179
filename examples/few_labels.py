"""Few labels: does sampling from the prior help a classifier that has only some labelled images?

    python examples/few_labels.py [--set mnist] [--labels 100 1000] [--seeds 5]
        [--results few-labels.jsonl] [--page PAGE.md] [--chart CHART.png] [--picture PICTURE.png]

A VAE is trained on images without labels. A classifier is then trained on the labelled ones: alone ("none"), or with
as many synthetic images in each batch, which have the label of the image that they are made from. "posterior" samples
from q(z|x), "prior" from r(z|x), the component that the labelled image has in the prior. The table has the error in
percent on the test images, mean and standard error over the seeds.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from records import Records, add_options, bold_best, draw_dots, show

import bype
from bype.evaluation.augmentation import synthetic_source
from bype.evaluation.classifier import ClassifierOptions, error_rate, train_classifier

METHODS = ("none", "posterior", "prior")


def labelled(data, n, seed):
    """The data set with n labelled training images, equally many of each class."""
    generator = torch.Generator().manual_seed(seed)
    labels = data.train.labels
    rows = []
    for c in labels.unique():
        own = (labels == c).nonzero()[:, 0]
        rows.append(own[torch.randperm(len(own), generator=generator)[: n // len(labels.unique())]])
    return replace(data, train=data.train[torch.cat(rows)])


def trained(data, seed, given):
    """A VAE trained on the first images, without their labels."""
    images = replace(data, train=data.train.first(given.images), validation=data.validation.first(1000))
    model = bype.build_model(images, prior="bype", likelihood="gaussian", n_components=given.components, seed=seed)
    bype.train(model, images, epochs=given.epochs, warmup=given.epochs // 5, lr=1e-3, seed=seed)
    return model


def errors(data, model, seed, n, method, given):
    """The test and the validation error of a classifier, in percent."""
    few = labelled(data, n, seed)
    batch = min(100, n)
    epochs = max(1, given.steps * batch // n)
    options = ClassifierOptions(epochs, batch, given.weight, given.width, seed=seed)
    source = synthetic_source(model, few, {"none": "baseline"}.get(method, method))
    classifier = train_classifier(few, source, options)
    return {name: round(error_rate(classifier, getattr(data, name)), 3) for name in ("test", "validation")}


def draw(data, model, n, seed, path):
    """A labelled image of each class, and samples from its posterior and from its component of the prior."""
    from matplotlib.figure import Figure

    few = labelled(data, n, seed)
    first = [int((few.train.labels == c).nonzero()[0]) for c in few.train.labels.unique()]
    generator = torch.Generator().manual_seed(seed)
    rows = [few.train.scaled(torch.tensor(first))]
    for method in METHODS[1:]:
        source = synthetic_source(model, few, method)
        rows += [source(torch.tensor(first), generator).images for _ in range(3)]
    figure = Figure(figsize=(7.5, 5.6), layout="constrained")
    axes = figure.subplots(len(rows), len(first))
    for line, images in zip(axes, rows, strict=True):
        for ax, image in zip(line, images, strict=True):
            ax.imshow(image[0], cmap="gray", vmin=0, vmax=1)
            ax.set(xticks=[], yticks=[])
    names = ["labelled", "", "posterior", "", "", "prior", ""]
    for line, name in zip(axes, names, strict=True):
        line[0].set_ylabel(name, rotation=0, ha="right", va="center")
    figure.suptitle("Synthetic images of the label of the image above them")
    figure.savefig(path, dpi=110)


def main(argv=None):
    """Prints the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--set", default="mnist")
    parser.add_argument("--labels", nargs="+", type=int, default=[100, 1000])
    parser.add_argument("--images", type=int, default=10_000, help="images without labels")
    parser.add_argument("--components", type=int, default=100, help="of the prior")
    parser.add_argument("--epochs", type=int, default=20, help="of the VAE")
    parser.add_argument("--steps", type=int, default=600, help="of the classifier")
    parser.add_argument("--width", type=int, default=512, help="of the classifier's hidden layers")
    parser.add_argument("--weight", type=float, default=0.4, help="of the labelled images in the loss")
    parser.add_argument("--chart", type=Path, help="chart of the results to draw")
    add_options(parser)
    given = parser.parse_args(argv)
    records = Records(given.results)
    for seed in range(0 if given.recorded else given.seeds):
        missing = [(n, m) for n in given.labels for m in METHODS if not records.find(labels=n, seed=seed, method=m)]
        if not missing and not (given.picture and seed == 0):
            continue
        data = bype.load(given.set)
        model = trained(data, seed, given)
        for n, method in missing:
            records.piece(
                lambda: errors(data, model, seed, n, method, given),  # noqa: B023
                labels=n, seed=seed, method=method,
            )  # fmt: skip
        if given.picture and seed == 0:
            draw(data, model, given.labels[0], seed, given.picture)
    lines = [f"| labelled images | seeds | {' | '.join(METHODS)} |", "|---|---|" + "---|" * len(METHODS)]
    for n in given.labels:
        cells = bold_best([records.values("test", labels=n, method=m) for m in METHODS], 2, min)
        lines.append(f"| {n} | {len(records.find(labels=n, method='none'))} | {' | '.join(cells)} |")
    show(lines, given.page)
    if given.chart:
        panels = {
            f"{n} labelled images": ("test error (%)", [records.values("test", labels=n, method=m) for m in METHODS])
            for n in given.labels
        }
        draw_dots(panels, METHODS, METHODS[2:], "Synthetic images in training", given.chart)
    return lines


if __name__ == "__main__":
    main()
