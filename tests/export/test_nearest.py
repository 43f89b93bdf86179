import itertools

import pytest
import torch

import bype
from bype.data.images import Images
from bype.export import coreset, nearest
from bype.export.nearest import nearest_items


def by_all_pairs(points, images):
    distances = (points.flatten(1).double()[:, None] - images.scaled().flatten(1).double()).norm(dim=2)
    return distances.argmin(1), distances.amin(1)


def images_with_structure(n, seed=0):
    """Images of 300 values, most of whose variance is in a few directions, with repeats."""
    g = torch.Generator().manual_seed(seed)
    factors = torch.rand(n, 6, generator=g) @ torch.rand(6, 300, generator=g) / 6
    pixels = (factors + 0.1 * torch.rand(n, 300, generator=g)).clamp(0, 1).view(n, 1, 15, 20)
    return Images((255 * torch.cat([pixels, pixels[: n // 3]])).byte())


@pytest.mark.parametrize("directions", [1, 16, 300])
def test_the_nearest_examples_are_those_of_all_pairs(directions, monkeypatch):
    monkeypatch.setattr(nearest, "DIRECTIONS", directions)
    monkeypatch.setattr(nearest, "EXAMPLES_AT_ONCE", 70)
    monkeypatch.setattr(nearest, "POINTS_AT_ONCE", 30)
    monkeypatch.setattr(nearest, "PAIRS_AT_ONCE", 50)
    images = images_with_structure(300)
    some = images.scaled(torch.arange(0, 300, 7))
    points = torch.cat([some, (some + 0.05 * torch.randn_like(some)).clamp(0, 1), torch.rand(20, 1, 15, 20)])
    rows, distances = nearest_items(points, images)
    expected_rows, expected = by_all_pairs(points, images)
    torch.testing.assert_close(distances, expected, rtol=1e-12, atol=1e-12)
    assert torch.equal(rows, expected_rows), "of equal ones the first"
    assert distances[: len(some)].eq(0).all()


@pytest.mark.parametrize("full_cost", [0, 0.01, 1, 1e9])
def test_the_nearest_examples_are_the_same_whatever_number_of_directions_follows(full_cost, monkeypatch):
    numbers, shortened = [], nearest._shortened
    monkeypatch.setattr(nearest, "_shortened", lambda x, q: numbers.append(q.shape[1]) or shortened(x, q))
    small = {"DIRECTIONS": 16, "FEWEST_DIRECTIONS": 2, "EXAMPLES_AT_ONCE": 70, "FULL_COST": full_cost}
    for name, value in small.items():
        monkeypatch.setattr(nearest, name, value)
    images = images_with_structure(600)
    points = images_with_structure(30, seed=1).scaled()
    rows, distances = nearest_items(points, images)
    expected_rows, expected = by_all_pairs(points, images)
    torch.testing.assert_close(distances, expected, rtol=1e-12, atol=1e-12)
    assert torch.equal(rows, expected_rows)
    assert min(numbers) == {0: 2, 1e9: 16}.get(full_cost, min(numbers))
    fewer = [b for a, b in itertools.pairwise(numbers) if b < a]
    assert len(set(fewer)) == len(fewer), "a number that was too small is not tried again"


def test_few_pairs_are_computed_in_full(monkeypatch):
    pairs, update = [], nearest._update
    monkeypatch.setattr(nearest, "_update", lambda *given: pairs.append(len(given[-1])) or update(*given))
    images = images_with_structure(6000)
    nearest_items(images_with_structure(100, seed=1).scaled(), images)
    assert sum(pairs) < 0.2 * 133 * 8000


def test_points_outside_the_range_and_small_images_are_handled():
    data = bype.load("digits")
    points = data.train.scaled()[:40] * 3 - 1
    rows, distances = nearest_items(points, data.train)
    expected_rows, expected = by_all_pairs(points, data.train)
    assert torch.equal(rows, expected_rows)
    torch.testing.assert_close(distances, expected, rtol=1e-12, atol=1e-12)
    rows, distances = nearest_items(points[:1], data.train.first(1))
    assert rows.tolist() == [0]


def test_the_gallery_shows_the_points_of_largest_weight(tmp_path, tiny, monkeypatch):
    model = bype.build_model(tiny, n_components=6, latent_dim=2, hidden_dim=4)
    model.prior.weights.copy_(torch.tensor([1.0, 9.0, 2.0, 8.0, 4.0, 24.0]))
    shown = []
    monkeypatch.setattr(coreset, "GALLERY", 2)
    plain = coreset.pictures.gallery
    monkeypatch.setattr(coreset.pictures, "gallery", lambda *given: shown.extend(given) or plain(*given))
    coreset.export_coreset(model, None, tmp_path)
    assert torch.equal(shown[0], model.prior.pseudo_inputs[[5, 1]])
    assert shown[1].tolist() == pytest.approx([24 / 48, 9 / 48])
    assert shown[2].startswith("6 pseudo-points for 48 training examples")
    assert shown[2].endswith("the first 2")
    assert len((tmp_path / "weights.csv").read_text().splitlines()) == 7, "the table has all"
