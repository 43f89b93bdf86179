"""Every public function that takes data takes every kind of data, with the same results; others are refused alike."""

import inspect

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, DataLoader, IterableDataset, Subset, TensorDataset

import bype

datasets = pytest.importorskip("datasets", reason="needs the extra datasets")
pd = pytest.importorskip("pandas", reason="needs the extra tables")
pl = pytest.importorskip("polars", reason="polars is not installed")

N = 100
STORED = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (N, 1, 4, 5)).astype(np.uint8))
LABELS = torch.arange(N) % 3
PAIRS = TensorDataset(STORED, LABELS)


def pictures():
    return [(Image.fromarray(x[0].numpy()), int(y)) for x, y in zip(STORED, LABELS, strict=True)]


def hugging_face():
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    columns = {"image": [picture for picture, _ in pictures()], "label": LABELS.tolist()}
    return datasets.Dataset.from_dict(columns, features=features)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    np.savez(folder / "x.npz", images=STORED.numpy(), labels=LABELS.numpy())
    return folder


KINDS = {
    "a pair of tensors": lambda _: (STORED, LABELS),
    "a pair of arrays": lambda _: (STORED[:, 0].numpy(), LABELS.tolist()),
    "a frame and a series": lambda _: (pd.DataFrame(STORED.flatten(1).numpy()), pd.Series(LABELS.numpy())),
    "rows and labels": lambda _: (STORED.flatten(1).numpy(), LABELS.numpy()[:, None]),
    "a path": lambda folder: folder / "x.npz",
    "the text of a path": lambda folder: str(folder / "x.npz"),
    "a TensorDataset": lambda _: PAIRS,
    "a Subset": lambda _: Subset(TensorDataset(STORED.flip(0), LABELS.flip(0)), range(N - 1, -1, -1)),
    "a ConcatDataset": lambda _: ConcatDataset([Subset(PAIRS, range(9)), Subset(PAIRS, range(9, N))]),
    "a list of pictures with labels": lambda _: pictures(),
    "a loader": lambda _: DataLoader(PAIRS, batch_size=7),
    "a shuffled loader": lambda _: DataLoader(PAIRS, batch_size=7, shuffle=True),
    "a list of batches": lambda _: [(STORED[:40], LABELS[:40]), (STORED[40:], LABELS[40:])],
    "a Hugging Face data set": lambda _: hugging_face(),
    "splits by name": lambda _: {"train": PAIRS},
    "pairs by the name of their split": lambda _: {"train": (STORED, LABELS)},
}
#: Kinds that only a model of images of this size can read.
NEED_A_MODEL = ("a frame and a series", "rows and labels")


def build(data):
    return bype.build_model(
        data, prior="bype", likelihood="gaussian", latent_dim=2, hidden_dim=8, n_components=5
    )  # fmt: skip


def networks():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(20, 4)), torch.nn.Linear(2, 20)


def state(model):
    return torch.cat([t.flatten().double() for t in model.state_dict().values()])


def _train(model, data, folder):
    bype.train(model, data, epochs=1, warmup=0)
    return state(model)


def _trainer(model, data, folder):
    return torch.tensor(bype.Trainer(model, data, epochs=1, warmup=0).validate())


def _fit(model, data, folder):
    return state(bype.fit(model, data, folder, epochs=1, warmup=0).trainer.model)


def _fit_config(model, data, folder):
    config = bype.Config("mine", likelihood="gaussian", epochs=1, warmup=0, latent_dim=2, hidden_dim=8)
    return state(bype.fit(config, folder, data=data).trainer.model)


def _evaluate(model, data, folder):
    found = bype.evaluate(model, data, n_samples=2)
    return torch.tensor([found["nll_nats"], found["elbo_nats"], found["kl_prior"], found["knn"][3]])


def _neighbours(model, data, folder):
    found = bype.neighbours(model, data, STORED[:2], 3)
    return torch.cat([*found.latent, *found.pixel], 1)


def _quality(model, data, folder):
    found = bype.sample_quality(model, data, features=["pca"], n_items=8)
    return torch.tensor([found["kid_pca"], found["kid_pca_training"]])


def _load(model, data, folder):
    exemplar = bype.build_model(bype.from_arrays(STORED, LABELS), prior="exemplar", latent_dim=2, hidden_dim=8)
    folder.mkdir()
    exemplar.save(folder / "m.safetensors")
    return state(bype.load_model(folder / "m.safetensors", data=data))


