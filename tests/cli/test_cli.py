import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image, ImageColor

import processes
from bype.cli.commands import COMMANDS, Stopped, import_command
from bype.core.errors import InputError
from bype.core.signals import NUMBERS, StoppedAtOnce
from bype.viz.palette import FRAME

SMALL = ["--components", 20, "--exemplars", 30, "--latent-dim", 6, "--hidden-dim", 24, "--warmup", 2, "--device", "cpu"]


@pytest.mark.parametrize(
    "args",
    [
        [], ["--help"], ["--version"], ["--nonsense"], ["nonsense"], ["data", "--help"], ["data", "nonsense"],
        ["train", "--help"], ["train", "--nonsense"],
    ],
)  # fmt: skip
def test_nothing_heavy_is_imported_to_help(args):
    code = (
        "import sys; sys.argv = ['bype', *sys.argv[1:]]\n"
        "from bype.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print([m for m in ('torch', 'numpy', 'sklearn', 'matplotlib', 'PIL') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "[]"


def test_every_command_of_the_table_has_a_help(run_cli):
    code, listed, _ = run_cli("--help")
    assert code == 0
    for name, command in COMMANDS.items():
        code, out, err = run_cli(*name.split(), "--help")
        assert code == 0, err
        assert f"Usage: bype {name} [OPTIONS]" in out
        assert import_command(name).name == name.split()[-1]
        group = listed if " " not in name else run_cli(name.split()[0], "--help")[1]
        assert f"  {name.split()[-1]} " in group
        assert f" {command.summary}\n" in group, "not cut"


def test_a_command_mistyped_is_suggested(run_cli):
    assert run_cli("trian")[2] == "bype: No such command 'trian'. Did you mean 'train'? (see `bype --help`)\n"
    assert run_cli("data", "lst")[2] == "bype: No such command 'lst'. Did you mean 'list'? (see `bype data --help`)\n"


def test_module_and_lazy_names():
    import bype

    assert set(bype.__all__) <= set(dir(bype))
    for name in bype.__all__ * 2:  # twice, for a submodule of the same name would take the second call
        found = getattr(bype, name)
        if isinstance(found, ModuleType):
            assert found.__name__ == f"bype.{name}"
        else:
            assert found.__module__.startswith("bype.")
            assert callable(found)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = bype.nonsense


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["train"], 2, "Missing argument 'SET'"),
        (
            ["train", "minst"],
            2,
            "expected one of digits, mnist, fashion-mnist, cifar10, celeba, or a path, got 'minst'",
        ),
        (
            ["train", "digits", "--prior", "gauss"],
            2,
            "--prior: expected one of standard, vamp, exemplar, bype, got 'gauss'",
        ),
        (["train", "digits", "--resize", "8"], 2, "--resize: expected a folder or zip of images to resize, got digits"),
        (["train", "a.zip", "--resize", "8x"], 2, "--resize: expected a number of pixels or HxW"),
        (["train", "a.npy"], 2, "a.npy: no such file or folder"),
        (["data", "check", "a.npz"], 2, "a.npz: no such file or folder"),
        (["data", "fetch", "minst"], 2, "got 'minst'"),
        (["train", "digits", "--epochs", "0"], 2, "--epochs: expected at least 1, got 0"),
        (
            ["reproduce", "trunk", "--precision", "fp64", "--list"],
            2,
            "fig1, fig2, fig3, fig4 only, got 'fp64' with trunk",
        ),
        (
            ["reproduce", "step-two", "--protocol", "paper", "--list"],
            2,
            "--protocol: an option of table1, table3, fig1, fig2, fig3, fig4, fig5 only, got 'paper' with step-two",
        ),
        (["reproduce", "trunk", "--budget", "5h3"], 2, "--budget: expected a time like 90s"),
        (["evaluate", "RUN", "--with", "all", "--k", "3"], 2, "--k: cannot be combined with --with"),
        (["train", "digits", "--epochs", "many"], 2, "'many'"),
        (["evaluate", "RUN", "--samples=none"], 2, "'none'"),
        (["evaluate", "RUN", "--samples", "0"], 2, "got '0'"),
        (["train", "digits", "--lr", "nan"], 2, "--lr: expected a finite number, got nan"),
        (["train", "digits", "--precision", "tf32", "--device", "cpu"], 2, "precision tf32: expected a CUDA device"),
        (["train", "digits", "--likelihood", "logistic"], 2, "expected data of 256 levels, got 17 levels"),
        (["train", "digits", "--components", "5000"], 2, "between 1 and the 1439 training examples"),
        (["train", "digits", "--nonsense"], 2, "No such option: --nonsense"),
        (["nonsense"], 2, "No such command 'nonsense'"),
        (["evaluate", "no/such/run"], 2, "not a run folder, it has no config.json"),
        (["evaluate", "RUN", "--k", "3,x"], 2, "--k: expected whole numbers"),
        (["evaluate", "RUN", "--k", "0"], 2, "k: expected numbers from 1 to"),
        (["evaluate", "RUN", "--split", "dev"], 2, "split: expected train, validation, test or all, got 'dev'"),
        (["evaluate", "RUN", "--device", "tpu"], 2, "--device: expected one of auto, cpu, cuda, got 'tpu'"),
        (["sample", "RUN", "--out", "x.gif"], 2, "ends in .png, .csv, .parquet or .npz"),
        (["sample", "RUN", "--out", "x.png", "--component", "20"], 2, "a component from 0 to 19, but got 20"),
        (["sample", "RUN", "--out", "x.png", "--like", "179"], 2, "a test index from 0 to 178"),
        (["sample", "RUN", "--out", "x.png", "--like", "none.png"], 2, "none.png: cannot be read: No such file"),
        (["sample", "RUN", "--out", "x.png", "--like", "1", "--plates"], 2, "got more"),
        (["sample", "STANDARD", "--out", "x.png", "--plates"], 2, "a prior made of points, but got StandardPrior"),
        (["sample", "STANDARD", "--out", "x.png", "--component", "0"], 2, "StandardPrior has none"),
        (["sample", "RUN", "--out", "/proc/none/x.png"], 2, "cannot be written"),
        (["reconstruct", "RUN", "--out", "x.npz"], 2, "ends in .png"),
        (["interpolate", "RUN", "--out", "x.npz"], 2, "ends in .png"),
        (
            ["interpolate", "RUN", "--out", "x.png", "--between", "0", "179"],
            2,
            "--between: 179: expected a file, a set or a test index from 0 to 178",
        ),
        (
            ["interpolate", "RUN", "--out", "x.png", "--points", "--between", "20", "0"],
            2,
            "expected points of the prior from 0 to 19, got 20 and 0",
        ),
        (["interpolate", "STANDARD", "--out", "x.png", "--points"], 2, "a prior made of points, got StandardPrior"),
        (["interpolate", "RUN", "--out", "x.png", "--steps", "1"], 2, "--steps"),
        (
            ["train", "digits", "--arch", "resnet"],
            2,
            "--arch: expected one of vae, hvae, convhvae, celeba, got 'resnet'",
        ),
        (["train", "digits", "--reencode", "2"], 2, "reencode: expected above 0 and at most 1, got 2.0"),
        (["train", "digits", "--out", "RUN"], 4, "already contains a run; use --resume to continue it"),
        (
            ["train", "digits", "--out", "RUN", "--resume", "--lr", "1"],
            2,
            "expected --lr 0.0005, the run's own, got 1.0",
        ),
        (["demo", "--out", "RUN"], 4, "a new folder or an earlier demo"),
        (["reproduce", "table9"], 2, "expected one of table1, fast-table1, table2"),
        (
            ["reproduce", "trunk", "--seeds", "3-1"],
            2,
            "--seeds: expected at most 1000 seeds, such as 0-4 or 0,2,5, got '3-1'",
        ),
        (["reproduce", "trunk", "--seeds", "0-99999999999"], 2, "at most 1000 seeds, such as 0-4 or 0,2,5, got"),
        (["reproduce", "trunk", "--seeds", "²"], 2, "got '²'"),
        (["reproduce", "trunk", "--shard", "1/²"], 2, "--shard: expected I/N with I from 1 to N, got '1/²'"),
        (["refit", "STANDARD", "--name", "a", "--points", "²"], 2, "--points: expected all or a number, got '²'"),
        (["sample", "STANDARD", "--out", "x.png", "--seed", "9" * 20], 2, "--seed: expected a number from 0 to 2^31"),
        (["sample", "STANDARD", "--out", "x.png", "--seed", "-1"], 2, "--seed: expected a number from 0 to 2^31"),
        (
            ["reproduce", "trunk", "--coreset", "elbo"],
            2,
            "reproduce trunk: no cells with --coreset elbo",
        ),
        (["reproduce"], 2, "reencode, trunk, all) or --render"),
        (["reproduce", "trunk", "--budget", "soon"], 2, "--budget: expected a time like 90s, 9m or 1h30m, got 'soon'"),
        (["reproduce", "trunk", "--shard", "3/2"], 2, "--shard: expected I/N with I from 1 to N, got '3/2'"),
    ],
)
def test_errors_are_one_line_and_a_code(run_cli, trained, tmp_path, monkeypatch, args, code, message):
    monkeypatch.chdir(tmp_path)
    places = {"RUN": trained["bype"], "STANDARD": trained["standard"]}
    got, out, err = run_cli(*(places.get(a, a) for a in args))
    assert got == code, err
    assert out == ""
    assert err.count("\n") == 1, err
    assert message in err
    assert list(tmp_path.iterdir()) == [], "a refused command leaves nothing behind"


