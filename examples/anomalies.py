"""Anomaly detection: how well does a density rank items of a class that was left out of the training set?

    python examples/anomalies.py [--sets digits wine breast-cancer mnist fashion-mnist] [--seeds 5] [--first 0]
        [--results anomalies.jsonl] [--page PAGE.md] [--picture PICTURE.png]

Each detector is fitted to rows of all other classes, and scores held-out rows of these and all rows of the class that
was left out: of images that of the seed's number, of the tables always the same. The table has the area under the ROC
curve, mean and standard error over the seeds; 0.5 is chance.

The VAEs rank rows by their log-likelihood, and by the share of the row that is not explained: the squared distance from
its reconstruction, divided by that from the mean of the training rows. The mixture's number of components and the
bandwidth are those of the highest likelihood of held-out training rows. Settings of large images were chosen with the
seeds 5 and 6 (`--first 5 --seeds 2`), which leave out other classes. All else is at its default. GaussianMixture,
KernelDensity and LocalOutlierFactor see images through their first principal components. PyOD's VAE is included if PyOD
is installed (`pip install 'bype[examples]'`).
"""

import argparse
import time
import warnings

import numpy as np
from records import Records, add_options, bold_best, draw_dots, show
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV, ShuffleSplit
from sklearn.neighbors import KernelDensity, LocalOutlierFactor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

import bype

#: The class that is left out of a table.
LEFT_OUT = {"wine": 2, "breast-cancer": 0}
#: The principal components of images that others see.
COMPONENTS = 30
#: Settings of the VAEs for images of 28x28 pixels.
LARGE = {"latent_dim": 10, "n_components": 100, "max_epochs": 50}
SETS = ("digits", "mnist", "fashion-mnist", *LEFT_OUT)


def rows_of(name, limit):
    """Rows, classes and the shape of an image (None for a table)."""
    if name in LEFT_OUT:
        data = load_wine() if name == "wine" else load_breast_cancer()
        return data.data, data.target, None
    if name == "digits":
        data = load_digits()
        return (data.data + 0.5) / 17, data.target, (8, 8)
    train = bype.load(name).train.first(limit)
    return train.scaled().flatten(1).double().numpy(), train.labels.numpy(), (28, 28)


def split(name, seed, limit):
    """Training rows, test rows, which of these are of the class that was left out, and the shape of an image."""
    X, y, shape = rows_of(name, limit)
    unusual = y == LEFT_OUT.get(name, seed % 10)
    order = np.random.default_rng(seed).permutation(np.flatnonzero(~unusual))
    held = len(order) // 5
    test = np.concatenate([order[:held], np.flatnonzero(unusual)])
    return X[order[held:]], X[test], ~unusual[test], shape


def chosen(detector, options, shape, seed):
    """A detector on standardised columns or principal components, with the option of the highest likelihood."""
    before = StandardScaler() if shape is None else PCA(COMPONENTS, random_state=seed)
    pipeline = Pipeline([("before", before), ("detector", detector)])
    if not options:
        return pipeline
    held = ShuffleSplit(1, test_size=0.2, random_state=seed)
    return GridSearchCV(pipeline, {f"detector__{name}": v for name, v in options.items()}, cv=held)


def vae(shape, seed, epochs, **options):
    """A ByPE-VAE, for large images with the settings chosen for them."""
    if shape == (28, 28):
        options |= LARGE
    if epochs is not None:
        options["max_epochs"] = epochs
    return bype.ByPEVAE(image_shape=shape, random_state=seed, **options)


def unexplained(model, train, rows):
    """The squared distance of each row from its reconstruction, as a share of that from the mean of the training rows.

    Columns of a table are standardised.
    """
    width = train.std(0) if model.image_shape is None else 1.0
    left = ((model.inverse_transform(model.transform(rows)) - rows) / width) ** 2
    return left.sum(1) / (((train.mean(0) - rows) / width) ** 2).sum(1)


class PyOD:
    """PyOD's detectors score unusual rows higher."""

    def __init__(self, detector):
        self.detector = detector

    def fit(self, X):
        """Fits the detector."""
        self.detector.fit(X)
        return self

    def score_samples(self, X):
        """Minus PyOD's score."""
        return -self.detector.decision_function(X)


