"""The pseudocoreset as a summary of the data: how much of them do M weighted points keep?

    python examples/summary.py [--set mnist] [--sizes 50 200 500] [--seeds 3] [--out summary.md]

For each summary, the table has the test accuracy (%) of a classifier trained on its weighted, labelled points, and the
distance of its weighted mean embedding from that of the data: the maximum mean discrepancy (MMD) with a Gaussian
kernel. Summaries: the pseudocoreset of a ByPE-VAE (points moved by `elbo`, labelled by the vote of the images that
they explain), M random images, M images in equal parts from each class, k-means (centres, labelled by a vote, weighted
by the size of the cluster), and k-medoids (the image nearest to each centre).
"""

import argparse
import warnings
from pathlib import Path

import numpy as np
import torch
from sklearn.cluster import MiniBatchKMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

import bype
from bype.evaluation.augmentation import coreset_labels


def mean_embedding_distance(points, weights, X):
    """The MMD between weighted points and X, with a Gaussian kernel of the median distance."""
    sample = torch.from_numpy(X[:2000])
    p, w = torch.from_numpy(points), torch.from_numpy(weights / weights.sum())
    width = torch.pdist(sample[:500]).median()

    def kernel(a, b):
        return torch.exp(-torch.cdist(a, b).square() / (2 * width**2))

    square = w @ kernel(p, p) @ w - 2 * (w @ kernel(p, sample)).mean() + kernel(sample, sample).mean()
    return float(square.clamp(min=0).sqrt())


def vote(index, y, m):
    """The most frequent class of the rows with each index."""
    table = np.zeros((m, y.max() + 1))
    np.add.at(table, (index, y), 1)
    return table.argmax(1)


def summaries(X, y, m, seed, epochs, shape):
    """Name, points, classes and weights."""
    rng = np.random.default_rng(seed)
    equal = np.full(m, len(X) / m)
    rows = rng.choice(len(X), m, replace=False)
    yield "random", X[rows], y[rows], equal
    classes = np.unique(y)
    each = [rng.choice(np.flatnonzero(y == c), m // len(classes), replace=False) for c in classes]
    rows = np.concatenate(each)
    yield "stratified", X[rows], y[rows], np.full(len(rows), len(X) / len(rows))
    means = MiniBatchKMeans(m, random_state=seed, n_init=1, batch_size=2048).fit(X)
    sizes = np.bincount(means.labels_, minlength=m).astype(float)
    yield "k-means", means.cluster_centers_.astype(X.dtype), vote(means.labels_, y, m), sizes
    nearest = (
        torch.cdist(torch.from_numpy(means.cluster_centers_.astype(X.dtype)), torch.from_numpy(X)).argmin(1).numpy()
    )
    yield "k-medoids", X[nearest], y[nearest], sizes
    data = bype.from_arrays(X.reshape(-1, *shape).astype(np.float32), y)
    model = bype.build_model(
        data, prior="bype", likelihood="gaussian", coreset="elbo", n_components=m, latent_dim=20, seed=seed
    )
    bype.train(model, data, epochs=epochs, warmup=epochs // 5, lr=1e-3, seed=seed)
    prior = model.prior
    points = prior.pseudo_inputs.detach().flatten(1).numpy().astype(X.dtype)
    yield "pseudocoreset", points, coreset_labels(model, data).labels.numpy(), prior.weights.detach().double().numpy()


def accuracy(points, classes, weights, X, y, seed):
    """The test accuracy of a classifier trained on points drawn by their weights, in percent."""
    rng = np.random.default_rng(seed)
    rows = rng.choice(len(points), 4000, p=weights / weights.sum())
    classifier = MLPClassifier((256,), max_iter=12, random_state=seed)
    return 100 * classifier.fit(points[rows], classes[rows]).score(X, y)


def main(argv=None):
    """Prints the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--set", default="mnist")
    parser.add_argument("--sizes", nargs="+", type=int, default=[50, 200, 500])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--limit", type=int, default=10_000, help="use the first images only")
    parser.add_argument("--epochs", type=int, default=20, help="of the VAE")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args(argv)
    warnings.simplefilter("ignore", ConvergenceWarning)  # 12 epochs are enough
    data = bype.load(given.set)
    train, test = data.train.first(given.limit), data.test.first(given.limit)
    X, y = train.scaled().flatten(1).double().numpy(), train.labels.numpy()
    test_X, test_y = test.scaled().flatten(1).double().numpy(), test.labels.numpy()
    lines = ["| M | summary | accuracy (%) | MMD |", "|---|---|---|---|"]
    for m in given.sizes:
        figures = {}
        for seed in range(given.seeds):
            for name, points, classes, weights in summaries(X, y, m, seed, given.epochs, data.shape):
                own = (
                    accuracy(points, classes, weights, test_X, test_y, seed),
                    mean_embedding_distance(points, weights, X),
                )
                figures.setdefault(name, []).append(own)
        for name, values in figures.items():
            mean, sd = np.mean(values, 0), np.std(values, 0)
            lines.append(f"| {m} | {name} | {mean[0]:.1f} ± {sd[0]:.1f} | {mean[1]:.4f} ± {sd[1]:.4f} |")
            print(lines[-1], flush=True)
    if given.out:
        given.out.write_text("\n".join(lines) + "\n")
    return lines


if __name__ == "__main__":
    main()