def test_train_evaluate_and_resume(cli_json, run_cli, tmp_path):
    run = tmp_path / "run"
    first = cli_json("train", "digits", *SMALL, "--epochs", 3, "--out", run)
    assert first["epochs"] == 3
    assert not first["finished_already"]
    again = cli_json("train", "digits", "--out", run, "--resume")
    assert again == first | {"finished_already": True}
    figures = cli_json("evaluate", run, "--samples", 20, "--items", 30, "--k", "1,5")
    scored = json.loads((run / "evaluation.json").read_text())["scored"]
    assert scored == [{k: v for k, v in figures.items() if k != "run"}]
    assert figures["nll_nats"] == pytest.approx(figures["nll_paper"] + 32 * np.log(np.pi))
    assert figures["bpd"] == pytest.approx(figures["nll_nats"] / 64 / np.log(2) + np.log2(17))
    assert figures["knn"].keys() == {"1", "5"}
    code, out, err = run_cli("evaluate", run, "--samples", 20, "--items", 30, "--k", "1,5")
    assert code == 0, err
    assert f"{figures['nll_paper']:.2f}" in out


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--prior", "standard"], None),
        (
            ["--prior", "standard", "--components", 7, "--coreset", "elbo"],
            "unused with prior standard: --components, --coreset",
        ),
        (["--prior", "bype", "--coreset", "none", "--coreset-lr", 0.1], "unused with coreset none: --coreset-lr"),
        (
            ["--prior", "standard", "--coreset-z1", 2, "--exemplars", 5],
            "unused with arch vae: --coreset-z1; with prior standard: --exemplars",
        ),
    ],
)
def test_options_without_effect_are_named_in_one_line(run_cli, tmp_path, words, line):
    words = ["train", "digits", *words, "--latent-dim", 2, "--hidden-dim", 4, "--epochs", 1, "--warmup", 0]
    code, _, err = run_cli(*words, "--device", "cpu", "--out", tmp_path / "run")
    assert code == 0, err
    shown = [said for said in err.splitlines() if not any(word in said for word in ("epoch 1/1", "recipe "))]
    assert shown == ([] if line is None else [line])


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (["train", "digits", "--seed", 0, "--seed", 1], "--seed"),
        (["train", "digits", "--seed=0", "--seed", 0], "--seed"),
        (["evaluate", "run", "--samples", 5, "--json", "--samples", 5], "--samples"),
        (["data", "check", "--resize", 8, "--resize", 9], "--resize"),
        (["reproduce", "trunk", "--seeds", 0, "--list", "--seeds", 1], "--seeds"),
    ],
)
def test_an_option_given_twice_is_refused(run_cli, tmp_path, monkeypatch, words, option):
    monkeypatch.chdir(tmp_path)
    code, out, err = run_cli(*words)
    command = " ".join(words[: 2 if words[0] == "data" else 1])
    assert (code, out) == (2, "")
    assert err == f"bype: Option '{option}' is given twice (see `bype {command} --help`)\n"
    assert run_cli(command.split()[0], "--help", "--help")[0] == 0, "but a flag may be"


