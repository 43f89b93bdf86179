"""Exported programs equal the model, take any batch, draw nothing, and say what they are."""

import json
import zipfile

import numpy as np
import pytest
import torch

import bype
from bype.core.errors import InputError, RunExistsError
from bype.core.names import ARCHS, PRIORS
from bype.distributions.mixtures import NormalMixture
from bype.evaluation.metrics import in_nats
from bype.export import onnx as onnx_files
from bype.export import programs

TWO_LEVELS = ("hvae", "convhvae")


@pytest.fixture(scope="module")
def small():
    rng = np.random.default_rng(0)
    return bype.from_arrays(rng.integers(0, 256, (40, 1, 9, 8), dtype=np.uint8), np.arange(40) % 2, name="noise")


def model_for(data, arch="vae", prior="bype", likelihood="gaussian"):
    sizes = {"n_components": 6, "exemplars": 8, "latent_dim": 3, "hidden_dim": 8}
    return bype.build_model(data, arch=arch, prior=prior, likelihood=likelihood, **sizes).eval()


def runner(folder, name, form):
    """Calls a written file by the names of its inputs and outputs."""
    record = json.loads((folder / "export.json").read_text())["graphs"][name]
    path, names = folder / record["file"], [p["name"] for p in record["outputs"]]
    if form == "torch":
        program = torch.export.load(str(path)).module()
        return lambda **inputs: program(**inputs)
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(path)
    assert [i.name for i in session.get_inputs()] == [p["name"] for p in record["inputs"]]

    def run(**inputs):
        values = session.run(names, {k: v.numpy() for k, v in inputs.items()})
        return dict(zip(names, map(torch.from_numpy, values), strict=True))

    return run


