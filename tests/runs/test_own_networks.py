"""Runs of networks of the user's own: trained, stopped, resumed, evaluated, refitted, loaded; no file is code."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import bype
from bype.core.errors import InputError, RunExistsError
from bype.core.names import MODELS
from bype.core.tensors import write_tensors
from bype.networks import Decoder, Encoder, Gaussian
from bype.networks.wrapped import FeatureEncoder, MomentEncoder
from bype.runs.run import Run

OPTIONS = {"epochs": 4, "warmup": 1, "coreset_interval": 2, "batch_size": 16, "device": "cpu"}


class Features(nn.Module):
    def __init__(self, width=6, dropout=0.0):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(20, width), nn.Tanh(), nn.Dropout(dropout))

    def forward(self, x):
        return self.layers(x)


class Moments(Features):
    def __init__(self, latent_dim=3):
        super().__init__()
        self.heads = nn.Linear(6, 2 * latent_dim)

    def forward(self, x):
        return self.heads(super().forward(x)).chunk(2, -1)


class OwnEncoder(Encoder):
    def __init__(self, shape, width, latent_dim):
        super().__init__(width, latent_dim)
        self.layers = Features(width)

    def features(self, x):
        return self.layers(x)


class OwnDecoder(Decoder):
    def __init__(self, shape, latent_dim):
        super().__init__(shape, Gaussian())
        self.layer = nn.Linear(latent_dim, 20)

    def image(self, z):
        return self.layer(z)


def pixels(latent_dim=3):
    return nn.Sequential(nn.Linear(latent_dim, 6), nn.Tanh(), nn.Linear(6, 20))


def wrapped(data, encoder=Features, *, prior="bype", **options):
    torch.manual_seed(7)
    sizes = {"n_components": 5, "exemplars": 6}
    return bype.wrap(encoder(**options), pixels(), latent_dim=3, data=data, prior=prior, likelihood="gaussian", **sizes)


def own(data, *, prior="vamp"):
    torch.manual_seed(7)
    encoder, decoder = OwnEncoder(data.shape, 6, 3), OwnDecoder(data.shape, 3)
    return bype.wrap(encoder, decoder, latent_dim=3, data=data, prior=prior, n_components=5, exemplars=6)


def stopped(*args, **options):
    class Stop(Exception):  # noqa: N818
        pass

    def stop(info, trainer):
        if info.epoch == 2:
            raise Stop

    with pytest.raises(Stop):
        bype.fit(*args, on_epoch=stop, **options)


def contents(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.name in ("best.safetensors", "last.safetensors")}


def drawn(model):
    return model.sample(4, generator=torch.Generator().manual_seed(2)).images


@pytest.mark.parametrize("prior", ["standard", "vamp", "exemplar", "bype"])
@pytest.mark.parametrize("build", [wrapped, own])
def test_trained_stopped_resumed_evaluated_refitted_and_loaded(tiny, tmp_path, build, prior):
    whole = bype.fit(build(tiny, prior=prior), tiny, tmp_path / "whole", **OPTIONS)
    stopped(build(tiny, prior=prior), tiny, tmp_path / "parts", **OPTIONS)
    resumed = bype.fit(build(tiny, prior=prior), tiny, tmp_path / "parts", resume=True, **OPTIONS)
    assert not resumed.was_finished
    assert contents(tmp_path / "whole") == contents(tmp_path / "parts")
    assert Run(tmp_path / "whole").config.prior == prior

    for model in (build(tiny, prior=prior), lambda data: build(data, prior=prior)):
        loaded = Run.open(tmp_path / "whole").load("cpu", data=tiny, model=model)
        assert torch.equal(drawn(loaded.model), drawn(whole.trainer.model))
    assert bype.evaluate(loaded.model, loaded.data, n_samples=3)["items"] == 6
    evaluations = bype.Evaluations(loaded)
    evaluations.save_refit("few", bype.refit(loaded.model, tiny, points=7), method="points", seed=0)
    again = Run(tmp_path / "whole").load("cpu", "few", model=lambda data: build(data, prior=prior), data=tiny)
    assert again.model.prior.items.shape == (7,)


@pytest.mark.parametrize("prior", ["standard", "vamp", "bype"])
def test_a_function_builds_the_model_without_data(tiny, tmp_path, prior):
    trained = bype.fit(wrapped(tiny, prior=prior), tiny, tmp_path / "run", **OPTIONS).trainer.model
    loaded = bype.load_model(tmp_path / "run", "cpu", model=lambda data: wrapped(data, prior=prior))
    assert torch.equal(drawn(loaded), drawn(trained))
    trained.save(tmp_path / "m.safetensors")
    loaded = bype.load_model(tmp_path / "m.safetensors", "cpu", model=lambda data: wrapped(data, prior=prior))
    assert torch.equal(drawn(loaded), drawn(trained))


def test_dropout_is_resumed_bit_equal_and_does_not_touch_the_caller_s_numbers(tiny, tmp_path):
    build = lambda: wrapped(tiny, dropout=0.5)  # noqa: E731
    torch.manual_seed(1)
    bype.fit(build(), tiny, tmp_path / "whole", **OPTIONS)
    model = build()
    before = torch.get_rng_state()
    stopped(model, tiny, tmp_path / "parts", **OPTIONS)
    assert torch.equal(before, torch.get_rng_state())
    again = build()
    torch.rand(99)
    bype.fit(again, tiny, tmp_path / "parts", resume=True, **OPTIONS)
    assert contents(tmp_path / "whole") == contents(tmp_path / "parts")


def test_frozen_parameters_stay_and_resume(tiny, tmp_path):
    def build():
        model = wrapped(tiny)
        model.encoder.network.layers[1].requires_grad_(False)
        return model

    start = build().encoder.network.layers[1].weight
    whole = bype.fit(build(), tiny, tmp_path / "whole", **OPTIONS)
    assert torch.equal(whole.trainer.model.encoder.network.layers[1].weight, start)
    stopped(build(), tiny, tmp_path / "parts", **OPTIONS)
    bype.fit(build(), tiny, tmp_path / "parts", resume=True, **OPTIONS)
    assert contents(tmp_path / "whole") == contents(tmp_path / "parts")


def test_a_model_of_bype_s_own_networks_is_a_run_like_any_other(tiny, tmp_path):
    model = bype.build_model(tiny, n_components=5, latent_dim=3, hidden_dim=6)
    trained = bype.fit(model, tiny, tmp_path / "run", **OPTIONS).trainer.model
    assert torch.equal(drawn(bype.load_model(tmp_path / "run", "cpu")), drawn(trained))
    assert Run(tmp_path / "run").config.hidden_dim == 6


def test_a_run_of_one_s_own_networks_is_extended(tiny, tmp_path):
    whole = bype.fit(wrapped(tiny), tiny, tmp_path / "whole", **OPTIONS)
    bype.fit(wrapped(tiny), tiny, tmp_path / "longer", **OPTIONS | {"epochs": 2})
    longer = bype.fit(wrapped(tiny), tiny, tmp_path / "longer", resume=True, **OPTIONS)
    assert longer.trainer.epoch == whole.trainer.epoch == 4
    assert contents(tmp_path / "whole") == contents(tmp_path / "longer")


def test_data_by_path_are_found_again_and_those_in_memory_are_asked_for(tiny, tmp_path):
    pixels_ = np.random.default_rng(0).integers(0, 256, (40, 4, 5), dtype=np.uint8)
    np.save(tmp_path / "a.npy", pixels_)
    bype.fit(own(tiny), tmp_path / "a.npy", tmp_path / "path", **OPTIONS)
    assert len(Run(tmp_path / "path").load("cpu", model=own).data.train) == 32
    data = bype.from_arrays(pixels_)
    bype.fit(own(tiny), data, tmp_path / "memory", **OPTIONS)
    loaded = Run(tmp_path / "memory").load("cpu", model=own)
    assert not loaded.has_data
    with pytest.raises(InputError, match="were in memory; pass them as data=DATA"):
        _ = loaded.data
    assert Run(tmp_path / "memory").load("cpu", model=own, data=data).data.name == data.name
    assert Run(tmp_path / "memory").load("cpu", model=own, data=tmp_path / "a.npy").has_data
    with pytest.raises(InputError, match="the values differ"):
        Run(tmp_path / "memory").load("cpu", model=own, data=tiny)


def test_other_networks_options_and_runs_are_refused_by_name(tiny, tmp_path):
    bype.fit(wrapped(tiny), tiny, tmp_path / "run", **OPTIONS)
    with pytest.raises(RunExistsError, match="already contains a run"):
        bype.fit(wrapped(tiny), tiny, tmp_path / "run", **OPTIONS)
    for model, options, message in (
        (own(tiny, prior="bype"), OPTIONS, "expected networks .*Features.* got .*OwnEncoder"),
        (wrapped(tiny), OPTIONS | {"epochs": 2, "seed": 1}, "expected --seed 0, the run's own, got 1"),
        (wrapped(tiny), OPTIONS | {"lr": 0.1}, "expected --lr 0.0005, the run's own, got 0.1"),
        (wrapped(tiny), OPTIONS | {"latent_dim": 4}, "latent_dim belongs to the model"),
        (wrapped(tiny), OPTIONS | {"lrr": 4}, "expected an option of training, got 'lrr'"),
        (wrapped(tiny), OPTIONS | {"resize": "4x4"}, "resize defines how data are read"),
        (wrapped(tiny, width=7), OPTIONS, "not a checkpoint of this run"),
    ):
        with pytest.raises(InputError, match=message):
            bype.fit(model, tiny, tmp_path / "run", resume=True, **options)
    with pytest.raises(InputError, match=r"best\.safetensors: expected the tensors of this model"):
        bype.load_model(tmp_path / "run", "cpu", model=wrapped(tiny, width=7))
    with pytest.raises(InputError, match=r"expected a model with prior VampPrior, .* got PseudocoresetPrior"):
        bype.load_model(tmp_path / "run", "cpu", model=own(tiny))
    with pytest.raises(InputError, match=r"a function that returns a bype.VAE, got int"):
        bype.load_model(tmp_path / "run", "cpu", model=lambda data: 3)
    with pytest.raises(TypeError):
        bype.fit(wrapped(tiny), tiny)


def test_the_class_is_named_and_nothing_is_imported(tiny, tmp_path, run_cli, monkeypatch):
    bype.fit(wrapped(tiny), tiny, tmp_path / "run", **OPTIONS)
    code, _, err = run_cli("sample", tmp_path / "run", "--out", tmp_path / "x.png")
    assert (code, err.count("\n"), f"{__name__}:Features" in err, "BYPE_PLUGINS" in err) == (2, 1, True, True), err

    (tmp_path / "evil.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    record = json.loads((tmp_path / "run" / "config.json").read_text())
    for name in ("evil:Encoder", "evil", "os:system", "", 3):
        record["model"]["classes"] = {"encoder": name}
        (tmp_path / "run" / "config.json").write_text(json.dumps(record))
        for command in (("sample", "--out", tmp_path / "x.png"), ("evaluate",)):
            code, _, err = run_cli(command[0], tmp_path / "run", *command[1:])
            assert (code, err.count("\n"), "not bype's own" in err) == (2, 1, True), err
        code, _, err = run_cli("train", "tiny", "--resume", "--out", tmp_path / "run")
        assert code == 2, err
        write_tensors(tmp_path / "m.safetensors", own(tiny).state_dict(), {"model": record["model"]})
        with pytest.raises(InputError, match="not bype's own"):
            bype.load_model(tmp_path / "m.safetensors", "cpu")
    assert "evil" not in sys.modules


def test_the_example_in_the_documents_runs_as_it_stands(root, tmp_path, monkeypatch, cli_json):
    blocks = re.findall(r"```python\n(.*?)```", (root / "docs" / "architectures.md").read_text(), re.DOTALL)
    module, use = blocks
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    Path("mynets.py").write_text(module)
    try:
        shown = {}
        exec(compile(use, "docs/architectures.md", "exec"), shown)
        assert shown["images"].shape == (16, 1, 8, 8)
        assert shown["metrics"]["items"] == 179
        monkeypatch.setattr(MODELS, "_added", {})
        sys.modules.pop("mynets")
        monkeypatch.setenv("BYPE_PLUGINS", "mynets")
        cli_json("sample", "runs/mine", "--out", "x.png", "--with", "all", "--plates", "--n", 2)
        assert cli_json("train", "digits", "--out", "runs/mine", "--resume")["finished_already"]
        assert cli_json("coreset", "runs/mine", "--out", "c")["points"] == 50
        assert "nll_nats@all" in cli_json("evaluate", "runs/mine", "--samples", 2, "--with", "all")
    finally:
        sys.modules.pop("mynets", None)


class Broken(nn.Module):
    def forward(self, x):
        return x @ torch.zeros(3, 3)


def values(out):
    class Returns(nn.Module):
        def forward(self, x):
            return out(x)

    return Returns()


@pytest.mark.parametrize(
    ("encoder", "decoder", "options", "message"),
    [
        (Broken(), pixels(), {}, "encoder: Broken fails on an input of shape"),
        (values(lambda x: 3), pixels(), {}, "encoder: expected features of shape"),
        (
            values(lambda x: (x.flatten(1), x.flatten(1))),
            pixels(),
            {},
            "pair of mean and log-variance",
        ),
        (values(lambda x: x.sum()), pixels(), {}, "encoder: expected features of shape"),
        (OwnEncoder((1, 4, 5), 6, 2), pixels(), {}, r"encoder: expected means of shape \(n, 3\), got shape \(2, 2\)"),
        (Features(), pixels(2), {}, "decoder: Sequential fails on an input of shape"),
        (Features(), nn.Linear(3, 19), {}, "decoder: expected 20 values for each latent, got shape"),
        (Features(), OwnDecoder((1, 5, 4), 3), {}, r"decoder: expected images \(1, 4, 5\), got \(1, 5, 4\)"),
        (Features(), OwnDecoder((1, 4, 5), 3), {"likelihood": "mse"}, "likelihood: a Decoder has its own"),
        (Features(), pixels(), {"prior": "bype"}, "prior bype: expected the training data"),
        (Features(), pixels(), {"prior": "nope"}, "prior nope: expected"),
        (Features(), pixels(), {"likelihood": "nope"}, "likelihood: expected one of"),
        (Features(), pixels(), {"image_shape": (4, 5)}, r"image_shape: expected \(c, h, w\)"),
        (Features(), pixels(), {"image_shape": None}, "image_shape: expected the shape"),
        (Features(), pixels(), {"latent_dim": 0}, "latent_dim"),
    ],
)
def test_networks_that_do_not_fit_are_refused(encoder, decoder, options, message):
    with pytest.raises(InputError, match=message):
        bype.wrap(encoder, decoder, **({"latent_dim": 3, "image_shape": (1, 4, 5)} | options))


def test_wrapping_leaves_the_networks_as_they_are_and_the_seed_alone_decides(tiny):
    encoder, decoder = nn.Sequential(nn.BatchNorm2d(1), Features(dropout=0.5)), pixels()
    state = {k: v.clone() for k, v in encoder.state_dict().items()}
    torch.manual_seed(0)
    before = torch.get_rng_state()
    one = bype.wrap(encoder, decoder, latent_dim=3, data=tiny, prior="bype", seed=1)
    assert torch.equal(before, torch.get_rng_state())
    assert encoder.training
    assert encoder[1].layers[3].training
    assert all(torch.equal(v, state[k]) for k, v in encoder.state_dict().items())
    torch.rand(3)
    other = bype.wrap(encoder, decoder, latent_dim=3, data=tiny, prior="bype", seed=1)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    assert torch.equal(one.prior.pseudo_inputs, other.prior.pseudo_inputs)
    assert one.levels == tiny.levels


def test_q_is_what_the_network_says():
    x = torch.rand(5, 1, 4, 5)
    pair = Moments()
    encoder = bype.wrap(pair, pixels(), latent_dim=3, image_shape=(1, 4, 5)).encoder
    assert isinstance(encoder, MomentEncoder)
    mean, log_variance = pair(x)
    assert torch.equal(encoder(x).loc, mean)
    assert torch.allclose(encoder(x).scale, log_variance.clamp(-6, 2).mul(0.5).exp())
    assert torch.equal(encoder.means([x[:2], x[2:]]), mean.detach())
    plain = bype.wrap(Features(), pixels(), latent_dim=3, image_shape=(1, 4, 5)).encoder
    assert isinstance(plain, FeatureEncoder)
    assert torch.equal(plain(x).loc, plain.loc_head(plain.network(x)))
