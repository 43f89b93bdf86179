import tarfile

import numpy as np
import pytest
import torch

import bype
from bype import data
from bype.core.errors import InputError
from bype.data.catalog import PUBLISHED
from bype.data.published import is_idx


def test_scaling_puts_values_at_the_middle_of_their_level():
    stored = torch.tensor([[[[0, 16]]]], dtype=torch.uint8)
    torch.testing.assert_close(data.scale(stored, 17), torch.tensor([[[[0.5 / 17, 16.5 / 17]]]]))
    assert stored.tolist() == [[[[0, 16]]]], "the stored values must not change"
    floats = torch.rand(2, 1, 3, 3)
    assert torch.equal(data.scale(floats, None), floats)


def test_digits_have_17_levels_and_a_fixed_split():
    digits, again = bype.load("digits"), bype.load("digits")
    assert digits.shape == (1, 8, 8)
    assert [len(s) for s in digits.splits.values()] == [1439, 179, 179]
    assert digits.train.pixels.dtype == torch.uint8
    x = digits.train.scaled()
    assert x.min() == pytest.approx(0.5 / 17)
    assert x.max() == pytest.approx(16.5 / 17)
    assert digits.checksum() == again.checksum()


def test_split_is_a_partition_of_the_items():
    images = np.arange(50, dtype=np.uint8).reshape(50, 1, 1).repeat(2, 1).repeat(2, 2)
    labels = np.arange(50)
    d = bype.from_arrays(images, labels)
    seen = torch.cat([s.pixels[:, 0, 0, 0] for s in d.splits.values()])
    assert sorted(seen.tolist()) == list(range(50))
    for part in d.splits.values():
        assert torch.equal(part.pixels[:, 0, 0, 0].long(), part.labels), "labels must follow their images"


def test_checksum_sees_every_value_and_label():
    images = np.zeros((20, 2, 2), np.uint8)
    base = bype.from_arrays(images, np.zeros(20, int)).checksum()
    changed = images.copy()
    changed[7, 1, 1] = 1
    assert bype.from_arrays(changed, np.zeros(20, int)).checksum() != base
    assert bype.from_arrays(images, np.arange(20)).checksum() != base
    assert bype.from_arrays(images).checksum() != base