@pytest.fixture
def onnx():
    """The package onnx, where the extra `onnx` is installed."""
    for name in ("onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason="needs the extra onnx")
    return pytest.importorskip("onnx", reason="needs the extra onnx")


def near(got, expected):
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def check_equal(model, folder, form, batch):
    """Each program gives what the model's own public functions give."""
    model.eval()
    generator = torch.Generator().manual_seed(batch)
    d, lower = model.encoder.latent_dim, model.lower_dim
    x = torch.rand(batch, *model.decoder.shape, generator=generator).round(decimals=3)
    x = model.binarise(x, generator)

    q, got = model.encoder(x), runner(folder, "encoder", form)(images=x)
    near(got["mean"], q.loc)
    near(got["scale"], q.scale)

    z, noise = torch.randn(batch, d, generator=generator), torch.randn(batch, d, generator=generator)
    more = {"noise_z1": torch.randn(batch, lower, generator=generator)} if lower else {}

    def decoded(z):
        if not lower:
            return model.decoder(z).mean
        p = model.lower_prior(z)
        return model.decoder(torch.cat([p.loc + p.scale * more["noise_z1"], z], 1)).mean

    near(runner(folder, "decoder", form)(latents=z, **more)["images"], decoded(z))

    p, uniform = model.prior(model.encoder), {}
    if isinstance(p, NormalMixture):
        uniform = {"uniform": torch.rand(batch, generator=generator)}
        m = torch.searchsorted(p.log_weights.exp().cumsum(0), uniform["uniform"]).clamp(max=p.n_components - 1)
        p = p.component(m)
    got = runner(folder, "sampler", form)(noise=noise, **uniform, **more)
    if uniform:
        assert torch.equal(got["components"], m)
    z = p.loc + p.scale * noise
    near(got["latents"], z)
    near(got["images"], decoded(z))

    s = 4  # the noise of `bype.iwae`, which draws image by image
    drawn = [[torch.randn(s, w, generator=generator) for w in (d, lower)] for _ in x]
    top, below = (torch.stack(level, 1) for level in zip(*drawn, strict=True))
    got = runner(folder, "score", form)(images=x, noise=top, **({"noise_z1": below} if lower else {}))
    again = torch.Generator().manual_seed(batch)
    again.set_state(state_before(generator, batch, model, s))
    expected = in_nats(model, bype.iwae(model, x, s, generator=again), x[0].numel())
    near(got["log_likelihood"], expected)
    assert (got["elbo"] < got["log_likelihood"]).all()


def state_before(generator, batch, model, s):
    """The state of a generator with the same seed before it drew the noise of the importance samples."""
    replay = torch.Generator().manual_seed(batch)
    x = torch.rand(batch, *model.decoder.shape, generator=replay)
    model.binarise(x.round(decimals=3), replay)
    d, lower = model.encoder.latent_dim, model.lower_dim
    torch.randn(batch, d, generator=replay), torch.randn(batch, d, generator=replay)
    if lower:
        torch.randn(batch, lower, generator=replay)
    if isinstance(model.prior(model.encoder), NormalMixture):
        torch.rand(batch, generator=replay)
    return replay.get_state()


@pytest.mark.parametrize(("arch", "prior"), list(zip(ARCHS, PRIORS, strict=True)))
def test_torch_programs_equal_the_model_at_any_batch_size(arch, prior, small, tmp_path):
    model = model_for(small, arch, prior)
    bype.export_model(model, tmp_path, "torch")
    for batch in (1, 7):
        check_equal(model, tmp_path, "torch", batch)


@pytest.mark.parametrize(("arch", "prior"), [("vae", "bype"), ("hvae", "standard")])
def test_onnx_files_equal_the_model_at_any_batch_size(onnx, arch, prior, small, tmp_path):
    model = model_for(small, arch, prior)
    record = bype.export_model(model, tmp_path)
    assert all(graph["difference"] < 1e-5 for graph in record["graphs"].values())
    for batch in (1, 7):
        check_equal(model, tmp_path, "onnx", batch)


@pytest.mark.slow
@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("prior", PRIORS)
def test_onnx_files_of_every_architecture_and_prior_equal_the_model(onnx, arch, prior, small, tmp_path):
    model = model_for(small, arch, prior, "mse")
    bype.export_model(model, tmp_path)
    for batch in (1, 7):
        check_equal(model, tmp_path, "onnx", batch)


def test_a_log_probability_far_in_the_tail_is_finite(onnx, small, tmp_path):
    model = model_for(small, likelihood="logistic")
    with torch.no_grad():
        model.decoder.output.bias += 30.0  # no image is near
    bype.export_model(model, tmp_path)
    check_equal(model, tmp_path, "onnx", 3)


@pytest.mark.slow
@pytest.mark.parametrize("likelihood", ["mse", "bernoulli", "logistic"])
@pytest.mark.parametrize("arch", ["vae", "hvae"])
def test_onnx_files_of_every_likelihood_equal_the_model(onnx, arch, likelihood, small, tmp_path):
    model = model_for(small, arch, "vamp", likelihood)
    bype.export_model(model, tmp_path)
    for batch in (1, 7):
        check_equal(model, tmp_path, "onnx", batch)


def test_nothing_random_is_inside_and_the_same_inputs_give_the_same_bits(onnx, small, tmp_path):
    bype.export_model(model_for(small, prior="vamp"), tmp_path)
    for path in tmp_path.glob("*.onnx"):
        operators = {node.op_type for node in onnx.load(path).graph.node}
        assert operators
        assert not [op for op in operators if "Random" in op or op in ("Multinomial", "Bernoulli")]
        onnx.checker.check_model(onnx.load(path))


def test_a_torch_program_holds_no_pickle(small, tmp_path):
    bype.export_model(model_for(small), tmp_path, "torch")
    for path in tmp_path.glob("*.pt2"):
        with zipfile.ZipFile(path) as archive:
            parts = {info.filename: archive.read(info) for info in archive.infolist()}
        assert not [name for name, content in parts.items() if content.startswith((b"\x80\x02", b"PK"))]


def test_the_weights_of_a_file_are_those_of_its_part_only(small, tmp_path):
    model = model_for(small, prior="exemplar")
    bype.export_model(model, tmp_path, "torch")
    sizes = {path.stem: path.stat().st_size for path in tmp_path.glob("*.pt2")}
    encoder = 4 * sum(p.numel() for p in model.encoder.parameters())
    assert encoder < sizes["encoder"] < encoder + 60_000
    assert sizes["score"] > sizes["decoder"]


def test_a_table_with_mixed_columns_is_exported(tmp_path):
    rng = np.random.default_rng(0)
    lines = ["a,b,c"] + [f"{rng.normal():.3f},{rng.integers(2)},{'xyz'[rng.integers(3)]}" for _ in range(60)]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    data = bype.load(str(tmp_path / "t.csv"))
    model = bype.build_model(data, likelihood="mixed", n_components=5, latent_dim=2, hidden_dim=8).eval()
    record = bype.export_model(model, tmp_path / "out", "torch")
    assert record["model"]["build"]["table"][0]["name"] == "a"
    check_equal(model, tmp_path / "out", "torch", 7)


def test_the_command_writes_what_the_file_beside_it_says(trained, cli_json, tmp_path):
    result = cli_json("export", trained["exemplar"], "--format", "torch", "--out", tmp_path / "e")
    record = json.loads((tmp_path / "e" / "export.json").read_text())
    assert result == {"out": str(tmp_path / "e"), **record}
    assert sorted(p.name for p in (tmp_path / "e").iterdir()) == [
        "decoder.pt2", "encoder.pt2", "export.json", "sampler.pt2", "score.pt2",
    ]  # fmt: skip
    assert record["images"] == {"shape": [1, 8, 8], "levels": 17, "scaling": "(v + 1/2)/17 of a stored value v"}
    assert record["graphs"]["score"]["inputs"][1]["shape"] == ["samples", "batch", 6]
    assert record["versions"]["torch"] == torch.__version__
    assert record["about"]["set"] == "digits"
    check_equal(bype.load_model(trained["exemplar"]), tmp_path / "e", "torch", 7)
    text = (tmp_path / "e" / "export.json").read_text()
    assert str(trained["exemplar"]) not in text


def test_a_refit_can_take_the_place_of_the_prior(copies, run_cli, cli_json, tmp_path):
    assert run_cli("refit", copies["standard"], "--name", "all")[0] == 0
    record = cli_json("export", copies["standard"], "--format", "torch", "--with", "all", "--out", tmp_path)
    assert [p["name"] for p in record["graphs"]["sampler"]["inputs"]] == ["noise", "uniform"]
    assert record["about"]["refit"] == "all"


def test_wrong_calls_are_one_line(trained, run_cli, tmp_path, monkeypatch):
    code, _, err = run_cli("export", trained["bype"], "--format", "tflite")
    assert (code, err) == (2, "bype: --format: expected one of onnx, torch, safetensors, got 'tflite'\n")
    (tmp_path / "encoder.pt2").write_text("mine")
    code, _, err = run_cli("export", trained["bype"], "--format", "torch", "--out", tmp_path)
    assert code == 4
    assert "is not from an earlier export" in err
    monkeypatch.setattr(onnx_files, "find_spec", lambda name: None)
    code, _, err = run_cli("export", trained["bype"], "--out", tmp_path / "x")
    assert (code, err) == (2, "bype: --format onnx: needs onnx, onnxscript, onnxruntime: pip install 'bype[onnx]'\n")
    assert not (tmp_path / "x").exists()


def test_an_exemplar_prior_needs_its_training_items(trained, small, run_cli, tmp_path):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "x.npy", rng.integers(0, 256, (40, 8, 8), dtype=np.uint8))
    options = ["--prior", "exemplar", "--epochs", 1, "--warmup", 0, "--hidden-dim", 8, "--exemplars", 4]
    assert run_cli("train", tmp_path / "x.npy", *options, "--out", tmp_path / "run")[0] == 0
    (tmp_path / "x.npy").rename(tmp_path / "y.npy")
    code, _, err = run_cli("export", tmp_path / "run", "--format", "torch", "--out", tmp_path / "out")
    assert code == 2
    assert "--data" in err
    assert not (tmp_path / "out").exists()
    moved = ["--data", tmp_path / "y.npy", "--out", tmp_path / "out"]
    assert run_cli("export", tmp_path / "run", "--format", "torch", *moved)[0] == 0


