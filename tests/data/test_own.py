"""Sets of one's own: arrays, .npy, .npz, folders and zips of images; and CelebA, which is brought as one."""

import csv
import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import bype
from bype import data
from bype.core.errors import InputError
from bype.data import arrays
from bype.data.image_files import decode

SMALL = ["--components", 5, "--latent-dim", 3, "--hidden-dim", 8, "--warmup", 1, "--epochs", 2, "--device", "cpu"]


def _images(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def _photos(folder, n=30, size=(6, 9), classes=("cats", "dogs"), **options):
    """Colour images of this height and width, in class subfolders if there are classes."""
    for i, image in enumerate(_images(n, *size, 3)):
        place = folder / classes[i % len(classes)] if classes else folder
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / f"{i:03}.png", **options)
    return folder


def _zipped(folder, path, top=""):
    with zipfile.ZipFile(path, "w") as packed:
        for file in sorted(folder.rglob("*")):
            packed.write(file, top + str(file.relative_to(folder)))
    return path


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32, np.float64, ">f4", np.longdouble])
@pytest.mark.parametrize("shape", [(24, 6), (24, 5, 3), (24, 2, 5, 3)])
def test_a_npy_is_the_arrays_set(tmp_path, dtype, shape):
    images = _images(*shape)
    images = images if dtype == np.uint8 else (images / 255).astype(dtype)
    for order in (np.ascontiguousarray, np.asfortranarray):
        np.save(tmp_path / "a.npy", order(images))
        read = bype.load(tmp_path / "a.npy")
        assert read.checksum() == bype.from_arrays(images).checksum()
        assert read.train.scaled().dtype == torch.float32
        assert read.levels == (256 if dtype == np.uint8 else None)


@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
def test_a_mapped_npy_is_the_same_set_and_trains_to_the_same_bits(tmp_path, monkeypatch, dtype):
    images = _images(40, 2, 4, 3)
    np.save(tmp_path / "a.npy", images if dtype == np.uint8 else images / 255)
    whole = bype.load(tmp_path / "a.npy")
    monkeypatch.setattr(arrays, "MAPPED_FROM", 0)
    monkeypatch.setattr("bype.data.checks.CHUNK", 100)
    mapped = bype.load(tmp_path / "a.npy")
    assert (whole.train.rows, len(mapped.train), len(mapped.train.rows)) == (None, 32, 32)
    assert mapped.checksum() == whole.checksum()
    index = torch.tensor([3, 1])
    for part in ("train", "validation", "test"):
        a, b = whole.splits[part], mapped.to("cpu").splits[part]
        assert torch.equal(a.scaled(), b.scaled())
        assert torch.equal(a.scaled(index), b.scaled(index))
        assert torch.equal(a.first(2).scaled(), b.first(2).scaled())
    states = []
    for found in (whole, mapped):
        for prior in ("exemplar", "bype"):
            model = bype.build_model(found, prior=prior, likelihood="gaussian", latent_dim=2, hidden_dim=4)
            bype.train(model, found, epochs=2, warmup=1, batch_size=10)
            states.append(torch.cat([v.flatten() for v in model.state_dict().values()]))
    assert torch.equal(states[0], states[2])
    assert torch.equal(states[1], states[3])


def test_a_mapped_file_is_read_in_blocks_in_its_own_order(tmp_path, monkeypatch):
    np.save(tmp_path / "a.npy", _images(200, 4, 4))
    whole = bype.load(tmp_path / "a.npy")
    monkeypatch.setattr(arrays, "MAPPED_FROM", 0)
    monkeypatch.setattr("bype.data.checks.BLOCK", 16 * 50)
    mapped = bype.load(tmp_path / "a.npy")
    reads = []
    index = torch.Tensor.__getitem__

    def spy(tensor, rows):
        if tensor is mapped.train.pixels:
            reads.append(rows)
        return index(tensor, rows)

    monkeypatch.setattr(torch.Tensor, "__getitem__", spy)
    batches = list(mapped.train.batches(7))
    assert [len(rows) for rows in reads if isinstance(rows, torch.Tensor)] == [49, 49, 49, 13]
    assert all((rows.diff() > 0).all() for rows in reads if isinstance(rows, torch.Tensor))
    assert [len(batch) for batch in batches] == [7] * 22 + [6]
    reads.clear()
    assert mapped.checksum() == whole.checksum()
    reads = [rows for rows in reads if isinstance(rows, torch.Tensor)]
    assert len(reads) == 6
    assert all((rows.diff() > 0).all() for rows in reads)
    monkeypatch.undo()
    assert all(torch.equal(a, b) for a, b in zip(batches, whole.train.batches(7), strict=True))


