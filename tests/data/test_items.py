"""Items of every kind become the same images, in the order given, with names; others are one clear error."""

import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

import bype
from bype.data.items import ItemReader


@pytest.fixture(scope="module")
def digits():
    return bype.load("digits")


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (5, 1, 6, 8), dtype=np.uint8)


@pytest.fixture
def album(tmp_path, pixels):
    """Five images of 6x8 in a folder with two classes, as a zip, a .npy and a .npz too."""
    folder = tmp_path / "album"
    for i, image in enumerate(pixels):
        (folder / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0]).save(folder / "ab"[i % 2] / f"{i}.png")
    with zipfile.ZipFile(tmp_path / "album.zip", "w") as packed:
        for file in sorted(folder.rglob("*.png")):
            packed.write(file, file.relative_to(folder))
    np.save(tmp_path / "x.npy", pixels)
    np.savez(tmp_path / "x.npz", images=pixels[:, 0], labels=np.array(list("ababa")))
    np.save(tmp_path / "rows.npy", pixels.reshape(5, -1))
    return tmp_path


def reader(shape=(1, 6, 8), levels=256, own=None, **options):
    def refuse():
        raise AssertionError("the run's data are read")

    return ItemReader(shape, levels, own or refuse, torch.device("cpu"), **options)


def test_folder_zip_and_arrays_are_the_same_images_without_the_data_of_the_run(album, pixels):
    by_class = torch.from_numpy(pixels[[0, 2, 4, 1, 3]])
    for name in ("album", "album.zip"):
        found = reader().read([str(album / name)])
        assert torch.equal(found.images.stored(), by_class)
        assert found.names == tuple(f"{album / name}/{f}.png" for f in ("a/0", "a/2", "a/4", "b/1", "b/3"))
        assert found.labels == tuple("aaabb")
    for name, labels in (("x.npy", ()), ("x.npz", tuple("ababa")), ("rows.npy", ())):
        found = reader().read([str(album / name)])
        assert torch.equal(found.images.stored(), torch.from_numpy(pixels)), name
        assert found.names == tuple(f"{album / name}[{i}]" for i in range(5))
        assert found.labels == labels


def test_arrays_of_more_than_ten_rows_keep_their_order(tmp_path):
    many = np.random.default_rng(1).random((40, 1, 6, 8)).astype(np.float32)
    np.save(tmp_path / "x.npy", many)
    found = reader().read([str(tmp_path / "x.npy")])
    assert torch.equal(found.images.stored(), torch.from_numpy(many))
    part = reader().read([str(tmp_path / "x.npy")], split="test")
    assert len(part) == 4
    assert part.names[0] == f"{tmp_path / 'x.npy'}:test[0]"


def test_items_of_several_kinds_are_one_batch_in_the_order_given(album, pixels, digits):
    own = bype.from_arrays(np.repeat(pixels, 4, 0), list("ab") * 10)
    files = [str(album / "album/b/3.png"), "1", str(album / "x.npz")]
    found = reader(own=lambda: own, set_="mine.npy").read(files)
    expected = [pixels[3:4], own.test.stored()[1:2].numpy(), pixels]
    assert np.array_equal(found.images.stored().numpy(), np.concatenate(expected))
    assert found.names[:3] == (files[0], "mine.npy:test[1]", f"{files[2]}[0]")
    assert found.labels == ("", own.label_name(int(own.test.labels[1])), *"ababa")
    floats = album / "f.npy"
    np.save(floats, (pixels / 255).astype(np.float32))
    mixed = reader().read([str(album / "x.npy"), str(floats)]).images
    assert mixed.levels is None
    torch.testing.assert_close(mixed.stored()[:5], torch.from_numpy((pixels + np.float32(0.5)) / 256))