def test_default_run_folder_is_named_by_what_it_is(cli_json, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out = cli_json("train", "digits", *SMALL, "--epochs", 1, "--prior", "vamp", "--seed", 3)
    assert out["run"] == "runs/digits-vae-vamp-s3"
    out = cli_json("train", "digits", *SMALL, "--epochs", 1, "--coreset", "none", "--resume")
    assert out["run"] == "runs/digits-vae-bype-none-s0"


def test_samples_as_arrays(cli_json, trained, tmp_path):
    for prior, run in trained.items():
        cli_json("sample", run, "--out", tmp_path / "x.npz", "--n", 50)
        with np.load(tmp_path / "x.npz") as arrays:
            assert arrays["images"].shape == (50, 1, 8, 8)
            assert arrays["images"].dtype == np.float32
            assert ("components" in arrays) == (prior != "standard")
            if prior != "standard":
                assert len(set(arrays["components"].tolist())) > 5
    cli_json("sample", trained["bype"], "--out", tmp_path / "x.npz", "--n", 5, "--component", 7)
    with np.load(tmp_path / "x.npz") as arrays:
        assert arrays["components"].tolist() == [7] * 5
    cli_json("sample", trained["bype"], "--out", tmp_path / "x.npz", "--plates", "--n", 4)
    with np.load(tmp_path / "x.npz") as arrays:
        assert arrays["components"].tolist() == [c for c in arrays["components"][::4].tolist() for _ in range(4)]


def test_samples_follow_the_seed(cli_json, trained, tmp_path):
    def draw(seed):
        cli_json("sample", trained["bype"], "--out", tmp_path / "x.npz", "--seed", seed)
        with np.load(tmp_path / "x.npz") as arrays:
            return arrays["images"]

    assert np.array_equal(draw(0), draw(0))
    assert not np.array_equal(draw(0), draw(1))


def tiles_of(picture, side=96):
    """The images of a labelled picture of 8x8 images, row by row: frames of one pixel around squares of `side`."""
    pixels = np.asarray(picture.convert("RGB"))
    framed = (pixels == ImageColor.getrgb(FRAME)).all(-1)
    runs = np.lib.stride_tricks.sliding_window_view(framed, side + 2, axis=1).all(-1)
    tops = [(y, x) for y, x in np.argwhere(runs).tolist() if y + side + 1 < len(runs) and runs[y + side + 1, x]]
    rows = {}
    for y, x in tops:
        rows.setdefault(y, []).append(pixels[y + 1 : y + 1 + side : 12, x + 1 : x + 1 + side : 12, 0])
    return [np.stack(row) for row in rows.values()]


@pytest.mark.parametrize("prior", ["standard", "vamp", "exemplar", "bype"])
def test_pictures_are_pngs_of_as_many_images_as_asked_for(cli_json, trained, tmp_path, prior):
    run, out = trained[prior], tmp_path / "x.png"
    for command, options, expected in (
        ("sample", ("--n", 9), [3, 3, 3]),
        ("sample", ("--n", 4, "--like", 3), [2, 2]),
        ("reconstruct", ("--n", 10), [8, 8, 2, 2]),
    ):
        cli_json(command, run, "--out", out, *options)
        with Image.open(out) as picture:
            assert picture.format == "PNG"
            assert [len(row) for row in tiles_of(picture)] == expected
    if prior != "standard":
        cli_json("sample", run, "--out", out, "--plates")
        with Image.open(out) as picture:
            assert min(picture.size) > 300


def test_interpolation_goes_from_one_item_to_the_other(cli_json, trained, tmp_path):
    from bype.runs.run import Run

    run, out = Run(trained["bype"]), tmp_path / "x.png"
    loaded = run.load("cpu")
    data, model = loaded.data, loaded.model

    def tiles(*options):
        """The picture's tiles by row and column, (rows, columns, 8, 8), as bytes."""
        drawn = cli_json("interpolate", run.path, "--out", out, *options)
        found = np.stack(tiles_of(Image.open(out)))
        assert drawn["n"] == found.shape[0] * found.shape[1]
        return found

    def bytes_of(images):
        return (images.clamp(0, 1) * 255).round().byte().numpy()[:, 0]

    row = tiles("--between", 3, 5, "--steps", 4)
    assert row.shape == (1, 4, 8, 8)
    ends = data.test.scaled([3, 5])
    assert np.array_equal(row[0, [0, -1]], bytes_of(model.reconstruct(ends)))
    row = tiles("--points", "--between", 0, 7, "--steps", 2)
    assert np.array_equal(row[0], bytes_of(model.reconstruct(model.prior.pseudo_inputs[[0, 7]])))
    several = tiles()
    assert several.shape == (8, 11, 8, 8)
    assert np.array_equal(several, tiles("--seed", 0))
    assert not np.array_equal(several, tiles("--seed", 1))
    assert (several[:, 0] != several[:, -1]).any((1, 2)).all(), "no item is led to itself"


def test_like_takes_a_picture_of_the_data_s_size(cli_json, run_cli, trained, tmp_path):
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "good.png")
    Image.fromarray(np.zeros((9, 8), np.uint8)).save(tmp_path / "bad.png")
    Image.fromarray(np.zeros((8, 8), np.uint16)).save(tmp_path / "deep.png")
    (tmp_path / "not.png").write_bytes(b"text")
    (tmp_path / "folder").mkdir()
    for good in ("good.png", "deep.png"):
        cli_json("sample", trained["bype"], "--out", tmp_path / "x.png", "--like", tmp_path / good)
    for like, message in (
        (tmp_path / "bad.png", "expected an image of 8x8, got 9x8"),
        (tmp_path / "not.png", "expected a PNG, JPEG, WebP, BMP or PNM image"),
        (tmp_path / "folder", "expected PNG, JPEG, WebP, BMP or PNM images, got none"),
        (tmp_path / "none.png", "none.png: cannot be read: No such file or directory"),
        ("999", "expected a file, a set or a test index from 0 to 178, got 999"),
        ("²", "cannot be read: No such file"),
    ):
        code, _, err = run_cli("sample", trained["bype"], "--out", tmp_path / "y.png", "--like", like)
        assert (code, message in err, err.count("\n")) == (2, True, 1), err


