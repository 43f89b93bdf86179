"""`bype.plot`: axes from runs, models and arrays, in the style of bype or in the caller's."""

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib import pyplot
from matplotlib.figure import Figure

import bype
from bype import plot
from bype.core.errors import InputError
from bype.runs.run import Run
from bype.viz import images as pictures
from bype.viz.palette import COLOURS

FUNCTIONS = (
    plot.curves, plot.reconstructions, plot.samples, plot.pseudocoreset, plot.latent_map, plot.interpolation, plot.knn,
    plot.scores,
)  # fmt: skip
#: Arguments that keep the tests fast.
FEW = {plot.scores: {"n": 5, "n_samples": 2}, plot.latent_map: {"n": 20}}


@pytest.fixture(autouse=True)
def no_display(monkeypatch):
    """Figures of pyplot without a window, closed at the end."""
    monkeypatch.setattr(mpl, "rcParams", mpl.rcParams)
    before = mpl.get_backend()
    pyplot.switch_backend("agg")
    yield
    pyplot.close("all")
    pyplot.switch_backend(before)


@pytest.fixture(scope="module")
def loaded(trained):
    """A run with the prior bype, loaded."""
    return Run.open(trained["bype"]).load("cpu")


def shown(axis):
    """The picture on these axes, as bytes (h, w, 3)."""
    return axis.get_images()[0].get_array()


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_a_run_is_plotted_from_its_folder_with_a_title_and_a_new_figure(function, trained):
    axis = function(str(trained["bype"]), **FEW.get(function, {}))
    assert axis.get_title()
    assert axis.figure is pyplot.gcf()
    if not axis.get_images():
        assert axis.get_xlabel()
        assert "(" in axis.get_ylabel() or "per example" in axis.get_ylabel()


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_with_axes_nothing_else_of_matplotlib_is_touched(function, loaded, monkeypatch):
    monkeypatch.setattr(pyplot, "subplots", None)
    monkeypatch.setattr(pyplot, "gca", None)
    before, axis = dict(mpl.rcParams), Figure().subplots()
    assert function(loaded, ax=axis, **FEW.get(function, {})) is axis
    assert dict(mpl.rcParams) == before
    assert pyplot.get_fignums() == []
    assert axis.get_title()


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_a_new_figure_has_the_style_of_bype_and_leaves_the_caller_s_as_it_is(function, loaded):
    with mpl.rc_context({"axes.facecolor": "red", "axes.titlesize": 40, "figure.facecolor": "red"}):
        before = dict(mpl.rcParams)
        axis = function(loaded, **FEW.get(function, {}))
        assert dict(mpl.rcParams) == before
    assert axis.get_facecolor() == axis.figure.get_facecolor() == (1, 1, 1, 1)
    assert axis.title.get_fontsize() == 11


def test_pictures_are_those_of_the_same_arrays(loaded):
    model, x = loaded.model, loaded.data.test.first(6).scaled()
    back = model.reconstruct(x)
    expected = np.asarray(pictures.pairs(x, back))
    assert np.array_equal(shown(plot.reconstructions(loaded, n=6)), expected)
    assert np.array_equal(shown(plot.reconstructions(model, x, n=6)), expected)
    assert np.array_equal(shown(plot.reconstructions(x.numpy(), back.numpy())), expected)

    drawn = model.sample(9, generator=torch.Generator().manual_seed(3)).images
    expected = np.asarray(pictures.grid(drawn))
    assert np.array_equal(shown(plot.samples(loaded, 9, seed=3)), expected)
    assert np.array_equal(shown(plot.samples(drawn, 9)), expected)

    path = bype.interpolate(model, x[:2], x[2:4], 5)
    expected = np.asarray(pictures.grid(path.flatten(0, 1), 5))
    assert np.array_equal(shown(plot.interpolation(model, x[:2], x[2:4], steps=5)), expected)
    assert np.array_equal(shown(plot.interpolation(path)), expected)