def _pretrained(model, data, folder):
    exemplar = bype.build_model(bype.from_arrays(STORED, LABELS), prior="exemplar", latent_dim=2, hidden_dim=8)
    bype.save_pretrained(exemplar, folder)
    return state(bype.from_pretrained(folder, data=data))


def _exemplar_run(folder):
    whole = bype.from_arrays(STORED, LABELS)
    exemplar = bype.build_model(whole, prior="exemplar", latent_dim=2, hidden_dim=8)
    bype.fit(exemplar, whole, folder, epochs=1, warmup=0)
    return whole


def _run(model, data, folder):
    _exemplar_run(folder)
    return bype.Run.open(folder).load(data=data).data.train.scaled()


def _save_pretrained(model, data, folder):
    whole = _exemplar_run(folder)
    bype.save_pretrained(folder, folder / "shared", data=data)
    return state(bype.from_pretrained(folder / "shared", data=whole))


FUNCTIONS = {
    "build_model": lambda model, data, folder: state(build(data)),
    "wrap": lambda model, data, folder: state(bype.wrap(*networks(), latent_dim=2, data=data, prior="vamp")),
    "train": _train,
    "Trainer": _trainer,
    "fit": _fit,
    "fit of a config": _fit_config,
    "evaluate": _evaluate,
    "refit": lambda model, data, folder: bype.refit(model, data).loc,
    "neighbours": _neighbours,
    "sample_quality": _quality,
    "load_model": _load,
    "from_pretrained": _pretrained,
    "Run.load": _run,
    "save_pretrained": _save_pretrained,
}
WITHOUT_A_MODEL = (
    "build_model", "wrap", "fit of a config", "load_model", "from_pretrained", "Run.load", "save_pretrained",
)  # fmt: skip


@pytest.mark.parametrize("function", FUNCTIONS)
def test_every_kind_of_data_gives_the_same(function, files, tmp_path):
    call, whole = FUNCTIONS[function], bype.from_arrays(STORED, LABELS)
    expected = call(build(whole), whole, tmp_path / "expected")
    for i, (kind, make) in enumerate(KINDS.items()):
        if (function == "fit" and "a path" in kind) or (function in WITHOUT_A_MODEL and kind in NEED_A_MODEL):
            continue
        got = call(build(whole), make(files), tmp_path / f"run{i}")
        assert torch.equal(got, expected), kind


def test_the_functions_are_all_that_take_data():
    functions = {name: getattr(bype, name) for name in bype.__all__}
    functions = {n: f for n, f in functions.items() if inspect.isfunction(f) or n == "Trainer"}
    assert {n for n, f in functions.items() if "data" in inspect.signature(f).parameters} <= FUNCTIONS.keys()


REFUSED = {
    "one split": (lambda: bype.from_arrays(STORED).train, "got bype.Images, one split; pass the whole Dataset"),
    "other size": (lambda: STORED[..., :4], r"expected images \(1, 4, 5\), got \(1, 4, 4\)"),
    "few images": (lambda: STORED[:7], "expected at least 10 images"),
    "few items": (lambda: Subset(PAIRS, range(7)), "expected at least 10 images"),
    "other labels": (lambda: (STORED, LABELS[:5]), "expected 100 labels"),
    "0 to 255 as floats": (lambda: STORED.float(), r"expected floats in \[0, 1\]"),
    "whole numbers": (lambda: STORED.long().numpy(), "expected uint8 or floats"),
    "a stream": (
        lambda: DataLoader(type("Stream", (IterableDataset,), {"__iter__": lambda self: iter(STORED)})()),
        "without a length",
    ),
    "a generator": (lambda: (x for x in STORED), "generator without a length"),
    "a picture": (lambda: Image.new("L", (5, 4)), "expected"),
    "a missing file": (lambda: "missing.npz", "missing.npz: no such file or folder"),
    "an unknown name": (lambda: "minst", "expected one of digits, mnist"),
    "splits without training": (lambda: {"test": PAIRS}, "expected a split train, got test"),
    "columns by name": (lambda: {"a": [0.1] * 20}, "expected the splits train, validation and test, got a"),
    "a lazy frame": (lambda: pl.LazyFrame({"a": [0.1]}), r"LazyFrame; call data.collect\(\)"),
    "a frame of another size": (lambda: pd.DataFrame(np.zeros((20, 3), np.uint8)), "expected"),
    "a frame in splits": (lambda: {"train": pd.DataFrame(np.zeros((20, 3)))}, "expected"),
    "no items": (lambda: [], "list of length 0"),
    "an empty dictionary": (lambda: {}, "expected a split train, got none"),
    "a number": (lambda: 7, "got int"),
    "nothing": (lambda: None, "got NoneType"),
}


