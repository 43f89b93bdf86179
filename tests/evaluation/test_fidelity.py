"""Kernel distance, precision and recall beside torch-fidelity's own functions, and the loading of its weights."""

import hashlib
import importlib.util
import pickle
import sys
import types
import urllib.error
from collections import OrderedDict

import pytest
import torch

import bype
from bype.core.errors import InputError
from bype.evaluation.inception import inception_features, read_weights, weights_file
from bype.evaluation.quality import kernel_distance, precision_recall, sample_quality


@pytest.fixture
def torchvision(monkeypatch):
    """torchvision, or a stand-in: torch-fidelity imports it, but what is used here does not use it."""
    if importlib.util.find_spec("torchvision") is not None:
        return
    parts = {
        "torchvision": (),
        "torchvision.datasets": ("CIFAR10", "STL10", "CIFAR100"),
        "torchvision.transforms": (),
        "torchvision.transforms.functional": (),
        "torchvision.models": (),
    }
    for name, classes in parts.items():
        module = types.ModuleType(name)
        for one in classes:
            setattr(module, one, type(one, (), {}))
        monkeypatch.setitem(sys.modules, name, module)
        parent, _, own = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], own, module)


@pytest.fixture
def fidelity(torchvision, monkeypatch):
    pytest.importorskip("tqdm")
    if importlib.util.find_spec("torch_fidelity") is None:
        pytest.skip("torch-fidelity is not installed")
    before = set(sys.modules)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *args, **options: None)
        import torch_fidelity.metric_kid as kid
        import torch_fidelity.metric_prc as prc
    yield types.SimpleNamespace(kid=kid, prc=prc)
    for name in set(sys.modules) - before:
        if name.partition(".")[0] == "torch_fidelity":
            del sys.modules[name]


def features(seed, n, d, dtype):
    x = torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (x * torch.linspace(0.3, 2, d, dtype=torch.float64) + 0.1 * seed).to(dtype)


@pytest.mark.parametrize(("n", "m", "d"), [(300, 400, 8), (150, 120, 64), (200, 200, 2)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_kernel_distance_is_torch_fidelitys(fidelity, n, m, d, dtype):
    samples, real = features(0, n, d, dtype), features(1, m, d, dtype)
    theirs = fidelity.kid.kid_features_to_metric(
        samples, real, kid_subsets=20, kid_subset_size=100, rng_seed=2020, verbose=False
    )
    ours = kernel_distance(samples, real, subsets=20, subset_size=100)
    mean, sd = theirs["kernel_inception_distance_mean"], theirs["kernel_inception_distance_std"]
    close = 1e-12 if dtype == torch.float64 else 1e-5  # theirs adds up in the dtype of the features
    assert ours == pytest.approx((mean, sd), rel=close, abs=close)


@pytest.mark.parametrize(("n", "m", "d", "k"), [(300, 400, 8, 3), (150, 120, 64, 5), (200, 200, 2, 1)])
@pytest.mark.parametrize("save_cpu_ram", [True, False])
def test_precision_and_recall_are_torch_fidelitys(fidelity, n, m, d, k, save_cpu_ram):
    samples, real = features(0, n, d, torch.float64), features(1, m, d, torch.float64)
    theirs = fidelity.prc.prc_features_to_metric(
        samples, real, prc_neighborhood=k, prc_batch_size=70, save_cpu_ram=save_cpu_ram, verbose=False
    )
    ours = precision_recall(samples, real, k)
    assert ours == pytest.approx((theirs["precision"], theirs["recall"]), abs=1e-7)  # their shares are float32


# The weights


@pytest.fixture(scope="module")
def model_and_data():
    data = bype.load("digits")
    return bype.build_model(data, prior="standard", latent_dim=2, hidden_dim=8), data


@pytest.mark.parametrize("missing", ["torch_fidelity", "torchvision"])
def test_what_is_missing_is_named_with_the_extra(model_and_data, monkeypatch, missing):
    if missing == "torchvision":
        pytest.importorskip("tqdm")
        if importlib.util.find_spec("torch_fidelity") is None:
            pytest.skip("torch-fidelity is not installed")
    for name in [name for name in sys.modules if name.partition(".")[0] == missing]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    seen = []
    with pytest.raises(InputError, match=rf"{missing} is not installed; pip install 'bype\[quality\]'") as caught:
        sample_quality(*model_and_data, features=["pca", "inception"], report=seen.append)
    assert seen == ["inception"], "before the others are computed"
    assert "\n" not in str(caught.value)


URL = "https://example.invalid/weights-{}.pth"


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints"


def stored(cache, content):
    """The URL of a file that is in the cache."""
    url = URL.format(hashlib.sha256(content).hexdigest()[:8])
    (cache / url.rpartition("/")[2]).write_bytes(content)
    return url


def test_offline_is_one_line_with_the_place_of_the_file(cache, monkeypatch):
    def offline(*args, **options):
        raise urllib.error.URLError("no route")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    url = URL.format("0123abcd")
    with pytest.raises(InputError, match=r"the weights cannot be downloaded .*no route.*; save https.* as ") as caught:
        weights_file(url)
    assert "\n" not in str(caught.value)
    assert not list(cache.iterdir())


def test_another_file_than_its_name_says_is_refused(cache):
    url = stored(cache, b"weights")
    assert weights_file(url).read_bytes() == b"weights"
    weights_file(url).write_bytes(b"other")
    with pytest.raises(InputError, match="expected the SHA-256 that its name has, got d9298a10; remove the file"):
        weights_file(url)


class Evil:
    def __reduce__(self):
        import os

        return os.mkdir, ("ran",)


def test_a_pickle_that_would_run_code_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Evil()))
    torch.save({"a": torch.ones(1), "b": Evil()}, tmp_path / "torch.pth")
    torch.save([torch.ones(1)], tmp_path / "list.pth")
    for name in ("plain.pth", "torch.pth", "list.pth"):
        with pytest.raises(InputError, match="expected weights, tensors") as caught:
            read_weights(tmp_path / name)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()
    torch.save(OrderedDict(a=torch.ones(2)), tmp_path / "good.pth")
    assert read_weights(tmp_path / "good.pth")["a"].tolist() == [1, 1]


@pytest.mark.slow
def test_features_are_those_of_torch_fidelitys_network(fidelity, cache, monkeypatch):
    """With random weights in place of the published ones, which a test does not download."""
    module = sys.modules["torch_fidelity.feature_extractor_inceptionv3"]
    network = module.FeatureExtractorInceptionV3
    with monkeypatch.context() as patch:
        patch.setattr(module, "load_state_dict_from_url", lambda *args, **options: {})
        patch.setattr(network, "load_state_dict", lambda self, state: None)
        torch.manual_seed(0)
        theirs = network("inception-v3-compat", ["2048"])
    place = cache / "w.pth"
    torch.save(theirs.state_dict(), place)
    url = stored(cache, place.read_bytes())
    monkeypatch.setattr(module, "URL_INCEPTION_V3", url)
    images = torch.rand(2, 3, 16, 16)
    expected = theirs((images * 255).round().byte())[0]
    assert torch.equal(inception_features(torch.device("cpu"))(images), expected)
    grey = inception_features(torch.device("cpu"))(images[:, :1])
    assert torch.equal(grey, theirs((images[:, :1] * 255).round().byte().expand(-1, 3, -1, -1))[0])
