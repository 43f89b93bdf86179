"""Every chart has a title and labelled axes with units, in colours that differ for colour-blind readers."""

import pytest
from matplotlib.figure import Figure

from bype.viz import charts


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
            charts.COLOURS[:2]
        )


def test_a_name_keeps_its_colour_and_marker_in_every_panel(drawn):
    charts.lines_by_number({"one": {"a": {3: [1.0]}, "b": {3: [2.0]}}, "two": {"b": {3: [2.0]}}}, "K", "%")
    one, two = ([(x.get_label(), x.get_color(), x.get_marker()) for x in axis.get_lines()] for axis in drawn[0].axes)
    assert two[0] in one
    assert len({colour for _, colour, _ in one}) == 2
