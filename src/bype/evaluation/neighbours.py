"""k-nearest-neighbour accuracy."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from bype.core.errors import InputError

KNN = (3, 5, 7, 9, 11, 13, 15)


def knn_accuracy(
    base: Tensor, base_labels: Tensor, query: Tensor, query_labels: Tensor, ks: Sequence[int] = KNN
) -> dict[int, float]:
    """Accuracy of K-nearest-neighbour classification with Euclidean distance, for each K, in percent.

    In a tied vote the smallest label wins.

    Args:
        base: The reference points, (n, D).
        base_labels: Their labels, (n,).
        query: The points to classify, (m, D).
        query_labels: Their labels, (m,).
        ks: The numbers of neighbours K.

    Returns:
        The accuracy for each K.

    Raises:
        InputError: If a K is not between 1 and n.
    """
    from sklearn.neighbors import NearestNeighbors

    check_ks(ks, len(base))
    search = NearestNeighbors(n_neighbors=max(ks), algorithm="brute").fit(base.cpu().numpy())
    classes, numbered = np.unique(base_labels.cpu().numpy(), return_inverse=True)  # in order, for ties
    near = numbered[search.kneighbors(query.cpu().numpy(), return_distance=False)]
    truth = query_labels.cpu().numpy()
    votes = np.zeros((len(near), len(classes)), np.int64)
    accuracy, rows, counted = {}, np.arange(len(near)), 0
    for k in sorted(ks):
        for column in near.T[counted:k]:
            votes[rows, column] += 1
        counted = k
        accuracy[k] = float(100 * (classes[votes.argmax(1)] == truth).mean())
    return {k: accuracy[k] for k in ks}


def check_ks(ks: Sequence[int], n: int) -> None:
    """Raises an InputError unless there is at least one K and each is between 1 and n."""
    if not ks or not all(1 <= k <= n for k in ks):
        raise InputError(f"k: expected numbers from 1 to {n}, the number of reference examples, got {list(ks)}")
