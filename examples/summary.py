"""The pseudocoreset as a summary of the data: how much of them do M weighted points keep?

    python examples/summary.py [--set mnist] [--sizes 50 200 500] [--seeds 5]
        [--results summary.jsonl] [--page PAGE.md] [--chart CHART.png] [--picture PICTURE.png]

For each summary, the table has the test accuracy (%) of a classifier trained on its weighted, labelled points, and the
distance of its weighted mean embedding from that of the data: the maximum mean discrepancy (MMD) with a Gaussian
kernel; mean and standard error over the seeds. Summaries:

- random: M images; stratified: M images in equal parts from each class;
- k-means: centres, labelled by a vote, weighted by the size of the cluster; k-medoids: the image nearest to each;
- dd-coresets: the density-diversity coreset of that package (`pip install 'bype[examples]'`), in the first five
  principal components (better than 10 and 20 on validation images);
- pseudocoreset: of a ByPE-VAE trained on the images (strategy `elbo`), labelled by the vote of the images that each
  point explains;
- latent mixture: M components fitted by EM to the latents of the same VAE (`bype.refit(em=M)`), with their mixing
  weights; each is represented by the image whose latent mean is nearest.
"""

import argparse
import warnings
from functools import cache
from pathlib import Path

import numpy as np
import torch
from records import Records, add_options, bold_best, draw_dots, show
from sklearn.cluster import MiniBatchKMeans
from sklearn.decomposition import PCA
from sklearn.neural_network import MLPClassifier

import bype
from bype.evaluation.augmentation import coreset_labels, posteriors

#: The principal components that dd-coresets sees.
COMPONENTS = 5


class Rows:
    """The data that are summarised, and those of the classifier's accuracy.

    Args:
        name: The data set.
        limit: The number of images.
        split: `test`, or `validation` for choices.
    """

    def __init__(self, name, limit, split):
        data = bype.load(name)
        train, test = data.train.first(limit), getattr(data, split).first(limit)
        self.shape = data.shape
        self.X, self.y = train.scaled().flatten(1).numpy(), train.labels.numpy()
        self.test_X, self.test_y = test.scaled().flatten(1).numpy(), test.labels.numpy()
        points = torch.from_numpy(self.X)
        self.width = torch.pdist(points[:500]).median()
        means = torch.cat([self.kernel(part, points).mean(1) for part in points.split(500)])
        self.own = means.double().mean()

    def kernel(self, a, b):
        """The Gaussian kernel of rows, with the median distance as its width."""
        return torch.exp(-torch.cdist(a, b).square() / (2 * self.width**2))

    def mmd(self, points, weights):
        """The MMD between weighted points and the data."""
        p, w = torch.from_numpy(points), torch.from_numpy(weights / weights.sum())
        cross = self.kernel(p, torch.from_numpy(self.X)).double().mean(1)
        square = w @ self.kernel(p, p).double() @ w - 2 * (w @ cross) + self.own
        return float(square.clamp(min=0).sqrt())


def vote(index, y, m):
    """The most frequent class of the rows with each index."""
    table = np.zeros((m, y.max() + 1))
    np.add.at(table, (index, y), 1)
    return table.argmax(1)


def nearest(a, b):
    """For each row of a the nearest row of b."""
    return torch.cdist(a, b).argmin(1).numpy()


def random(rows, m, seed, epochs):
    """M images."""
    chosen = np.random.default_rng(seed).choice(len(rows.X), m, replace=False)
    return rows.X[chosen], rows.y[chosen], np.ones(m)


