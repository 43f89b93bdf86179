"""Splits: stratified by label, or given by name or index."""

import numpy as np
import pytest
import torch

import bype
from bype.data.rows import random_rows

IMAGES = np.random.default_rng(0).random((200, 2, 3)).astype(np.float32)
LABELS = np.repeat([0, 1, 2], [150, 40, 10])


@pytest.mark.parametrize("n", [10, 11, 57, 200])
def test_a_stratified_split_has_the_sizes_of_a_plain_one_and_each_row_once(n):
    plain, fair = random_rows(n), random_rows(n, 10, np.arange(n) % 3)
    assert {k: len(v) for k, v in plain.items()} == {k: len(v) for k, v in fair.items()}
    assert torch.cat(list(fair.values())).sort().values.tolist() == list(range(n))


def test_stratified_each_class_has_its_share_of_each_split():
    data = bype.from_arrays(IMAGES, LABELS, stratify=True)
    for images in (data.validation, data.test):
        assert torch.bincount(images.labels).tolist() == [15, 4, 1]
    assert data.test.labels.unique_consecutive().numel() > 3, "classes are mixed: the first N are a fair sample"
    again = bype.from_arrays(IMAGES, LABELS, stratify=True)
    assert data.checksum() == again.checksum()
    assert torch.equal(data.test.pixels[:, 0], torch.from_numpy(IMAGES)[data.test.origin])
    with pytest.raises(bype.InputError, match="expected labels to stratify by, got none"):
        bype.from_arrays(IMAGES, stratify=True)


@pytest.mark.parametrize("kind", ["indices", "masks", "names"])
def test_splits_are_given_by_index_or_name(kind):
    rows = {"train": range(100), "val": list(range(150, 200)), "test": torch.arange(100, 150)}
    names = np.array(["train"] * 100 + ["test"] * 50 + ["val"] * 50)
    given = {"indices": rows, "masks": {k: names == k for k in rows}, "names": list(names)}[kind]
    data = bype.from_arrays(IMAGES, LABELS, splits=given)
    for split, start, stop in (("train", 0, 100), ("test", 100, 150), ("validation", 150, 200)):
        assert torch.equal(data.splits[split].pixels[:, 0], torch.from_numpy(IMAGES[start:stop]))
        assert data.splits[split].labels.tolist() == LABELS[start:stop].tolist()
        assert data.source(split, 3) == str(start + 3)


def test_a_missing_split_is_a_tenth_of_the_training_rows():
    data = bype.from_arrays(IMAGES, LABELS, splits={"train": range(100), "test": range(100, 200)}, stratify=True)
    assert (len(data.train), len(data.validation), len(data.test)) == (90, 10, 100)
    assert max(data.validation.origin.tolist()) < 100
    assert set(data.validation.origin.tolist()).isdisjoint(data.train.origin.tolist())


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ({"train": [0, 1], "test": [1]}, "expected each row in one split, got row 1 twice"),
        ({"train": [0, 0]}, "expected each row in one split, got row 0 twice"),
        ({"train": [200]}, "splits: train: expected rows from 0 to 199, got 200 to 200"),
        ({"train": [0.5]}, "expected rows, whole numbers or a mask of 200, got float64"),
        ({"test": [1]}, "expected rows for training, got test"),
        ({}, "expected rows for training, got no split"),
        ({"train": [0], "dev": [1]}, "expected train, validation and test, each once"),
        (["train"] * 3, "or 200 names, got"),
    ],
)
def test_splits_that_contradict_themselves_are_refused(splits, message):
    with pytest.raises(bype.InputError, match=message):
        bype.from_arrays(IMAGES, splits=splits)