def test_points_are_ordered_by_weight(loaded):
    coreset = loaded.model.prior
    weights = torch.arange(1.0, 21) / 210
    axis = plot.pseudocoreset(coreset.pseudo_inputs, 1000 * weights, n=7)
    tiles = pictures.to_uint8(coreset.pseudo_inputs)
    assert [np.array_equal(image.get_array(), tiles[19 - i]) for i, image in enumerate(axis.get_images())] == [True] * 7
    assert [text.get_text() for text in axis.texts[:2]] == ["9.52 %", "9.05 %"]
    assert plot.pseudocoreset(loaded, n=7).get_title() == "7 of 20 points, by mixing weight"


def test_curves_have_a_line_for_each_run_in_the_palette(trained, loaded):
    axis = plot.curves({"one": trained["bype"], "two": Run.open(trained["standard"])}, "kl")
    lines = axis.get_lines()
    assert [line.get_label() for line in lines] == ["one", "two"]
    assert [line.get_color() for line in lines] == list(COLOURS[:2])
    assert list(lines[0].get_ydata()) == [m["kl"] for m in loaded.run.metrics.read()]
    assert axis.get_ylabel() == "the paper's unit per example"


def test_what_training_returns_is_plotted(tiny):
    model = bype.build_model(tiny, n_components=6, latent_dim=3, hidden_dim=8)
    history = bype.train(model, tiny, epochs=3, warmup=1)
    (line,) = plot.curves(history).get_lines()
    assert list(line.get_xdata()) == [1, 2, 3]
    assert list(line.get_ydata()) == [info.val_loss for info in history]


def test_two_latents_are_shown_as_they_are_and_more_by_t_sne(loaded):
    means = torch.randn(30, 2, generator=torch.Generator().manual_seed(0))
    axis = plot.latent_map(means, labels=[i % 2 for i in range(30)])
    points = [np.asarray(c.get_offsets()) for c in axis.collections]
    assert np.allclose(points[0], means[::2])
    assert [t.get_text() for t in axis.get_legend().get_texts()] == ["0", "1"]
    assert "t-SNE" in plot.latent_map(loaded, n=20).get_xlabel()


def test_knn_and_scores_take_numbers(loaded):
    (line,) = plot.knn({3: 90.0, 5: 80.0}).get_lines()
    assert (list(line.get_xdata()), list(line.get_ydata())) == ([3, 5], [90.0, 80.0])
    axis = plot.scores(np.linspace(-3, 0, 50), {"other": torch.linspace(-9, -8, 10)})
    heights = [sum(bar.get_height() for bar in bars) for bars in axis.containers]
    assert heights == pytest.approx([100, 100])
    assert [t.get_text() for t in axis.get_legend().get_texts()] == ["items", "other"]


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda r, s: plot.samples(3), "expected a run"),
        (lambda r, s: plot.reconstructions(r.model), "a model by itself has none"),
        (lambda r, s: plot.knn(r.model), "a model by itself has none"),
        (lambda r, s: plot.pseudocoreset(s), "expected a prior made of points"),
        (lambda r, s: plot.pseudocoreset(torch.zeros(2, 1, 4, 4)), "expected the weights"),
        (lambda r, s: plot.samples(s, component=2), "has none"),
        (lambda r, s: plot.interpolation(r, torch.zeros(1, 1, 8, 8)), "start and end"),
        (lambda r, s: plot.latent_map(torch.randn(9, 2), labels=[1, 2]), "expected 9 labels"),
        (lambda r, s: plot.curves(r, "speed"), "expected a term"),
        (lambda r, s: plot.curves([]), "at least one epoch"),
        (lambda r, s: plot.knn({}), "expected data with labels"),
        (lambda r, s: plot.scores(np.array([np.nan])), "finite"),
        (lambda r, s: plot.curves("no-such-run"), "not a run folder"),
    ],
)
def test_what_cannot_be_plotted_is_one_error_and_leaves_no_figure(call, says, loaded, trained):
    with pytest.raises(InputError, match=says):
        call(loaded, str(trained["standard"]))
    assert pyplot.get_fignums() == []
