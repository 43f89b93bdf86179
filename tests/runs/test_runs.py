import inspect
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import fields, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import bype
import processes
from bype.core.config import Config
from bype.core.devices import source_tree, versions
from bype.core.errors import InputError, RunExistsError
from bype.core.files import write_text
from bype.core.names import STRATEGIES
from bype.core.tensors import read_tensors, write_tensors
from bype.experiments.records import cell_id, settings_hash
from bype.runs.evaluations import Evaluations
from bype.runs.fitting import fit
from bype.runs.run import Run
from bype.training.trainer import Trainer

SMALL = {"n_components": 20, "exemplars": 30, "latent_dim": 6, "hidden_dim": 24, "warmup": 2, "device": "cpu"}


def config(prior="bype", epochs=3, **options):
    return Config("digits", prior=prior, epochs=epochs, **(SMALL | options))


def checkpoint_bytes(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.suffix == ".safetensors" or p.name == "last.json"}


def metrics_without_times(run):
    return [{k: v for k, v in line.items() if not k.startswith("seconds")} for line in run.metrics.read()]


def test_a_run_folder_holds_what_the_contract_says(trained):
    run = Run(trained["bype"])
    assert {p.name for p in run.path.iterdir()} == {
        "config.json", "metrics.jsonl", "best.safetensors", "last.safetensors", "last.json", "lock",
    }  # fmt: skip
    record = json.loads((run.path / "config.json").read_text())
    assert record["unit"] == "paper"
    assert record["versions"]["torch"] == torch.__version__
    assert len(record["data_sum"]) == 64
    assert record["unused"] == [
        "coreset_interval", "coreset_steps", "coreset_lr", "coreset_samples", "coreset_z1", "exemplars", "retrieve",
    ]  # fmt: skip
    assert Config.from_dict(record["options"], "here") == run.config
    lines = run.metrics.read()
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    wanted = {"epoch", "beta", "loss", "reconstruction", "kl", "val_loss", "best", "seconds", "skipped_steps"}
    assert all(wanted <= line.keys() for line in lines)
    assert all(isinstance(value, int | float) for line in lines for value in line.values()), "a line is flat"


@pytest.mark.parametrize("prior", ["standard", "vamp", "exemplar", "bype"])
def test_stopped_and_resumed_ends_bit_equal(tmp_path, trained, prior):
    options = config(prior, coreset="none")

    class Stop(Exception):  # noqa: N818
        pass

    def stop(info, trainer):
        if info.epoch == 2:
            raise Stop

    with pytest.raises(Stop):
        fit(options, tmp_path / "run", on_epoch=stop)
    resumed = fit(options, tmp_path / "run", resume=True)
    assert not resumed.was_finished
    assert checkpoint_bytes(tmp_path / "run") == checkpoint_bytes(trained[prior])
    assert metrics_without_times(Run(tmp_path / "run")) == metrics_without_times(Run(trained[prior]))


def test_lines_beyond_the_checkpoint_are_run_again(tmp_path, trained):
    import shutil

    shutil.copytree(trained["bype"], tmp_path / "run")
    run = Run(tmp_path / "run")
    with (run.path / "metrics.jsonl").open("a") as f:
        f.write('{"epoch": 4, "val_loss": 1.0}\n{"epoch": 5, "val_')
    fit(run.config, run.path, resume=True)
    assert [line["epoch"] for line in run.metrics.read()] == [1, 2, 3]


def test_the_line_of_an_epoch_that_was_not_saved_is_written_again(tmp_path):
    """The process is killed between the first epoch's line and its checkpoint."""
    run = Run(tmp_path / "run")
    fit(config(epochs=2), tmp_path / "whole")
    fit(config(epochs=2), run.path)
    for name in ("last.safetensors", "last.json", "best.safetensors"):
        (run.path / name).unlink()
    kept = run.metrics.path.read_text().splitlines()[0]
    run.metrics.path.write_text(kept + "\n")
    fit(config(epochs=2), run.path, resume=True)
    assert [line["epoch"] for line in run.metrics.read()] == [1, 2]
    assert metrics_without_times(run) == metrics_without_times(Run(tmp_path / "whole"))