@pytest.mark.parametrize("function", sorted(FUNCTIONS.keys() - set(WITHOUT_A_MODEL)))
def test_every_other_data_is_one_clear_line(function, tmp_path):
    model = build(bype.from_arrays(STORED, LABELS))
    for i, (kind, (make, message)) in enumerate(REFUSED.items()):
        with pytest.raises(bype.InputError, match=message) as caught:
            FUNCTIONS[function](model, make(), tmp_path / f"run{i}")
        assert "\n" not in str(caught.value), kind
        assert len(str(caught.value)) < 250, kind
        assert not (tmp_path / f"run{i}").exists()


def test_bytes_have_the_levels_of_the_models_data():
    stored = STORED % 17
    digits = bype.from_arrays(stored, levels=17)
    model = bype.build_model(digits, likelihood="gaussian", latent_dim=2, hidden_dim=8, n_components=5)
    expected = bype.evaluate(model, digits, n_samples=2)
    assert bype.evaluate(model, stored, n_samples=2) == expected
    assert bype.evaluate(model, TensorDataset(stored), n_samples=2) == expected
    with pytest.raises(bype.InputError, match="expected values below levels=17"):
        bype.evaluate(model, STORED, n_samples=2)


# Tables


def frame():
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {"age": rng.integers(20, 70, N), "height": rng.normal(1.7, 0.1, N), "town": rng.choice(["A", "B", "C"], N)}
    )


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("table") / "t.csv"
    frame().to_csv(path, index=False)
    return path


def build_table(data):
    return bype.build_model(data, prior="bype", likelihood="mixed", latent_dim=2, hidden_dim=8, n_components=5)


TABLES = {
    "the text of a path": str,
    "pandas": lambda path: frame(),
    "other order and more columns": lambda path: frame()[["town", "height", "age"]].assign(id=range(N)),
    "polars": lambda path: pl.from_pandas(frame()),
    "an array of objects": lambda path: frame().to_numpy(),
    "a path": lambda path: path,
}


@pytest.mark.parametrize("function", ["train", "Trainer", "refit", "neighbours", "evaluate"])
def test_every_kind_of_table_gives_the_same(function, table):
    whole = bype.load(table)
    if function == "neighbours":

        def call(model, data, folder):
            found = bype.neighbours(model, data, frame().head(2), 3)
            return torch.cat([*found.latent, *found.pixel], 1)
    elif function == "evaluate":

        def call(model, data, folder):
            found = bype.evaluate(model, data, n_samples=2)
            return torch.tensor([found["nll_nats"], found["elbo_nats"]])
    else:
        call = FUNCTIONS[function]
    expected = call(build_table(whole), whole, None)
    for kind, make in TABLES.items():
        assert torch.equal(call(build_table(whole), make(table), None), expected), kind


def test_a_model_of_a_table_is_built_from_a_frame(table):
    expected = state(build_table(bype.load(table)))
    for data in (frame(), pl.from_pandas(frame()), (frame(), LABELS)):
        assert torch.equal(state(build_table(data)), expected)


def test_a_frame_is_trained_into_a_run_and_its_samples_and_scores_have_names(tmp_path):
    model = build_table(frame())
    bype.fit(model, frame(), tmp_path / "run", epochs=1, warmup=0)
    loaded = bype.load_model(tmp_path / "run")
    assert [c.name for c in loaded.input_spec.table.columns] == ["age", "height", "town"]
    assert bype.score(loaded, frame().head(4), 5).log_likelihood.isfinite().all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: frame().drop(columns="height"), "expected the columns age, height, town, got none named 'height'"),
        (lambda: frame().assign(town="D"), "column town: expected one of A, B, C, got D"),
        (lambda: frame().head(5), "expected at least 10 rows"),
        (lambda: frame()[["age", "height"]].to_numpy(), "expected 3 columns, got 2"),
        (lambda: np.zeros((20, 8, 8), np.uint8), r"expected images \(1, 1, 5\)"),
    ],
)
def test_other_tables_are_refused(make, message, table):
    model = build_table(bype.load(table))
    with pytest.raises(bype.InputError, match=message):
        bype.evaluate(model, make(), n_samples=2)
