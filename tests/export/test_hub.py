"""Shared models: a folder gives the same bits back, the card says what is recorded, and the Hub's client is used."""

import dataclasses
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

import bype
from bype.core.errors import InputError, RunExistsError
from bype.core.tensors import read_tensors, write_tensors
from bype.export import hub
from bype.runs.evaluations import Evaluations

huggingface_hub = pytest.importorskip("huggingface_hub")


def head(folder):
    return huggingface_hub.ModelCard.load(folder / "README.md").data.to_dict()


@pytest.fixture
def evaluated(copies):
    """A run with recorded figures."""
    loaded = bype.Run.open(copies["bype"]).load("cpu")
    metrics = bype.evaluate(loaded.model, loaded.data, n_samples=5, n_items=20)
    Evaluations(loaded).add({"split": "test", "seed": 0, **metrics})
    return copies["bype"], metrics


@pytest.mark.parametrize("prior", ["standard", "vamp", "exemplar", "bype"])
def test_a_folder_gives_the_same_bits_back(prior, trained, tmp_path):
    run = bype.Run.open(trained[prior]).load("cpu")
    folder = bype.save_pretrained(run, tmp_path / "m")
    assert sorted(p.name for p in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    model = bype.from_pretrained(folder, device="cpu", data=run.data if prior == "exemplar" else None)
    assert not model.training
    state, again = run.model.state_dict(), model.state_dict()
    assert state.keys() == again.keys()
    assert all(torch.equal(v, again[k]) for k, v in state.items())
    x = run.data.test.scaled()
    assert torch.equal(bype.score(model, x[:3], 4).elbo, bype.score(run.model, x[:3], 4).elbo)


def test_a_model_alone_is_shared_too_and_its_card_claims_no_figures(tiny, tmp_path):
    model = bype.build_model(tiny, latent_dim=2, hidden_dim=8, n_components=4)
    bype.save_pretrained(model, tmp_path, license="mit")
    text = (tmp_path / "README.md").read_text()
    assert "None are recorded" in text
    assert "Data set: not stated. Licence of the data: not stated." in text
    assert head(tmp_path)["license"] == "mit"
    assert "model-index" not in head(tmp_path)


def test_the_card_holds_figures_data_and_licences_of_the_run(evaluated, tmp_path):
    run, metrics = evaluated
    bype.save_pretrained(run, tmp_path, license="cc-by-4.0", name="user/digits")
    data = head(tmp_path)
    assert data["license"] == "cc-by-4.0"
    assert data["library_name"] == "bype"
    assert data["data_license"].startswith("not stated here; see its source, https://archive.ics.uci.edu/")
    (result,) = data["model-index"][0]["results"]
    assert result["dataset"] == {"name": "digits", "type": "digits", "split": "test"}
    values = {m["type"]: m["value"] for m in result["metrics"]}
    assert values["nll_paper"] == metrics["nll_paper"]
    assert "knn" not in values
    assert "samples" not in values
    text = (tmp_path / "README.md").read_text()
    assert f"| `nll_paper` | {metrics['nll_paper']:.2f} | the paper's unit |" in text
    assert "-log p(x\\|z)" in text, "a bar would end the cell"
    assert all(line.replace("\\|", "").count("|") in (3, 5) for line in text.splitlines() if line.startswith("| "))
    assert "bype.from_pretrained('user/digits')" in text
    assert "| `epochs` | 3 |" in text
    assert "2107.09286" in text
    assert "may still show them" in text
    assert str(run) not in text


def test_the_licence_of_the_data_is_what_the_user_states_or_the_authors_publish(trained, monkeypatch, tmp_path):
    run = bype.Run.open(trained["vamp"]).load("cpu")

    def licence(name, **options):
        config = dataclasses.replace(bype.Run.open(trained["vamp"]).config, set=name)
        monkeypatch.setattr(type(run.run), "config", property(lambda _: config))
        return head(bype.save_pretrained(run, tmp_path, **options))["data_license"]

    assert licence("fashion-mnist") == "MIT (https://github.com/zalandoresearch/fashion-mnist)"
    for name in ("digits", "mnist", "cifar10", "celeba"):
        assert licence(name).startswith("not stated here; see its source, https://")
        assert licence(name, data_license="as agreed") == "as agreed"
    assert licence("/home/me/faces") == "not stated"


def test_a_card_of_a_users_own_data_names_no_path_and_no_licence(run_cli, tiny, tmp_path):
    import numpy as np

    where = tmp_path / "secret" / "faces.npy"
    where.parent.mkdir()
    np.save(where, tiny.train.pixels.numpy())
    assert run_cli("train", where, "--epochs", 1, "--warmup", 0, "--hidden-dim", 8, "--out", tmp_path / "run")[0] == 0
    bype.save_pretrained(tmp_path / "run", tmp_path / "shared")
    text = "".join(p.read_text() for p in (tmp_path / "shared").iterdir() if p.suffix != ".safetensors")
    assert "faces.npy" in text
    assert "secret" not in text
    assert head(tmp_path / "shared")["data_license"] == "not stated"
    bype.save_pretrained(tmp_path / "run", tmp_path / "shared", data_license="my own photographs")
    assert head(tmp_path / "shared")["data_license"] == "my own photographs"


def test_a_refit_is_shared_with_its_own_figures_alone(copies, run_cli, tmp_path):
    run = copies["standard"]
    assert run_cli("refit", run, "--name", "em5", "--em", 5)[0] == 0
    assert run_cli("evaluate", run, "--samples", 5, "--items", 10)[0] == 0
    assert run_cli("evaluate", run, "--samples", 5, "--items", 10, "--with", "em5")[0] == 0
    bype.save_pretrained(run, tmp_path, refit="em5")
    names = {m["type"] for m in head(tmp_path)["model-index"][0]["results"][0]["metrics"]}
    assert "nll_paper@em5" in names
    assert all(name.endswith("@em5") for name in names)
    assert type(bype.from_pretrained(tmp_path).prior).__name__ == "FittedMixture"


def test_nothing_but_safetensors_is_read(trained, tmp_path):
    folder = bype.save_pretrained(trained["vamp"], tmp_path)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"expected model.safetensors in it, got none; bype reads no other file"):
        bype.from_pretrained(folder)