def test_a_refit_at_training_items_is_loaded_with_these_items(tmp_path):
    run = Run(tmp_path / "run")
    data = fit(config(epochs=1), run.path).data
    made = bype.refit(run.checkpoints.load_model(data), data, points=20)
    loaded = run.load("cpu")
    Evaluations(loaded).save_refit("few", made, method="points", seed=0)
    found = Evaluations(run.load("cpu")).refits.load("few", data)
    shown = found.points_at(torch.arange(20))
    assert torch.equal(shown, data.train.scaled(found.items))
    assert Evaluations(run.load("cpu")).refits.load("few", None).points_at(torch.arange(20)) is None


def test_a_finished_run_is_left_alone(tmp_path, trained):
    before = checkpoint_bytes(trained["vamp"])
    assert fit(config("vamp"), trained["vamp"], resume=True).was_finished
    assert checkpoint_bytes(trained["vamp"]) == before


def test_an_existing_run_is_refused_without_resume(trained, tmp_path):
    with pytest.raises(RunExistsError, match="--resume"):
        fit(config(), trained["bype"])


@pytest.mark.parametrize("name", ["last.safetensors", "metrics.jsonl", "refit-a.json"])
def test_files_of_the_names_of_a_run_are_not_replaced(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(RunExistsError, match=f"contains {name} of a run without its config.json"):
        fit(config(), tmp_path)
    assert (tmp_path / name).read_text() == "mine"


def test_foreign_files_in_the_folder_are_left_alone(tmp_path):
    for name in (".DS_Store", "slurm-123.out", "train.log", "thesis.txt", ".lock.held"):
        (tmp_path / name).write_text("mine")
    (tmp_path / "notes").mkdir()
    fit(config(epochs=1), tmp_path)
    assert fit(config(epochs=1), tmp_path, resume=True).was_finished
    assert all((tmp_path / name).read_text() == "mine" for name in (".DS_Store", "slurm-123.out", "train.log"))
    assert (tmp_path / "notes").is_dir()


def _hold(path, held, release):
    with Run(path).lock():
        held.set()
        release.wait(30)


def test_a_folder_in_use_is_refused_and_a_dead_process_lets_go(tmp_path, fork, start):
    held, release = fork.Event(), fork.Event()
    process = start(_hold, tmp_path / "run", held, release)
    assert held.wait(60)
    with pytest.raises(RunExistsError, match="in use"), Run(tmp_path / "run").lock():
        pass
    process.kill()
    process.join()
    with Run(tmp_path / "run").lock():
        pass


def _of_python(command, tmp_path):
    """The command in a Python of its own, from its start to its end."""
    with (tmp_path / "log").open("w") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "bype", *command], stderr=log, env={**os.environ, "OMP_NUM_THREADS": "1"},
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background job inherits it ignored
        )  # fmt: skip


@pytest.mark.parametrize(
    ("number", "code", "whole"), [(signal.SIGTERM, 143, False), (signal.SIGINT, 130, True), (signal.SIGKILL, -9, False)]
)
def test_a_signal_ends_a_run_that_can_go_on(tmp_path, start, number, code, whole):
    options = "--components 20 --latent-dim 6 --hidden-dim 24 --epochs 100000 --warmup 2 --patience 200000 --device cpu"
    command = ["train", "digits", *options.split(), "--out", str(tmp_path / "run")]
    process = _of_python(command, tmp_path) if whole else start(processes.command, *command)
    try:
        deadline = time.monotonic() + 120
        while len(Run(tmp_path / "run").metrics.read()) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(process.pid, number)
        if whole:
            assert process.wait(60) == code
        else:
            process.join(60)
            assert process.exitcode == code
    finally:
        process.kill()
    assert "Traceback" not in (tmp_path / "log").read_text()
    tensors, counters = read_tensors(tmp_path / "run" / "last.safetensors")
    assert counters["epoch"] >= 2
    assert tensors["model.prior.weights"].sum() == pytest.approx(1439, rel=1e-5)


