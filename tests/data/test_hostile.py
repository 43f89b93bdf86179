"""Files that are damaged, or made to do harm: each is refused in one line.

How soon, and with how little memory, is what `benchmarks/hostile.py` measures.
"""

import ast
import gzip
import io
import os
import re
import struct
import sys
import tarfile
import traceback
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

import bype
import bype.core.errors
from hostile_files import Spy, own_files, pixels, png, published_files, saved, write_zip

_IMAGE = "expected a PNG, JPEG, WebP, BMP or PNM image, got "
_DAMAGED_ZIP = "expected a zip, got a damaged file (File is not a zip file)"

#: What each file is refused for, which is a part of its line.
REASONS = {
    "npy truncated": "expected 448 bytes for uint8 (20, 4, 4), got 447",
    "npy longer": "expected 448 bytes for uint8 (20, 4, 4), got 449",
    "npy empty": "expected a .npy array, got EOF",
    "npy magic": "expected a .npy array, got the magic string is not correct",
    "npy version": "expected a .npy array, got format version (9, 0)",
    "npy declares 10^18 rows": "for uint8 (1000000000000000000, 4, 4), got 448",
    "npy declares more than 64 bits": "for uint8 (1099511627776, 1099511627776, 1099511627776), got 448",
    "npy negative shape": "expected a .npy array, got the shape (-20, 4, 4)",
    "npy header of 4 GB": "expected a .npy array, got a header of 4294967295 bytes",
    "npy header nested deep": "expected a .npy array, got Cannot parse header: ",
    "npy header that computes": "expected a .npy array, got malformed node or string",
    "npy of objects": "expected uint8 or floats, got Python objects, which are never unpickled",
    "npy of records": "expected uint8 or floats, got [('a', 'u1'), ('b', '<f4')]",
    "npy of text": "expected uint8 or floats, got <U4",
    "npy of integers": "expected uint8 or floats, got int64",
    "npy of complex numbers": "expected uint8 or floats, got complex64",
    "npy with NaN": "expected floats in [0, 1], got values from nan to nan, first in image 7",
    "npy with inf": "expected floats in [0, 1], got values from 0 to inf, first in image 7",
    "npy with minus inf": "expected floats in [0, 1], got values from -inf to 1, first in image 7",
    "npy with 1e300": "expected floats in [0, 1], got values from 0 to inf, first in image 7",
    "npy with minus": "expected floats in [0, 1], got values from -0.01 to 1, first in image 7",
    "npy of zero rows": "(n, h, w) or (n, c, h, w), got (0, 4, 4)",
    "npy of one row": "expected at least 10 images (n, d), (n, h, w) or (n, c, h, w), got (1, 4, 4)",
    "npy of no columns": "(n, h, w) or (n, c, h, w), got (20, 0)",
    "npy scalar": "(n, h, w) or (n, c, h, w), got ()",
    "npy of five dimensions": "(n, h, w) or (n, c, h, w), got (20, 2, 2, 2, 2)",
    "npy constant": "expected images that differ, got the value 9 in every pixel",
    "npy with a hole and too short": "expected 20000000128 bytes for uint8 (20, 1000000000), got 19000000128",
    "npz of zeros that unpacks to 100 MB": "got a zip bomb: ",
    "npz that declares more": "expected 160000000000 bytes for uint8 (10000000000, 4, 4), got 320",
    "npz labels of another length": "expected 20 labels, whole numbers or text, got int64 (19,)",
    "npz labels of floats": "expected 20 labels, whole numbers or text, got 0.5 in row 0",
    "npz labels of objects": "labels: expected whole numbers or text, got Python objects, which are never unpickled",
    "npz labels enormous": "expected labels from 0 to 65535, got values from 1000000000000 to 1000000000019",
    "npz empty": "expected an array 'images', or one array and optionally 'labels', got none",
    "npz of no array": "images: expected a .npy array, got EOF",
    "npz truncated": _DAMAGED_ZIP,
    "npz that is text": _DAMAGED_ZIP,
    "npz with a wrong sum": "images: expected a .npy array, got Bad CRC-32 for file 'images.npy'",
    "npz with damaged data": "while decompressing data",
    "zip that leaves its folder": "expected names inside the archive, got '../../0.png'",
    "zip of absolute names": "expected names inside the archive, got '/tmp/0.png'",
    "zip with a member without a name": "expected names inside the archive, got ''",
    "zip of no images": "expected PNG, JPEG, WebP, BMP or PNM images, got none",
    "zip bomb": "got a zip bomb: ",
    "zip in a zip": "expected PNG, JPEG, WebP, BMP or PNM images, got none",
    "zip of a huge image": _IMAGE + "Image size (200000000 pixels) exceeds limit",
    "zip of a large image": _IMAGE + "Image size (100000000 pixels) exceeds limit of 89478485 pixels",
    "zip packed otherwise": "expected members stored or deflated, got another compression of '0.png'",
    "zip that is text": _DAMAGED_ZIP,
    "zip with one name twice": "expected each name once, got '7.png' twice",
    "zip with a password": "expected an archive without a password, got '0.png' encrypted",
    "folder empty": "expected PNG, JPEG, WebP, BMP or PNM images, got none",
    "folder of mixed sizes": "expected images of one size, got 4x4 in 00.png and 5x4 in 99.png; use --resize HxW",
    "folder with a 200-megapixel PNG": "00.png: " + _IMAGE + "Image size (200000000 pixels) exceeds limit",
    "folder with a PNG cut off": "07.png: " + _IMAGE + "image file is truncated",
    "folder with an image of nothing": "07.png: " + _IMAGE + "an empty file",
    "folder with text called PNG": "07.png: " + _IMAGE + "another file",
    "folder with a GIF": "07.gif: " + _IMAGE + "a GIF file",
    "folder with a script called JPEG": "07.jpg: " + _IMAGE + "another file",
    "folder of one image": "expected at least 10 images (n, d), (n, h, w) or (n, c, h, w), got (1, 1, 4, 4)",
    "folder of splits": "expected class subfolders, got the splits test, train; give one of them",
    "folder nested deep": "expected folders at most 16 deep, got deeper ones",
    "folder in a circle": "again: cyclic link to a parent folder",
    "folder with a link to itself": "loop.png: cannot be read: ",
    "folder with a link to nothing": "none.png: broken symbolic link to none-such",
    "folder with a pipe": "pipe.png: " + _IMAGE + "a pipe or a device",
    "pipe": "expected a file, got a folder or a device",
    "link to itself": "broken symbolic link",
    "device": "expected a file, got a folder or a device",
    "idx gzip bomb": "expected 47040016 bytes, got more",
    "idx header of another type": "expected an IDX file of uint8 (60000, 28, 28), got the header 00000d03",
    "idx that declares 2^32 rows": "expected an IDX file of uint8 (60000, 28, 28), got the header 00000803ffffffff",
    "idx cut off": "expected 47040016 bytes, got a damaged file (Compressed file ended before the end-of-stream",
    "idx that is text": "expected 47040016 bytes, got a damaged file (Not a gzipped file",
    "tar without its members": "the member cifar-10-batches-bin/data_batch_1.bin is missing",
    "tar member too long": "data_batch_1.bin: expected 30730000 bytes, got 100000000",
    "tar bomb before its members": "expected at most 268435456 bytes unpacked",
    "tar member that is a link": "the member cifar-10-batches-bin/data_batch_1.bin is missing",
    "tar header of 100 MB": "expected parts of at most 33554432 bytes",
    "cifar row of another length": "data_batch_1.bin: expected 30730000 bytes, got 3072",
}