class Payload:
    """Leaves a file if it is unpickled."""

    def __init__(self, place):
        self.place = place

    def __reduce__(self):
        return open, (str(self.place), "w")


def emptied(path):
    path.write_bytes(b"")


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def flipped(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def of_another_library(path):
    save_file({"weight": torch.zeros(3, 3)}, path, {"format": "pt"})


def pickled(path):
    torch.save(Payload(path.parent / "unpickled"), path)


def with_an_endless_header(path):
    path.write_bytes((2**62).to_bytes(8, "little") + path.read_bytes()[8:])


def of_other_classes(path):
    """A file whose checksum is right, and which names a class of another module."""
    tensors, counters = read_tensors(path)
    counters["model"]["build"] = counters["model"]["build"] | {"options": {"arch": "os:system", "prior": "os:system"}}
    write_tensors(path, tensors, counters)


def a_folder(path):
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    "damage",
    [emptied, cut, flipped, of_another_library, pickled, with_an_endless_header, of_other_classes, a_folder],
    ids=lambda f: f.__name__,
)
def test_a_damaged_foreign_or_malicious_folder_is_one_line_and_runs_nothing(damage, trained, tmp_path):
    folder = bype.save_pretrained(trained["vamp"], tmp_path / "m")
    damage(folder / "model.safetensors")
    with pytest.raises(InputError) as caught:
        bype.from_pretrained(folder, device="cpu")
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)
    assert not (folder / "unpickled").exists()


def test_what_else_a_folder_holds_is_not_read(trained, tmp_path):
    folder = bype.save_pretrained(trained["vamp"], tmp_path / "m")
    torch.save(Payload(folder / "unpickled"), folder / "pytorch_model.bin")
    for name in ("config.json", "README.md", "modeling_vae.py", "__init__.py"):
        (folder / name).write_text("raise SystemExit(1)")
    assert type(bype.from_pretrained(folder, device="cpu").prior).__name__ == "VampPrior"
    assert not (folder / "unpickled").exists()


def test_foreign_files_are_kept(trained, tmp_path):
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(RunExistsError):
        bype.save_pretrained(trained["vamp"], tmp_path)
    assert (tmp_path / "README.md").read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("name", ["a/b/c", "./nowhere", "~/nowhere", "alone", "/no/where"])
