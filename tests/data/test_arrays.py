"""Arrays as users have them: masked, sparse, of other libraries and dtypes; labels; the layouts of published .npz."""

import numpy as np
import pytest
import scipy.sparse
import torch

import bype
from bype.core.errors import InputError


def _images(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


# What is like an array, and is not one


class _Quantity(np.ndarray):
    unit = "m"


class _Frame:
    """Like a pandas DataFrame or Series, which is not installed here."""

    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return self.values


_Frame.__module__ = "pandas.core.frame"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda x: np.ma.masked_array(x, x > 200), r"numpy MaskedArray with masked values; .*x\.filled"),
        (lambda x: [np.ma.masked_array(row, row > 200) for row in x], "numpy MaskedArray with masked values"),
        (lambda x: scipy.sparse.csr_matrix(x), r"scipy csr_matrix, which is sparse; pass x\.toarray\(\)"),
        (lambda x: scipy.sparse.coo_array(x), r"scipy coo_array, which is sparse; pass x\.toarray\(\)"),
        (lambda x: [scipy.sparse.csr_matrix(row) for row in x], r"scipy csr_matrix, which is sparse"),
        (lambda x: torch.from_numpy(x).to_sparse(), r"dense tensor, got one of layout torch\.sparse_coo; .*to_dense"),
        (lambda x: x.view(_Quantity), r"_Quantity with a unit; pass numpy\.asarray"),
        (lambda x: _Frame(x.astype(object)), "pandas _Frame of Python objects"),
        (lambda x: {"images": x}, "expected an array, got dict"),
        (lambda x: iter(x), "expected an array, got"),
        (lambda x: _Frame(x.astype(np.int64)), r"got int64; for values from 0 to 255, use astype\('uint8'\)"),
    ],
)
def test_what_would_lose_something_as_an_array_is_refused(make, message):
    with pytest.raises(InputError, match=message) as error:
        bype.from_arrays(make(_images(20, 6)))
    assert len(str(error.value)) < 300
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "make",
    [
        lambda x: np.ma.masked_array(x),
        lambda x: x.view(np.matrix),
        lambda x: _Frame(x),
        lambda x: [torch.from_numpy(row) for row in x],
        lambda x: torch.nn.Parameter(torch.from_numpy(x), requires_grad=False),
        lambda x: _Frame(np.array([*x, None], object)[:-1]),  # a column of arrays
    ],
)
def test_what_is_an_array_by_another_name_is_taken(make):
    images = _images(20, 6)
    assert bype.from_arrays(make(images)).checksum() == bype.from_arrays(images).checksum()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_tensors_of_every_float_are_converted(dtype):
    values = torch.rand(20, 3, 4, generator=torch.Generator().manual_seed(0)).to(dtype)
    assert bype.from_arrays(values).checksum() == bype.from_arrays(values.float()).checksum()


# Labels


@pytest.mark.parametrize(
    "make",
    [
        lambda y: y[:, None],
        lambda y: y.astype(float),
        lambda y: y.astype(np.float32)[:, None],
        lambda y: torch.from_numpy(y)[:, None].float(),
        lambda y: y.astype(object),
        lambda y: y.tolist(),
        lambda y: _Frame(y.astype(float)),
    ],
)
def test_whole_numbers_are_labels_in_every_form(make):
    labels = np.arange(20) % 3
    made = bype.from_arrays(_images(20, 6), make(labels))
    assert made.checksum() == bype.from_arrays(_images(20, 6), labels).checksum()
    assert made.classes == ()


@pytest.mark.parametrize(
    "make",
    [
        lambda names: names,
        lambda names: np.array(names),
        lambda names: np.array(names)[:, None],
        lambda names: np.array(names, object),
        lambda names: np.array([n.encode() for n in names]),
        lambda names: _Frame(np.array(names, object)),
    ],
)
def test_text_labels_name_the_classes(make, tmp_path):
    names = ["10", "2", "über"] * 7
    made = bype.from_arrays(_images(21, 6), make(names))
    assert made.classes == ("10", "2", "über")
    for split, images in made.splits.items():
        for i, label in enumerate(images.labels.tolist()):
            assert made.label_name(label) == names[int(made.source(split, i))]
    np.savez(tmp_path / "a.npz", images=_images(21, 6), labels=np.array(names))
    read = bype.load(tmp_path / "a.npz")
    assert (read.classes, read.checksum()) == (made.classes, made.checksum())


# .npz as published


def _saved(path, **arrays):
    np.savez(path, **arrays)
    return path


def _same(images, expected, labels):
    order = images.origin.numpy()
    assert np.array_equal(images.pixels.numpy(), expected[order])
    assert np.array_equal(images.labels.numpy(), labels[order])