def pyod_vae(seed):
    """PyOD's VAE."""
    from pyod.models.vae import VAE

    return PyOD(VAE(verbose=0, random_state=seed))


#: Makes each detector from an image's shape, a seed and the epochs of the VAEs.
DETECTORS = {
    "ByPEVAE": vae,
    "VAE, standard prior": lambda shape, seed, epochs: vae(shape, seed, epochs, prior="standard"),
    "PyOD VAE": lambda shape, seed, epochs: pyod_vae(seed),
    "IsolationForest": lambda shape, seed, epochs: IsolationForest(random_state=seed),
    "GaussianMixture": lambda shape, seed, epochs: chosen(
        GaussianMixture(reg_covar=1e-3, random_state=seed), {"n_components": [1, 2, 5, 10, 20]}, shape, seed
    ),
    "KernelDensity": lambda shape, seed, epochs: chosen(
        KernelDensity(), {"bandwidth": np.geomspace(0.1, 3, 10)}, shape, seed
    ),
    "LocalOutlierFactor": lambda shape, seed, epochs: chosen(LocalOutlierFactor(novelty=True), {}, shape, seed),
}


def areas(name, seed, detector, limit, epochs):
    """The areas under the ROC curve of a detector's scores, and the seconds of the fit."""
    train, test, usual, shape = split(name, seed, limit)
    start = time.perf_counter()
    fitted = DETECTORS[detector](shape, seed, epochs).fit(train)
    seconds = time.perf_counter() - start
    scores = {"auroc": fitted.score_samples(test)}
    if isinstance(fitted, bype.ByPEVAE):
        scores["unexplained"] = -unexplained(fitted, train, test)
    return {k: round(float(roc_auc_score(usual, v)), 5) for k, v in scores.items()} | {"seconds": round(seconds, 1)}


def rows_of_table(records):
    """Name, detector and score of each row that has a figure."""
    every = [(f"{d}: unexplained share", d, "unexplained") for d in DETECTORS] + [(d, d, "auroc") for d in DETECTORS]
    every.sort(key=lambda row: (list(DETECTORS).index(row[1]), row[2]))
    return [row for row in every if any(row[2] in piece for piece in records.find(detector=row[1]))]


def table(records, sets):
    """The lines of the table."""
    rows = rows_of_table(records)
    counts = [len({p["seed"] for p in records.find(set=s)}) for s in sets]
    heads = [f"{s}, {n} seed{'s' * (n > 1)}" for s, n in zip(sets, counts, strict=True)]
    lines = [f"| detector | {' | '.join(heads)} |", "|---|" + "---|" * len(sets)]
    columns = [bold_best([records.values(score, set=s, detector=d) for _, d, score in rows], 3) for s in sets]
    return lines + [f"| {label} | {' | '.join(c[i] for c in columns)} |" for i, (label, _, _) in enumerate(rows)]


def draw(records, sets, path):
    """Each detector's area per set."""
    rows = rows_of_table(records)
    panels = {s: ("AUROC", [records.values(score, set=s, detector=d) for _, d, score in rows]) for s in sets}
    own = [label for label, d, _ in rows if d == "ByPEVAE"]
    draw_dots(panels, [label for label, _, _ in rows], own, "A class that was left out of training", path)


def main(argv=None):
    """Prints the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sets", nargs="+", default=["digits", *LEFT_OUT], choices=SETS)
    parser.add_argument("--detectors", nargs="+", default=list(DETECTORS), choices=DETECTORS)
    parser.add_argument("--limit", type=int, default=3000, help="use the first images only")
    parser.add_argument("--epochs", type=int, help="of the VAEs [default: 50 of large images, else the recipe's]")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    add_options(parser)
    given = parser.parse_args(argv)
    warnings.simplefilter("ignore")
    records = Records(given.results)
    for name in given.sets:
        for seed in range(given.first, given.first + (0 if given.recorded else given.seeds)):
            for d in given.detectors:
                records.piece_if_installed(
                    lambda: areas(name, seed, d, given.limit, given.epochs),  # noqa: B023
                    set=name, seed=seed, detector=d,
                )  # fmt: skip
    lines = table(records, given.sets)
    show(lines, given.page)
    if given.picture:
        draw(records, given.sets, given.picture)
    return lines


if __name__ == "__main__":
    main()