def test_a_large_npy_is_not_loaded_whole(tmp_path, monkeypatch):
    """A gigabyte and more that takes no room on the disk; its values are left unchecked, which would read them all."""
    path = tmp_path / "large.npy"
    np.lib.format.open_memmap(path, "w+", np.uint8, (450_000, 1, 50, 50))[::1000] = 7
    monkeypatch.setattr("bype.data.splits.check_values", lambda *_: (0, 7))
    before = _resident()
    found = bype.load(path)
    x = found.train.scaled(torch.arange(1000))
    assert x.shape == (1000, 1, 50, 50)
    assert _resident() - before < 200


def _resident():
    """Megabytes of this process in memory, those of mapped files among them."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    except OSError:
        pytest.skip("no /proc here to read the memory's size from")


def test_a_npz_has_images_and_perhaps_labels(tmp_path):
    images, labels = _images(20, 3, 4), np.arange(20) % 3
    expected = bype.from_arrays(images, labels).checksum()
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", images=images, labels=labels, other=np.zeros(3))
        assert bype.load(tmp_path / "a.npz").checksum() == expected
    np.savez(tmp_path / "a.npz", pixels=images, labels=labels.astype(np.uint16))
    assert bype.load(tmp_path / "a.npz").checksum() == expected
    np.savez(tmp_path / "a.npz", images)
    assert bype.load(tmp_path / "a.npz").checksum() == bype.from_arrays(images).checksum()
    np.savez(tmp_path / "a.npz", a=images, b=images)
    with pytest.raises(InputError, match="one array and optionally 'labels', got a, b; call them images and labels"):
        bype.load(tmp_path / "a.npz")


def test_tensors_lists_and_odd_arrays_are_taken():
    images = _images(12, 2, 3)
    expected = bype.from_arrays(images).checksum()
    readonly = images.copy()
    readonly.flags.writeable = False
    for same in (torch.from_numpy(images), readonly, images[::-1].copy()[::-1], np.asfortranarray(images)):
        assert bype.from_arrays(same).checksum() == expected
    floats = torch.rand(12, 4, requires_grad=True)
    assert bype.from_arrays(floats).checksum() == bype.from_arrays(floats.detach().numpy()).checksum()
    assert bype.from_arrays(floats.tolist()).shape == (1, 1, 4)
    with pytest.raises(InputError, match="images: expected an array, got list"):
        bype.from_arrays([[1.0], [1.0, 2.0]] * 6)
    with pytest.raises(InputError, match="labels from 0 to 65535, got values from -1"):
        bype.from_arrays(images, np.arange(12) - 1)


def test_floats_out_of_range_are_named():
    floats = np.full((12, 4), 0.5)
    floats[7, 2] = np.nan
    with pytest.raises(InputError, match=r"first in image 7$"):
        bype.from_arrays(floats)


def test_a_folder_and_its_zip_are_the_same_set(tmp_path):
    folder = _photos(tmp_path / "pets")
    (folder / "cats" / ".DS_Store").write_bytes(b"x")
    (folder / "readme.txt").write_text("not an image")
    found = bype.load(folder)
    assert found.shape == (3, 6, 9)
    assert found.levels == 256
    source = _images(30, 6, 9, 3)
    cats, dogs = source[::2], source[1::2]  # in the order of the names: cats before dogs
    stacked = np.concatenate([cats, dogs]).transpose(0, 3, 1, 2)
    assert found.checksum() == bype.from_arrays(stacked, np.repeat([0, 1], 15)).checksum()
    for top in ("", "pets/", "a/b/"):
        packed = _zipped(folder, tmp_path / "pets.zip", top)
        assert bype.load(packed).checksum() == found.checksum()
    flat = bype.load(_photos(tmp_path / "flat", classes=()))
    assert flat.train.labels is None
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "link").symlink_to(tmp_path / "flat")
    assert bype.load(tmp_path / "one").checksum() == flat.checksum(), "one folder that holds all is no class"


def test_grey_stays_grey_and_a_colour_image_makes_all_colour(tmp_path):
    grey = _images(12, 5, 4)
    for i, image in enumerate(grey):
        Image.fromarray(image).save(tmp_path / f"{i:02}.bmp")
    found = bype.load(tmp_path)
    assert found.checksum() == bype.from_arrays(grey).checksum()
    Image.fromarray(_images(5, 4, 3)).save(tmp_path / "99.png")
    assert bype.load(tmp_path).shape == (3, 5, 4)


def _one(image, **options):
    buffer = io.BytesIO()
    image.save(buffer, **options)
    return {"x": lambda: io.BytesIO(buffer.getvalue())}


def test_every_exif_orientation_is_put_upright():
    upright = _images(4, 6, 3)
    views = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1], 5: upright.transpose(1, 0, 2),
        6: np.rot90(upright), 7: upright[::-1, ::-1].transpose(1, 0, 2), 8: np.rot90(upright, -1),
    }  # fmt: skip
    for orientation, stored in views.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        files = _one(Image.fromarray(np.ascontiguousarray(stored)), format="PNG", exif=exif)
        assert np.array_equal(decode(files, "here")[0], upright.transpose(2, 0, 1)), orientation


def test_transparent_is_white_and_every_usual_mode_is_read():
    clear = Image.new("RGBA", (3, 2), (200, 0, 0, 0))
    assert decode(_one(clear, format="PNG"), "here").min() == 255
    half = Image.new("LA", (3, 2), (0, 255))
    assert decode(_one(half, format="PNG"), "here").tolist() == np.zeros((1, 1, 2, 3)).tolist()
    palette = Image.fromarray(_images(4, 4, 3)).quantize(4)
    assert np.array_equal(decode(_one(palette, format="PNG"), "here")[0].transpose(1, 2, 0), palette.convert("RGB"))
    assert decode(_one(Image.new("1", (3, 2), 1), format="PNG"), "here").tolist() == np.full((1, 1, 2, 3), 255).tolist()
    cmyk = Image.new("CMYK", (8, 8), (0, 0, 0, 255))
    assert decode(_one(cmyk, format="JPEG"), "here").max() < 10


@pytest.mark.parametrize("resize", [None, "5x7"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA"])
def test_an_image_file_alone_is_read_as_in_its_set(tmp_path, resize, mode):
    exif = Image.Exif()
    exif[0x0112] = 6
    channels = len(mode)
    for i, image in enumerate(_images(20, 8, 6, channels)):
        Image.fromarray(image.squeeze(), mode).save(tmp_path / f"{i:02}.png", exif=exif)
    whole = bype.load(tmp_path, resize=resize)
    assert whole.shape == (3 if channels > 2 else 1, *((6, 8) if resize is None else (5, 7)))
    found = {tuple(x.flatten().tolist()) for part in whole.splits.values() for x in part.scaled()}
    for i in range(20):
        alone = data.read_like(tmp_path / f"{i:02}.png", whole, resize=resize)
        assert tuple(alone.flatten().tolist()) in found
    with pytest.raises(InputError, match="expected a data set of 1 or 3 channels"):
        data.read_like(tmp_path / "00.png", bype.from_arrays(_images(20, 2, 6, 8)))


def test_a_face_alone_is_cut_as_those_of_its_set_are(tmp_path):
    for i, face in enumerate(_images(16, 218, 178, 3)):
        (tmp_path / "celeba").mkdir(exist_ok=True)
        Image.fromarray(face).save(tmp_path / "celeba" / f"{i:02}.png")
    faces = bype.load("celeba", tmp_path)
    found = [x for part in faces.splits.values() for x in part.scaled()]
    alone = data.read_like(tmp_path / "celeba" / "07.png", faces)
    assert sum(torch.equal(alone, x) for x in found) == 1


def test_mixed_sizes_are_refused_with_both_names_or_resized(tmp_path):
    _photos(tmp_path, classes=())
    Image.fromarray(_images(9, 6, 3)).save(tmp_path / "turned.png")  # the same two numbers, the other way round
    with pytest.raises(InputError, match=r"got 6x9 in 000\.png and 9x6 in turned\.png; use --resize HxW"):
        bype.load(tmp_path)
    Image.fromarray(_images(20, 40, 3)).save(tmp_path / "200.png")
    with pytest.raises(InputError, match=r"got 6x9 in 000\.png and 20x40 in 200\.png"):
        bype.load(tmp_path)
    assert bype.load(tmp_path, resize="4x7").shape == (3, 4, 7)
    assert bype.load(tmp_path, resize=5).shape == (3, 5, 5)
    assert bype.load(tmp_path, resize=(4, 7)).shape == (3, 4, 7)
    for wrong in ("0", "4x", "x4", "4097", "4x4x4", "-4", "٤"):
        with pytest.raises(InputError, match="--resize: expected a number of pixels or HxW"):
            bype.load(tmp_path, resize=wrong)
    with pytest.raises(InputError, match="--resize: expected a folder or zip"):
        bype.load("digits", resize=8)


def test_resizing_cuts_the_middle_out_and_keeps_proportions():
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, 20:40] = 255
    resized = decode(_one(Image.fromarray(wide), format="PNG"), "here", (10, 10))
    assert resized.min() > 200, "the black sides are cut off, not squeezed in"
    large = _one(Image.new("RGB", (2000, 1000), (10, 200, 30)), format="JPEG")
    assert abs(decode(large, "here", (8, 8))[0].mean((1, 2)) - [10, 200, 30]).max() < 3


def test_splits_and_strays_are_no_classes(tmp_path):
    _photos(tmp_path / "a", classes=("train", "Test"))
    with pytest.raises(InputError, match="got the splits Test, train; give one of them"):
        bype.load(tmp_path / "a")
    _photos(tmp_path / "b")
    Image.fromarray(_images(6, 9, 3)).save(tmp_path / "b" / "stray.png")
    with pytest.raises(InputError, match=r"stray\.png: expected all images in class subfolders or none"):
        bype.load(tmp_path / "b")
    _photos(tmp_path / "c")
    (tmp_path / "c" / "cats" / "x.tif").write_bytes(b"II*")
    with pytest.raises(
        InputError, match=r"cats/x\.tif: expected a PNG, JPEG, WebP, BMP or PNM image, got a \.tif file"
    ):
        bype.load(tmp_path / "c")


def test_celeba_is_cropped_split_and_coloured(tmp_path):
    folder = tmp_path / "celeba" / "img_align_celeba"
    folder.mkdir(parents=True)
    face = np.zeros((218, 178, 3), np.uint8)
    face[39:179, 19:159] = (250, 120, 60)  # the middle 140x140
    small = _images(64, 64, 3)
    for i in range(45):
        Image.fromarray(small if i == 0 else face).save(folder / f"{i:06}.png")
    found = bype.load("celeba", tmp_path)
    assert [len(s) for s in found.splits.values()] == [39, 3, 3]
    assert found.shape == (3, 64, 64)
    pixels = torch.cat([s.pixels for s in found.splits.values()])
    plain = pixels.flatten(2).amin(2).eq(torch.tensor([250, 120, 60])).all(1)
    assert plain.sum() == 44, "nothing of the black rim is left"
    assert torch.equal(pixels[~plain][0], torch.from_numpy(small.transpose(2, 0, 1)))
    packed = tmp_path / "z" / "celeba"
    packed.mkdir(parents=True)
    _zipped(folder, packed / "img_align_celeba.zip", "img_align_celeba/")
    assert bype.load("celeba", tmp_path / "z").checksum() == found.checksum()
    Image.fromarray(face[:200]).save(folder / "x.png")
    with pytest.raises(InputError, match="178x218 or 64x64, got 178x200"):
        bype.load("celeba", tmp_path)


@pytest.mark.data
@pytest.mark.slow
def test_the_sample_of_celeba(published):
    found = bype.load("celeba", published)
    assert [len(s) for s in found.splits.values()] == [8668, 666, 666]
    assert found.train.scaled(slice(0, 2000)).mean((0, 2, 3)).tolist() == pytest.approx([0.52, 0.42, 0.36], abs=0.03)


def test_a_folder_of_colour_images_all_the_way(cli_json, run_cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _photos(Path("pets"), n=60, size=(12, 7))
    _zipped(Path("pets"), "pets.zip")
    first = cli_json("train", "pets", "--resize", "5x6", *SMALL)
    assert first["run"] == "runs/pets-vae-bype-paper-s0"
    code, _, err = run_cli("train", "pets", "--resize", "5x7", "--out", first["run"], "--resume")
    assert (code, "expected --resize 5x6, the run's own, got 5x7" in err) == (2, True), err
    zipped = cli_json("train", "pets.zip", "--resize", "5x6", *SMALL, "--out", "z")
    assert zipped["val_loss"] == first["val_loss"]
    assert cli_json("train", "pets", "--out", first["run"], "--resume")["finished_already"]
    figures = cli_json("evaluate", first["run"], "--samples", 5, "--k", "1,3")
    assert figures["knn"].keys() == {"1", "3"}
    again = cli_json("evaluate", first["run"], "pets.zip", "--samples", 5, "--k", "1,3")
    assert again["nll_nats"] == figures["nll_nats"]
    whole = cli_json("evaluate", first["run"], "pets.zip", "--samples", 2, "--split", "all")
    assert (whole["items"], "knn" in whole) == (60, False)
    monkeypatch.chdir("/")
    cli_json("sample", tmp_path / first["run"], "--out", tmp_path / "x.npz", "--n", 3)
    with np.load(tmp_path / "x.npz") as drawn:
        assert drawn["images"].shape == (3, 3, 5, 6)
    for command in ("sample", "reconstruct"):
        cli_json(command, tmp_path / first["run"], "--out", tmp_path / "x.png")
    Image.fromarray(_images(12, 7, 3, seed=9)).save(tmp_path / "pets" / "cats" / "000.png")
    code, _, err = run_cli("reconstruct", tmp_path / first["run"], "--out", tmp_path / "x.png")
    assert (code, "the values differ from the data that" in err) == (2, True), err


def test_files_that_an_earlier_version_left_out_are_named_where_the_data_differ(run_cli, cli_json, tmp_path):
    _photos(tmp_path / "pets")
    run = cli_json("train", tmp_path / "pets", "--out", tmp_path / "run", *SMALL)["run"]
    late = tmp_path / "pets" / "cats" / "late.jfif"
    Image.fromarray(_images(6, 9, 3, seed=9)).save(late, "JPEG")
    code, _, err = run_cli("evaluate", run, "--samples", 2)
    assert (code, err.count("\n")) == (2, 1), err
    assert "left out files such as cats/late.jfif" in err
    late.unlink()
    cli_json("evaluate", run, "--samples", 2)


def test_a_run_is_told_where_its_data_have_moved(cli_json, run_cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _photos(tmp_path / "pets.v2")
    run = cli_json("train", "pets.v2", *SMALL)["run"]
    assert run == "runs/pets.v2-vae-bype-paper-s0"
    assert cli_json("train", tmp_path / "pets.v2", "--out", run, "--resume")["finished_already"], "the same, said else"
    figures = cli_json("evaluate", run, "./pets.v2", "--samples", 2)
    assert "kl_prior" in figures, "its own data by another way to say it"
    (tmp_path / "far").mkdir()
    (tmp_path / "pets.v2").rename(tmp_path / "far" / "animals")
    code, _, err = run_cli("evaluate", run, "--samples", 2)
    assert (code, "pets.v2: not found" in err, "--data PATH" in err) == (2, True, True), err
    code, _, err = run_cli("train", "digits", "--out", run, "--resume")
    assert (code, "expected SET pets.v2, the run's own, got digits" in err) == (2, True), err
    _photos(tmp_path / "others", n=31)
    code, _, err = run_cli("train", "others", "--out", run, "--resume")
    assert (code, "others: the values differ from the data that" in err) == (2, True), err
    assert cli_json("train", "far/animals", "--out", run, "--resume")["finished_already"]
    assert cli_json("evaluate", run, "--samples", 2) == figures


def test_every_item_of_a_set_of_one_s_own_can_be_traced(cli_json, tmp_path):
    _photos(tmp_path / "pets")
    pets = bype.load(tmp_path / "pets")
    assert pets.classes == ("cats", "dogs")
    for split, images in pets.splits.items():
        for i in range(len(images)):
            file = tmp_path / "pets" / pets.source(split, i)
            assert np.array_equal(np.asarray(Image.open(file)).transpose(2, 0, 1), images.pixels[i])
            assert pets.classes[images.labels[i]] == file.parent.name
    pixels = _images(40, 3, 4)
    own = bype.from_arrays(pixels)
    assert [int(own.source("test", i)) for i in range(4)] == own.test.origin.tolist()
    assert np.array_equal(pixels[own.train[torch.tensor([7, 3])].origin][:, None], own.train.pixels[[7, 3]])
    assert sorted(own.part("all").origin.tolist()) == list(range(40))
    assert np.array_equal(own.part("all").pixels[:, 0], pixels[own.part("all").origin])
    run = cli_json("train", tmp_path / "pets", *SMALL, "--out", tmp_path / "run")["run"]
    cli_json("coreset", run, "--out", tmp_path / "out")
    with (tmp_path / "out" / "weights.csv").open() as f:
        for line in csv.DictReader(f):
            assert line["source"] == pets.source("train", int(line["nearest_item"]))
            assert line["source"].startswith(line["nearest_label"] + "/"), "the class by its name, not by its place"
    assert cli_json("data", "check", tmp_path / "pets")["sets"][0]["class_names"] == ["cats", "dogs"]


def test_files_keep_the_folders_that_all_of_them_share(tmp_path):
    _photos(tmp_path / "faces" / "2020")
    packed = _zipped(tmp_path / "faces" / "2020", tmp_path / "a.zip", "x/y/")
    for whole, top in ((bype.load(tmp_path / "faces"), "2020/"), (bype.load(packed), "x/y/")):
        assert whole.classes == ("cats", "dogs")
        assert all(whole.source("train", i).startswith((f"{top}cats/", f"{top}dogs/")) for i in range(5))
    assert (tmp_path / "faces" / bype.load(tmp_path / "faces").source("test", 0)).exists()


def test_a_home_folder_is_found_with_a_size_too(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    _photos(tmp_path / "pets")
    assert bype.load("~/pets", resize=5).shape == (3, 5, 5)
    assert data.read_like("~/pets/cats/000.png", bype.load("~/pets")).shape == (3, 6, 9)
    with pytest.raises(InputError, match="--resize: expected a folder or zip"):
        bype.load("x" * 5000, resize=5)


def test_likely_mistakes_are_said(caplog):
    bype.from_arrays(_images(20, 8, 9, 3))
    assert "(20, 8, 9, 3) is read as (n, c, h, w), 8 channels" in caplog.messages[-1]
    bype.from_arrays(_images(20, 8, 9) // 200)
    assert "all values are 0 or 1 of 256 levels, which is almost black" in caplog.messages[-1]
    before = len(caplog.messages)
    bype.from_arrays(_images(20, 3, 8, 9))
    bype.from_arrays(_images(20, 3, 8, 3))
    bype.from_arrays((_images(20, 8, 9) // 200).astype(np.float32))
    bype.from_arrays(_images(20, 8, 9) % 2, levels=2)
    assert len(caplog.messages) == before


def test_names_and_paths_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, message in (
        ("a.npy", "a.npy: no such file or folder"),
        ("./mnist", "./mnist: no such file or folder"),
        ("mnits", "expected one of digits, .*, or a path, got 'mnits'"),
        ("x" * 5000, "expected a name or a path"),
        ("a\0b", "data set: expected"),
    ):
        with pytest.raises(InputError, match=message):
            bype.load(name)
    _photos(tmp_path / "digits", classes=())
    assert bype.load("digits").shape == (1, 8, 8)
    assert bype.load("./digits").shape == (3, 6, 9)
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(InputError, match="got another file"):
        bype.load("notes.txt")
    assert data.is_image_collection("./digits")
    assert not data.is_image_collection("digits")


@pytest.mark.parametrize("device", ["cuda:99", "nonsense", "xpu"])
def test_a_device_that_is_not_there_is_one_line(device):
    data = bype.load("digits")
    for move in (data.to, data.train.to):
        with pytest.raises(InputError, match=rf"^device {device}: not available \([^\n]*\)$"):
            move(device)
    assert data.to("cpu").checksum() == data.to(torch.device("cpu")).checksum() == data.checksum()