@pytest.mark.parametrize(
    ("shape", "expected"), [((12, 6), (1, 1, 6)), ((12, 3, 4), (1, 3, 4)), ((12, 2, 3, 4), (2, 3, 4))]
)
def test_arrays_become_channel_first(shape, expected):
    assert bype.from_arrays(np.zeros(shape, np.uint8)).shape == expected


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.zeros((9, 4), np.uint8), None, "at least 10 images"),
        (np.zeros((12, 0), np.uint8), None, "at least 10 images"),
        (np.zeros(12, np.uint8), None, "at least 10 images"),
        (np.full((12, 4), np.nan), None, r"floats in \[0, 1\]"),
        (np.full((12, 4), 1.5), None, r"floats in \[0, 1\]"),
        (np.zeros((12, 4), np.int32), None, "uint8 or floats"),
        (np.zeros((12, 4), np.uint8), np.zeros(11, int), "12 labels, whole numbers or text"),
        (np.zeros((12, 4), np.uint8), np.full(12, 0.5), r"12 labels, whole numbers or text, got 0\.5 in row 0"),
        (np.zeros((12, 4), np.uint8), np.full(12, np.nan), "whole numbers or text, got nan in row 0"),
        (np.zeros((12, 4), np.uint8), np.eye(12), r"pass labels\.argmax\(1\)"),
        (np.zeros((12, 4), np.uint8), ["a"] * 11 + [3], "all whole numbers or all text"),
        (np.zeros((12, 4), np.uint8), np.array([None] * 12), "all whole numbers or all text, got 'None'"),
        (np.zeros((12, 4), np.uint8), np.array([b"\xff"] * 12), "text in UTF-8"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(images, labels, message):
    with pytest.raises(InputError, match=message):
        bype.from_arrays(images, labels)


def test_levels_bound_the_values():
    with pytest.raises(InputError, match="below levels=17"):
        bype.from_arrays(np.full((12, 4), 17, np.uint8), levels=17)


def _write_mnist(write_idx, folder, suffix=".gz"):
    rng = np.random.default_rng(0)
    for stem, n in (("train", 60_000), ("t10k", 10_000)):
        images = np.zeros((n, 28, 28), np.uint8)
        images[:, 0, 0] = rng.integers(0, 256, n)
        write_idx(folder / f"{stem}-images-idx3-ubyte{suffix}", images)
        write_idx(folder / f"{stem}-labels-idx1-ubyte{suffix}", rng.integers(0, 10, n))


@pytest.mark.parametrize("suffix", [".gz", ""])
def test_mnist_from_idx_files(tmp_path, write_idx, suffix):
    _write_mnist(write_idx, tmp_path / "mnist", suffix)
    d = bype.load("mnist", tmp_path)
    assert [len(s) for s in d.splits.values()] == [50_000, 10_000, 10_000]
    assert d.shape == (1, 28, 28)
    rng = np.random.default_rng(0)  # as they were written
    for parts, n in (((d.train, d.validation), 60_000), ((d.test,), 10_000)):
        pixels, labels = rng.integers(0, 256, n).astype(np.uint8), rng.integers(0, 10, n)
        assert np.array_equal(torch.cat([p.pixels[:, 0, 0, 0] for p in parts]).numpy(), pixels)
        assert np.array_equal(torch.cat([p.labels for p in parts]).numpy(), labels)


@pytest.mark.parametrize("dotted", [False, True])
@pytest.mark.parametrize("place", ["mnist", "MNIST/raw", "mnist/raw", "mnist/MNIST/raw"])
def test_idx_files_are_found_where_others_put_them(tmp_path, write_idx, run_cli, monkeypatch, place, dotted):
    monkeypatch.setenv("BYPE_DATA", str(tmp_path / "none"))
    monkeypatch.setenv("HOME", str(tmp_path / "none"))
    _write_mnist(write_idx, tmp_path / "made", ".gz")
    expected = (tmp_path / place).parent
    expected.mkdir(parents=True, exist_ok=True)
    (tmp_path / "made").rename(tmp_path / place)
    for file in (tmp_path / place).iterdir() if dotted else ():
        file.rename(file.with_name(file.name.replace("-idx", ".idx")))
    assert len(bype.load("mnist", tmp_path).test) == 10_000
    for given in (place, place.partition("/")[0]):  # `raw`, and a folder that holds it
        with pytest.raises(InputError, match=r"got the IDX files of a published set|PNM images, got none") as error:
            bype.load(tmp_path / given)
        if "raw" in given:
            assert str(error.value).endswith(f"pass mnist with --data-dir {tmp_path}")
    code, _, err = run_cli("train", next((tmp_path / place).iterdir()))
    assert (code, "got one IDX file of it; move the set's files to DIR/mnist" in err) == (2, True), err


def test_an_idx_file_in_a_folder_of_its_name_is_found(tmp_path, write_idx, monkeypatch):
    monkeypatch.setenv("BYPE_DATA", str(tmp_path / "none"))
    monkeypatch.setenv("HOME", str(tmp_path / "none"))
    _write_mnist(write_idx, tmp_path / "mnist", "")
    for file in list((tmp_path / "mnist").iterdir()):
        content = file.read_bytes()
        file.unlink()
        folder = file.with_name(file.name.replace("-idx", ".idx"))
        folder.mkdir()
        (folder / folder.name).write_bytes(content)
    assert len(bype.load("mnist", tmp_path).train) == 50_000


@pytest.mark.parametrize("where", ["cifar10", "."])
@pytest.mark.parametrize("what", ["cifar-10-batches-py", "cifar-10-python.tar.gz"])
def test_the_pickled_version_of_cifar10_is_refused_with_the_way_out(tmp_path, monkeypatch, where, what):
    monkeypatch.setenv("BYPE_DATA", str(tmp_path / "none"))
    place = tmp_path / where / what
    place.parent.mkdir(exist_ok=True)
    if what.endswith("py"):
        place.mkdir()
        (place / "data_batch_1").write_bytes(b"pickle")
    else:
        place.write_bytes(b"x")
    message = f"{what}, the Python version, whose pickle files can run code.*`bype data fetch cifar10` downloads"
    for load in (lambda: bype.load("cifar10", tmp_path), lambda: bype.load(place), lambda: bype.load(place.parent)):
        with pytest.raises(InputError, match=message):
            load()


@pytest.mark.parametrize("damage", ["truncated", "magic", "longer", "no gzip", "cut gzip", "missing", "label"])
def test_damaged_idx_is_refused(tmp_path, write_idx, damage):
    folder = tmp_path / "mnist"
    _write_mnist(write_idx, folder, "" if damage in ("truncated", "magic", "longer") else ".gz")
    plain, packed = folder / "t10k-images-idx3-ubyte", folder / "t10k-images-idx3-ubyte.gz"
    if damage == "truncated":
        plain.write_bytes(plain.read_bytes()[:-1])
    elif damage == "longer":
        plain.write_bytes(plain.read_bytes() + b"x")
    elif damage == "magic":
        plain.write_bytes(b"\x00\x00\x09" + plain.read_bytes()[3:])
    elif damage == "no gzip":
        packed.write_bytes(b"not gzip at all")
    elif damage == "cut gzip":
        packed.write_bytes(packed.read_bytes()[:-20])
    elif damage == "missing":
        packed.unlink()
    else:
        write_idx(folder / "t10k-labels-idx1-ubyte.gz", np.full(10_000, 10))
    message = "neither t10k-images-idx3-ubyte.gz nor" if damage == "missing" else "expected"
    with pytest.raises(InputError, match=message):
        bype.load("mnist", tmp_path)


def _cifar_rows(n=10_000):
    rows = np.zeros((n, 3073), np.uint8)
    rows[:, 0] = np.arange(n) % 10
    rows[:, 1], rows[:, 1 + 1024], rows[:, 1 + 2048] = 1, 2, 3  # the first pixel's red, green, blue
    rows[:, 2], rows[:, 1 + 32] = 4, 5  # right of it; below it
    return rows.tobytes()


@pytest.mark.parametrize("archived", [False, True])
def test_cifar10_binary_version(tmp_path, archived):
    folder = tmp_path / "cifar10" / data.CIFAR10_FOLDER
    folder.mkdir(parents=True)
    for i, name in enumerate([f"data_batch_{i}.bin" for i in range(1, 6)] + ["test_batch.bin"]):
        rows = bytearray(_cifar_rows())
        rows[3073 - 1] = 100 + i  # the last value of the first image
        (folder / name).write_bytes(rows)
    if archived:
        with tarfile.open(tmp_path / "cifar10" / data.CIFAR10_ARCHIVE, "w:gz", compresslevel=1) as tar:
            tar.add(folder, data.CIFAR10_FOLDER)
        for f in folder.iterdir():
            f.unlink()
        folder.rmdir()
    d = bype.load("cifar10", tmp_path)
    assert [len(s) for s in d.splits.values()] == [40_000, 10_000, 10_000]
    assert d.shape == (3, 32, 32)
    assert [int(d.train.pixels[i * 10_000, 2, -1, -1]) for i in range(4)] == [100, 101, 102, 103]
    assert (int(d.validation.pixels[0, 2, -1, -1]), int(d.test.pixels[0, 2, -1, -1])) == (104, 105)
    image = d.test.pixels[0]
    assert image[:, 0, 0].tolist() == [1, 2, 3]
    assert image[0, 0, 1] == 4
    assert image[0, 1, 0] == 5
    assert d.test.labels[:3].tolist() == [0, 1, 2]


def test_unknown_and_missing_sets_say_what_was_expected(tmp_path, monkeypatch):
    monkeypatch.setenv("BYPE_DATA", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(InputError, match=r"expected one of digits, mnist.*got 'minst'"):
        bype.load("minst")
    with pytest.raises(InputError, match=r"elsewhere/mnist.*\.cache/bype/mnist"):
        bype.load("mnist")


@pytest.mark.data
def test_published_sets_read_as_published(published):
    def mean(data):  # of each channel, over all items that are published for training
        whole = torch.cat([data.train.pixels, data.validation.pixels])
        return whole.sum((0, 2, 3), dtype=torch.int64) / (whole.numel() / whole.shape[1])

    mnist = bype.load("mnist", published)
    assert torch.bincount(mnist.test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert mean(mnist).item() / 255 == pytest.approx(0.1307, abs=1e-4)  # the figure that everyone normalises with
    fashion = bype.load("fashion-mnist", published)
    assert torch.bincount(fashion.test.labels).tolist() == [1000] * 10
    assert mean(fashion).item() / 255 == pytest.approx(0.2860, abs=1e-4)
    cifar = bype.load("cifar10", published)
    assert torch.bincount(cifar.test.labels).tolist() == [1000] * 10
    assert (mean(cifar) / 255).tolist() == pytest.approx([0.4914, 0.4822, 0.4465], abs=1e-4)


def test_a_set_that_is_not_there_names_the_command_that_fetches_it(tmp_path, monkeypatch):
    monkeypatch.setenv("BYPE_DATA", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(InputError, match="`bype data fetch mnist` downloads it"):
        bype.load("mnist")
    with pytest.raises(InputError, match="`bype data fetch celeba` explains how to get it"):
        bype.load("celeba")


def test_what_scaled_returns_is_a_copy(tiny):
    floats = bype.from_arrays(torch.rand(20, 3, 3, generator=torch.Generator().manual_seed(0)))
    careless = bype.Images(torch.rand(4, 1, 3, 3, generator=torch.Generator().manual_seed(0)))  # 256 levels, it says
    for images in (floats.train, tiny.train, careless):
        before = images.pixels.clone()
        for index in (None, slice(0, 3), torch.tensor([0, 1]), [0, 1]):
            images.scaled(index).zero_()
        for batch in images.batches(2):
            batch.zero_()
        assert torch.equal(images.pixels, before)


def test_images_are_chosen_by_slices_rows_and_masks(tiny):
    rows = torch.tensor([5, 2, 2])
    assert torch.equal(tiny.train[rows].pixels, tiny.train.pixels[rows])
    assert torch.equal(tiny.train[rows].labels, tiny.train.labels[rows])
    of_one = tiny.train[tiny.train.labels == 1]
    assert set(of_one.labels.tolist()) == {1}
    assert len(of_one) == int((tiny.train.labels == 1).sum())
    mapped = bype.Images(tiny.train.pixels, None, 256, torch.arange(10))
    assert torch.equal(mapped[rows].stored(), tiny.train.pixels[rows])
    for wrong in (lambda: tiny.train[3], lambda: list(tiny.train)):
        with pytest.raises(
            TypeError, match=r"Expected a slice, rows or a mask, but got .*`scaled\(index\)` gives pixels"
        ):
            wrong()


def test_the_mean_image_is_that_of_the_scaled_pixels(tiny):
    torch.testing.assert_close(tiny.train.mean(), tiny.train.scaled(dtype=torch.float64).mean(0), rtol=1e-6, atol=1e-9)
    half = bype.data.images.Images(torch.full((3, 1, 2, 2), 0.5))
    assert torch.equal(half.mean(), torch.full((1, 2, 2), 0.5, dtype=torch.float64))


def test_an_idx_file_is_known_by_its_first_bytes_or_as_gzipped(tmp_path, write_idx):
    images = np.zeros((2, 3, 4), np.uint8)
    for name, expected in {"a-idx3-ubyte": True, "a-idx3-ubyte.gz": True, "a.bin": False}.items():
        write_idx(tmp_path / name, images)
        assert is_idx(tmp_path / name) is expected, name
    (tmp_path / "b-idx1").write_bytes(b"\0\0\x0d\1")  # floats
    assert not is_idx(tmp_path / "b-idx1")
    assert not is_idx(tmp_path / "no-idx1")


def test_what_is_stated_of_a_published_set_is_what_is_read():
    for name in ("digits",):
        stated, read = PUBLISHED[name], bype.load(name)
        assert (stated.shape, stated.levels) == (read.shape, read.levels)
    assert {name: stated.levels for name, stated in PUBLISHED.items() if name != "digits"} == {
        name: 256 for name in PUBLISHED if name != "digits"
    }, "bytes"