def test_a_coreset_replaces_its_own_files_alone(run_cli, trained, tmp_path):
    for _ in range(2):
        assert run_cli("coreset", trained["bype"], "--out", tmp_path / "own")[0] == 0
    (tmp_path / "own" / "weights.csv").write_text("point,weight,share,nearest_label\n")  # as of another version
    assert run_cli("coreset", trained["bype"], "--out", tmp_path / "own")[0] == 0
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "points.npy").write_bytes(b"work of a week")
    code, _, err = run_cli("coreset", trained["bype"], "--out", tmp_path / "other")
    assert (code, "points.npy: exists and is not from an earlier export; remove it" in err) == (4, True), err
    assert [p.name for p in (tmp_path / "other").iterdir()] == ["points.npy"]


def test_many_samples_are_decoded_in_parts(trained, monkeypatch):
    from bype.runs.run import Run

    run = Run(trained["bype"])
    model = run.load("cpu").model
    whole = model.sample(50, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr("bype.models.vae.DECODED_AT_ONCE", 7)
    parts = model.sample(50, generator=torch.Generator().manual_seed(0))
    assert torch.equal(whole.components, parts.components)
    torch.testing.assert_close(whole.images, parts.images)
    assert model.sample(0).images.shape == (0, 1, 8, 8)


def test_data_list_says_where_sets_are(cli_json, run_cli, tmp_path, monkeypatch, write_idx):
    monkeypatch.setenv("BYPE_DATA", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    write_idx(tmp_path / "mnist" / "train-images-idx3-ubyte.gz", np.zeros((1, 1), np.uint8))
    sets = {s["name"]: s for s in cli_json("data", "list")["sets"]}
    assert sets["mnist"]["where"] == str(tmp_path / "mnist")
    assert sets["digits"]["found"]
    assert not sets["cifar10"]["found"]
    assert "fashion-mnist" in run_cli("data", "list")[1]


def test_evaluate_another_set_needs_its_shape(run_cli, cli_json, trained, tmp_path, published):
    code, _, err = run_cli("evaluate", trained["bype"], "mnist", "--samples", 1)
    assert (code, "expected images (1, 8, 8), got (1, 28, 28)" in err) == (2, True), err
    assert not (trained["bype"] / "evaluation.json").exists()


def test_all_of_a_set_that_is_not_the_run_s_is_scored(cli_json, run_cli, trained, tmp_path):
    """Its tenth for testing is nobody else's test set; of a published set, the test split is."""
    words = ("evaluate", trained["vamp"], "--samples", 2, "--items", 400)
    pixels = np.random.default_rng(0).random((40, 1, 8, 8), np.float32)
    for n in (1, 7, 40):
        where = tmp_path / f"{n}.npy"
        np.save(where, pixels[:n])
        figures = cli_json(*words[:2], where, *words[2:])
        assert (figures["split"], figures["items"]) == ("all", n)
    figures = cli_json(*words[:2], tmp_path / "40.npy", *words[2:], "--split", "test")
    assert (figures["split"], figures["items"]) == ("test", 4), "as asked"
    assert run_cli(*words[:2], tmp_path / "7.npy", *words[2:], "--split", "test")[0] == 2
    for own in ([], ["digits"]):
        figures = cli_json(*words[:2], *own, *words[2:])
        assert (figures["split"], figures["items"]) == ("test", 179)
    np.savez(tmp_path / "few.npz", images=pixels[:3], labels=np.arange(3))
    (tmp_path / "few").mkdir()
    for i in range(3):
        Image.fromarray((255 * pixels[i, 0]).astype(np.uint8)).save(tmp_path / "few" / f"{i}.png")
    for name in ("few.npz", "few"):
        assert cli_json(*words[:2], tmp_path / name, *words[2:])["items"] == 3
        code, _, err = run_cli("train", tmp_path / name, "--out", tmp_path / "run")
        assert (code, "expected at least 10 images" in err) == (2, True), err


def test_of_a_published_set_that_is_not_the_run_s_the_test_split_is_scored(cli_json, tmp_path):
    np.save(tmp_path / "own.npy", np.random.default_rng(0).random((20, 1, 8, 8), np.float32))
    options = ["--prior", "standard", "--latent-dim", 2, "--hidden-dim", 4, "--epochs", 1, "--device", "cpu"]
    cli_json("train", tmp_path / "own.npy", *options, "--out", tmp_path / "run")
    figures = cli_json("evaluate", tmp_path / "run", "digits", "--samples", 2)
    assert (figures["set"], figures["split"], figures["items"]) == ("digits", "test", 179)
    assert figures["knn"]


def test_splits_and_seeds_have_figures_of_their_own(cli_json, trained, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(trained["standard"], run)
    asked = [("test", 0), ("validation", 0), ("test", 1), ("test", 0)]
    for split, seed in asked:
        cli_json("evaluate", run, "--samples", 2, "--items", 5, "--split", split, "--seed", seed)
    scored = json.loads((run / "evaluation.json").read_text())["scored"]
    assert [(e["split"], e["seed"]) for e in scored] == [("test", 0), ("test", 1), ("validation", 0)]
    assert len({e["nll_paper"] for e in scored}) == 3


def test_figures_are_shown_even_where_they_cannot_be_written(run_cli, trained, tmp_path, monkeypatch):
    run = tmp_path / "run"
    shutil.copytree(trained["standard"], run)
    (run / "evaluation.json").write_text("{")
    code, out, err = run_cli("evaluate", run, "--samples", 2, "--items", 5)
    assert (code, out, "evaluation.json: cannot be read as JSON" in err) == (2, "", True), "a damaged record, at once"
    (run / "evaluation.json").unlink()

    def full(*args):
        raise InputError("evaluation.json: cannot be written (No space left on device)")

    monkeypatch.setattr("bype.runs.evaluations.write_json", full)
    code, out, err = run_cli("evaluate", run, "--samples", 2, "--items", 5)
    assert (code, "nll_paper" in out, "No space left" in err) == (2, True, True)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.\nGPU 0 has ..."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you"),
        MemoryError(),
    ],
)
def test_no_memory_is_one_line(run_cli, trained, monkeypatch, error):
    def build(*args, **options):
        raise error

    monkeypatch.setattr("bype.models.saved.build_described", build)
    code, _, err = run_cli("evaluate", trained["bype"])
    assert (code, err.count("\n"), "not enough memory for this command: " in err) == (2, 1, True), err


