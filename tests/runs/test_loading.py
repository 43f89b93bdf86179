"""A trained model is loaded from its files alone: without its data, wherever p(z) does not depend on them."""

import csv
import json
import sys

import numpy as np
import pytest
import torch

import bype
import checkout
from bype.core.config import Config
from bype.core.errors import InputError
from bype.core.names import ARCHS, LIKELIHOODS, PRIORS
from bype.core.tensors import read_tensors, write_tensors
from bype.models.build import build_described
from bype.models.description import stand_in
from bype.runs.early import early_description
from bype.runs.run import Run

GOLDEN = checkout.TESTS / "golden"
OPTIONS = ["--components", 5, "--exemplars", 6, "--latent-dim", 3, "--hidden-dim", 8, "--epochs", 2, "--warmup", 1]


def _altered(model):
    """The model with other values everywhere, as after training."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, t in model.state_dict().items():
            if t.is_floating_point():
                t.add_(0.1 * torch.rand(t.shape, generator=generator, dtype=t.dtype))
                if name == "prior.weights":
                    t.mul_(model.prior.n_data / t.sum())
    return model.eval()


def _drawn(model):
    return model.sample(5, generator=torch.Generator().manual_seed(3))


def _same(one, other):
    a, b = one.state_dict(), other.state_dict()
    assert a.keys() == b.keys()
    assert all(torch.equal(a[k], b[k]) and a[k].dtype == b[k].dtype for k in a)
    assert torch.equal(_drawn(one).images, _drawn(other).images)
    assert one.levels == other.levels
    assert one.description == other.description
    assert not other.training


@pytest.mark.parametrize("likelihood", sorted(set(LIKELIHOODS) - {"mixed"}))  # of tables
@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("arch", ["vae", "hvae"])
def test_a_saved_model_comes_back_bit_equal_without_data(tiny, tmp_path, arch, prior, likelihood):
    options = {"n_components": 4, "exemplars": 5, "latent_dim": 3, "hidden_dim": 6}
    model = _altered(bype.build_model(tiny, arch=arch, prior=prior, likelihood=likelihood, seed=2, **options))
    model.save(tmp_path / "m.safetensors")
    if prior == "exemplar":
        with pytest.raises(InputError, match="ExemplarPrior is made of the 48 training items, which are not saved"):
            bype.load_model(tmp_path / "m.safetensors", "cpu")
    loaded = bype.load_model(tmp_path / "m.safetensors", "cpu", data=tiny if prior == "exemplar" else None)
    _same(model, loaded)


@pytest.mark.parametrize("arch", sorted(set(ARCHS) - {"vae", "hvae"}))
@pytest.mark.parametrize("coreset", ["paper", "elbo"])
def test_a_saved_model_of_the_larger_networks_comes_back_bit_equal(tmp_path, arch, coreset):
    data = bype.from_arrays(np.random.default_rng(0).integers(0, 256, (20, 1, 8, 8), dtype=np.uint8))
    options = {"n_components": 4, "latent_dim": 3, "hidden_dim": 6, "reencode": 0.5, "coreset": coreset}
    model = _altered(bype.build_model(data, arch=arch, prior="bype", likelihood="gaussian", **options))
    model.save(tmp_path / "m.safetensors")
    loaded = bype.load_model(tmp_path / "m.safetensors", "cpu")
    _same(model, loaded)
    assert (loaded.reencode, loaded.prior.coreset) == (0.5, coreset)


def test_a_saved_model_keeps_its_dtype_and_a_refit_prior(tiny, tmp_path):
    model = _altered(bype.build_model(tiny, n_components=4, latent_dim=3, hidden_dim=6, likelihood="gaussian"))
    model.prior = bype.refit(model, tiny, points=7)
    model.double().save(tmp_path / "m.safetensors")
    loaded = bype.load_model(tmp_path / "m.safetensors", "cpu")
    assert loaded.dtype == torch.float64
    _same(model, loaded)


def test_a_prior_of_other_training_items_is_refused(tiny, tmp_path):
    model = bype.build_model(tiny, prior="exemplar", exemplars=5, latent_dim=3, hidden_dim=6)
    model.save(tmp_path / "m.safetensors")
    others = bype.from_arrays(np.zeros((60, 4, 5), np.uint8))
    with pytest.raises(InputError, match="expected a model with training_items"):
        bype.load_model(tmp_path / "m.safetensors", "cpu", data=others)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"options": {"arch": "vae", "prior": "bype", "latent_dim": 10**8}}, "latent_dim 100000000, which its"),
        ({"options": {"arch": "vae", "prior": "bype", "hidden_dim": 10**8}}, "hidden_dim 100000000, which its"),
        ({"shape": [4096, 4096, 4096]}, r"shape \[4096, 4096, 4096\], which its tensors are too small for"),
        ({"shape": [1, 4]}, "shape"),
        ({"n_train": True}, "n_train True"),
        ({"options": {"arch": "vae", "seed": 1}}, "options"),
        ({"options": {"arch": "os:system", "prior": "bype", "likelihood": "mse"}}, "arch: expected one of"),
        ({"more": 1}, "another value"),
    ],
)
def test_a_description_that_does_not_fit_its_tensors_is_refused(tiny, tmp_path, fault, message):
    model = bype.build_model(tiny, n_components=4, latent_dim=3, hidden_dim=6)
    described = model.metadata()
    described["build"] = described["build"] | fault
    write_tensors(tmp_path / "m.safetensors", model.state_dict(), {"model": described})
    with pytest.raises(InputError, match=message):
        bype.load_model(tmp_path / "m.safetensors", "cpu")


@pytest.fixture(scope="module")
def moved(tmp_path_factory):
    """A run under each prior and a refit of one, samples of each, and the place to which their data then moved."""
    folder = tmp_path_factory.mktemp("moved")
    pixels = np.random.default_rng(0).integers(0, 256, (60, 4, 5), dtype=np.uint8)
    np.savez(folder / "a.npz", images=pixels, labels=np.arange(60) % 3)
    sampled = {}
    for prior in PRIORS:
        config = Config(
            str(folder / "a.npz"), prior=prior, n_components=5, exemplars=6, latent_dim=3, hidden_dim=8, epochs=2,
            warmup=1, device="cpu",
        )  # fmt: skip
        bype.fit(config, folder / prior)
        sampled[prior] = _drawn(bype.load_model(folder / prior, "cpu")).images
    loaded = Run.open(folder / "bype").load("cpu")
    bype.Evaluations(loaded).save_refit("all", bype.refit(loaded.model, loaded.data), method="points", seed=0)
    sampled["all"] = _drawn(Run(folder / "bype").load("cpu", "all").model).images
    (folder / "a.npz").rename(folder / "b.npz")
    return folder, sampled


@pytest.mark.parametrize("prior", ["standard", "vamp", "bype"])
def test_a_run_whose_data_are_gone_samples_the_same(moved, prior):
    folder, sampled = moved
    loaded = Run.open(folder / prior).load("cpu")
    assert not loaded.has_data
    assert torch.equal(_drawn(loaded.model).images, sampled[prior])
    assert torch.equal(_drawn(bype.load_model(folder / prior / "best.safetensors", "cpu")).images, sampled[prior])
    with pytest.raises(InputError, match=r"a\.npz: not found, .* --data PATH"):
        _ = loaded.data


def test_an_exemplar_prior_says_what_it_needs(moved, run_cli, tmp_path):
    folder, sampled = moved
    code, _, err = run_cli("sample", folder / "exemplar", "--out", tmp_path / "x.png")
    assert (code, err.count("\n")) == (2, 1)
    assert "prior exemplar is made of the training items" in err
    assert "--data PATH" in err
    loaded = Run.open(folder / "exemplar").load("cpu", data=folder / "b.npz")
    assert loaded.has_data
    assert torch.equal(_drawn(loaded.model).images, sampled["exemplar"])


def test_a_refit_at_training_items_samples_without_them_but_shows_them_only_with_them(moved, run_cli, tmp_path):
    folder, sampled = moved
    assert torch.equal(_drawn(Run(folder / "bype").load("cpu", "all").model).images, sampled["all"])
    args = ["sample", folder / "bype", "--with", "all", "--plates", "--out", tmp_path / "x.png"]
    code, _, err = run_cli(*args)
    assert (code, "the components are training items" in err, "--data PATH" in err) == (2, True, True), err
    assert run_cli(*args, "--data", folder / "b.npz")[0] == 0


def test_commands_run_without_data_wherever_they_need_none(moved, cli_json, run_cli, tmp_path):
    folder, _ = moved
    cli_json("sample", folder / "vamp", "--plates", "--out", tmp_path / "x.png")
    cli_json("interpolate", folder / "vamp", "--points", "--out", tmp_path / "x.png")
    code, _, err = run_cli("coreset", folder / "bype", "--out", tmp_path / "c", "--json")
    assert (code, err.count("\n"), "without the nearest training item" in err) == (0, 1, True), err
    rows = list(csv.DictReader((tmp_path / "c" / "weights.csv").read_text().splitlines()))
    assert {row["nearest_item"] for row in rows} == {""}
    assert sum(float(row["weight"]) for row in rows) == pytest.approx(48, rel=1e-4)
    cli_json("coreset", folder / "bype", "--out", tmp_path / "c", "--data", folder / "b.npz")
    rows = list(csv.DictReader((tmp_path / "c" / "weights.csv").read_text().splitlines()))
    assert {row["nearest_label"] for row in rows} <= {"0", "1", "2"}


@pytest.mark.parametrize(
    "command",
    [
        ["reconstruct", "--out", "x.png"],
        ["interpolate", "--out", "x.png"],
        ["evaluate", "--samples", 2],
        ["refit", "--name", "moved"],
    ],
    ids=lambda command: command[0],
)
def test_commands_that_need_data_take_their_new_place(moved, run_cli, cli_json, tmp_path, monkeypatch, command):
    folder, _ = moved
    monkeypatch.chdir(tmp_path)
    name, *options = command
    code, _, err = run_cli(name, folder / "bype", *options)
    assert (code, err.count("\n"), "--data PATH" in err) == (2, 1, True), err
    np.save("other.npy", (np.arange(1200) % 251).astype(np.uint8).reshape(60, 4, 5))
    code, _, err = run_cli(name, folder / "bype", *options, "--data", "other.npy")
    assert (code, "other.npy: the values differ from the data that" in err) == (2, True), err
    cli_json(name, folder / "bype", *options, "--data", folder / "b.npz")


def test_a_published_set_may_have_moved_too(tmp_path, monkeypatch, trained):
    from bype.runs.dataset import RunDataset

    seen = []
    monkeypatch.setattr("bype.runs.dataset.load", lambda name, root, **_: seen.append((name, root)) or bype.load(name))
    for at in ("digits", tmp_path, tmp_path / "digits"):
        assert isinstance(Run(trained["vamp"]).dataset, RunDataset)
        Run(trained["vamp"]).load("cpu", data=at)
    assert seen == [("digits", None), ("digits", str(tmp_path)), ("digits", str(tmp_path))]


@pytest.mark.parametrize("prior", ["standard", "vamp", "bype"])
def test_runs_of_the_first_versions_load_without_data(prior, monkeypatch):
    run = Run.open(GOLDEN / prior)
    assert "model" not in run.record
    monkeypatch.setattr("bype.runs.dataset.load", None)
    model = run.load("cpu").model
    assert model.levels == 17
    assert model.description["shape"] == [1, 8, 8]
    if prior == "bype":
        assert model.prior.n_data == len(bype.load("digits").train)


def test_of_a_first_run_on_a_set_of_one_s_own_the_shape_comes_from_the_tensors(tiny):
    for options, shape in (
        ({"prior": "vamp"}, [1, 4, 5]),
        ({"prior": "standard", "likelihood": "logistic"}, [1, 4, 5]),
        ({"prior": "standard"}, None),
        ({"prior": "exemplar", "likelihood": "logistic"}, None),
    ):
        config = Config("a.npy", n_components=4, exemplars=5, latent_dim=3, hidden_dim=6, **options)
        model = bype.build_model(tiny, **config.group("model"))
        described = early_description(config, model.state_dict())
        assert (None if described is None else described["shape"]) == shape
        if described is not None:
            build_described(described, stand_in(described)).load_state_dict(model.state_dict())


def test_sampling_reads_no_data(trained, run_cli, tmp_path, monkeypatch):
    monkeypatch.setattr("bype.data.images.Dataset.checksum", None)
    monkeypatch.setattr("bype.runs.dataset.load", None)
    assert run_cli("sample", trained["bype"], "--out", tmp_path / "x.png")[0] == 0


def test_a_file_that_names_other_classes_imports_nothing(tiny, tmp_path):
    (tmp_path / "evil.py").write_text("raise SystemExit('imported')")
    model = bype.build_model(tiny, n_components=4, latent_dim=3, hidden_dim=6)
    for made in ({"classes": {"encoder": "evil:Encoder"}}, {"build": {"arch": "evil:build"}}, {"classes": 3}, {}):
        kept = {k: v for k, v in model.metadata().items() if k != "build"} | made
        write_tensors(tmp_path / "m.safetensors", model.state_dict(), {"model": kept})
        sys.path.insert(0, str(tmp_path))
        try:
            with pytest.raises(InputError, match=r"m\.safetensors: "):
                bype.load_model(tmp_path / "m.safetensors", "cpu")
        finally:
            sys.path.remove(str(tmp_path))
        assert "evil" not in sys.modules


def test_a_saved_model_of_the_first_versions_says_what_is_missing(tiny, tmp_path):
    model = bype.build_model(tiny, n_components=4, latent_dim=3, hidden_dim=6)
    stored = {k: v for k, v in model.metadata().items() if k != "build"} | {"shape": [1, 4, 5], "levels": 256}
    write_tensors(tmp_path / "m.safetensors", model.state_dict(), {"model": stored})
    with pytest.raises(InputError, match="which the first versions did not write"):
        bype.load_model(tmp_path / "m.safetensors", "cpu")
    write_tensors(tmp_path / "m.safetensors", model.state_dict(), {"model": {k: stored[k] for k in list(stored)[:3]}})
    with pytest.raises(InputError, match="which the first versions did not write"):
        bype.load_model(tmp_path / "m.safetensors", "cpu")
    assert torch.equal(
        _drawn(bype.load_model(tmp_path / "m.safetensors", "cpu", model=model)).images, _drawn(model).images
    )


def test_the_description_stands_in_the_run_and_in_its_best_model(trained):
    for prior, folder in trained.items():
        record = json.loads((folder / "config.json").read_text())["model"]
        assert record == read_tensors(folder / "best.safetensors")[1]["model"]
        assert record["build"]["options"]["prior"] == prior
