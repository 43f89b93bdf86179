"""Objects in a notebook and as text: short, escaped, and never an error."""

import base64
import importlib.util
import io
import json
import re
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import bype
from bype.core.display import Card, Strip, as_html, as_text
from bype.core.notebook import NotebookBar, in_notebook
from bype.runs.run import Run


def picture(html):
    """The image in a card."""
    (data,) = re.findall(r"data:image/png;base64,([^\"]+)", html)
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def test_every_text_of_a_card_is_escaped():
    html = as_html(Card("<b>", [("<i>", "<script>alert('x')</script>")], Strip(np.zeros((1, 1, 2, 2)), '"<u>')))
    assert not re.findall(r"<(?:b|i|script|u)>", html)
    assert "&lt;script&gt;" in html
    assert 'alt="&quot;&lt;u&gt;"' in html


def test_a_strip_shows_ten_images_side_by_side():
    values = np.linspace(0, 1, 12).reshape(12, 1, 1, 1).repeat(4, 2).repeat(4, 3)
    shown = picture(as_html(Card("x", [], Strip(values, "images"))))
    assert shown.shape == (40, 10 * 42, 3)
    assert [shown[5, 42 * i, 0] for i in range(10)] == [round(255 * i / 11) for i in range(10)]


def test_a_data_set_says_its_sizes_and_shows_its_images(tiny):
    assert repr(tiny).startswith("Dataset(name tiny, train 48, validation 6, test 6, shape 1 x 4 x 5, values uint8")
    assert "classes 3" in repr(tiny)
    assert picture(tiny._repr_html_()).shape == (8 * 4, 10 * (8 * 5 + 2), 3)
    assert len(repr(tiny.train)) < 100
    assert "tensor" not in repr(tiny.train)


def test_an_empty_split_and_a_table_are_shown():
    empty = bype.Images(torch.zeros(0, 1, 2, 2))
    assert "count 0" in repr(empty)
    assert "<img" not in empty._repr_html_()
    row = bype.Images(torch.zeros(3, 1, 1, 5))
    assert "<img" not in row._repr_html_()


@pytest.mark.parametrize("prior", ["standard", "vamp", "exemplar", "bype"])
def test_models_and_priors_show_their_components(tiny, prior):
    model = bype.build_model(tiny, prior=prior, n_components=7, exemplars=5, latent_dim=3, hidden_dim=8, seed=0)
    html = model._repr_html_()
    assert type(model.prior).__name__ in html
    assert ("<img" in html) == (prior in ("vamp", "bype"))
    expected = {"standard": "latent_dim=3", "vamp": "components=7", "exemplar": "n_exemplars=5", "bype": "n_data=48"}
    assert expected[prior] in repr(model.prior)
    assert "Encoder" in repr(model)  # torch's own, with all layers


def test_the_points_of_largest_weight_come_first(tiny):
    points = torch.linspace(0.1, 0.9, 5).view(5, 1, 1, 1).expand(5, 1, 4, 4).contiguous()
    prior = bype.PseudocoresetPrior(points, 10)
    prior.weights.copy_(torch.tensor([1.0, 2, 3, 0, 4]))
    shown = picture(prior._repr_html_())
    order = [round(255 * float(points[i, 0, 0, 0])) for i in (4, 2, 1, 0, 3)]
    assert [int(shown[5, 42 * i, 0]) for i in range(5)] == pytest.approx(order, abs=1)


def test_runs_say_how_far_they_are_trained(trained, tmp_path):
    run = Run(trained["bype"])
    assert re.search(r"epochs 3 of 3, best validation loss -?[\d.]+ \(the paper's unit\) at epoch \d\)$", repr(run))
    assert "digits" in run._repr_html_()
    assert "not trained yet" in repr(Run(tmp_path / "none"))
    (tmp_path / "config.json").write_text("{")
    assert "state" in repr(Run(tmp_path))
    assert "<img" in run.load("cpu")._repr_html_()


