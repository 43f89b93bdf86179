"""Folders and zips of images: which files are read, how their names are taken, and what is said of bad ones."""

import io
import math
import os
import struct
import zipfile
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

import bype
from bype import data
from bype.core.errors import InputError
from bype.data import decoding
from bype.data.image_files import load_item_files


def _pixels(seed, *shape):
    return np.random.default_rng(seed).integers(0, 256, shape or (6, 9), dtype=np.uint8)


def _encoded(seed=0, format="PNG", array=None, **options):
    buffer = io.BytesIO()
    Image.fromarray(_pixels(seed, 6, 9, 3) if array is None else array).save(buffer, format, **options)
    return buffer.getvalue()


def _folder(path, files):
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def _zip(path, files):
    with zipfile.ZipFile(path, "w") as packed:
        for name, content in files.items():
            packed.writestr(name, content)
    return path


def _both(tmp_path, files):
    """A folder and a zip with these files."""
    return _folder(tmp_path / "set", files), _zip(tmp_path / "set.zip", files)


def _count(data):
    return sum(map(len, data.splits.values()))


# Which files are images

SUFFIXES = {
    "JPEG": ("jpg", "jpeg", "jpe", "jfif", "jif", "JPG", "Jfif", "jpg_large", ""),
    "PNG": ("png", "apng", "PNG", "gif", "txt", ""),  # by content, whatever the suffix
    "WEBP": ("webp", "WEBP", "img"),
    "BMP": ("bmp", "dib", "BMP", ""),
    "DIB": ("dib",),
    "PPM": ("ppm", "pnm", "pgm", "PNM", "netpbm"),
}


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_every_image_is_read_whatever_its_suffix(tmp_path, kind):
    files = {f"{i:02}": _encoded(i) for i in range(10)}
    for form, suffixes in SUFFIXES.items():
        for i, suffix in enumerate(suffixes):
            files[f"{form}-{i}" + (f".{suffix}" if suffix else "")] = _encoded(i, form)
    others = {"readme.txt": b"BM is not an image", "notes": b"P1 comes first", "Thumbs.db": b"\xd0\xcf", "empty": b""}
    found = bype.load(_both(tmp_path, files | others)[kind == "zip"])
    assert sorted(found.files) == sorted(files), "each image once, and nothing else"


@pytest.mark.parametrize("kind", ["folder", "zip"])
@pytest.mark.parametrize(
    ("name", "content", "got"),
    [
        ("a.GIF", b"GIF89a" + bytes(20), "a GIF file"),
        ("a", b"GIF89a" + bytes(20), "a GIF file"),
        ("a.txt", b"II*\x00" + bytes(20), "a TIFF file"),
        ("a.png", b"\x00\x00\x00\x18ftypheic" + bytes(20), "a HEIF or AVIF file"),
        ("a.svg", b"<svg/>", "a .svg file"),
        ("a.jfif", b"", "an empty file"),
        ("a.jpe", b"text", "another file"),
    ],
)
def test_an_image_that_is_not_read_is_named(tmp_path, kind, name, content, got):
    path = _both(tmp_path, {f"{i}.png": _encoded(i) for i in range(12)} | {name: content})[kind == "zip"]
    with pytest.raises(InputError, match=f"{name}: expected a PNG, JPEG, WebP, BMP or PNM image, got {got}"):
        bype.load(path)


def test_the_first_frame_of_an_animation_is_used_and_said(tmp_path, caplog):
    frames = [Image.fromarray(_pixels(i, 6, 9, 3)) for i in range(2)]
    files = {f"{i}.png": _encoded(i) for i in range(10)}
    for form, suffix in (("PNG", "apng"), ("WEBP", "webp")):
        buffer = io.BytesIO()
        frames[0].save(buffer, form, save_all=True, append_images=frames[1:])
        files[f"a.{suffix}"] = buffer.getvalue()
    assert _count(bype.load(_folder(tmp_path, files))) == 12
    assert "the first frame of 2 animated images is used: a.apng, a.webp" in caplog.text


# Names

CLASSES = {f"{c}/{i}.png": _encoded(i) for c in ("cats", "dogs") for i in range(10)}


