"""The parts of a report's page: sheets, numbers, charts, markup."""

import base64
import io
import math
import re

import matplotlib as mpl
import numpy as np
import pytest
import torch
from PIL import Image

from bype.core.numbers import readable
from bype.viz.report import Report, RunPart, render
from bype.viz.sheets import Sheet
from bype.viz.vector import line_chart
from bype.viz.wording import MEANINGS, metrics_in_words


def decoded(uri):
    head, _, data = uri.partition(",")
    return head, base64.b64decode(data)


def test_a_tile_of_a_sheet_holds_the_image_that_was_added():
    images = torch.arange(90)[:, None, None, None].expand(90, 1, 4, 6) / 255
    sheet = Sheet("s", (1, 4, 6))
    tiles = sheet.add(images[:50]) + sheet.add(images[50:])
    head, data = decoded(sheet.uri())
    assert head == "data:image/png;base64"
    picture = np.asarray(Image.open(io.BytesIO(data)))
    for i, tile in enumerate(tiles):
        assert (picture[tile.y * 4 : tile.y * 4 + 4, tile.x * 6 : tile.x * 6 + 6] == i).all()
    assert sheet.ratio == 4 / 6


def test_a_sheet_keeps_colours_and_stores_large_images_with_little_loss():
    x = torch.zeros(2, 3, 40, 40)
    x[0, 0], x[1, 2] = 1, 1
    sheet = Sheet("s", (3, 40, 40))
    sheet.add(x)
    head, data = decoded(sheet.uri())
    assert head == "data:image/webp;base64"
    picture = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    assert abs(picture[5:35, 5:35] - [255, 0, 0]).max() < 12
    assert abs(picture[5:35, 45:75] - [0, 0, 255]).max() < 12


@pytest.mark.parametrize(
    ("value", "text"), [(3, "3"), (0.5, "0.500"), (-1234.567, "-1234.57"), (1e-7, "1.0e-07"), (0.0, "0.00")]
)
def test_numbers_have_one_format(value, text):
    assert readable(value) == text


def test_metrics_have_units_and_meanings_in_the_order_of_the_list():
    rows = metrics_in_words(
        {"kl": 2.0, "split": "test", "knn": {"3": 90.0}, "nll_nats": 10.0, "nll_nats@em": 9.0}, "nats"
    )
    assert [row.name for row in rows] == ["nll_nats", "kl", "nll_nats@em"]
    assert [row.unit for row in rows] == ["nats per example", "nats", "nats per example"]
    assert rows[2].meaning == MEANINGS["nll_nats"][1] + " Under the refit prior em."


def test_a_chart_is_labelled_and_the_same_under_any_settings_of_the_user():
    def draw():
        return line_chart({"run": ([1, 2], [3.0, 2.0])}, "Loss", "epoch", "nats per example")

    first = draw()
    with mpl.rc_context({"axes.facecolor": "black", "font.size": 40}):
        assert draw() == first
    svg = decoded(first.uri)[1].decode()
    for text in ("Loss", "epoch", "nats per example"):
        assert f"<!-- {text} -->" in svg  # matplotlib names each text that it draws as paths
    assert first.alt == "Loss: nats per example by epoch. run from 3.00 to 2.00."


def test_a_chart_has_a_gap_where_a_value_is_not_known():
    chart = line_chart({"a": ([1, 2, 3], [1.0, math.nan, 2.0])}, "t", "x", "y", skip_start=True)
    assert chart.alt == "t: y by x. a from 1.00 to 2.00."


def test_names_with_markup_are_shown_as_text():
    page = render(Report("<b>title</b>", [RunPart('<script>x("&")</script>', "", [])], [], []))
    assert page.count("<script") == 1  # the page's own
    assert "&lt;script&gt;x(&#34;&amp;&#34;)" in page
    assert "<b>title" not in page


def test_a_page_names_no_address():
    page = render(Report("t", [RunPart("r", "s", [])], [], []))
    assert not re.search(r"https?:|//[a-z]|@import|<link[^>]*stylesheet", page)
    assert "default-src 'none'" in page
