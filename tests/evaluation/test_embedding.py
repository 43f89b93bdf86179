"""Latents of images in any form, silhouette, nearest training examples, t-SNE."""

import sys

import numpy as np
import pytest
import torch
from sklearn.metrics import silhouette_score
from sklearn.neighbors import NearestNeighbors

import bype
from bype.core.errors import InputError
from bype.evaluation.latents import TSNE_LIBRARIES, in_two_dimensions, latent_batches, latents, silhouette, tsne


@pytest.fixture(scope="module")
def model(tiny):
    return bype.build_model(tiny, prior="bype", n_components=8, latent_dim=3, hidden_dim=16)


def test_arrays_tensors_and_images_have_the_same_latents(model, tiny):
    expected = model.encoder(tiny.test.scaled()).loc.detach()
    pixels = tiny.test.pixels
    for images in (tiny.test, pixels, pixels.numpy(), pixels[:, 0].numpy(), tiny.test.scaled()):
        torch.testing.assert_close(bype.embed(model, images), expected)
    with pytest.raises(InputError, match="expected images"):
        bype.embed(model, np.zeros((2, 3, 3), np.uint8))


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
def test_batches_of_latents_are_the_latents(tiny, likelihood):
    model = bype.build_model(tiny, prior="standard", likelihood=likelihood, latent_dim=3, hidden_dim=16)
    parts = list(latent_batches(model, tiny.train, 7))
    assert max(map(len, parts)) == 7
    torch.testing.assert_close(torch.cat(parts), latents(model, tiny.train))


def test_the_silhouette_of_two_pairs_is_that_computed_by_hand():
    means, labels = torch.tensor([[0.0], [1.0], [10.0], [11.0]]), torch.tensor([0, 0, 1, 1])
    assert silhouette(means, labels) == pytest.approx((2 * (1 - 1 / 10.5) + 2 * (1 - 1 / 9.5)) / 4)
    assert silhouette(means, torch.tensor([0, 1, 0, 1])) < 0
    assert silhouette(means, torch.zeros(4)) is None
    assert silhouette(means, torch.arange(4)) is None


def test_of_many_examples_the_silhouette_is_of_a_seeded_choice(monkeypatch):
    means = torch.randn(300, 2, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(300) % 3
    whole = silhouette(means, labels)
    assert whole == pytest.approx(silhouette_score(means.numpy(), labels.numpy()), abs=1e-5)
    monkeypatch.setitem(silhouette.__globals__, "SILHOUETTE_ITEMS", 200)
    assert silhouette(means, labels) == silhouette(means, labels) != whole
    assert silhouette(means, labels) == pytest.approx(whole, abs=0.02)


def test_neighbours_are_those_of_scikit_learn_in_both_spaces(model, tiny, monkeypatch):
    monkeypatch.setattr("bype.evaluation.neighbours.BATCH", 7)
    found = bype.neighbours(model, tiny, tiny.test, k=5)
    spaces = [
        (found.latent, latents(model, tiny.train), latents(model, tiny.test)),
        (found.pixel, tiny.train.scaled().flatten(1), tiny.test.scaled().flatten(1)),
    ]
    for ours, base, query in spaces:
        distances, rows = NearestNeighbors(n_neighbors=5, algorithm="brute").fit(base).kneighbors(query)
        assert ours.rows.tolist() == rows.tolist()
        torch.testing.assert_close(ours.distances.double(), torch.from_numpy(distances).double(), atol=1e-5, rtol=1e-4)


def test_a_training_example_is_its_own_nearest_and_the_first_of_equals_wins(model, tiny):
    doubled = bype.Dataset("twice", tiny.train[torch.tensor([3, 5, 3])], tiny.validation, tiny.test)
    found = bype.neighbours(model, doubled, tiny.train[torch.tensor([3])], k=3)
    for nearest in found:
        assert nearest.rows.tolist() == [[0, 2, 1]]
        assert nearest.distances[0, :2].tolist() == pytest.approx([0, 0], abs=1e-6)
    with pytest.raises(InputError, match="expected numbers from 1 to 3"):
        bype.neighbours(model, doubled, tiny.test, k=4)


@pytest.mark.parametrize("by", TSNE_LIBRARIES)
def test_a_map_is_seeded_and_keeps_clusters_apart(by):
    if by == "opentsne":
        pytest.importorskip("openTSNE")
    means = torch.cat([torch.randn(40, 5, generator=torch.Generator().manual_seed(i)) + 20 * i for i in range(2)])
    points = tsne(means, 0, by)
    assert points.shape == (80, 2)
    assert points.dtype == torch.float32
    assert torch.equal(points, tsne(means, 0, by))
    assert silhouette(points, torch.arange(80) // 40) > 0.5
    assert tsne(means[:4, :1], 0, by).shape == (4, 2)
    with pytest.raises(InputError, match="at least four images, got 3"):
        tsne(means[:3], 0, by)


def test_an_unknown_or_missing_library_for_a_map_is_named(monkeypatch):
    means = torch.randn(5, 3)
    with pytest.raises(InputError, match="expected t-SNE by sklearn or opentsne, got 'umap'"):
        tsne(means, 0, "umap")
    monkeypatch.setitem(sys.modules, "openTSNE", None)
    with pytest.raises(InputError, match=r"needs openTSNE: pip install 'bype\[opentsne\]'"):
        tsne(means, 0, "opentsne")


@pytest.mark.parametrize(("d", "how"), [(1, "in one dimension"), (2, "as they are"), (3, "in two dimensions by t-SNE")])
def test_latents_of_any_dimension_are_placed_in_two(d, how):
    means = torch.randn(20, d, generator=torch.Generator().manual_seed(d))
    places, said = in_two_dimensions(means, 0)
    assert places.shape == (20, 2)
    assert said.startswith(how)
    if d < 3:
        assert torch.equal(places[:, :d], means)
        assert not places[:, d:].any()
