"""Rows and columns of pictures are labelled with what they are, and hold the pixels of their images."""

import numpy as np
import pytest
import torch
from PIL import ImageDraw, ImageFont

from bype.viz import images, labelled

IMAGES = torch.rand(10, 1, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def written(monkeypatch):
    """The texts of the pictures that are drawn, with their places."""
    texts, own = [], ImageDraw.ImageDraw.text

    def text(self, xy, text, *args, **options):
        if text:
            texts.append((text, xy, options["font"].size))
        return own(self, xy, text, *args, **options)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", text)
    return texts


def places(picture, tensor):
    """The upper left corner of each image in a picture, which must have it exactly once."""
    canvas, found = np.asarray(picture), []
    for tile in images.to_uint8(tensor):
        large = tile.repeat(12, 0).repeat(12, 1)
        windows = np.lib.stride_tricks.sliding_window_view(canvas[..., 0], (96, 1))[..., 0]
        rows, columns = np.nonzero((windows == large[:, 0, 0]).all(-1))
        hits = [
            (x, y)
            for y, x in zip(rows.tolist(), columns.tolist(), strict=True)
            if np.array_equal(canvas[y : y + 96, x : x + 96], large)
        ]
        assert len(hits) == 1
        found += hits
    return found


def test_reconstructions_are_below_their_originals_and_both_are_named(written):
    names = [f"photos/{i}.png\ncat" for i in range(10)]
    picture = labelled.reconstructions(IMAGES, 1 - IMAGES, names, "title", columns=4)
    above, below = places(picture, IMAGES), places(picture, 1 - IMAGES)
    assert all(x == u and 0 < v - y <= 120 for (x, y), (u, v) in zip(above, below, strict=True))
    assert len({y for _, y in above}) == 3, "rows of four"
    texts = [text for text, _, _ in written]
    assert texts.count("original") == texts.count("reconstruction") == 3
    assert texts.count("title") == 1
    assert texts.count("cat") == 10
    for (text, (x, y), _), (left, top) in zip([t for t in written if ".png" in t[0]], below, strict=True):
        assert text.endswith(".png")
        assert left < x < left + 96 < 96 + x
        assert top + 96 < y < top + 120
    for text, (x, _), _ in written:
        if text in ("original", "reconstruction"):
            assert x < min(left for left, _ in above), "beside the row"


def test_lines_say_from_where_to_where_and_how_far(written):
    path = IMAGES[:6].view(2, 3, 1, 8, 8)
    picture = labelled.lines(path, [["a.png", "b.png"], ["c.png", "d.png"]], "title")
    at = places(picture, IMAGES[:6])
    assert [x for x, _ in at[:3]] == [x for x, _ in at[3:]]
    texts = [text for text, _, _ in written]
    assert [t for t in texts if t.startswith(("from", "to"))] == ["from a.png", "to b.png", "from c.png", "to d.png"]
    assert [t for t in texts if t in ("t = 0", "0.5", "1")] == ["t = 0", "0.5", "1"]


def test_samples_of_components_have_a_row_each(written):
    picture = labelled.samples(IMAGES[:6], "title", left=["component 3, 2 %", "component 5, 1 %"], columns=3)
    at = places(picture, IMAGES[:6])
    assert len({y for _, y in at}) == 2
    assert [t for t, _, _ in written] == ["title", "component 3, 2 %", "component 5, 1 %"]


def test_a_label_of_a_wide_picture_whose_letters_are_larger_is_whole(written):
    labelled.samples(IMAGES[:1].repeat(64, 1, 1, 1), "title", left=["component 499, 0.200 %"] * 4, columns=16)
    assert [t for t, _, _ in written] == ["title", *["component 499, 0.200 %"] * 4]


def test_a_long_name_keeps_its_end_and_stays_within_the_picture(written):
    long = "folder/" * 40 + "end.png"
    picture = labelled.reconstructions(IMAGES[:2], IMAGES[:2].flip(0), [long, "x"], "title")
    (text, (x, _), size) = next(t for t in written if t[0].endswith("end.png"))
    assert text.startswith("...")
    width = ImageFont.load_default(size).getlength(text)
    assert x - width / 2 >= 0
    assert x + width / 2 <= picture.width
    assert width <= 96 + labelled.GAP


def test_names_with_line_breaks_and_other_letters_are_drawn(written):
    labelled.reconstructions(IMAGES[:2], IMAGES[:2], ["a\tb", "bäume, 猫"], "title")
    assert [t for t, _, _ in written][-2:] == ["a b", "bäume, 猫"]


def test_a_gallery_names_its_points_in_the_order_of_their_weights(written):
    images.gallery(IMAGES[:3], torch.tensor([0.2, 0.5, 0.3]), "title", ["0: cat", "1: dog", "2"])
    assert [t for t, _, _ in written] == ["title", "1: dog", "50.00 %", "2", "30.00 %", "0: cat", "20.00 %"]
