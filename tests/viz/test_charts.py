"""Charts have titles, labels with units and legible captions, in one palette, whatever matplotlib is set to."""

import contextlib
import os

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image, ImageFont

from bype.models.generation import Plates
from bype.viz import charts, images, labelled, latents
from bype.viz.images import CAPTION, PAGE_WIDTH
from bype.viz.palette import COLOURS, MARKERS


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are drawn, kept before they become pixels."""
    figures = []
    made = Figure.__init__

    def keep(self, *args, **options):
        made(self, *args, **options)
        figures.append(self)

    monkeypatch.setattr(Figure, "__init__", keep)
    return figures


LINES = [{"epoch": e, "val_loss": 3.0 - e, "reconstruction": 2.0 - e, "kl": 1.0} for e in (1, 2)]
CHARTS = {
    "curves": lambda: charts.curves({"a": LINES, "b": LINES}, "nats"),
    "loss_curves": lambda: charts.loss_curves({"a": [3.0, 2.0], "b": [3.0, 1.0]}, "title", "nats"),
    "dots": lambda: charts.dots(["a", "b"], [[1.0], [2.0]], [1.5, 1.5], "nll_nats", "nats"),
    "lines_by_number": lambda: charts.lines_by_number(
        {t: {"a": {10: [1.0]}, "b": {10: [2.0]}} for t in ("one", "two")}, "M", "NLL (nats)", log=True
    ),
}
IMAGES = torch.linspace(0, 1, 9 * 4 * 5).view(9, 1, 4, 5)
PICTURES = CHARTS | {
    "plates": lambda: charts.plates(
        Plates(IMAGES[:2], IMAGES[:8].view(2, 4, 1, 4, 5), torch.tensor([3, 5]), torch.tensor([0.25, 0.75]))
    ),
    "class_map": lambda: latents.class_map(torch.arange(20.0).view(10, 2), list("0123456789"), "title"),
    "class_maps": lambda: latents.class_maps([latents.ClassMap(torch.arange(8.0).view(4, 2), list("0123"), "one")] * 3),
    "labelled_rows": lambda: labelled.labelled_rows([labelled.Row(IMAGES, "heading", [f"item {i}" for i in range(9)])]),
    "reconstructions": lambda: labelled.reconstructions(IMAGES, IMAGES, [f"item {i}" for i in range(9)], "title"),
    "lines": lambda: labelled.lines(IMAGES.view(3, 3, 1, 4, 5), [["a", "b"]] * 3, "title"),
    "samples": lambda: labelled.samples(IMAGES, "title"),
    "gallery": lambda: images.gallery(IMAGES, torch.full((9,), 1 / 9), "title"),
    "grid": lambda: images.grid(IMAGES),
    "pairs": lambda: images.pairs(IMAGES, IMAGES),
}


def test_every_picture_of_the_room_is_among_these():
    made = {
        name
        for module in (charts, images, labelled, latents)
        for name, function in vars(module).items()
        if getattr(function, "__module__", "") == module.__name__
        and getattr(function, "__annotations__", {}).get("return") is Image.Image
        and not name.startswith("_")
    }
    assert made - {"figure_image"} == PICTURES.keys()  # which turns a figure of matplotlib into a picture


@pytest.mark.parametrize("name", CHARTS)
def test_every_chart_has_a_title_and_labelled_axes_with_a_unit(name, drawn):
    CHARTS[name]()
    for axis in drawn[0].axes:
        assert axis.get_title()
        assert axis.get_xlabel()
        assert "nats" in axis.get_xlabel() + axis.get_ylabel()


@pytest.mark.parametrize("name", ["curves", "loss_curves", "lines_by_number"])
def test_lines_have_the_palette(name, drawn):
    CHARTS[name]()
    for axis in drawn[0].axes:
        assert [line.get_color() for line in axis.get_lines() if not line.get_label().startswith("_")] == list(
            COLOURS[:2]
        )


def test_a_name_keeps_its_colour_and_marker_in_every_panel(drawn):
    charts.lines_by_number({"one": {"a": {3: [1.0]}, "b": {3: [2.0]}}, "two": {"b": {3: [2.0]}}}, "K", "%")
    one, two = ([(x.get_label(), x.get_color(), x.get_marker()) for x in axis.get_lines()] for axis in drawn[0].axes)
    assert two[0] in one
    assert len({colour for _, colour, _ in one}) == 2


def test_a_name_keeps_its_colour_and_marker_in_every_chart_of_its_kind(drawn):
    for panel in ({"a": {3: [1.0]}, "b": {3: [2.0]}, "c": {3: [2.0]}}, {"c": {3: [2.0]}}):
        charts.lines_by_number({"one": panel}, "K", "%", names=("a", "b", "c"))
    of_c = [[(x.get_color(), x.get_marker()) for x in f.axes[0].get_lines() if x.get_label() == "c"] for f in drawn]
    assert of_c[0] == of_c[1] == [(COLOURS[2], MARKERS[2])]


@pytest.mark.parametrize("name", [*CHARTS, "plates", "class_map", "class_maps"])
def test_captions_are_legible_where_a_figure_fills_the_width_of_a_page(name, drawn):
    PICTURES[name]()
    (figure,) = drawn
    scale = min(1, PAGE_WIDTH / figure.get_size_inches()[0])
    texts = [t for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip()]
    assert len(texts) > 3
    assert min(t.get_fontsize() for t in texts) * scale >= CAPTION


@pytest.mark.parametrize(("count", "side"), [(9, 8), (100, 28), (500, 28), (500, 64), (120, 8)])
def test_weights_in_a_gallery_are_legible_and_fit_their_images(count, side, monkeypatch):
    """The largest weights have five characters, such as 12.34 %, small ones 0.0123 %."""
    sizes = []
    load = ImageFont.load_default

    def keep(size):
        sizes.append(size)
        return load(size)

    monkeypatch.setattr(ImageFont, "load_default", keep)
    weights = torch.full((count,), 1 / count)
    picture = images.gallery(torch.zeros(count, 1, side, side), weights, "title")
    assert min(sizes) * PAGE_WIDTH / picture.width * 72 >= CAPTION
    columns = min(10 if count <= 100 else 20, count)
    assert load(min(sizes)).getlength("0.123 %") <= picture.width / columns


@contextlib.contextmanager
def settings_of_a_user():
    """An rc file in use, another style, and a backend that is not installed."""
    before = os.environ.get("MPLBACKEND")
    os.environ["MPLBACKEND"] = "module://not_installed"
    rc = {
        "text.usetex": True, "figure.facecolor": "red", "axes.facecolor": "black", "font.size": 30,
        "font.family": "cursive", "image.cmap": "hot", "axes.grid": True, "savefig.dpi": 20, "figure.dpi": 20,
        "lines.linewidth": 9, "axes.prop_cycle": mpl.cycler(color=["pink"]), "axes.titlesize": 40,
    }  # fmt: skip
    try:
        with mpl.rc_context(rc):
            yield
    finally:
        if before is None:
            del os.environ["MPLBACKEND"]
        else:
            os.environ["MPLBACKEND"] = before


@pytest.mark.parametrize("name", PICTURES)
def test_settings_of_the_user_change_no_picture(name):
    plain = PICTURES[name]()
    with settings_of_a_user():
        inside = dict(mpl.rcParams)
        styled = PICTURES[name]()
        assert dict(mpl.rcParams) == inside
    assert isinstance(plain, Image.Image)
    assert np.array_equal(np.asarray(plain), np.asarray(styled))