def test_hostile_files_are_refused_in_one_line_soon_and_cheaply(run_cli, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("BYPE_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own").mkdir()
    cases = {what: [path] for what, path in own_files(tmp_path / "own").items()}
    cases |= {
        what: [name, "--data-dir", folder] for what, (name, folder) in published_files(tmp_path / "known").items()
    }
    assert cases.keys() == REASONS.keys()
    before = set(tmp_path.iterdir())
    run_cli("train", "missing.npy")
    for what, args in cases.items():
        code, out, err = run_cli("train", *args)
        assert code == 2, (what, err)
        assert out == "", what
        assert err.count("\n") == 1, (what, err)
        assert err.startswith("bype: "), (what, err)
        assert REASONS[what] in err, (what, err)
    assert set(tmp_path.iterdir()) == before, "a refused file leaves nothing behind"
    assert not Path("/tmp/bype-unpickled").exists()


def test_limits_hold_whatever_the_files_and_libraries_allow(tmp_path, monkeypatch):
    """Guards that another one hides, or that would need a file too large for a test."""
    write_zip(tmp_path / "a.zip", {f"{i}.png": png() for i in range(20)})
    (tmp_path / "set").mkdir()
    for i in range(20):
        (tmp_path / "set" / f"{i}.png").write_bytes(png())
    (tmp_path / "long.npy").write_bytes(b"\x93NUMPY\x02\x00" + struct.pack("<I", 10_001) + b" " * 20_000)
    np.savez(tmp_path / "a.npz", images=pixels())

    def refused(name, message):
        with pytest.raises(bype.InputError, match=re.escape(message)):
            bype.load(tmp_path / name)

    refused("long.npy", "expected a .npy array, got a header of 10001 bytes")
    with monkeypatch.context() as limits:
        limits.setattr("bype.data.image_folders.MAX_FILE", 50)
        for name in ("a.zip", "set"):
            refused(name, "expected an image file of at most 50 bytes, got ")
    with monkeypatch.context() as limits:
        limits.setattr("PIL.Image.MAX_IMAGE_PIXELS", None)  # as some programs set it
        limits.setattr("bype.data.decoding.MAX_PIXELS", 15)
        refused("set", "expected at most 15 pixels, got 4x4")
    with monkeypatch.context() as limits:
        limits.setattr("os.sysconf", lambda name: 20)
        for name in ("a.zip", "a.npz"):
            refused(name, "half of this machine's memory, got 0.0 GB")


# No unpickler in reach

SOURCE = Path(bype.__file__).parent
UNPICKLERS = {"pickle", "_pickle", "cPickle", "dill", "joblib", "cloudpickle", "shelve", "marshal", "copyreg"}
LOADERS = {"torch": {"load", "save", "hub", "package", "jit"}, "numpy": {"load"}, "np": {"load"}}
#: Published weights of Inception are a file of torch: read as tensors alone, and only here.
WEIGHTS_OF_OTHERS = "evaluation/inception.py"


def _imports(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_no_module_reaches_for_an_unpickler():
    trees = {path: ast.parse(path.read_text()) for path in SOURCE.rglob("*.py")}
    assert len(trees) > 20
    others = trees.pop(SOURCE / WEIGHTS_OF_OTHERS)
    loads = [n for n in ast.walk(others) if isinstance(n, ast.Call) and ast.unparse(n.func) == "torch.load"]
    assert [ast.unparse(k) for n in loads for k in n.keywords] == ["map_location='cpu'", "weights_only=True"]
    for path, tree in trees.items():
        for name in _imports(tree):
            assert name.split(".")[0] not in UNPICKLERS, (path, name)
            assert name not in {"torch.load", "torch.save", "numpy.load", "numpy.lib.npyio.load"}, (path, name)
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                assert node.attr not in LOADERS.get(node.value.id, ()), (path, node.lineno)
            if isinstance(node, ast.keyword):
                assert node.arg not in ("allow_pickle", "weights_only"), (path, node.value.lineno)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in ("eval", "exec", "__import__", "compile"), (path, node.lineno)


def test_nothing_is_unpickled_while_every_reader_runs(tmp_path, start):
    """The import graph at work: every unpickler that Python has is replaced by one that reports whoever calls it."""
    np.savez(tmp_path / "a.npz", images=pixels(), labels=np.arange(20) % 2)
    np.save(tmp_path / "a.npy", pixels())
    np.save(tmp_path / "objects.npy", np.array([Spy()] * 20), allow_pickle=True)
    write_zip(tmp_path / "a.zip", {f"{i}.png": png() for i in range(20)})
    process = start(_under_alarm, tmp_path)
    process.join(300)
    said = (tmp_path / "log").read_text()
    assert "CODES [0, 0, 2, 0, 0, 0, 0, 0] CALLED 0" in said, said


def _under_alarm(folder):
    """In a process of its own, whose every module that defines or uses an unpickler is imported already."""
    import _pickle
    import pickle

    import safetensors.torch  # noqa: F401
    import sklearn.datasets  # noqa: F401

    called = []

    def spy(*args, **kwargs):
        called.append("".join(traceback.format_stack(limit=4)))
        raise RuntimeError("an unpickler was called")

    class Reporting(pickle._Unpickler):
        load = spy

    for module in [m for m in list(sys.modules.values()) if m is not None]:
        for name in ("load", "loads", "Unpickler", "_Unpickler", "_load", "_loads"):
            owner = getattr(getattr(module, name, None), "__module__", "") or ""
            if owner in ("pickle", "_pickle", "torch.serialization"):
                setattr(module, name, Reporting if "Unpickler" in name else spy)
    assert pickle.loads is _pickle.loads is torch.load is spy
    for name in [name for name in sys.modules if name.split(".")[0] == "bype"]:  # what it imports is an alarm too
        del sys.modules[name]
    from bype import cli

    def run(*args):
        sys.argv = ["bype", *args]
        try:
            cli.main()
        except SystemExit as e:
            return e.code or 0
        return 0

    os.chdir(folder)
    small = ["--components", "3", "--latent-dim", "2", "--hidden-dim", "4", "--epochs", "1", "--device", "cpu"]
    sets = ("a.npz", "a.npy", "objects.npy", "a.zip", "digits")
    codes = [run("train", s, *small, "--out", f"run-{i}") for i, s in enumerate(sets)]
    codes.append(run("train", "digits", "--out", "run-4", "--resume"))
    codes.append(run("evaluate", "run-4", "--samples", "2", "--items", "5"))
    codes.append(run("sample", "run-4", "--out", "x.png"))
    print("CODES", codes, "CALLED", len(called), *called)


# Mutations: 10,000 of each format in the long form

SHORT, LONG = 150, 10_000


def _mutated(content, rng):
    """One to four changes: a byte, a bit, a stretch cut out, doubled, zeroed, or the end cut off; early bytes more."""
    content = bytearray(content)
    for _ in range(rng.integers(1, 5)):
        n = len(content)
        if not n:
            break
        at = int(n * rng.random() ** rng.choice([1, 4, 16]))
        length = int(rng.choice([1, 2, 4, 8, 64]))
        kind = rng.integers(0, 8)
        if kind <= 2:
            content[at] = rng.integers(0, 256)
        elif kind == 3:
            content[at] ^= 1 << int(rng.integers(0, 8))
        elif kind == 4:
            del content[at : at + length]
        elif kind == 5:
            content[at:at] = content[at : at + length]
        elif kind == 6:
            content[at : at + length] = bytes([int(rng.choice([0, 255]))]) * min(length, n - at)
        else:
            del content[at:]
    return bytes(content)


def _read_own(path):
    found = bype.load(path)
    pixels = [p.scaled() for p in found.splits.values()]
    assert all(p.min() >= 0 and p.max() <= 1 for p in pixels)


def _formats(folder, run):
    """The formats: a file's name, its content, and how it is read."""
    from bype.core.tensors import read_tensors
    from bype.data.published import read_cifar, read_idx
    from bype.runs.run import Run

    def config(path):
        Run.open(path.parent)

    def checkpoint(path):
        read_tensors(path)

    def model(path):
        model.data = getattr(model, "data", None) or Run(run).dataset.load()
        Run(path.parent).checkpoints.load_model(model.data)

    npz = io.BytesIO()
    np.savez(npz, images=pixels(12, 3, 3), labels=np.arange(12))
    packed = io.BytesIO()
    np.savez_compressed(packed, images=pixels(12, 3, 3), labels=np.arange(12))
    idx = b"\x00\x00\x08\x03" + struct.pack(">III", 6, 4, 4) + pixels(6).tobytes()
    rows = pixels(4, 3073).tobytes()
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w:gz") as t:
        member = tarfile.TarInfo("cifar-10-batches-bin/x.bin")
        member.size = len(rows)
        t.addfile(member, io.BytesIO(rows))
    best = (run / "best.safetensors").read_bytes()
    record = (run / "config.json").read_bytes()
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as z:
        for i, image in enumerate(pixels(12, 5, 5)):
            z.writestr(f"{i}.png", png(image))
    return {
        "idx": ("a", idx, lambda p: read_idx(p.parent, "a", (6, 4, 4))),
        "idx.gz": ("a.gz", gzip.compress(idx), lambda p: read_idx(p.parent, "a", (6, 4, 4))),
        "cifar": ("cifar-10-batches-bin/x.bin", rows, lambda p: read_cifar(p.parents[1], ["x.bin"], 4)),
        "cifar.tar.gz": ("cifar-10-binary.tar.gz", tar.getvalue(), lambda p: read_cifar(p.parent, ["x.bin"], 4)),
        "npy": ("a.npy", saved(pixels(12, 3, 3)), _read_own),
        "npy of floats": ("a.npy", saved(pixels(12, 3, 3) / 255), _read_own),
        "npz": ("a.npz", npz.getvalue(), _read_own),
        "npz packed": ("a.npz", packed.getvalue(), _read_own),
        "zip": ("a.zip", zipped.getvalue(), _read_own),
        "safetensors": ("best.safetensors", best, checkpoint),
        "model": ("best.safetensors", best, model),
        "config": ("config.json", record, config),
    }


FORMATS = (
    "idx", "idx.gz", "cifar", "cifar.tar.gz", "npy", "npy of floats", "npz", "npz packed", "zip", "safetensors",
    "model", "config",
)  # fmt: skip


def _mutate(tmp_path, trained, name, count):
    place, content, read = _formats(tmp_path, trained["bype"])[name]
    path = tmp_path / place
    path.parent.mkdir(exist_ok=True)
    for other in ("config.json", "metrics.jsonl"):
        (tmp_path / other).write_bytes((trained["bype"] / other).read_bytes())
    path.write_bytes(content)
    read(path)  # as it is, it is right
    rng, refused = np.random.default_rng(zlib.crc32(name.encode())), 0
    for i in range(count):
        mutant = _mutated(content, rng)
        path.write_bytes(mutant)
        try:
            read(path)
        except bype.InputError:
            refused += 1
        except BaseException as e:
            (tmp_path.parent / f"mutant-{name.replace(' ', '-')}-{i}").write_bytes(mutant)
            raise AssertionError(f"{name}, mutant {i}: {type(e).__name__}: {e}") from e
    assert refused > count / 10, "the mutations must do harm"
    return refused


@pytest.mark.parametrize("name", FORMATS)
def test_a_mutated_file_is_refused_or_read(tmp_path, trained, name):
    _mutate(tmp_path, trained, name, SHORT)


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
def test_ten_thousand_mutations_of_each_format(tmp_path, trained, name):
    print(f"\n{name}: {_mutate(tmp_path, trained, name, LONG)} of {LONG} refused, the others read")


def test_a_flipped_bit_in_a_checkpoint_is_noticed(tmp_path, trained):
    from bype.core.tensors import read_tensors

    content = (trained["bype"] / "best.safetensors").read_bytes()
    path = tmp_path / "best.safetensors"
    for at in np.random.default_rng(0).integers(8, len(content), 200).tolist():
        flipped = bytearray(content)
        flipped[at] ^= 1 << (at % 8)
        path.write_bytes(flipped)
        with pytest.raises(bype.InputError, match="damaged"):
            read_tensors(path)


def test_a_system_that_does_not_state_its_memory_reads_archives(tmp_path, monkeypatch):
    np.savez(tmp_path / "a.npz", images=np.random.default_rng(0).integers(0, 256, (12, 4, 4), dtype=np.uint8))
    monkeypatch.delattr(os, "sysconf")
    assert bype.load(tmp_path / "a.npz").shape == (1, 4, 4)