def stratified(rows, m, seed, epochs):
    """M images, in equal parts from each class, weighted by the size of the class."""
    rng, classes = np.random.default_rng(seed), np.unique(rows.y)
    parts = [rng.choice(np.flatnonzero(rows.y == c), m // len(classes), replace=False) for c in classes]
    chosen = np.concatenate(parts)
    return rows.X[chosen], rows.y[chosen], np.bincount(rows.y)[rows.y[chosen]].astype(float)


@cache
def clusters(rows, m, seed):
    """k-means."""
    return MiniBatchKMeans(m, random_state=seed, n_init=1, batch_size=2048).fit(rows.X)


def k_means(rows, m, seed, epochs):
    """The centres."""
    found = clusters(rows, m, seed)
    sizes = np.bincount(found.labels_, minlength=m).astype(float)
    return found.cluster_centers_.astype(np.float32), vote(found.labels_, rows.y, m), sizes


def k_medoids(rows, m, seed, epochs):
    """The image nearest to each centre."""
    centres, _, sizes = k_means(rows, m, seed, epochs)
    chosen = nearest(torch.from_numpy(centres), torch.from_numpy(rows.X))
    return rows.X[chosen], rows.y[chosen], sizes


def dd_coreset(rows, m, seed, epochs):
    """The density-diversity coreset; its density needs few dimensions: the first principal components."""
    from dd_coresets import fit_ddc_coreset

    reduced = PCA(COMPONENTS, random_state=seed).fit_transform(rows.X)
    _, weights, found = fit_ddc_coreset(reduced, k=m, random_state=seed)
    chosen = found["selected_indices"]
    return rows.X[chosen], rows.y[chosen], weights


@cache
def trained(rows, m, seed, epochs):
    """A ByPE-VAE with M pseudo-points, and its data."""
    data = bype.from_arrays(rows.X.reshape(-1, *rows.shape), rows.y)
    options = {"n_components": m, "latent_dim": 20, "likelihood": "gaussian", "coreset": "elbo"}
    model = bype.build_model(data, prior="bype", seed=seed, **options)
    bype.train(model, data, epochs=epochs, warmup=epochs // 5, lr=1e-3, seed=seed)
    return model, data


def pseudocoreset(rows, m, seed, epochs):
    """The points of the prior."""
    model, data = trained(rows, m, seed, epochs)
    points = model.prior.pseudo_inputs.detach().flatten(1).numpy()
    return points, coreset_labels(model, data).labels.numpy(), model.prior.weights.detach().double().numpy()


def latent_mixture(rows, m, seed, epochs):
    """The images nearest to the components of a mixture in the latent space."""
    model, data = trained(rows, m, seed, epochs)
    mixture = bype.refit(model, data, em=m, seed=seed)
    chosen = nearest(mixture.loc, posteriors(model, data.train)[0])
    train = data.train[torch.from_numpy(chosen)]
    return train.scaled().flatten(1).numpy(), train.labels.numpy(), mixture.log_weights.exp().double().numpy()


#: Returns points, classes and weights from the data, M, a seed and the VAE's epochs.
SUMMARIES = {
    "random": random, "stratified": stratified, "k-means": k_means, "k-medoids": k_medoids, "dd-coresets": dd_coreset,
    "pseudocoreset": pseudocoreset, "latent mixture": latent_mixture,
}  # fmt: skip


def accuracy(rows, points, classes, weights, seed):
    """The test accuracy of a classifier trained on points drawn by their weights, in percent."""
    rng = np.random.default_rng(seed)
    drawn = rng.choice(len(points), 4000, p=weights / weights.sum())
    classifier = MLPClassifier((256,), max_iter=12, random_state=seed)
    return 100 * classifier.fit(points[drawn], classes[drawn]).score(rows.test_X, rows.test_y)


def figures(rows, name, m, seed, epochs):
    """The accuracy and the MMD of a summary."""
    points, classes, weights = SUMMARIES[name](rows, m, seed, epochs)
    found = accuracy(rows, points, classes, weights, seed), rows.mmd(points, weights)
    return {"accuracy": round(float(found[0]), 3), "mmd": round(found[1], 5)}


def draw(rows, m, epochs, path):
    """The ten points of the largest weights of each summary."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 6), layout="constrained")
    axes = figure.subplots(len(SUMMARIES), 10)
    for line, (name, summary) in zip(axes, SUMMARIES.items(), strict=True):
        line[0].set_ylabel(name, rotation=0, ha="right", va="center")
        for ax in line:
            ax.set(xticks=[], yticks=[])
        try:
            points, classes, weights = summary(rows, m, 0, epochs)
        except ImportError:
            continue
        for ax, i in zip(line, np.argsort(-weights, kind="stable")[:10], strict=True):
            ax.imshow(points[i].reshape(rows.shape)[0], cmap="gray", vmin=0, vmax=1)
            ax.set_title(f"{classes[i]}: {weights[i] / weights.sum():.1%}", fontsize=7, pad=2)
    figure.suptitle(f"The ten points of the largest weight of {m}: class and weight")
    figure.savefig(path, dpi=110)


def table(records, sizes):
    """The lines of the table."""
    lines = ["| M | summary | seeds | accuracy (%) | MMD |", "|---|---|---|---|---|"]
    for m in sizes:
        names = [name for name in SUMMARIES if records.find(size=m, summary=name)]
        best = bold_best([records.values("accuracy", size=m, summary=name) for name in names], 1)
        near = bold_best([records.values("mmd", size=m, summary=name) for name in names], 4, min)
        counts = [len(records.find(size=m, summary=name)) for name in names]
        cells = zip(names, counts, best, near, strict=True)
        lines += [f"| {m} | {name} | {n} | {a} | {d} |" for name, n, a, d in cells]
    return lines


def main(argv=None):
    """Prints the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--set", default="mnist")
    parser.add_argument("--sizes", nargs="+", type=int, default=[50, 200, 500])
    parser.add_argument("--summaries", nargs="+", default=list(SUMMARIES), choices=SUMMARIES)
    parser.add_argument("--limit", type=int, default=5000, help="use the first images only")
    parser.add_argument("--epochs", type=int, default=10, help="of the VAE")
    parser.add_argument("--split", choices=["test", "validation"], default="test", help="of the accuracy")
    parser.add_argument("--chart", type=Path, help="chart of the results to draw")
    add_options(parser)
    given = parser.parse_args(argv)
    warnings.simplefilter("ignore")
    records, load = Records(given.results), cache(lambda: Rows(given.set, given.limit, given.split))
    for seed in range(0 if given.recorded else given.seeds):
        for m in given.sizes:
            for name in given.summaries:
                records.piece_if_installed(
                    lambda: figures(load(), name, m, seed, given.epochs),  # noqa: B023
                    size=m, seed=seed, summary=name,
                )  # fmt: skip
    lines = table(records, given.sizes)
    show(lines, given.page)
    if given.chart:
        names = [name for name in SUMMARIES if records.find(summary=name)]
        panels = {
            f"{label}, M = {m}": (unit, [records.values(key, size=m, summary=name) for name in names])
            for key, label, unit in (("accuracy", "accuracy", "%"), ("mmd", "MMD", "distance"))
            for m in given.sizes
        }
        draw_dots(panels, names, ["pseudocoreset", "latent mixture"], "Weighted points in place of images", given.chart)
    if given.picture:
        draw(load(), given.sizes[0], given.epochs, given.picture)
    return lines


if __name__ == "__main__":
    main()