def test_priors_and_networks_that_cannot_be_recorded_are_named(small, tmp_path):
    class Other(bype.StandardPrior):
        def forward(self, encoder):
            return torch.distributions.Laplace(self.loc, 1.0)

    model = model_for(small)
    model.prior = Other(3)
    with pytest.raises(InputError, match="expected a normal or a mixture of normals, got Laplace"):
        bype.export_model(model, tmp_path, "torch")

    class Chooses(torch.nn.Module):
        def forward(self, x):
            return x.flatten(1) if float(x.sum()) > 0 else -x.flatten(1)

    own = bype.wrap(Chooses(), torch.nn.Linear(3, 72), data=small, latent_dim=3, prior="standard")
    with pytest.raises(InputError, match=r"encoder: torch.export cannot record these networks"):
        bype.export_model(own, tmp_path, "torch")


def test_the_caller_and_the_model_are_left_as_they_are(small, tmp_path):
    model = model_for(small, arch="celeba").train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    torch.set_default_dtype(torch.float64)
    try:
        record = bype.export_model(model, tmp_path, "torch")
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    assert record["graphs"]["encoder"]["inputs"][0]["dtype"] == "float32"
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(p.requires_grad for p in model.parameters())


def test_a_folder_of_foreign_files_is_refused(small, tmp_path):
    (tmp_path / "score.pt2").write_text("mine")
    with pytest.raises(RunExistsError):
        bype.export_model(model_for(small), tmp_path, "torch")
    assert (tmp_path / "score.pt2").read_text() == "mine"
    assert programs.RECORD not in {p.name for p in tmp_path.iterdir()}
