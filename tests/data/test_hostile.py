"""Files that are damaged, or made to do harm: each is refused in one line.

How soon, and with how little memory, is what `benchmarks/hostile.py` measures.
"""

import ast
import gzip
import io
import os
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

# What these are refused for is seen before they are unpacked, or read further than a good file goes.
EARLY = {
    "npz of zeros that unpacks to 100 MB": "got a zip bomb: ",
    "zip bomb": "got a zip bomb: ",
    "zip of a huge image": "got Image size (200000000 pixels) exceeds limit",
    "folder with a 200-megapixel PNG": "got Image size (200000000 pixels) exceeds limit",
    "npy declares 10^18 rows": "for uint8 (1000000000000000000, 4, 4), got 448",
    "npz that declares more": "expected 160000000000 bytes for uint8 (10000000000, 4, 4), got 320",
    "idx gzip bomb": "expected 47040016 bytes, got more",
    "tar member too long": "expected 30730000 bytes, got 100000000",
    "tar bomb before its members": "expected at most 268435456 bytes unpacked",
    "tar header of 100 MB": "expected parts of at most 33554432 bytes",
}


#: Messages of what has no expected value.
STATES = ("cannot be read: ", "cyclic link to a parent folder", "broken symbolic link", "data_batch_1.bin is missing")


def test_hostile_files_are_refused_in_one_line_soon_and_cheaply(run_cli, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("BYPE_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own").mkdir()
    cases = {what: [path] for what, path in own_files(tmp_path / "own").items()}
    cases |= {
        what: [name, "--data-dir", folder] for what, (name, folder) in published_files(tmp_path / "known").items()
    }
    assert len(cases) == 76
    before = set(tmp_path.iterdir())
    run_cli("train", "missing.npy")
    for what, args in cases.items():
        code, out, err = run_cli("train", *args)
        assert code == 2, (what, err)
        assert out == "", what
        assert err.count("\n") == 1, (what, err)
        assert err.startswith("bype: "), (what, err)
        assert ("expected" in err and "got" in err) or any(state in err for state in STATES), (what, err)
        assert EARLY.get(what, "") in err, (what, err)
    assert cases.keys() >= EARLY.keys()
    assert set(tmp_path.iterdir()) == before, "a refused file leaves nothing behind"
    assert not Path("/tmp/bype-unpickled").exists()


# No unpickler in reach

SOURCE = Path(bype.__file__).parent
UNPICKLERS = {"pickle", "_pickle", "cPickle", "dill", "joblib", "cloudpickle", "shelve", "marshal", "copyreg"}
LOADERS = {"torch": {"load", "save", "hub", "package", "jit"}, "numpy": {"load"}, "np": {"load"}}


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