@pytest.mark.parametrize(
    "names",
    [
        ("x_train", "y_train", "x_test", "y_test"),
        ("X_train", "Y_train", "X_test", "Y_test"),
        ("train_images", "train_labels", "test_images", "test_labels"),
        ("train_x", "train_y", "test_x", "test_y"),
    ],
)
def test_given_splits_are_kept_and_a_missing_one_is_held_out(tmp_path, names):
    train, test = _images(50, 1, 4, 5), _images(20, 1, 4, 5, seed=1)
    y, y_test = np.arange(50) % 3, np.arange(20) % 3
    made = bype.load(_saved(tmp_path / "a.npz", **dict(zip(names, (train, y[:, None], test, y_test), strict=True))))
    assert [len(s) for s in made.splits.values()] == [45, 5, 20]
    _same(made.test, test, y_test)
    _same(made.train, train, y)
    _same(made.validation, train, y)
    assert sorted([*made.train.origin.tolist(), *made.validation.origin.tolist()]) == list(range(50))
    assert made.test.origin.tolist() == list(range(20))


def test_training_images_alone_are_split_as_any_array_labels_or_not(tmp_path):
    images, labels = _images(40, 4, 5), np.arange(40) % 2
    alone = bype.load(_saved(tmp_path / "a.npz", train_images=images))
    assert alone.checksum() == bype.from_arrays(images).checksum()
    both = bype.load(_saved(tmp_path / "b.npz", train_images=images, train_labels=labels))
    assert sum(map(len, both.splits.values())) == 40
    assert both.train.labels is not None
    _same(both.train, images[:, None], labels)
    _same(both.test, images[:, None], labels)


def test_medmnist_is_read_as_published(tmp_path):
    arrays = {}
    for i, (split, n) in enumerate((("train", 40), ("val", 12), ("test", 15))):
        arrays |= {f"{split}_images": _images(n, 28, 28, 3, seed=i), f"{split}_labels": np.arange(n)[:, None] % 2}
    made = bype.load(_saved(tmp_path / "a.npz", **arrays))
    assert made.shape == (3, 28, 28), "channels last, as published"
    for split, images in zip(("train", "val", "test"), made.splits.values(), strict=True):
        _same(images, arrays[f"{split}_images"].transpose(0, 3, 1, 2), arrays[f"{split}_labels"][:, 0])


def test_dsprites_and_x_y_are_read_as_published(tmp_path):
    images = _images(20, 6, 6)
    sprites = _saved(
        tmp_path / "a.npz", metadata=np.array([{}], object), imgs=images, latents_classes=np.zeros((20, 6), int)
    )
    assert bype.load(sprites).checksum() == bype.from_arrays(images).checksum()
    expected = bype.from_arrays(images, np.arange(20) % 2).checksum()
    for x, y in (("X", "y"), ("x", "Y"), ("data", "target"), ("image", "label")):
        assert bype.load(_saved(tmp_path / "b.npz", **{x: images, y: np.arange(20) % 2})).checksum() == expected


def test_arrays_of_a_npz_are_chosen_by_name(tmp_path, cli_json, run_cli, caplog):
    images, other = _images(40, 4, 4), _images(40, 4, 4, seed=1)
    path = _saved(tmp_path / "a.npz", a=images, b=other, kind=np.arange(40) % 2)
    with pytest.raises(InputError, match="got a, b, kind; call them images and labels, or "):
        bype.load(path)
    with pytest.raises(InputError, match="--images-key: expected one of a, b, kind, got c"):
        bype.load(path, images_key="c")
    with pytest.raises(InputError, match="--labels-key: expected one of a, b, kind, got c"):
        bype.load(path, images_key="a", labels_key="c")
    with pytest.raises(InputError, match=r"--images-key: expected a \.npz, got digits"):
        bype.load("digits", images_key="a")
    labelled = bype.load(path, images_key="b", labels_key="kind")
    assert labelled.checksum() == bype.from_arrays(other, np.arange(40) % 2).checksum()
    keys = ["--images-key", "b", "--labels-key", "kind"]
    assert cli_json("data", "check", path, *keys)["sets"][0]["sum"] == labelled.checksum()
    small = ["--components", 5, "--latent-dim", 3, "--hidden-dim", 8, "--warmup", 1, "--epochs", 1, "--device", "cpu"]
    cli_json("train", path, *keys, *small, "--out", tmp_path / "run")
    recorded = bype.Run(tmp_path / "run").config
    assert (recorded.images_key, recorded.labels_key) == ("b", "kind")
    figures = cli_json("evaluate", tmp_path / "run", "--samples", 2)
    again = _saved(tmp_path / "again.npz", images=other, labels=np.arange(40) % 2)
    assert cli_json("evaluate", tmp_path / "run", again, "--samples", 2)["nll_nats"] == figures["nll_nats"]
    plain = _saved(tmp_path / "b.npz", images=images, y=np.arange(40) % 2)
    assert bype.load(plain).train.labels is None
    assert "y is not read; --labels-key y reads it as labels" in caplog.text
    assert bype.load(again, labels_key="").train.labels is None
    assert bype.load(plain, labels_key="y").checksum() == bype.from_arrays(images, np.arange(40) % 2).checksum()