@pytest.mark.parametrize(
    "rename",
    [
        lambda name: name.replace("/", "\\"),
        lambda name: "pets\\" + name.replace("/", "\\"),
        lambda name: "pets\\" + name,
        lambda name: "./" + name,
        lambda name: name.replace("/", "//"),
        lambda name: name.replace("png", "PNG"),
    ],
    ids=["backslashes", "a folder with backslashes", "both", "a dot", "two slashes", "upper case"],
)
def test_names_of_members_mean_the_same_however_they_are_written(tmp_path, rename):
    expected = bype.load(_zip(tmp_path / "a.zip", CLASSES))
    found = bype.load(_zip(tmp_path / "b.zip", {rename(n): c for n, c in CLASSES.items()} | {"empty\\": b""}))
    assert found.classes == ("cats", "dogs")
    assert found.checksum() == expected.checksum()


def test_a_folder_of_files_whose_names_hold_backslashes_has_their_classes(tmp_path):
    found = bype.load(_folder(tmp_path / "a", {n.replace("/", "\\"): c for n, c in CLASSES.items()}))
    assert found.checksum() == bype.load(_zip(tmp_path / "a.zip", CLASSES)).checksum()
    assert (tmp_path / "a" / found.source("train", 0)).exists(), "the file is named as it is called"


def _raw_names(path, files):
    """A zip with these names as they are; the module would end them at a zero byte."""
    _zip(path, {n.replace("\0", "\x01"): c for n, c in files.items()})
    path.write_bytes(path.read_bytes().replace(b"\x01.png", b"\0.png"))
    return path


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("train\\{}.png test\\{}.png", "expected class subfolders, got the splits test, train"),
        ("TRAIN\\{}.png Test/{}.png", "expected class subfolders, got the splits TRAIN, Test"),
        ("cats\\{}.png {}.png", "expected all images in class subfolders or none"),
        ("..\\{}.png x{}.png", "expected names inside the archive"),
        ("a/..\\..\\{}.png x{}.png", "expected names inside the archive"),
        ("\\{}.png x{}.png", "expected names inside the archive"),
        ("\\\\server\\{}.png x{}.png", "expected names inside the archive"),
        ("/tmp/{}.png x{}.png", "expected names inside the archive"),
        ("C:\\{}.png x{}.png", "expected names inside the archive"),
        ("c:/{}.png x{}.png", "expected names inside the archive"),
        ("C:{}.png x{}.png", "expected names inside the archive"),
        ("a{}\0.png b{}\0.png", "expected names inside the archive"),
        ("a/{}.png a\\{}.png", "expected each name once"),
        ("a/{}.png a/./{}.png", "expected each name once"),
    ],
)
def test_names_of_members_are_refused_however_they_are_written(tmp_path, name, message):
    files = {pattern.format(i): _encoded(i) for pattern in name.split() for i in range(10)}
    with pytest.raises(InputError, match=message):
        bype.load(_raw_names(tmp_path / "a.zip", files))


# Labels


def test_a_label_is_shown_by_its_name(tmp_path, cli_json):
    files = {f"{c}/{i}.png": _encoded(i + 20 * n) for n, c in enumerate(("1", "2", "10")) for i in range(12)}
    small = ["--components", 5, "--latent-dim", 3, "--hidden-dim", 8, "--warmup", 1, "--epochs", 1, "--device", "cpu"]
    run = cli_json("train", _folder(tmp_path / "set", files), *small, "--out", tmp_path / "run")["run"]
    cli_json("coreset", run, "--out", tmp_path / "out")
    _, *lines = (tmp_path / "out" / "weights.csv").read_text().splitlines()
    shown = {(line.split(",")[3], line.split(",")[-1].partition("/")[0]) for line in lines}
    assert all(label == folder for label, folder in shown), shown
    assert len(lines) == 5


# Bad files


@pytest.fixture
def mixed(tmp_path):
    """Twelve good images and some bad ones, by what is wrong with them."""
    folder = _folder(tmp_path / "mixed", {f"{i:02}.png": _encoded(i) for i in range(12)})
    bad = {
        "cut.png": _encoded(0, array=_pixels(0, 90, 90))[:2000],
        "empty.jpg": b"",
        "text.bmp": b"text",
        "x.gif": b"GIF89a",
    }
    _folder(folder, bad)
    (folder / "gone.png").symlink_to("nowhere.png")
    return folder, {*bad, "gone.png"}


