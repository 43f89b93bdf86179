"""Anomaly detection: how well does the log-likelihood rank items of a class that was left out of the training set?

    python examples/anomalies.py [--sets digits wine breast-cancer mnist fashion-mnist] [--seeds 5] [--out anomalies.md]

Each detector is fitted to the rows of all other classes, and scores held-out rows of these and all rows of the class
that was left out. The table has the area under the ROC curve, mean and standard deviation over the seeds; 0.5 is
chance. GaussianMixture, KernelDensity and LocalOutlierFactor see images through their first 30 principal components.
"""

import argparse
import warnings
from pathlib import Path

import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import KernelDensity, LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import bype

#: The class that is left out, for each set.
LEFT_OUT = {"digits": 1, "wine": 2, "breast-cancer": 0, "mnist": 1, "fashion-mnist": 7}


def rows_of(name, limit):
    """Rows, classes and the shape of an image (None for a table)."""
    if name in ("wine", "breast-cancer"):
        data = load_wine() if name == "wine" else load_breast_cancer()
        return data.data, data.target, None
    if name == "digits":
        data = load_digits()
        return (data.data + 0.5) / 17, data.target, (8, 8)
    train = bype.load(name).train.first(limit)
    return train.scaled().flatten(1).double().numpy(), train.labels.numpy(), (28, 28)


def detectors(shape, seed, epochs):
    """Name and detector; each is fitted to rows and gives higher scores to usual ones."""
    few = [] if shape is None else [PCA(30, random_state=seed)]
    forest = IsolationForest(random_state=seed)
    yield "ByPEVAE", bype.ByPEVAE(image_shape=shape, random_state=seed, max_epochs=epochs)
    yield "VAE, standard prior", bype.ByPEVAE(prior="standard", image_shape=shape, random_state=seed, max_epochs=epochs)
    yield "IsolationForest", forest
    mixture = GaussianMixture(5, reg_covar=1e-3, random_state=seed)
    yield "GaussianMixture", make_pipeline(StandardScaler(), *few, mixture)
    yield "KernelDensity", make_pipeline(StandardScaler(), *few, KernelDensity(bandwidth="scott"))
    yield "LocalOutlierFactor", make_pipeline(StandardScaler(), *few, LocalOutlierFactor(novelty=True))
    try:
        from pyod.models.vae import VAE
    except ImportError:
        return
    yield "PyOD VAE", PyOD(VAE(verbose=0, random_state=seed))


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


def auroc(name, seed, limit, epochs):
    """The area under the ROC curve of each detector."""
    X, y, shape = rows_of(name, limit)
    unusual = y == LEFT_OUT[name]
    order = np.random.default_rng(seed).permutation(np.flatnonzero(~unusual))
    held = len(order) // 5
    train, test = X[order[held:]], np.concatenate([X[order[:held]], X[unusual]])
    truth = np.repeat([1, 0], [held, unusual.sum()])
    return {
        title: roc_auc_score(truth, d.fit(train).score_samples(test)) for title, d in detectors(shape, seed, epochs)
    }


def main(argv=None):
    """Prints the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sets", nargs="+", default=["digits", "wine", "breast-cancer"], choices=LEFT_OUT)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--limit", type=int, default=3000, help="use the first images only")
    parser.add_argument("--epochs", type=int, help="of the VAEs [default: the recipe's]")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args(argv)
    warnings.simplefilter("ignore", UserWarning)
    lines = []
    for name in given.sets:
        runs = [auroc(name, seed, given.limit, given.epochs) for seed in range(given.seeds)]
        lines += [] if lines else [f"| set | left out | {' | '.join(runs[0])} |", "|---|---|" + "---|" * len(runs[0])]
        cells = [f"{np.mean(v):.3f} ± {np.std(v):.3f}" for v in zip(*(r.values() for r in runs), strict=True)]
        lines.append(f"| {name} | {LEFT_OUT[name]} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    if given.out:
        given.out.write_text("\n".join(lines) + "\n")
    return lines


if __name__ == "__main__":
    main()