def test_splits_that_do_not_fit_are_refused(tmp_path):
    train, test = _images(30, 4, 4), _images(12, 4, 4)
    for arrays, message in (
        ({"x_train": train, "x_test": test / 255}, "one shape and kind, got uint8 .* in train and float64"),
        ({"x_train": train, "x_test": _images(12, 5, 4)}, "one shape and kind"),
        (
            {"x_train": train, "train_images": train, "x_test": test},
            "one array for each split, got x_train and tr",
        ),
        (
            {"x_train": train, "y_train": np.arange(29), "x_test": test, "y_test": np.arange(12)},
            "train: expected 30",
        ),
        ({"x_train": train, "y_train": ["a"] * 30, "x_test": test, "y_test": np.arange(12)}, "in all splits, got both"),
        ({"x_test": test, "x_val": test}, "--images-key"),
    ):
        with pytest.raises(InputError, match=message):
            bype.load(_saved(tmp_path / "a.npz", **arrays))


# Shapes


def test_rows_become_images_of_a_shape(tmp_path, caplog, cli_json):
    rows, colour = _images(40, 784), _images(40, 3 * 16)
    made = bype.from_arrays(rows)
    assert "784 values is read as an image of 1x784; --shape 28x28" in caplog.text
    bype.from_arrays(colour)
    assert "--shape 4x4 (from Python, shape='4x4') makes it 3x4x4" in caplog.text
    caplog.clear()
    made = bype.from_arrays(rows, shape="28x28")
    assert made.checksum() == bype.from_arrays(rows.reshape(40, 28, 28)).checksum()
    assert bype.from_arrays(rows, shape=28).shape == bype.from_arrays(rows, shape=(28, 28)).shape == (1, 28, 28)
    assert bype.from_arrays(colour, shape="4x4").checksum() == bype.from_arrays(colour.reshape(40, 3, 4, 4)).checksum()
    bype.from_arrays(_images(40, 50))
    assert "--shape" not in caplog.text
    with pytest.raises(InputError, match=r"--shape 5x5: expected rows of 25 values a channel, got \(40, 784\)"):
        bype.from_arrays(rows, shape=5)
    with pytest.raises(InputError, match=r"--shape 5x5: expected rows of 25 values a channel, got \(40, 28, 28\)"):
        bype.from_arrays(rows.reshape(40, 28, 28), shape=5)
    for wrong in ("0", "4x4x4", "a"):
        with pytest.raises(InputError, match="shape: expected a number of pixels or HxW"):
            bype.from_arrays(rows, shape=wrong)
    for order in (np.ascontiguousarray, np.asfortranarray):
        np.save(tmp_path / "a.npy", order(rows))
        assert bype.load(tmp_path / "a.npy", shape="28x28").checksum() == made.checksum()
    with pytest.raises(InputError, match=r"--shape: expected a \.npy or \.npz with one row for each image, got digits"):
        bype.load("digits", shape=8)
    small = ["--components", 5, "--latent-dim", 3, "--hidden-dim", 8, "--warmup", 1, "--epochs", 1, "--device", "cpu"]
    cli_json("train", tmp_path / "a.npy", "--shape", "28", *small, "--out", tmp_path / "run")
    assert bype.Run(tmp_path / "run").config.shape == "28"
    cli_json("sample", tmp_path / "run", "--out", tmp_path / "x.npz", "--n", 3)
    with np.load(tmp_path / "x.npz") as drawn:
        assert drawn["images"].shape == (3, 1, 28, 28)
    np.savez(tmp_path / "other.npz", images=rows.reshape(40, 28, 28))
    assert cli_json("evaluate", tmp_path / "run", tmp_path / "other.npz", "--samples", 2)["nll_nats"]


def test_channels_last_are_moved_when_asked():
    images = _images(20, 8, 9, 3)
    expected = bype.from_arrays(images.transpose(0, 3, 1, 2)).checksum()
    assert bype.from_arrays(images, channels_last=True).checksum() == expected
    with pytest.raises(InputError, match=r"expected images \(n, h, w, c\) with channels_last, got \(20, 8, 9\)"):
        bype.from_arrays(images[..., 0], channels_last=True)


@pytest.mark.parametrize("channels", [2, 5])
@pytest.mark.parametrize("arch", ["vae", "convhvae", "hvae", "celeba"])
def test_any_number_of_channels_passes_everywhere(tmp_path, cli_json, channels, arch):
    np.save(tmp_path / "a.npy", _images(40, channels, 8, 8))
    small = ["--components", 5, "--latent-dim", 3, "--warmup", 1, "--epochs", 1, "--device", "cpu"]
    run = tmp_path / "run"
    cli_json("train", tmp_path / "a.npy", "--arch", arch, "--likelihood", "gaussian", *small, "--out", run)
    cli_json("evaluate", run, "--samples", 2)
    cli_json("coreset", run, "--out", tmp_path / "coreset")
    for command in ("sample", "reconstruct", "interpolate"):
        cli_json(command, run, "--out", tmp_path / "x.png")
    cli_json("sample", run, "--plates", "--out", tmp_path / "x.png")
