"""One palette: every colour has the contrast that WCAG asks for, and colour-blind readers can tell them apart."""

import itertools
import re
from pathlib import Path

import numpy as np
import pytest

from bype import viz
from bype.viz.palette import COLOURS, DARK, FRAME, LIGHT, PRINT, REST, style_sheet

FOLDER = Path(viz.__file__).parent
#: Machado, Oliveira and Fernandes (2009), severity 1, for linear RGB.
VIEWS = {
    "full": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.119192, 0.9503041]]
)


def linear(colour):
    c = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def contrast(one, other):
    """The contrast ratio of WCAG 2.2."""
    low, high = sorted(float(linear(c) @ [0.2126, 0.7152, 0.0722]) for c in (one, other))
    return (high + 0.05) / (low + 0.05)


def lab(rgb):
    t = TO_XYZ @ rgb / TO_XYZ.sum(1)
    f = np.where(t > 216 / 24389, np.cbrt(t), (24389 / 27 * t + 16) / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def test_contrast_and_distances_have_the_known_values():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01)
    assert lab(linear("#ffffff")) == pytest.approx([100, 0, 0], abs=0.01)
    assert lab(linear("#ff0000")) == pytest.approx([53.24, 80.09, 67.20], abs=0.02)


@pytest.mark.parametrize("view", VIEWS)
def test_two_colours_differ_for_every_kind_of_vision(view):
    seen = [lab(np.clip(VIEWS[view] @ linear(colour), 0, 1)) for colour in COLOURS]
    distances = {
        (a, b): np.linalg.norm(x - y) for (a, x), (b, y) in itertools.combinations(zip(COLOURS, seen, strict=True), 2)
    }
    assert min(distances.values()) >= 25, min(distances, key=distances.get)


@pytest.mark.parametrize("colour", [*COLOURS, REST])
def test_colours_of_data_stand_out_from_white(colour):
    assert contrast(colour, "#ffffff") >= 3


@pytest.mark.parametrize("theme", [LIGHT, DARK, PRINT], ids=["light", "dark", "print"])
def test_text_of_a_page_is_legible(theme):
    for ground in (theme.back, theme.card):
        assert contrast(theme.text, ground) >= 7
        assert contrast(theme.soft, ground) >= 4.5
        assert contrast(theme.link, ground) >= 4.5


def test_colours_are_named_in_one_file_only():
    found = [
        (path.name, colour)
        for path in sorted(FOLDER.rglob("*"))
        if path.suffix in (".py", ".css", ".js", ".jinja") and path.name != "palette.py"
        for colour in re.findall(r"(?<![\w&])#[0-9a-fA-F]{3,8}\b|\btab10\b|\bcolor=\"C\d", path.read_text())
    ]
    assert found == []
    assert FRAME.startswith("#")


def test_the_style_sheet_of_a_page_has_all_of_them():
    sheet = style_sheet()
    for colour in (*COLOURS, *LIGHT, *DARK, *PRINT):
        assert colour in sheet
    assert sheet.count("@media") == 3
