"""A prior, a strategy, a likelihood and networks from outside the package, by name; what a registry refuses."""

import sys

import numpy as np
import pytest
import torch
from PIL import Image

import bype
from bype.core import names
from bype.core.registry import Entry, Registry
from bype.distributions import DiagonalMixture
from bype.networks import Gaussian, MLPDecoder, MLPEncoder, Networks
from bype.priors import ComponentPoints
from bype.pseudocoreset import Strategy

SMALL = (
    "--likelihood",
    "gaussian",
    "--latent-dim",
    4,
    "--hidden-dim",
    16,
    "--epochs",
    2,
    "--warmup",
    1,
    "--device",
    "cpu",
)


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """Names that a test registers are gone after it."""
    for registry in (names.ARCHS, names.PRIORS, names.LIKELIHOODS, names.STRATEGIES):
        monkeypatch.setattr(registry, "_added", {})


class FewExamples(bype.Prior):
    """Components at fixed training examples, a scale for each latent."""

    def __init__(self, items, latent_dim):
        super().__init__()
        self.register_buffer("items", items)
        self.log_scale = torch.nn.Parameter(torch.zeros(latent_dim))

    def step_points(self, index=None, generator=None):
        return ComponentPoints(self.items, torch.full((len(self.items),), 1 / len(self.items)).log())

    def mixture(self, encoder, features, log_weights):
        loc = encoder.loc(features)
        return DiagonalMixture(loc, self.log_scale.exp().expand_as(loc), log_weights)

    def forward(self, encoder):
        points = self.step_points()
        return self.mixture(encoder, encoder.features(points.images), points.log_weights)

    def points_at(self, index):
        return self.items[index]


def register_few():
    @bype.register_prior("few", uses=("n_components",))
    def build(data, options):
        return FewExamples(data.train.scaled(slice(options.n_components)).cpu(), options.latent_dim)


def test_a_prior_from_outside_trains_evaluates_and_is_drawn_from_the_shell(run_cli, cli_json, tmp_path):
    register_few()
    run = tmp_path / "run"
    trained = cli_json("train", "digits", "--prior", "few", "--components", 5, *SMALL, "--out", run)
    assert trained["epochs"] == 2
    figures = cli_json("evaluate", run, "--samples", 5)
    assert np.isfinite(figures["nll_nats"])
    code, _, err = run_cli("sample", run, "--plates", "--out", tmp_path / "plates.png")
    assert code == 0, err
    with Image.open(tmp_path / "plates.png") as picture:
        assert picture.width > picture.height
    model = bype.build_model(bype.load("digits"), prior="few", n_components=5, latent_dim=4)
    assert len(model.prior.items) == 5
    assert "n_components" not in bype.Config("digits", prior="few").unused(), "it says that it uses it"
    assert {"exemplars", "coreset_steps", "reencode"} <= set(bype.Config("digits", prior="few").unused())


def test_a_strategy_from_outside_moves_the_points_every_k_epochs(cli_json, tmp_path):
    @bype.register_strategy("shake", uses=("coreset_interval", "coreset_lr"))
    class Shake(Strategy):
        def __init__(self, size=0.5):
            self.size, self.updates = size, 0

        @classmethod
        def from_options(cls, options):
            return cls(options.coreset_lr)

        def update(self, model, data, generator):
            self.updates += 1
            points = model.prior.pseudocoreset.pseudo_inputs
            points.add_(self.size * torch.randn(points.shape, generator=generator)).clamp_(0, 1)
            return {"shaken": float(self.updates)}

    run = tmp_path / "run"
    options = ("--coreset", "shake", "--coreset-interval", 1, "--coreset-lr", 0.25, "--components", 6)
    cli_json("train", "digits", *SMALL, *options, "--out", run)
    lines = bype.Run(run).metrics.read()
    assert [line["shaken"] for line in lines] == [1.0, 2.0]
    assert all(line["coreset_mean_distance"] > 0 for line in lines)
    unused = bype.Config("digits", coreset="shake").unused()
    assert "coreset_steps" in unused
    assert "coreset_lr" not in unused
    model = bype.build_model(bype.load("digits"), coreset="shake", n_components=6)
    assert bype.Trainer(model, bype.load("digits")).strategy.size == 0.5, "the prior names its strategy"


def test_networks_and_a_likelihood_from_outside(tiny):
    @bype.register_arch("narrow")
    def build(shape, likelihood, hidden_dim, latent_dim):
        encoder = MLPEncoder(shape, hidden_dim // 2, latent_dim)
        return Networks(encoder, MLPDecoder(shape, likelihood, hidden_dim // 2, latent_dim), components=4)

    @bype.register_likelihood("fixed-normal")
    def build_likelihood(shape):
        return Gaussian(0.25, learned=False)

    model = bype.build_model(tiny, arch="narrow", likelihood="fixed-normal", latent_dim=3, hidden_dim=8)
    assert len(model.prior.pseudo_inputs) == 4, "the networks' own number of components"
    assert model.decoder.likelihood.scale.item() == pytest.approx(0.25)
    history = bype.train(model, tiny, epochs=2, warmup=1)
    assert all(np.isfinite(info.val_loss) for info in history)


PLUGIN = """
import bype
from bype.priors import StandardPrior

@bype.register_prior("plugged")
def build(data, options):
    return StandardPrior(options.latent_dim)
"""


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """Writes a module and names it as a plugin."""

    def write(name, text):
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.setenv("BYPE_PLUGINS", name)
        monkeypatch.delitem(sys.modules, name, raising=False)

    return write


def test_a_plugin_is_imported_when_its_name_is_asked_for(plugin, cli_json, tmp_path):
    plugin("a_plugin_of_ours", PLUGIN)
    assert list(names.PRIORS) == ["standard", "vamp", "exemplar", "bype"]
    cli_json("train", "digits", "--prior", "plugged", *SMALL, "--out", tmp_path / "run")
    assert "plugged" in list(names.PRIORS)


def test_a_plugin_that_cannot_be_imported_is_one_line(plugin, run_cli, tmp_path):
    plugin("a_broken_plugin", "raise RuntimeError('no such device')")
    code, out, err = run_cli("train", "digits", "--prior", "plugged", "--out", tmp_path / "run")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "plugin a_broken_plugin: the import failed: RuntimeError no such device" in err
    assert not (tmp_path / "run").exists()


def test_what_a_registry_refuses():
    registry = Registry("thing", {"a": "bype.core.errors:InputError", "b": Entry(int, ("x",))})
    assert registry["a"] is bype.InputError
    assert registry["b"] is int
    assert (list(registry), len(registry), 3 in registry) == (["a", "b"], 2, False)
    with pytest.raises(bype.InputError, match="thing: expected one of a, b, got 'c'"):
        registry["c"]
    assert (registry.get("b"), registry.get("c"), registry.get("c", 0)) == (int, None, 0)
    with pytest.raises(bype.InputError, match="thing 'a': the name is taken by bype; choose another"):
        registry.register("a", int)
    for name in ("", "../x", "a b", "-x"):
        with pytest.raises(bype.InputError, match="expected a name of letters"):
            registry.register(name, int)
    registry.register("c", str)
    registry.register("c", bytes)  # a notebook's cell run again
    assert registry["c"] is bytes
    assert registry.uses("x", "b")
    assert not registry.uses("x", "a")
    assert registry.uses("y", "a"), "an option that no entry declares is used by all"