def test_what_is_neither_a_folder_nor_a_name_is_refused_without_the_client(name, monkeypatch):
    monkeypatch.setattr(hub, "_client", lambda: pytest.fail("the client is asked"))
    with pytest.raises(InputError, match="expected a folder, or a name on the Hub as USER/MODEL"):
        bype.from_pretrained(name)


def test_a_licence_must_be_an_identifier(trained, tmp_path):
    with pytest.raises(InputError, match="expected an identifier such as mit"):
        bype.save_pretrained(trained["vamp"], tmp_path, license="MIT License\n")
    assert not list(tmp_path.iterdir())


def test_without_the_client_one_line_names_the_extra(trained, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(InputError, match=r"pip install 'bype\[hub\]'"):
        bype.from_pretrained("user/model")
    with pytest.raises(InputError, match=r"pip install 'bype\[hub\]'"):
        bype.push_to_hub(trained["vamp"], "user/model")


OFFLINE = """
import sys, bype
for call in (lambda: bype.from_pretrained("user/model"), lambda: bype.push_to_hub(sys.argv[1], "user/model")):
    try:
        call()
    except bype.InputError as e:
        print(e)
model = bype.from_pretrained("user/cached", device="cpu")
print(type(model).__name__, type(model.prior).__name__)
"""


def test_the_real_client_in_its_offline_mode(trained, tmp_path):
    """What is in the client's cache is loaded; all else is one line."""
    commit, repo = "0" * 40, tmp_path / "hub" / "models--user--cached"
    bype.save_pretrained(trained["vamp"], repo / "snapshots" / commit)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(commit)
    env = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "HF_HUB_CACHE": str(tmp_path / "hub")}
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE, str(trained["vamp"])], env=env, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [
        "user/model: not in the Hub's cache on this machine, and HF_HUB_OFFLINE is set",
        "user/model: HF_HUB_OFFLINE is set, so that nothing can be sent to the Hub or asked",
        "VAE VampPrior",
    ]


def test_one_commit_with_the_three_files_is_uploaded(trained, monkeypatch):
    """The real client's calls, with its two requests replaced."""
    seen = {}

    def create(self, repo_id, *, private, exist_ok):
        seen["created"] = (repo_id, private, exist_ok)

    def upload(self, *, repo_id, folder_path, revision, commit_message):
        seen["files"] = {p.name: p.read_bytes() for p in folder_path.iterdir()}
        return huggingface_hub.CommitInfo(
            commit_url=f"https://huggingface.co/{repo_id}/commit/1", commit_message=commit_message,
            commit_description="", oid="1",
        )  # fmt: skip

    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", create)
    monkeypatch.setattr(huggingface_hub.HfApi, "upload_folder", upload)
    url = bype.push_to_hub(trained["vamp"], "user/model", license="mit")
    assert url == "https://huggingface.co/user/model/commit/1"
    assert seen["created"] == ("user/model", True, True)
    assert sorted(seen["files"]) == ["README.md", "config.json", "model.safetensors"]
    assert b"bype.from_pretrained('user/model')" in seen["files"]["README.md"]


def test_the_command_writes_the_same_folder_with_the_licences_given(trained, cli_json, run_cli, tmp_path):
    words = ["export", trained["vamp"], "--format", "safetensors", "--out", tmp_path / "m"]
    shown = cli_json(*words, "--license", "mit", "--data-license", "CC0")
    assert shown == {
        "out": str(tmp_path / "m"), "format": "safetensors", "files": ["model.safetensors", "config.json", "README.md"],
    }  # fmt: skip
    assert sorted(p.name for p in (tmp_path / "m").iterdir()) == sorted(shown["files"])
    assert (head(tmp_path / "m")["license"], head(tmp_path / "m")["data_license"]) == ("mit", "CC0")
    assert run_cli(*words)[0] == 0, "an earlier export is replaced"
    assert head(tmp_path / "m")["license"] == "unknown"
    code, _, err = run_cli("export", trained["vamp"], "--format", "torch", "--license", "mit")
    assert (code, "expected --format safetensors, got torch" in err) == (2, True)
    code, _, err = run_cli("export", trained["vamp"], "--format", "pickle")
    assert (code, err.strip()) == (2, "bype: --format: expected one of onnx, torch, safetensors, got 'pickle'")