def test_a_published_set_means_its_test_split(digits):
    found = reader((1, 8, 8), 17).read(["digits"])
    assert torch.equal(found.images.stored(), digits.test.stored())
    assert found.images.levels == 17
    assert found.names[3] == "digits:test[3]"
    assert found.labels == tuple(map(str, digits.test.labels.tolist()))
    assert len(reader((1, 8, 8), 17).read(["digits"], split="validation")) == len(digits.validation)


def test_colour_photographs_become_grey_and_are_resized_on_demand_or_as_the_run_s_own_were(tmp_path):
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 20, 3), dtype=np.uint8))
    photo.save(tmp_path / "photo.png")
    with pytest.raises(bype.InputError, match=r"expected an image of 6x8, got 30x20; --resize crops it"):
        reader().read([str(tmp_path / "photo.png")])
    with pytest.raises(bype.InputError, match=r"photo.png: expected an image of 6x8, got 30x20; --resize crops it"):
        reader().read([str(tmp_path)])
    asked = reader().read([str(tmp_path / "photo.png")], resize=True)
    as_trained = reader(reading={"resize": "6x8"}).read([str(tmp_path)])
    assert asked.images.shape == (1, 6, 8)
    assert torch.equal(asked.images.stored(), as_trained.images.stored())


def test_stored_values_have_the_levels_of_the_model(tmp_path, digits):
    np.save(tmp_path / "d.npy", digits.test.stored().numpy())
    found = reader((1, 8, 8), 17).read([str(tmp_path / "d.npy")])
    assert torch.equal(found.images.scaled(), digits.test.scaled())
    np.save(tmp_path / "e.npy", 15 * digits.test.stored().numpy())
    with pytest.raises(bype.InputError, match=r"e.npy: expected values below levels=17, got 240, the levels of the"):
        reader((1, 8, 8), 17).read([str(tmp_path / "e.npy")])


def test_splits_in_a_file_are_all_read(tmp_path, pixels):
    np.savez(
        tmp_path / "s.npz",
        x_train=np.repeat(pixels, 2, 0),
        x_validation=np.repeat(pixels, 2, 0),
        x_test=np.repeat(pixels, 2, 0),
    )
    found = reader().read([str(tmp_path / "s.npz")])
    assert len(found) == 30
    assert found.names[10] == f"{tmp_path / 's.npz'}:validation[0]"


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([], "items: expected files, folders or indices, got none"),
        (["none.png"], "none.png: cannot be read: No such file"),
        (["nowhere/"], "nowhere: cannot be read: No such file"),
        (["none.zip"], "none.zip: no such file or folder"),
        (["none.npy"], "none.npy: no such file or folder"),
        (["99"], "99: expected a file, a set or a test index from 0 to 1, got 99"),
        (["digits"], r"digits: expected images of 1x6x8, the model's, got 1x8x8"),
    ],
)
def test_what_cannot_be_used_is_one_line(items, message, pixels):
    own = bype.from_arrays(np.repeat(pixels, 4, 0))
    with pytest.raises(bype.InputError, match=message):
        reader(own=lambda: own).read(items)


def test_arrays_out_of_range_or_of_another_size_are_refused(tmp_path, pixels):
    for name, values, message in [
        ("a.npy", pixels.astype(np.float32), r"expected floats in \[0, 1\]"),
        ("b.npy", np.full((3, 1, 6, 8), np.nan, np.float32), r"expected floats in \[0, 1\]"),
        ("c.npy", pixels[..., :5], r"c.npy: expected images of 1x6x8, the model's, got 1x6x5; image files"),
        ("d.npy", pixels.astype(np.int64), r"expected uint8 or floats"),
    ]:
        np.save(tmp_path / name, values)
        with pytest.raises(bype.InputError, match=message):
            reader().read([str(tmp_path / name)])


def test_one_blank_image_is_an_item(tmp_path):
    np.save(tmp_path / "blank.npy", np.zeros((1, 1, 6, 8), np.uint8))
    assert len(reader().read([str(tmp_path / "blank.npy")])) == 1