def test_another_error_of_torch_is_not_taken_for_memory(run_cli, trained, monkeypatch):
    def build(*args, **options):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr("bype.models.saved.build_described", build)
    with pytest.raises(RuntimeError, match="shapes"):
        run_cli("evaluate", trained["bype"])


def test_a_demo_at_work_is_left_alone(run_cli, tmp_path):
    from bype.core.locks import locked
    from bype.runs.run import Run

    (tmp_path / "demo.json").write_text('{"demo": "bype"}')
    for prior in ("standard", "vamp"):
        Run(tmp_path / prior).path.mkdir()
        (tmp_path / prior / "config.json").write_text("{}")
    for held in (Run(tmp_path / "vamp").lock(), locked(tmp_path)):  # in training, and while it scores or draws
        with held:
            code, _, err = run_cli("demo", "--out", tmp_path)
        assert (code, "in use by another process" in err) == (4, True), err
    assert all((tmp_path / prior / "config.json").exists() for prior in ("standard", "vamp"))


@pytest.mark.slow
def test_demo(cli_json, tmp_path):
    for _ in range(2):  # a second demo replaces the first
        rows = cli_json("demo", "--out", tmp_path / "demo")["priors"]
    assert [r["prior"] for r in rows] == ["standard", "vamp", "exemplar", "bype"]
    assert all(r["active_units"] > 5 for r in rows)
    pictures = {p.stem for p in (tmp_path / "demo").glob("*.png")}
    assert {"samples-bype", "pseudo-points", "plates", "curves", "reconstructions"} <= pictures