def test_a_broken_link_is_called_one(tmp_path):
    folder = _folder(tmp_path / "a", {f"{i:02}.png": _encoded(i) for i in range(12)})
    for name in ("gone.png", "class", "data.txt"):
        (folder / name).symlink_to("nowhere")
        with pytest.raises(InputError, match=f"{name}: broken symbolic link to nowhere"):
            bype.load(folder)
        (folder / name).unlink()
    (folder / "loop.png").symlink_to("loop.png")
    with pytest.raises(InputError, match=r"loop\.png: .*(symbolic link|cannot be read)"):
        bype.load(folder)


def test_a_folder_is_read_up_to_half_of_the_memory_and_no_further(tmp_path, monkeypatch):
    folder = _folder(tmp_path / "a", {f"{i:02}.png": _encoded(i) for i in range(12)})
    shape = bype.load(folder).shape
    room = {"SC_PHYS_PAGES": 2}
    monkeypatch.setattr(os, "sysconf", room.get)
    for read in (bype.load, lambda path: load_item_files(path, shape)):
        room["SC_PAGE_SIZE"] = 12 * math.prod(shape)  # bytes, as uint8
        read(folder)
        room["SC_PAGE_SIZE"] -= 1
        with pytest.raises(InputError, match="half of this machine's memory"):
            read(folder)


def test_a_link_to_a_pipe_is_not_a_broken_one(tmp_path):
    folder = _folder(tmp_path / "a", {f"{i:02}.png": _encoded(i) for i in range(12)})
    os.mkfifo(tmp_path / "pipe")
    (folder / "linked.png").symlink_to(tmp_path / "pipe")
    with pytest.raises(InputError, match=r"linked\.png: expected a .*, got a pipe or a device"):
        bype.load(folder)


def test_all_bad_files_are_named_at_once(mixed):
    folder, bad = mixed
    with pytest.raises(InputError) as error:
        bype.load(folder)
    text = str(error.value)
    assert f"{len(bad)} of {12 + len(bad)} image files cannot be used" in text
    assert "--skip-bad leaves bad files out" in text
    assert all(f"{name} (" in text for name in bad), text
    assert "\n" not in text
    for i in range(30):
        (folder / f"more-{i:02}.jpg").write_bytes(b"text")
    with pytest.raises(InputError, match=f"and {30 + len(bad) - 20} more; --skip-bad") as error:
        bype.load(folder)
    assert str(error.value).count(".jpg (") + str(error.value).count(".png (") <= 20


def test_strays_next_to_classes_are_named_at_once(tmp_path):
    folder = _folder(tmp_path / "a", CLASSES | {"a.png": _encoded(), "b.png": _encoded()})
    with pytest.raises(InputError, match=r"2 of 22 image files cannot be used: a\.png \(.*\), b\.png \("):
        bype.load(folder)


# A PNG with much text


def _chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


LARGE = b" " * 3 * 2**20
TEXTS = {
    "compressed text": _chunk(b"zTXt", b"Comment\0\0" + zlib.compress(LARGE)),
    "international text": _chunk(b"iTXt", b"Comment\0\1\0\0\0" + zlib.compress(LARGE)),
    "colour profile": _chunk(b"iCCP", b"Profile\0\0" + zlib.compress(LARGE)),
    "plain text": _chunk(b"tEXt", b"Comment\0" + LARGE) * 22,
}


@pytest.mark.parametrize("place", ["before the pixels", "after the pixels"])
@pytest.mark.parametrize("what", TEXTS)
def test_a_png_is_read_whatever_texts_it_has(tmp_path, what, place):
    exif = Image.Exif()
    exif[0x0112] = 3
    plain = {f"{i:02}.png": _encoded(i, exif=exif) for i in range(12)}
    at = 33 if place == "before the pixels" else -12
    longer = {name: content[:at] + TEXTS[what] + content[at:] for name, content in plain.items()}
    expected = bype.load(_zip(tmp_path / "a.zip", plain)).checksum()
    with zipfile.ZipFile(tmp_path / "b.zip", "w", zipfile.ZIP_STORED) as packed:
        for i, (name, content) in enumerate(longer.items()):
            packed.writestr(name, content if i < 1 else plain[name])
    assert bype.load(tmp_path / "b.zip").checksum() == expected