def test_an_estimator_shows_its_parameters_and_its_model():
    estimator = bype.ByPEVAE(max_epochs=1, latent_dim=2, hidden_dim=8, n_components=5, random_state=0)
    assert repr(estimator).startswith("ByPEVAE(")
    before = estimator._repr_html_()
    estimator.fit(np.random.default_rng(0).normal(size=(60, 3)))
    after = estimator._repr_mimebundle_()["text/html"]
    assert "PseudocoresetPrior" in after
    assert "PseudocoresetPrior" not in before


def test_cards_have_one_line_of_text():
    assert as_text(Card("Run", [("path", Path("x")), ("seed", 0)])) == "Run(path x, seed 0)"


@pytest.fixture
def notebook(monkeypatch):
    """A stand-in for a kernel: what is displayed, and each update of it."""
    shown = []

    class Handle:
        def update(self, data, *, raw):
            shown.append(data["text/plain"])

    def display(data, *, raw, display_id):
        assert raw
        assert display_id
        assert "<progress" in data["text/html"]
        shown.append(data["text/plain"])
        return Handle()

    shell = types.SimpleNamespace(kernel=object())
    module = types.ModuleType("IPython")
    module.get_ipython = lambda: shell
    module.display = types.ModuleType("IPython.display")
    module.display.display = display
    monkeypatch.setitem(sys.modules, "IPython", module)
    monkeypatch.setitem(sys.modules, "IPython.display", module.display)
    return shown


def test_training_in_a_notebook_is_one_output_that_changes(notebook, tiny, capsys):
    assert in_notebook()
    model = bype.build_model(tiny, n_components=4, latent_dim=2, hidden_dim=8, seed=0)
    bype.train(model, tiny, epochs=3, warmup=1)
    assert notebook[-1].startswith("3/3  val ")
    assert "epoch" not in capsys.readouterr().err


def test_elsewhere_training_is_silent_unless_it_is_asked_to_speak(tiny, capsys, tmp_path):
    assert not in_notebook()
    model = bype.build_model(tiny, n_components=4, latent_dim=2, hidden_dim=8, seed=0)
    bype.train(model, tiny, epochs=1, warmup=0)
    assert capsys.readouterr().err == ""
    seen = []
    bype.fit(
        model, tiny, tmp_path / "run", epochs=2, warmup=0, progress=True, on_epoch=lambda i, t: seen.append(i.epoch)
    )
    assert capsys.readouterr().err.count("epoch ") == 2
    assert seen == [1, 2]


def test_a_bar_of_a_notebook_escapes_and_counts(notebook):
    with NotebookBar() as bar:
        task = bar.add_task("<b>", total=4)
        bar.update(task, completed=4)
        bar.reset(task, completed=1, total=2)
    assert notebook[-1].startswith("1/2  <b>")
    assert "&lt;b&gt;" in bar._tasks[0].html()


#: Runs a notebook in a process of its own, since nbclient leaves sockets open; prints the outputs of its cell.
NOTEBOOK = """
import json, sys
import nbclient, nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
manager = AsyncKernelManager(
    kernel_name="bype-test", kernel_spec_manager=KernelSpecManager(kernel_dirs=[sys.argv[1]])
)
code = '''import bype
data = bype.load("digits")
model = bype.build_model(data, n_components=10, latent_dim=2, hidden_dim=8, seed=0)
bype.train(model, data, epochs=2, warmup=1)
data'''
book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
nbclient.NotebookClient(book, km=manager, timeout=120).execute()
print(json.dumps([o["data"] for o in book.cells[0].outputs if o.output_type != "stream"]))
"""


def test_a_real_kernel_shows_cards_and_one_changing_output(tmp_path):
    for name in ("nbformat", "nbclient", "ipykernel"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
    spec = tmp_path / "bype-test"
    spec.mkdir()
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (spec / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "test", "language": "python"}))
    done = subprocess.run(
        [sys.executable, "-c", NOTEBOOK, str(tmp_path)], capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    progress, data = json.loads(done.stdout)
    assert progress["text/plain"].startswith("2/2  val ")
    assert "<strong>Dataset</strong>" in data["text/html"]