def test_a_model_loads_as_it_was_scored(trained):
    for folder in trained.values():
        run = Run(folder)
        data = run.dataset.load()
        model = run.checkpoints.load_model(data)
        from bype.core.seeds import Stream
        from bype.training.validation import validation_bound

        best = min(line["val_loss"] for line in run.metrics.read())
        assert -validation_bound(model, data.validation, Stream.VALIDATION) == best


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r.update(format=99), "expected format 1, got 99"),
        (lambda r: r["options"].update(colour="red"), "unknown key 'colour'"),
        (lambda r: r["options"].pop("set"), "the key 'set'"),
        (lambda r: r["options"].update(epochs="many"), "'epochs' to be int"),
        (lambda r: r["options"].update(epochs=True), "'epochs' to be int"),
        (lambda r: r["options"].update(prior="gauss"), "expected one of standard, vamp"),
        (lambda r: r["options"].update(lr=-1.0), "--lr: expected above 0"),
        (lambda r: r.pop("data_sum"), r"'options' \(an object\) and 'data_sum' \(a string\) are required"),
        (lambda r: r.update(data_sum="0" * 64), "digits: the values differ from the data that"),
    ],
)
def test_a_config_that_is_not_ours_is_refused_by_name(tmp_path, trained, change, message):
    record = json.loads((trained["bype"] / "config.json").read_text())
    change(record)
    (tmp_path / "config.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match=message):
        Run(tmp_path).dataset.load()


def test_damaged_checkpoints_are_refused(tmp_path):
    where = tmp_path / "best.safetensors"
    write_tensors(where, {"a": torch.arange(6.0)}, {"epoch": 3})
    tensors, counters = read_tensors(where)
    assert tensors["a"].tolist() == [0, 1, 2, 3, 4, 5]
    assert counters == {"epoch": 3}
    content = where.read_bytes()
    for damaged in (b"", content[:-1], content[:20], b"\xff" * 8 + content[8:], content.replace(b"bype", b"bipe")):
        where.write_bytes(damaged)
        with pytest.raises(InputError, match="damaged"):
            read_tensors(where)
    where.unlink()
    with pytest.raises(InputError, match="no such file"):
        read_tensors(where)


def test_a_write_that_fails_leaves_the_earlier_file(tmp_path):
    where = tmp_path / "a.txt"
    write_text(where, "first")

    from bype.core.files import write

    def fail(path):
        path.write_text("half of the sec")
        raise OSError(28, "No space left on device")

    with pytest.raises(InputError, match="No space left"):
        write(where, fail)
    assert where.read_text() == "first"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"], "no temporary file is left behind"


def test_names_and_hashes_of_cells():
    a = Config("mnist", prior="bype", n_components=500, precision="fp32", device="cpu")
    assert cell_id("trunk", a, "short").startswith("trunk-mnist-vae-bype-paper-fp32-short-s0-")
    hashes = {settings_hash(replace(a, **o)) for o in ({"seed": 3}, {"device": "cuda"})}
    assert hashes == {settings_hash(a)}, "neither seed nor place is a setting"
    assert settings_hash(replace(a, n_components=499)) not in hashes
    vamp = [settings_hash(Config("mnist", prior="vamp", exemplars=e)) for e in (None, 77)]
    assert vamp[0] == vamp[1], "an option that the prior does not use is no setting"


@pytest.mark.parametrize("coreset", ["paper", "published", "elbo"])
def test_every_strategy_resumes_bit_equal(tmp_path, coreset):
    options = config(coreset=coreset, epochs=4, coreset_interval=1, coreset_steps=3)

    class Stop(Exception):  # noqa: N818
        pass

    def stop(info, trainer):
        if info.epoch == 2:
            raise Stop

    fit(options, tmp_path / "whole")
    with pytest.raises(Stop):
        fit(options, tmp_path / "cut", on_epoch=stop)
    fit(options, tmp_path / "cut", resume=True)
    assert checkpoint_bytes(tmp_path / "cut") == checkpoint_bytes(tmp_path / "whole")
    assert metrics_without_times(Run(tmp_path / "cut")) == metrics_without_times(Run(tmp_path / "whole"))


def test_a_model_saved_is_the_model_loaded(tiny, tmp_path):
    options = {"n_components": 6, "latent_dim": 3, "hidden_dim": 8}
    model = bype.build_model(tiny, **options)
    bype.train(model, tiny, epochs=2, warmup=1)
    model.save(tmp_path / "model.safetensors")
    other = bype.build_model(tiny, seed=1, **options)
    assert other.load(tmp_path / "model.safetensors") is other
    assert all(torch.equal(v, other.state_dict()[k]) for k, v in model.state_dict().items())
    larger = bype.build_model(tiny, **(options | {"latent_dim": 4}))
    before = {k: v.clone() for k, v in larger.state_dict().items()}
    with pytest.raises(bype.InputError, match=r"expected the tensors of this model, got others: .*encoder"):
        larger.load(tmp_path / "model.safetensors")
    assert all(torch.equal(v, before[k]) for k, v in larger.state_dict().items())
    for built, message in (
        ({"likelihood": "bernoulli"}, "expected a model with likelihood Bernoulli, as this one, got MeanSquaredError"),
        ({"prior": "vamp"}, "expected a model with prior VampPrior, as this one, got PseudocoresetPrior"),
    ):
        with pytest.raises(bype.InputError, match=message):
            bype.build_model(tiny, **(options | built)).load(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").write_bytes(b"x")
    with pytest.raises(bype.InputError, match="damaged"):
        other.load(tmp_path / "model.safetensors")


def test_a_model_scores_other_data_as_it_scored_its_own(tiny, tmp_path):
    more = bype.from_arrays(torch.cat([p.pixels for p in tiny.splits.values()] * 2), name="more")
    options = {"n_components": 6, "latent_dim": 3, "hidden_dim": 8}
    x = tiny.test.scaled()
    model = bype.build_model(tiny, **options)
    model.save(tmp_path / "bype")
    other = bype.build_model(more, seed=1, **options).load(tmp_path / "bype")
    z = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(other.prior(other.encoder).log_prob(z), model.prior(model.encoder).log_prob(z))
    torch.testing.assert_close(other.reconstruct(x), model.reconstruct(x))
    write_tensors(tmp_path / "odd", model.state_dict(), {"model": model._metadata() | {"n_data": "48"}})
    with pytest.raises(bype.InputError, match="expected a model with n_data 96, as this one, got 48"):
        bype.build_model(more, **options).load(tmp_path / "odd")
    exemplar = bype.build_model(tiny, prior="exemplar", **options)
    exemplar.save(tmp_path / "exemplar")
    bype.build_model(tiny, prior="exemplar", seed=1, **options).load(tmp_path / "exemplar")
    with pytest.raises(bype.InputError, match="expected a model with n_data 96, as this one, got 48"):
        bype.build_model(more, prior="exemplar", **options).load(tmp_path / "exemplar")
    turned = bype.from_arrays(255 - torch.cat([p.pixels for p in tiny.splits.values()]), name="turned")
    with pytest.raises(bype.InputError, match="expected a model with training_items"):
        bype.build_model(turned, prior="exemplar", **options).load(tmp_path / "exemplar")


def test_resume_from_python_refuses_other_options_by_name(tmp_path):
    fit(config(epochs=1), tmp_path / "run")
    for other, message in (
        ({"lr": 0.1}, "expected --lr 0.0005, the run's own, got 0.1"),
        ({"seed": 9}, "expected --seed 0"),
    ):
        with pytest.raises(InputError, match=message):
            fit(config(**({"epochs": 1} | other)), tmp_path / "run", resume=True)
    with pytest.raises(InputError, match="expected SET digits, the run's own, got mnist"):
        fit(Config("mnist", **(SMALL | {"epochs": 1})), tmp_path / "run", resume=True)
    assert fit(config(epochs=1), tmp_path / "run", resume=True).was_finished


def test_a_relative_data_dir_is_found_from_anywhere_and_may_move(tmp_path, monkeypatch, cli_json, run_cli, write_idx):
    rng = np.random.default_rng(0)
    monkeypatch.setattr("bype.data.published._hold_out", lambda name, training, test: bype.from_arrays(test.pixels))
    monkeypatch.setattr("bype.data.published.read_idx", lambda folder, stem, shape: (
        rng.integers(0, 9, 50).astype(np.uint8) if "labels" in stem else images))  # fmt: skip
    images = rng.integers(0, 256, (50, 28, 28), dtype=np.uint8)
    write_idx(tmp_path / "here" / "d" / "mnist" / "train-images-idx3-ubyte", images)
    monkeypatch.setenv("BYPE_DATA", str(tmp_path / "nowhere"))
    monkeypatch.chdir(tmp_path / "here")
    options = ["--components", 5, "--latent-dim", 3, "--hidden-dim", 8, "--warmup", 1, "--epochs", 1]
    cli_json("train", "mnist", "--data-dir", "d", *options, "--out", "../run")
    monkeypatch.chdir(tmp_path)
    cli_json("evaluate", "run", "--samples", 1)
    (tmp_path / "here" / "d").rename(tmp_path / "e")
    code, _, err = run_cli("evaluate", "run", "--samples", 1)
    assert (code, "mnist" in err) == (2, True), err
    assert cli_json("train", "mnist", "--data-dir", "e", "--out", "run", "--resume")["finished_already"]
    cli_json("evaluate", "run", "--samples", 1)


@pytest.mark.parametrize("there", ["older", "none"])
def test_a_best_epoch_that_was_not_written_is_in_the_last_checkpoint(tmp_path, there):
    run = Run(tmp_path / "run")
    kept = {}

    def keep(info, trainer):
        kept[info.epoch] = (run.path / "best.safetensors").read_bytes()
        if info.epoch == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        fit(config(epochs=3), run.path, on_epoch=keep)
    assert kept[1] != kept[2], "each of the first epochs is better than the one before"
    if there == "older":
        (run.path / "best.safetensors").write_bytes(kept[1])  # killed between the two files
    else:
        (run.path / "best.safetensors").unlink()
    fit(config(epochs=3), run.path, resume=True)
    fit(config(epochs=3), tmp_path / "whole")
    assert checkpoint_bytes(run.path) == checkpoint_bytes(tmp_path / "whole")


@pytest.mark.parametrize("lost", ["last.json", "best.safetensors", "both"])
@pytest.mark.parametrize("there", ["older", "none"])
def test_resuming_a_finished_run_restores_the_files_that_a_killed_process_did_not_write(tmp_path, lost, there):
    """Killed in the last epoch, after last.safetensors: no later epoch replaces the other files."""
    run, kept = Run(tmp_path / "run"), {}
    names = ["last.json", "best.safetensors"] if lost == "both" else [lost]

    def keep(info, trainer):
        kept[info.epoch] = {name: (run.path / name).read_bytes() for name in names}

    fit(config(epochs=3), run.path, on_epoch=keep)
    finished = checkpoint_bytes(run.path)
    for name in names:
        assert kept[2][name] != finished[name], "the last epoch is the best one"
        if there == "older":
            (run.path / name).write_bytes(kept[2][name])
        else:
            (run.path / name).unlink()
    assert run.checkpoints.finished == (lost == "best.safetensors")
    assert fit(config(epochs=3), run.path, resume=True).was_finished
    assert checkpoint_bytes(run.path) == finished
    assert run.checkpoints.finished


def test_two_at_once_lose_no_figures(tmp_path):
    run = Run(tmp_path / "run")
    fit(config(epochs=1), run.path)
    results = Evaluations(run)

    def add(seed):
        results.add({"split": "test", "seed": seed, "nll_nats": 1.0})

    threads = [threading.Thread(target=add, args=(seed,)) for seed in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [e["seed"] for e in results.read()] == sorted(range(12), key=str)


def test_what_was_made_for_earlier_networks_is_not_recorded(tmp_path):
    run = Run(tmp_path / "run")
    data = fit(config(epochs=1), run.path).data
    results = Evaluations(run)
    prior = bype.refit(run.checkpoints.load_model(data), data, points=20)
    record = json.loads((run.path / "config.json").read_text())
    record["options"]["epochs"] = 3
    (run.path / "config.json").write_text(json.dumps(record))
    fit(config(epochs=3), run.path, resume=True)
    assert run.checkpoints.networks()["epoch"] > 1
    with pytest.raises(
        InputError, match=r"expected the networks of epoch 1, which were loaded, got those of epoch [23]"
    ):
        results.save_refit("all", prior, method="points", seed=0)
    with pytest.raises(InputError, match="nothing is recorded"):
        results.add({"split": "test", "seed": 0})
    assert not Evaluations(run).refits.record("all")


def test_a_set_is_the_run_s_own_by_its_place_not_its_name(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        np.save(tmp_path / folder / "set.npy", rng.integers(0, 256, (40, 3, 4), dtype=np.uint8))
    monkeypatch.chdir(tmp_path / "a")
    fit(Config("set.npy", **(SMALL | {"n_components": 5, "epochs": 1})), "run")
    monkeypatch.chdir(tmp_path / "b")
    run = Run("../a/run")
    assert not run.dataset.is_own("set.npy")
    assert run.dataset.is_own("../a/set.npy")
    assert (
        run.dataset.load(name="set.npy").checksum() == bype.load("set.npy").checksum() != run.dataset.load().checksum()
    )
    config = Config("set.npy", **(SMALL | {"n_components": 5, "epochs": 1}))
    with pytest.raises(InputError, match=r"set\.npy: the values differ from the data that .* was trained on"):
        fit(config, run.path, resume=True)
    assert Run(run.path).dataset.is_own("../a/set.npy"), "left as it was"
    (tmp_path / "a" / "set.npy").rename(tmp_path / "set.npy")
    assert fit(replace(config, set="../set.npy"), run.path, resume=True).was_finished
    assert Run(run.path).dataset.is_own("../set.npy")


def test_train_tells_each_epoch_and_leaves_the_best_when_it_is_stopped(tiny):
    model, seen, states = bype.build_model(tiny, n_components=6, latent_dim=3, hidden_dim=8), [], []

    def on_epoch(info, trainer):
        seen.append(info)
        states.append({k: v.clone() for k, v in model.state_dict().items()})
        if info.epoch == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bype.train(model, tiny, epochs=9, warmup=1, on_epoch=on_epoch)
    assert [i.epoch for i in seen] == [1, 2, 3]
    best = min(range(3), key=lambda i: seen[i].val_loss)
    assert all(torch.equal(v, states[best][k]) for k, v in model.state_dict().items())


def test_public_names_are_there_and_documented():
    for name in bype.__all__:
        assert getattr(bype, name).__doc__, name
    assert callable(bype.refit), "not the module"
    assert callable(bype.fit)


def test_every_option_arrives(tmp_path, monkeypatch):
    """All fields off their defaults, in what is built of them."""
    built = {}
    monkeypatch.setattr(bype.models.build, "build_model", lambda data, **options: built.update(options))
    model_options = {
        "arch": "hvae", "prior": "bype", "likelihood": "gaussian", "n_components": 7, "latent_dim": 3, "hidden_dim": 9,
        "exemplars": 11, "retrieve": 5, "coreset": "published", "init": "glorot", "reencode": 0.5, "seed": 6,
    }  # fmt: skip
    trainer_options = {
        "epochs": 8, "warmup": 3, "patience": 4, "batch_size": 17, "lr": 0.02, "coreset_interval": 2,
        "schedule": "linear", "lr_warmup": 1, "averaging": 0.9, "gradient": "path", "importance": 3,
        "precision": "bf16", "compile": True, "deterministic": True, "seed": 6,
    }  # fmt: skip
    strategy_options = {"coreset_steps": 12, "coreset_lr": 0.03, "coreset_samples": 13, "coreset_z1": 14}
    place = {"set": "digits", "data_dir": None, "device": "cpu", "recipe": "paper", **Config("digits").reading}
    config = Config(**(place | model_options | trainer_options | strategy_options))
    assert {f.name for f in fields(Config)} == {*place, *model_options, *trainer_options, *strategy_options}
    defaults = Config("digits").to_dict()
    for name, value in (model_options | trainer_options | strategy_options).items():
        assert value != defaults[name] or name == "prior", name
    bype.models.build.model_from(config, None)
    assert built == model_options
    published = STRATEGIES[config.coreset].from_options(config)
    assert (published.batch_size, published.n_samples, published.z1_draws) == (17, 13, 14)
    paper = STRATEGIES["paper"].from_options(config)
    assert (paper.steps, paper.lr, paper.n_samples, paper.z1_draws) == (12, 0.03, 13, 14)
    given = {}
    monkeypatch.setattr(bype.runs.fitting, "Trainer", lambda model, data, **options: given.update(options))
    bype.runs.fitting.trainer_from(config, None, SimpleNamespace(train=range(50)))
    assert {name: given[name] for name in trainer_options} == trainer_options
    assert isinstance(given["strategy"], bype.pseudocoreset.ReferenceCode)


def test_defaults_are_the_same_from_python_and_from_the_shell():
    own = Config("digits", recipe="paper").to_dict()
    for made in (bype.models.build.build_model, bype.training.trainer.Trainer.__init__):
        for name, parameter in inspect.signature(made).parameters.items():
            if name in own and parameter.default is not inspect.Parameter.empty:
                assert parameter.default == own[name], name
    assert set(bype.pseudocoreset.STRATEGIES) == set(STRATEGIES)


def test_a_run_records_the_precision_given_and_the_one_used(tmp_path):
    run = Run(tmp_path / "run")
    fit(config(epochs=1), run.path)
    assert (run.record["options"]["precision"], run.record["precision_used"]) == ("auto", "fp32")
    fit(config(epochs=1, precision="bf16"), tmp_path / "bf16")
    record = Run(tmp_path / "bf16").record
    assert (record["options"]["precision"], record["precision_used"]) == ("bf16", "bf16")
    with pytest.raises(InputError, match="expected --precision bf16, the run's own, got auto"):
        fit(config(epochs=1), tmp_path / "bf16", resume=True)
    # A run of the first versions, whose default was fp32.
    record = json.loads((run.path / "config.json").read_text())
    del record["precision_used"]
    record["options"]["precision"] = "fp32"
    (run.path / "config.json").write_text(json.dumps(record))
    assert fit(config(epochs=1), run.path, resume=True).was_finished


def test_fit_ends_with_the_best_epoch_s_model(tmp_path, monkeypatch):
    losses = iter([2.0, 1.0, 3.0, 4.0])
    monkeypatch.setattr(bype.training.trainer.Trainer, "validate", lambda self: next(losses))
    done = fit(config("standard", epochs=4), tmp_path / "run")
    best = done.run.checkpoints.load_model(done.data).state_dict()
    assert done.run.checkpoints.networks()["epoch"] == 2
    assert all(torch.equal(value, best[name]) for name, value in done.trainer.model.state_dict().items())
    last = read_tensors(tmp_path / "run" / "last.safetensors")[0]
    assert not all(torch.equal(value, last[f"model.{name}"]) for name, value in best.items())


@pytest.mark.skipif(shutil.which("git") is None, reason="no git here")
def test_a_run_s_source_is_named_as_git_names_it(tmp_path):
    for name in ("a.py", "a/b.py", "a/z/c.py", "py.typed", "b/page.css", "a.b.py", "__pycache__/a.pyc"):
        (tmp_path / "src" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "src" / name).write_text(name)
    for command in (["init", "-q"], ["add", "src/*.py", "src/*.typed", "src/*.css"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    listed = subprocess.run(["git", "write-tree", "--prefix=src/"], cwd=tmp_path, check=True, capture_output=True)
    assert source_tree(tmp_path / "src") == listed.stdout.decode().strip()
    assert len(versions()["source"]) == 40


def test_figures_of_more_samples_are_not_replaced_by_those_of_fewer(tmp_path):
    run = Run(tmp_path / "run")
    fit(config(epochs=1), run.path)
    results, what = Evaluations(run), {"split": "test", "seed": 0}

    def add(samples, items, suffix=""):
        scored = {f"nll_nats{suffix}": float(samples), f"samples{suffix}": samples, f"items{suffix}": items}
        return results.add(what | scored)

    assert add(100, 20)
    assert not add(2, 20)
    assert not add(100, 10)
    assert add(50, 20, "@all"), "under a refit they are of its own"
    assert not add(2, 20, "@all")
    assert add(100, 20)
    assert not add(10**6, 19), "many samples of fewer items are fewer items"
    (entry,) = results.read()
    assert (entry["nll_nats"], entry["nll_nats@all"], entry["items"]) == (100.0, 50.0, 20)
    assert add(200, 20)
    assert results.read()[0]["nll_nats"] == 200.0
    # What is new beside figures that stay is added.
    assert results.add(what | {"samples": 300, "items": 20, "knn": {"3": 90.0, "5": 91.0}})
    assert not results.add(what | {"samples": 2, "items": 2, "nll_nats": 9.0, "more": 1.0, "knn": {"1": 89.0}})
    (entry,) = results.read()
    assert (entry["samples"], entry["nll_nats"], entry["more"]) == (300, 200.0, 1.0)
    assert entry["knn"] == {"1": 89.0, "3": 90.0, "5": 91.0}
    results.add(what | {"samples": 300, "items": 20, "knn": {3: 92.0}})  # as `evaluate` returns it
    assert (run.path / "evaluation.json").read_text().count('"3"') == 1, "no key stands there twice"
    assert results.read()[0]["knn"] == {"1": 89.0, "3": 92.0, "5": 91.0}


def test_a_figure_under_a_refit_that_is_another_by_now_is_not_recorded(tmp_path):
    run = Run(tmp_path / "run")
    data = fit(config(epochs=1), run.path).data
    model, results = run.checkpoints.load_model(data), Evaluations(run)
    results.save_refit("q", bype.refit(model, data, points=20), method="points", seed=0)
    results.refits.load("q", data)
    figures = {"split": "test", "seed": 0, "nll_nats@q": 1.0}
    assert results.add(figures)
    (run.path / "refit-q.json").unlink()
    results.save_refit("q", bype.refit(model, data, points=21), method="points", seed=0)
    with pytest.raises(InputError, match=r"refit-q\.safetensors: replaced after it was loaded; nothing is recorded"):
        results.add(figures)
    (run.path / "refit-q.safetensors").unlink()
    with pytest.raises(InputError, match="replaced after it was loaded; nothing is recorded"):
        results.add(figures)
    assert results.read() == [{"split": "test", "seed": 0}]


def test_a_damaged_line_amid_the_metrics_is_named_and_nothing_is_cut_off(tmp_path):
    run = Run(tmp_path / "run")
    fit(config(epochs=3), run.path)
    where = run.path / "metrics.jsonl"
    first, second, third = where.read_text().splitlines()
    where.write_text(f"{first}\n{second[:40]}\n{third}\n")
    before = where.read_text()
    with pytest.raises(
        InputError, match=r"metrics\.jsonl, line 2: expected the metrics of an epoch, got .*; fix the line"
    ):
        fit(config(epochs=3), run.path, resume=True)
    assert where.read_text() == before
    where.write_text(f"{first}\n{second}\n{third[:40]}")
    assert [line["epoch"] for line in run.metrics.read()] == [1, 2], "a last line may be torn"


def test_two_trainers_share_no_state():
    data = bype.load("digits")
    models = [bype.build_model(data, prior="bype", n_components=8, latent_dim=3, hidden_dim=8) for _ in range(3)]
    trainers = [Trainer(model, data, epochs=9, coreset_interval=1, strategy="published") for model in models]
    trainers[0].run_epoch()
    for other in trainers[1:]:
        other.load_state(*trainers[0].state(), trainers[0].best_state)
    apart = trainers[1].run_epoch().loss
    trainers[0].run_epoch()
    assert trainers[2].run_epoch().loss == apart, "what the first went on with is its own"