def test_a_bad_png_with_much_text_is_still_bad(tmp_path):
    content = _encoded(0, array=_pixels(0, 90, 90))
    cut = (content[:33] + TEXTS["compressed text"] + content[33:])[:-2000]
    path = _folder(tmp_path, {f"{i:02}.png": _encoded(i) for i in range(12)} | {"cut.png": cut})
    with pytest.raises(InputError, match=r"cut\.png: expected a PNG"):
        bype.load(path)


# Leaving bad files out


def test_bad_files_are_left_out_when_asked(mixed, caplog, cli_json, run_cli):
    folder, bad = mixed
    found = bype.load(folder, skip_bad=True)
    assert (found.skipped, _count(found)) == (len(bad), 12)
    assert f"left out {len(bad)} of {12 + len(bad)} image files: " in caplog.text
    assert all(name in caplog.text for name in bad)
    for name in bad:
        (folder / name).unlink()
    clean = bype.load(folder)
    assert (found.checksum(), found.files, clean.skipped) == (clean.checksum(), clean.files, 0)


def test_the_number_of_bad_files_is_recorded(mixed, cli_json, run_cli, tmp_path):
    folder, bad = mixed
    code, _, err = run_cli("data", "check", folder)
    assert (code, "--skip-bad leaves bad files out" in err) == (2, True), err
    row = cli_json("data", "check", folder, "--skip-bad")["sets"][0]
    assert (row["skipped"], row["train"] + row["validation"] + row["test"]) == (len(bad), 12)
    small = ["--components", 5, "--latent-dim", 3, "--hidden-dim", 8, "--warmup", 1, "--epochs", 1, "--device", "cpu"]
    cli_json("train", folder, "--skip-bad", *small, "--out", tmp_path / "run")
    assert bype.Run(tmp_path / "run").config.skip_bad
    cli_json("evaluate", tmp_path / "run", "--samples", 2)
    assert cli_json("train", folder, "--out", tmp_path / "run", "--resume")["finished_already"]
    code, _, err = run_cli("train", "digits", "--skip-bad", "--out", tmp_path / "x")
    assert (code, "--skip-bad: expected a folder or zip of images, got digits" in err) == (2, True), err


def test_classes_and_labels_follow_when_files_are_left_out(tmp_path):
    strays = {"pets/stray.png": _encoded(), "pets/cats/bad.png": b"x", "pets/dogs/bad.png": b"", "pets/x.tif": b"II*\0"}
    found = bype.load(_zip(tmp_path / "a.zip", {f"pets/{n}": c for n, c in CLASSES.items()} | strays), skip_bad=True)
    assert (found.skipped, found.classes) == (4, ("cats", "dogs"))
    assert found.checksum() == bype.load(_zip(tmp_path / "b.zip", CLASSES)).checksum()
    many = {f"{i}.png": _encoded(i) for i in range(20)} | {"one/a.png": _encoded()}
    with pytest.raises(InputError, match="expected few images next to class subfolders to leave out, got 20 of 21"):
        bype.load(_zip(tmp_path / "c.zip", many), skip_bad=True)


def test_a_bad_image_in_colour_leaves_the_others_grey(tmp_path):
    grey = {f"{i:02}.png": _encoded(array=_pixels(i)) for i in range(12)}
    cut = {"cut.png": _encoded(0, array=_pixels(0, 90, 90, 3))[:2000]}
    found = bype.load(_folder(tmp_path / "a", grey | cut), skip_bad=True)
    assert found.checksum() == bype.load(_folder(tmp_path / "b", grey)).checksum()
    with pytest.raises(InputError, match="12 of 12 image files cannot be used"):
        bype.load(_folder(tmp_path / "c", dict.fromkeys(grey, b"x")), skip_bad=True)
    first = {"0.png": cut["cut.png"]}
    assert bype.load(_folder(tmp_path / "d", grey | first), skip_bad=True).checksum() == found.checksum()
    with pytest.raises(InputError, match=r"got 6x9 in 00\.png and 90x90 in whole\.png"):
        bype.load(_folder(tmp_path / "a", {"whole.png": _encoded(0, array=_pixels(0, 90, 90))}), skip_bad=True)