def test_a_demo_leaves_what_it_did_not_make(run_cli, tmp_path, monkeypatch):
    mine = tmp_path / "proj"
    (mine / "standard").mkdir(parents=True)
    (mine / "demo.json").write_text('{"mine": 1}')
    (mine / "standard" / "thesis.txt").write_text("years")
    code, _, err = run_cli("demo", "--out", mine)
    assert code == 4
    assert "expected a new folder or an earlier demo" in err
    (mine / "demo.json").unlink()
    code, _, err = run_cli("demo", "--out", mine)
    assert (code, "got one with standard" in err) == (4, True), err
    (mine / "demo.json").write_text('{"demo": "bype"}')
    (mine / "standard" / "config.json").write_text("{}")
    (mine / ".DS_Store").write_text("mac")
    monkeypatch.setattr("bype.experiments.demo._run_demo", lambda out, device: [])
    code, _, err = run_cli("demo", "--out", mine, "--json")
    assert code == 0, err
    assert not (mine / "standard" / "config.json").exists(), "an earlier demo's"
    assert (mine / "standard" / "thesis.txt").read_text() == "years"
    assert (mine / ".DS_Store").read_text() == "mac"
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "slurm-1.out").write_text("log")
    code, _, err = run_cli("demo", "--out", tmp_path / "new", "--json")
    assert code == 0, err
    assert (tmp_path / "new" / "slurm-1.out").read_text() == "log"


