import gzip
import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings

import bype
import checkout
import processes
from bype import cli

settings.register_profile("bype", deadline=None, derandomize=True, database=None)
settings.load_profile("bype")
torch.set_num_threads(1)  # the models here are too small to share


@pytest.fixture(scope="session")
def root():
    """The root of the checkout; skips where the tests stand alone."""
    return checkout.require()


@pytest.fixture(scope="session")
def committed_ledger(root):
    """The ledger of the repository."""
    return root / "results" / "ledger"


@pytest.fixture(scope="session")
def tiny():
    """Sixty grey images of 4x5: blobs whose place depends on the label."""
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    images = rng.integers(0, 60, (60, 4, 5))
    for image, label in zip(images, labels, strict=True):
        image[label] += 150
    return bype.from_arrays(images.astype(np.uint8), labels, name="tiny")


@pytest.fixture
def run_cli(monkeypatch, capsys):
    """Calls the command line in this process; returns its exit code, stdout and stderr."""

    def call(*args):
        monkeypatch.setattr(sys, "argv", ["bype", *map(str, args)])
        try:
            cli.main()
            code = 0
        except SystemExit as e:
            code = e.code or 0
        out, err = capsys.readouterr()
        return code, out, err

    return call


@pytest.fixture
def cli_json(run_cli):
    """The same with --json, for a command that must succeed."""

    def call(*args):
        code, out, err = run_cli(*args, "--json")
        assert code == 0, err
        return json.loads(out)

    return call


@pytest.fixture(scope="session")
def fork():
    """Makes processes of their own, each forked from one that has imported everything."""
    return processes.context()


@pytest.fixture
def start(fork, tmp_path):
    """Starts a function in a separate process, which prints into `log`; all are gone when the test ends."""
    running = []

    def call(function, *args, **options):
        process = fork.Process(target=processes.run, args=(tmp_path / "log", function, *args), kwargs=options)
        process.start()
        running.append(process)
        return process

    yield call
    for process in running:
        process.kill()
        process.join()


@pytest.fixture(scope="session")
def published():
    """The folder of the published data sets."""
    root = os.environ.get("BYPE_DATA")
    if not root:
        pytest.skip("BYPE_DATA is not set: no published data sets to read")
    return Path(root)


@pytest.fixture
def write_idx():
    """Writes an IDX file of uint8, gzipped if its name ends in .gz."""

    def write(path, array):
        header = b"\x00\x00\x08" + bytes([array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
        content = header + array.astype(np.uint8).tobytes()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(content, 1) if path.suffix == ".gz" else content)

    return write


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A short run on the digits for each prior: their folders by the prior's name."""
    from bype.core.config import Config
    from bype.core.names import PRIORS
    from bype.runs.fitting import fit

    folder = tmp_path_factory.mktemp("runs")
    for prior in PRIORS:
        config = Config(
            "digits", prior=prior, n_components=20, exemplars=30, latent_dim=6, hidden_dim=24,
            epochs=3, warmup=2, coreset="none", device="cpu",
        )  # fmt: skip
        fit(config, folder / prior)
    return {prior: folder / prior for prior in PRIORS}


@pytest.fixture(scope="module")
def copies(trained, tmp_path_factory):
    """Copies of these runs, for what leaves scores in the folders."""
    folder = tmp_path_factory.mktemp("copies")
    return {prior: shutil.copytree(path, folder / prior) for prior, path in trained.items()}


@pytest.fixture(scope="module")
def browser():
    """Chromium, headless."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    path = os.environ.get("BYPE_BROWSER") or next((p for name in names if (p := shutil.which(name))), None)
    if path is None:
        pytest.skip("no browser: install chromium, or set BYPE_BROWSER to its path")
    with sync_api.sync_playwright() as p:
        running = p.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield running
        running.close()