def test_bad_faces_are_left_out_too(tmp_path):
    faces = {f"celeba/{i:02}.png": _encoded(array=_pixels(i, 218, 178, 3)) for i in range(16)}
    _folder(tmp_path, faces | {"celeba/small.png": _encoded(), "celeba/x.png": b"x"})
    with pytest.raises(InputError, match="2 of 18 image files cannot be used"):
        bype.load("celeba", tmp_path)
    found = bype.load("celeba", tmp_path, skip_bad=True)
    assert (found.skipped, _count(found)) == (2, 16)


def test_fifteen_faces_are_enough_and_fourteen_are_not(tmp_path):
    faces = {f"celeba/{i:02}.png": _encoded(array=_pixels(i, 218, 178, 3)) for i in range(15)}
    found = bype.load("celeba", _folder(tmp_path / "a", faces))
    assert (_count(found), found.shape) == (15, (3, 64, 64))
    faces.popitem()
    with pytest.raises(InputError, match="expected at least 15 faces, got 14"):
        bype.load("celeba", _folder(tmp_path / "b", faces))
    with pytest.raises(InputError, match="expected at least 15 faces, got 14 and 1 bad files"):
        bype.load("celeba", _folder(tmp_path / "c", faces | {"celeba/x.png": b"x"}), skip_bad=True)


# Sixteen bits


def test_grey_of_sixteen_bits_is_read_as_floats(tmp_path):
    deep = np.random.default_rng(0).integers(0, 65536, (12, 6, 9)).astype(np.uint16)
    files = {f"{i:02}.png": _encoded(array=image) for i, image in enumerate(deep)}
    found = bype.load(_folder(tmp_path / "a", files))
    assert (found.levels, found.shape) == (None, (1, 6, 9))
    assert found.checksum() == bype.from_arrays((deep / 65535).astype(np.float32)).checksum()
    assert bype.load(tmp_path / "a", resize="3x4").shape == (1, 3, 4)
    alone = data.read_like(tmp_path / "a" / "03.png", found)
    assert torch.equal(alone[0], torch.from_numpy((deep[3] / 65535).astype(np.float32)))
    wide = {f"{i:02}.pgm": b"P5 9 6 65535\n" + image.astype(">u2").tobytes() for i, image in enumerate(deep)}
    assert bype.load(_folder(tmp_path / "b", wide)).checksum() == found.checksum()
    eight = _pixels(0)
    beside = bype.load(_folder(tmp_path / "c", files | {"99.png": _encoded(array=eight)}))
    whole = np.concatenate([deep / 65535, eight[None] / 255]).astype(np.float32)
    assert beside.checksum() == bype.from_arrays(whole).checksum()
    coloured = bype.load(_folder(tmp_path / "d", files | {"99.png": _encoded()}))
    assert (coloured.shape, coloured.levels) == ((3, 6, 9), None)
    clear = {f"{i:02}.png": _encoded(array=image, transparency=int(image[0, 0])) for i, image in enumerate(deep)}
    assert all(
        x[0, 0, 0] == 1 for part in bype.load(_folder(tmp_path / "e", clear)).splits.values() for x in part.pixels
    )


def test_a_much_larger_jpeg_is_decoded_at_a_fraction_of_its_size(tmp_path, monkeypatch):
    sizes, pixels = [], decoding.image_pixels

    def spied(image, *given, **options):
        sizes.append(image.size)
        return pixels(image, *given, **options)

    monkeypatch.setattr(decoding, "image_pixels", spied)
    grey = np.repeat(np.linspace(0, 255, 640).astype(np.uint8)[None], 640, 0)
    _folder(tmp_path, {f"{i}.jpg": _encoded(array=grey, format="JPEG", quality=95) for i in range(10)})
    made = bype.load(tmp_path, resize=(20, 20))
    assert set(sizes) == {(80, 80)}, "an eighth; not below twice the size that is asked for"
    expected = np.linspace(0, 255, 640).reshape(20, 32).mean(1)
    assert np.abs(made.train.pixels[0, 0].double().numpy() - expected).max() < 3


def test_grey_of_sixteen_bits_is_rounded_to_eight_beside_images_of_eight():
    sixteen = np.array([[0, 65535, 32768, 128, 129]], np.uint16)
    content = _encoded(array=sixteen)
    values = decoding.decode_one(lambda: io.BytesIO(content), "a.png", True, None, None)
    assert values.dtype == np.uint8
    assert values.tolist() == [[[0, 255, 128, 0, 1]]]