@pytest.mark.parametrize(
    "words",
    [("demo",), ("train", "digits"), ("reproduce", "trunk", "--ledger", "ledger"), ("evaluate", "RUN"),
     ("coreset", "RUN"), ("sample", "RUN")],
)  # fmt: skip
def test_a_device_that_is_not_there_leaves_nothing_behind(run_cli, trained, tmp_path, monkeypatch, words):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.chdir(tmp_path)
    out = [] if words[0] in ("evaluate", "reproduce") else ["--out", tmp_path / "out.npz"]
    words = [trained["bype"] if word == "RUN" else word for word in words]
    code, _, err = run_cli(*words, "--device", "cuda", *out)
    assert (code, err) == (2, "bype: --device cuda: no CUDA device is available; use --device cpu\n")
    assert not list(tmp_path.iterdir())


def test_figures_are_recorded_though_nobody_can_be_shown_them(run_cli, trained, tmp_path, monkeypatch):
    run = tmp_path / "run"
    shutil.copytree(trained["standard"], run)

    def broken(*args):
        raise BrokenPipeError

    monkeypatch.setattr("bype.core.console.table", broken)
    code, _, _ = run_cli("evaluate", run, "--samples", "2", "--items", "3", "--seed", "44")
    assert code == 1
    (entry,) = json.loads((run / "evaluation.json").read_text())["scored"]
    assert (entry["seed"], entry["samples"]) == (44, 2)
    monkeypatch.undo()
    code, _, err = run_cli("evaluate", run, "--samples", "1", "--items", "3", "--seed", "44")
    assert code == 0
    assert "kept the existing metrics, computed from more examples or samples" in err
    assert json.loads((run / "evaluation.json").read_text())["scored"] == [entry]


@pytest.mark.parametrize("name", ["a[/y]", "z[red]", "caf\udcff"])
def test_names_of_any_kind_are_names(name, start, tmp_path):
    odd = tmp_path / f"{name}.npy"
    try:
        odd.parent.mkdir(exist_ok=True)
        np.save(odd, np.random.default_rng(0).integers(0, 256, (30, 3, 4), dtype=np.uint8))
    except OSError:
        pytest.skip("a file system of other names")
    process = start(processes.command, "data", "check", odd)
    process.join(120)
    said = (tmp_path / "log").read_text()
    assert process.exitcode == 0, said
    shown = name.encode("utf-8", "backslashreplace").decode()
    assert f"{shown}.npy" in said


def test_names_that_are_not_utf_8_are_written_escaped(cli_json, tmp_path):
    album = tmp_path / "caf\udcff"
    rng = np.random.default_rng(0)
    try:
        album.mkdir()
        for i in range(12):
            Image.fromarray(rng.integers(0, 256, (4, 4), dtype=np.uint8)).save(album / f"{i}\udcfe.png")
    except OSError:
        pytest.skip("a file system of other names")
    words = ["--components", 3, "--latent-dim", 2, "--hidden-dim", 4, "--epochs", 1, "--warmup", 0, "--coreset", "none"]
    cli_json("train", album, *words, "--device", "cpu", "--out", tmp_path / "run")
    cli_json("train", album, "--out", tmp_path / "run", "--resume")
    cli_json("coreset", tmp_path / "run", "--out", tmp_path / "out")
    lines = (tmp_path / "out" / "weights.csv").read_text(encoding="utf-8").splitlines()[1:]
    assert len(lines) == 3
    assert all(line.endswith("\\udcfe.png") for line in lines)
    assert cli_json("evaluate", tmp_path / "run", "--samples", 2)["set"] == str(album)


