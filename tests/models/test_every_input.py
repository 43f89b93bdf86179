"""Every public function takes every kind of input, with the same results; every other input is refused by all alike."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, DataLoader, IterableDataset, Subset, TensorDataset, default_collate

import bype

pd = pytest.importorskip("pandas", reason="needs the extra tables")
pl = pytest.importorskip("polars", reason="polars is not installed")

STORED = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (7, 1, 4, 5)).astype(np.uint8))
SCALED = (STORED.float() + 0.5) / 256
LABELS = torch.arange(7) % 3
PAIRS = TensorDataset(SCALED, LABELS)


class Jpegs:
    """A data set of pictures, without a base class."""

    def __len__(self):
        return len(STORED)

    def __getitem__(self, i):
        return {"img": Image.fromarray(STORED[i, 0].numpy()).convert("RGB"), "label": int(LABELS[i])}


def hugging_face(form="PIL"):
    datasets = pytest.importorskip("datasets", reason="needs the extra datasets")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    pictures = [Image.fromarray(x[0].numpy()) for x in STORED]
    found = datasets.Dataset.from_dict({"image": pictures, "label": LABELS.tolist()}, features=features)
    return found if form == "PIL" else found.with_format(form)


KINDS = {
    "Images": lambda: bype.Images(STORED),
    "Images of floats": lambda: bype.Images(SCALED),
    "tensor": lambda: SCALED,
    "tensor of bytes": lambda: STORED,
    "float64 array": lambda: SCALED.double().numpy(),
    "array of bytes without channels": lambda: STORED[:, 0].numpy(),
    "read-only array": lambda: np.frombuffer(SCALED.numpy().tobytes(), np.float32).reshape(7, 20),
    "flat rows": lambda: SCALED.flatten(1),
    "list of tensors": lambda: list(SCALED),
    "list of grey arrays": lambda: [x[0].numpy() for x in STORED],
    "list of PIL images": lambda: [Image.fromarray(x[0].numpy()) for x in STORED],
    "pandas": lambda: pd.DataFrame(SCALED.flatten(1).numpy()),
    "polars": lambda: pl.DataFrame(STORED.flatten(1).numpy(), schema=[f"pixel{i}" for i in range(20)]),
    "TensorDataset": lambda: TensorDataset(STORED),
    "with labels": lambda: PAIRS,
    "Subset": lambda: Subset(TensorDataset(SCALED.flip(0)), range(6, -1, -1)),
    "ConcatDataset": lambda: ConcatDataset([Subset(PAIRS, range(3)), Subset(PAIRS, range(3, 7))]),
    "list of pairs": lambda: list(PAIRS),
    "dictionaries of colour pictures": Jpegs,
    "loader": lambda: DataLoader(PAIRS, batch_size=3),
    "shuffled loader": lambda: DataLoader(PAIRS, batch_size=3, shuffle=True),
    "loader of dictionaries": lambda: DataLoader(hugging_face("torch"), batch_size=2),
    "loader with a collate_fn": lambda: DataLoader(PAIRS, batch_size=3, collate_fn=lambda b: default_collate(b)),
    "list of batches": lambda: [(SCALED[:4], LABELS[:4]), (SCALED[4:], LABELS[4:])],
    "Hugging Face": hugging_face,
    "Hugging Face, torch": lambda: hugging_face("torch"),
    "Hugging Face, numpy": lambda: hugging_face("numpy"),
}


def seeded():
    return torch.Generator().manual_seed(3)


def _elbo(model, data, x):
    terms = bype.elbo(model, x, generator=seeded())
    return torch.stack([terms.log_likelihood, terms.kl])


def _neighbours(model, data, x):
    found = bype.neighbours(model, data, x, 2)
    return torch.cat([*found.latent, *found.pixel], 1)


def _score(model, data, x):
    found = bype.score(model, x, 5)
    return torch.stack([found.log_likelihood, found.elbo, found.bpd])


FUNCTIONS = {
    "log_likelihood": lambda model, data, x: bype.log_likelihood(model, x, 5),
    "iwae": lambda model, data, x: bype.iwae(model, x, 5, generator=seeded()),
    "elbo": _elbo,
    "embed": lambda model, data, x: bype.embed(model, x),
    "reconstruct": lambda model, data, x: model.reconstruct(x),
    "score": _score,
    "neighbours": _neighbours,
    "interpolate": lambda model, data, x: bype.interpolate(model, x, x, 3),
}


@pytest.fixture(scope="module")
def data():
    pixels = np.random.default_rng(1).integers(0, 256, (30, 1, 4, 5)).astype(np.uint8)
    return bype.from_arrays(pixels, name="noise")


@pytest.fixture(scope="module")
def model(data):
    return bype.build_model(
        data, prior="bype", likelihood="gaussian", latent_dim=3, hidden_dim=8, n_components=5
    ).eval()


@pytest.mark.parametrize("function", FUNCTIONS)
def test_every_kind_of_input_gives_the_same(function, model, data):
    call = FUNCTIONS[function]
    with torch.no_grad():
        expected = call(model, data, SCALED)
        for kind, make in KINDS.items():
            assert torch.equal(call(model, data, make()), expected), kind


REFUSED = {
    "other size": (lambda: TensorDataset(SCALED[..., :4]), r"expected images of shape \(n, 1, 4, 5\)"),
    "colour": (lambda: TensorDataset(SCALED.expand(-1, 3, -1, -1)), r"got \(7, 3, 4, 5\)"),
    "normalised": (lambda: TensorDataset(2 * SCALED - 1), r"expected floats in \[0, 1\].*leave out normalisation"),
    "0 to 255": (lambda: SCALED * 255, r"expected values in \[0, 1\], got values from"),
    "NaN": (lambda: TensorDataset(SCALED.where(SCALED > 0.1, torch.nan)), r"expected floats in \[0, 1\], got .* nan"),
    "whole numbers": (lambda: TensorDataset(STORED.long()), "expected images of uint8 or floats"),
    "no items": (lambda: Subset(PAIRS, []), "Subset of length 0"),
    "a stream": (
        lambda: DataLoader(type("Stream", (IterableDataset,), {"__iter__": lambda self: iter(SCALED)})()),
        "without a length",
    ),
    "a generator": (lambda: (x for x in SCALED), "generator without a length"),
    "text items": (lambda: TextItems(), "expected a tensor, an array or a PIL image, got str"),
    "frame of other columns": (lambda: pd.DataFrame({"a": [0.1], "b": [0.2]}), r"got \(1, 2\)"),
    "frame of text": (lambda: pd.DataFrame({"a": ["x"], "b": ["y"]}), "expected"),
    "a lazy frame": (lambda: pl.LazyFrame({"a": [0.1]}), r"LazyFrame; call \w+.collect\(\)"),
    "a set in splits": (lambda: bype.load("digits"), "pass one of its splits, such as data.test"),
    "a dictionary of splits": (lambda: {"train": PAIRS}, "got a dict of train; pass one of its values"),
    "a path": (lambda: "photo.png", "got builtins.str"),
    "a number": (lambda: 7, "got builtins.int"),
    "nothing": (lambda: None, "got builtins.NoneType"),
}


class TextItems:
    def __len__(self):
        return 3

    def __getitem__(self, i):
        return "text"


@pytest.mark.parametrize("function", FUNCTIONS)
def test_every_other_input_is_one_clear_line(function, model, data):
    for kind, (make, message) in REFUSED.items():
        with pytest.raises(bype.InputError, match=message) as caught:
            FUNCTIONS[function](model, data, make())
        assert "\n" not in str(caught.value), kind
        assert len(str(caught.value)) < 250, kind


def test_a_picture_in_any_form_can_be_sampled_like(model):
    expected = model.sample(3, like=SCALED[2], generator=seeded()).images
    for form in (STORED[2], STORED[2, 0].numpy(), Image.fromarray(STORED[2, 0].numpy()), bype.Images(STORED[2:3])):
        assert torch.equal(model.sample(3, like=form, generator=seeded()).images, expected)
    with pytest.raises(bype.InputError, match="like: expected one image, got 2"):
        model.sample(3, like=bype.Images(STORED[:2]))


def test_random_transforms_are_read_once(model, data):
    """Latent and pixel neighbours are of the same reading of an item."""
    reads = []

    class Noisy:
        def __len__(self):
            return 2

        def __getitem__(self, i):
            reads.append(i)
            return torch.rand(1, 4, 5)

    bype.neighbours(model, data, Noisy(), 2)
    assert reads == [0, 1]
    bype.score(model, Noisy(), 2)
    assert reads == [0, 1, 0, 1]


# Tables


@pytest.fixture(scope="module")
def frame():
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {"age": rng.integers(20, 70, 60), "height": rng.normal(1.7, 0.1, 60), "smoker": rng.integers(0, 2, 60),
         "town": rng.choice(["A", "B", "C"], 60)}
    )  # fmt: skip


@pytest.fixture(scope="module")
def table(frame, tmp_path_factory):
    path = tmp_path_factory.mktemp("table") / "t.csv"
    frame.to_csv(path, index=False)
    return bype.load(path)


@pytest.fixture(scope="module")
def table_model(table):
    return bype.build_model(table, prior="vamp", likelihood="mixed", latent_dim=2, hidden_dim=8, n_components=5).eval()


def _table_score(model, data, x):
    found = bype.score(model, x, 5)
    return torch.stack([found.log_likelihood, found.elbo])


@pytest.mark.parametrize("function", FUNCTIONS)
def test_every_kind_of_table_gives_the_same(function, table_model, table, frame):
    call = _table_score if function == "score" else FUNCTIONS[function]
    whole = table.part("all")
    stored = whole[whole.origin.argsort()]
    kinds = {
        "stored rows": stored.scaled(),
        "pandas": frame,
        "other order and more columns": frame[["town", "smoker", "height", "age"]].assign(id=range(60)),
        "polars": pl.from_pandas(frame),
        "array of objects": frame.to_numpy(),
    }
    with torch.no_grad():
        expected = call(table_model, table, stored)
        for kind, x in kinds.items():
            assert torch.equal(call(table_model, table, x), expected), kind


def test_a_row_far_from_the_training_rows_is_scored_as_unlikely(table_model, frame):
    far = frame.head(2).assign(height=[1.7, 17.0])
    near, unlikely = bype.score(table_model, far, 20).log_likelihood.tolist()
    assert np.isfinite(unlikely)
    assert unlikely < near - 100


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: f.drop(columns="height"), "expected the columns age, height, smoker, town, got none named 'height'"),
        (lambda f: f.assign(town="D"), "column town: expected one of A, B, C, got D"),
        (lambda f: f.assign(height=np.nan), r"column height: expected no missing values \(NaN\), got 60"),
        (lambda f: f.assign(height=np.inf), "column height: expected finite numbers"),
        (lambda f: f.assign(age="old"), "column age: expected numbers, got text such as 'old'"),
        (lambda f: f.head(0), "expected at least one"),
        (lambda f: f[["age", "height"]].to_numpy(), "expected 4 columns, got 2"),
        (lambda f: np.zeros((3, 8, 8), np.uint8), r"expected rows of a table, a data frame or an array \(n, 4\)"),
        (lambda f: Image.new("L", (4, 5)), "expected rows of a table"),
    ],
)
def test_other_tables_are_refused_by_every_function(table_model, table, frame, spoil, message):
    for call in FUNCTIONS.values():
        with pytest.raises(bype.InputError, match=message):
            call(table_model, table, spoil(frame))