@pytest.mark.parametrize(
    "words",
    [
        ("train", "~x.npy"), ("evaluate", "~x"), ("sample", "~x", "--out", "a.png"),
        ("data", "check", "digits", "--data-dir", "~nobody/x"),
    ],
)  # fmt: skip
def test_a_tilde_of_nobody_is_a_name(words, run_cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = run_cli(*words)
    assert (code, "Traceback" in err) == (0 if words[0] == "data" else 2, False), err


def test_a_tilde_in_an_output_is_a_home(run_cli, trained, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    code, _, err = run_cli("sample", trained["standard"], "--out=~/a/b.png", "--n", "4")
    assert code == 0, err
    assert (tmp_path / "a" / "b.png").exists()


# Imports torch once and then begins and ends as often as there are ways; prints each one's exit code.
STREAMS = """
import os, sys
import bype.cli.data
from bype import cli
from bype.core import console
codes = {}
for way in ("stdout closed", "stderr closed", "full", "broken"):
    child = os.fork()
    if not child:
        break
    codes[way] = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
else:
    print(codes)
    sys.exit()
sys.argv = ["bype", "data", "list"]
if way.endswith("closed"):  # as Python begins where they are
    name = way.split()[0]
    os.close(1 if name == "stdout" else 2)
    setattr(sys, name, None)
    setattr(sys, f"__{name}__", None)
else:
    sys.argv.append("--json")
    if way == "full":
        end = os.open("/dev/full", os.O_WRONLY)
    else:
        reader, end = os.pipe()
        os.close(reader)
    os.dup2(end, 1)
    os.close(end)
cli.main()
"""


def test_streams_that_are_closed_or_full_end_in_a_code_of_ours():
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    given = {"env": buffered, "capture_output": True, "text": True, "timeout": 120, "check": False}
    done = subprocess.run([sys.executable, "-c", STREAMS], **given)
    codes = {"stdout closed": 0, "stderr closed": 0, "full": 2, "broken": 1}
    assert done.stdout.splitlines()[-1] == str(codes), done.stdout + done.stderr
    assert done.stdout.count("searched: ") == 1, "with stderr closed"
    (line,) = done.stderr.splitlines()
    assert line == "bype: I/O error: No space left on device", "the disk's, and of no other"
    for redirected, code in ((">&-", 0), ("2>&-", 0), ("> /dev/full", 2)):  # a Python that begins so
        command = f"{sys.executable} -m bype --version {redirected}"
        done = subprocess.run(["sh", "-c", command], **given)
        assert (done.returncode, len(done.stderr.splitlines())) == (code, code // 2), (redirected, done.stderr)


def test_a_set_that_is_damaged_keeps_no_other_from_being_checked(run_cli, tmp_path, write_idx, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("BYPE_DATA", raising=False)
    for stem, n in (("train", 60_000), ("t10k", 10_000)):
        write_idx(tmp_path / "mnist" / f"{stem}-images-idx3-ubyte", np.zeros((n, 1, 1), np.uint8))
        write_idx(tmp_path / "mnist" / f"{stem}-labels-idx1-ubyte", np.zeros(n, np.uint8))
    code, out, err = run_cli("data", "check", "--data-dir", tmp_path)
    assert code == 2
    assert "digits" in out
    assert "mnist" in err


# Sends itself a signal as the n-th import begins, be it in Python, typer or torch.
SIGNALLED = """
import os, sys
from bype.__main__ import main
number, n = (int(sys.argv.pop(1)) for _ in range(2))
seen = []
def count(event, args):
    if event == "import":
        seen.append(event)
        if len(seen) == n:
            os.kill(os.getpid(), number)
sys.addaudithook(count)
main()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("n", [30, 80, 400, 1500])
def test_a_signal_while_modules_are_imported_is_one_line(tmp_path, number, n):
    words = ["train", "digits", "--out", tmp_path / "run", "--device", "cpu", "--hidden-dim", "2", "--latent-dim", "1"]
    done = subprocess.run(
        [sys.executable, "-c", SIGNALLED, str(int(number)), str(n), *words],
        capture_output=True, text=True, timeout=120, check=False,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a background job ignores it
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (128 + number, "", "bype: stopped\n")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_error_that_a_library_makes_of_a_signal_is_one_line(run_cli, trained, monkeypatch, number):
    def build(*args, **options):
        try:
            os.kill(os.getpid(), number)
        except BaseException:
            raise RecursionError("maximum recursion depth exceeded") from None

    monkeypatch.setattr("bype.models.saved.build_described", build)
    before = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    try:
        assert run_cli("evaluate", trained["bype"])[::2] == (128 + number, "bype: stopped\n")
    finally:
        for s, handler in zip((signal.SIGINT, signal.SIGTERM), before, strict=True):
            signal.signal(s, handler)


def test_signals_are_left_to_their_handlers_after_imports():
    before = [signal.getsignal(s) for s in NUMBERS]
    with StoppedAtOnce():
        assert all(signal.getsignal(s) not in before for s in NUMBERS)
    assert [signal.getsignal(s) for s in NUMBERS] == before
    thread = threading.Thread(target=lambda: StoppedAtOnce().__enter__())
    thread.start()
    thread.join()
    assert [signal.getsignal(s) for s in NUMBERS] == before, "threads have none"


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(("stop", "code"), [(KeyboardInterrupt, 130), (lambda: Stopped(143), 143)])
def test_a_command_stopped_outside_an_epoch_promises_what_is_saved_and_no_more(
    tmp_path, monkeypatch, run_cli, when, stop, code
):
    def stopped(*args, **options):
        raise stop()

    place = {"before": "bype.runs.fitting.load", "after": "bype.cli.train.print_json"}[when]
    monkeypatch.setattr(place, stopped)
    got, out, err = run_cli("train", "digits", *SMALL, "--epochs", 1, "--out", tmp_path / "run", "--json")
    said = {"before": "bype: stopped", "after": "bype: stopped; the last finished epoch is saved"}[when]
    assert (got, out, err.splitlines()[-1]) == (code, "", said)
    monkeypatch.undo()
    if when == "after":  # resumed, nothing is left to train: this process has saved nothing
        monkeypatch.setattr(place, stopped)
        got, _, err = run_cli("train", "digits", "--out", tmp_path / "run", "--resume", "--json")
        assert (got, err.splitlines()[-1]) == (code, "bype: stopped")
