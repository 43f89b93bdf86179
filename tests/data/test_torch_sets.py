"""Torch data sets, Hugging Face data sets and loaders as data."""

import io
import random

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, IterableDataset, TensorDataset, default_collate

import bype
from bype.core.errors import InputError
from bype.runs.run import Run

PIXELS = torch.from_numpy(np.random.default_rng(0).integers(0, 255, (60, 1, 4, 5)).astype(np.uint8))
LABELS = torch.arange(60) % 3


class Items:
    """A map-style data set, whose items are transformed when they are read."""

    def __init__(self, form, transform=None, n=60):
        self.form, self.transform, self.n, self.read = form, transform, n, []

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        self.read.append(i)
        image = PIXELS[i] if self.transform is None else self.transform(PIXELS[i])
        return self.form(image, int(LABELS[i]))


FORMS = {
    "tensor": lambda x, y: (x, y),
    "grey tensor": lambda x, y: (x[0], torch.tensor(y)),
    "array": lambda x, y: (x.numpy(), y),
    "array, channels last": lambda x, y: [x.permute(1, 2, 0).numpy(), y],
    "picture": lambda x, y: (Image.fromarray(x[0].numpy()), y),
    "dictionary": lambda x, y: {"idx": 7, "img": x, "label": y},
    "longer tuple": lambda x, y: (x, y, "more"),
}


@pytest.mark.parametrize("form", FORMS)
def test_items_of_every_form_are_those_of_from_arrays(form):
    data = bype.from_torch(Items(FORMS[form]), name="set")
    assert data.checksum() == bype.from_arrays(PIXELS, LABELS, name="set").checksum()


@pytest.mark.parametrize(
    "loader",
    [
        DataLoader(TensorDataset(PIXELS, LABELS), batch_size=7),
        DataLoader(TensorDataset(PIXELS, LABELS), batch_size=7, shuffle=True),
        [(PIXELS[:40], LABELS[:40]), (PIXELS[40:], LABELS[40:])],
        DataLoader(Items(FORMS["dictionary"]), batch_size=8),
        DataLoader(TensorDataset(PIXELS, LABELS), batch_size=9, collate_fn=torch.utils.data.default_collate),
    ],
)
def test_batches_are_gathered_in_the_order_of_the_items(loader):
    assert bype.from_torch(loader, name="set").checksum() == bype.from_arrays(PIXELS, LABELS, name="set").checksum()


def test_a_loader_with_a_sampler_of_its_own_yields_what_it_yields():
    subset = torch.utils.data.SubsetRandomSampler(range(20, 50))
    loader = DataLoader(TensorDataset(PIXELS, LABELS), batch_size=7, sampler=subset)
    data = bype.from_torch(loader)
    assert sum(map(len, data.splits.values())) == 30


def test_workers_read_the_same():
    data = bype.from_torch(Items(FORMS["dictionary"]), name="set", workers=1)
    assert data.checksum() == bype.from_arrays(PIXELS, LABELS, name="set").checksum()


def test_splits_of_ones_own_are_kept_and_missing_ones_taken_from_training():
    parts = [TensorDataset(PIXELS[a:b], LABELS[a:b]) for a, b in ((0, 40), (40, 50), (50, 60))]
    data = bype.from_torch(*parts)
    assert [len(part) for part in data.splits.values()] == [40, 10, 10]
    assert torch.equal(data.test.pixels, PIXELS[50:])
    named = bype.from_torch({"test": parts[2], "train": parts[0]})
    assert [len(part) for part in named.splits.values()] == [36, 4, 10]
    assert torch.equal(named.test.pixels, PIXELS[50:])
    whole = TensorDataset(PIXELS, LABELS)
    fair = bype.from_torch(whole, stratify=True)
    assert torch.bincount(fair.test.labels).tolist() == [2, 2, 2]
    given = bype.from_torch(whole, splits={"train": range(30), "val": range(30, 40), "test": range(40, 60)})
    assert torch.equal(given.test.pixels, PIXELS[40:])


def test_hugging_face_data_sets_with_their_class_names():
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog", "owl"])})
    pictures = [Image.fromarray(x[0].numpy()) for x in PIXELS]
    whole = datasets.Dataset.from_dict({"image": pictures, "label": LABELS.tolist()}, features=features)
    data = bype.from_torch(whole, name="set")
    assert data.checksum() == bype.from_arrays(PIXELS, LABELS, name="set").checksum()
    assert data.label_name(2) == "owl"
    split = bype.from_torch(whole.train_test_split(test_size=20, seed=0))
    assert [len(part) for part in split.splits.values()] == [36, 4, 20]
    model = bype.build_model(data, prior="standard", hidden_dim=8, latent_dim=2)
    assert len(bype.train(model, whole.with_format("torch"), epochs=1, warmup=0)) == 1


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (iter([PIXELS]), "list_iterator without a length"),
        (type("Stream", (IterableDataset,), {"__iter__": lambda self: iter(PIXELS)})(), "Stream without a length"),
        ([], "of length 0"),
        (Items(lambda x, y: "no"), "expected a tensor, an array or a PIL image, got str"),
        (Items(lambda x, y: (x.float(), y)), r"expected floats in \[0, 1\].*leave out normalisation"),
        (Items(lambda x, y: (x.long(), y)), "expected images of uint8 or floats"),
        (Items(lambda x, y: (x[:, : 2 + y], y)), "expected images of one shape and kind, .*resize them"),
        (Items(lambda x, y: {"picture": x}), r"expected a key 'image' \(image_key=...\), got picture"),
        (Items(FORMS["tensor"], n=9), "expected at least 10 images, got 9"),
        ({"dev": Items(FORMS["tensor"])}, "expected the splits train, validation and test, got dev"),
    ],
)
def test_what_cannot_be_read_is_one_clear_error(source, message):
    with pytest.raises(bype.InputError, match=message):
        bype.from_torch(source)


@pytest.mark.parametrize("other", ["validation", "test"])
def test_splits_are_given_by_their_names_or_beside_train_but_not_both(other):
    items = Items(FORMS["tensor"])
    with pytest.raises(bype.InputError, match="expected splits by their name, or validation and test beside train"):
        bype.from_torch({"train": items}, **{other: items})


def noisy(x):
    """A random transform, by the three global generators."""
    value = x.float() / 512 + torch.rand(()) / 8 + random.random() / 8 + np.random.rand() / 8  # noqa: NPY002
    return value.float()


def trained(prior, data, epochs, seed=0, **options):
    model = bype.build_model(data, prior=prior, hidden_dim=8, latent_dim=2, exemplars=10, n_components=10)
    return model, [
        i.loss for i in bype.train(model, data, epochs=epochs, warmup=0, seed=seed, batch_size=20, **options)
    ]


@pytest.mark.parametrize("prior", ["standard", "exemplar", "bype", "vamp"])
def test_fresh_items_are_read_again_in_each_epoch_with_their_rows(prior):
    source = Items(FORMS["tensor"], noisy)
    data = bype.from_torch(source, fresh=True)
    first, kept = data.train.pixels.clone(), sorted(data.train.origin.tolist())
    source.read.clear()
    _, losses = trained(prior, data, 3)
    assert sorted(source.read) == sorted(3 * kept), "each training item once an epoch, and no other"
    assert torch.equal(data.train.pixels, first), "the first reading stays"
    still = bype.from_torch(Items(FORMS["tensor"]))
    again, plain = bype.from_torch(Items(FORMS["tensor"]), fresh=True), trained(prior, still, 2)[1]
    assert plain != trained(prior, again, 2)[1], "a seed is drawn"
    assert len(set(losses)) == 3


def test_an_epoch_of_fresh_items_has_the_steps_of_its_batches():
    data = bype.from_torch(Items(FORMS["tensor"]), fresh=True)
    n = len(data.train)
    assert [data.fresh.steps(size) for size in (1, n - 1, n, n + 1)] == [n, 2, 1, 1]


def test_without_a_random_transform_fresh_items_are_those_in_memory():
    """Each batch that is read holds the items of its rows, scaled alike."""
    data = bype.from_torch(Items(FORMS["tensor"]), fresh=True)
    order = torch.randperm(len(data.train)).split(20)
    batches = list(data.fresh.epoch(order, 3))
    assert all(torch.equal(torch.from_numpy(b), data.train.stored(i)) for b, i in zip(batches, order, strict=True))


def _collated(items):  # a function of one's own: the batches are read as they are
    return default_collate(items)


def test_batches_of_grey_images_have_two_or_three_further_axes():
    images = torch.rand(12, 4, 5)
    for batch in (images, images[:, None]):
        items = TensorDataset(batch, torch.arange(12) % 2)
        found = bype.from_torch(DataLoader(items, 5, collate_fn=_collated))
        assert found.shape == (1, 4, 5)
        assert sum(map(len, found.splits.values())) == 12
    with pytest.raises(InputError, match=r"expected batches of images \(b, h, w\) or \(b, c, h, w\)"):
        bype.from_torch(DataLoader(torch.rand(12, 5), 5, collate_fn=_collated))


def test_seeds_beyond_those_of_numpy_are_folded():
    data = bype.from_torch(Items(FORMS["tensor"], noisy), fresh=True)
    for seed in (2**32 + 5, 2**40 - 1):
        (one,), (two,) = (list(data.fresh.epoch([torch.arange(5)], seed)) for _ in range(2))
        assert np.array_equal(one, two)


def test_transforms_are_seeded_and_the_caller_s_generators_stay(tmp_path):
    data = bype.from_torch(Items(FORMS["tensor"], noisy), fresh=True)
    rows = [torch.arange(5)]
    (one,), (two,), (other,) = (list(data.fresh.epoch(rows, seed)) for seed in (1, 1, 2))
    assert np.array_equal(one, two)
    assert not np.array_equal(one, other)
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    trained("standard", data, 1)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert np.array_equal(np.random.get_state()[1], states[2])  # noqa: NPY002


@pytest.mark.parametrize("prior", ["exemplar", "bype"])
def test_a_run_on_fresh_items_resumes_bit_equal(tmp_path, prior):
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    data = bype.from_torch(Items(FORMS["tensor"], noisy), name="noisy", fresh=True)

    def fit(epochs, folder, **options):
        model = bype.build_model(data, prior=prior, hidden_dim=8, latent_dim=2, exemplars=10, n_components=10)
        bype.fit(model, data, tmp_path / folder, epochs=epochs, warmup=0, device="cpu", **options)

    fit(4, "whole")
    fit(2, "parts")
    fit(4, "parts", resume=True)
    for name in ("last", "best"):
        whole, parts = (getattr(Run(tmp_path / f).checkpoints, name).read_bytes() for f in ("whole", "parts"))
        assert whole == parts


def test_fresh_batches_whose_items_are_not_known():
    def collate(items):  # a collate function of one's own: the loader decides what a batch is
        return torch.stack([noisy(x) for x, _ in items]), torch.tensor([int(y) for _, y in items])

    items = TensorDataset(PIXELS, LABELS)
    train = DataLoader(torch.utils.data.Subset(items, range(40)), 12, shuffle=True, drop_last=True, collate_fn=collate)
    held = [
        torch.utils.data.DataLoader(torch.utils.data.Subset(items, range(a, a + 10)), 5, collate_fn=collate)
        for a in (40, 50)
    ]
    data = bype.from_torch(train, *held, fresh=True)
    assert len(data.train) == 36
    steps = []
    model = bype.build_model(data, prior="bype", hidden_dim=8, latent_dim=2, n_components=10)
    trainer = bype.Trainer(model, data, epochs=2, warmup=0, batch_size=5)
    trainer.steps.on_step = lambda step, total: steps.append((step, total))
    assert len(list(trainer)) == 2
    assert steps == [(1, 3), (2, 3), (3, 3)] * 2, "the batches are the loader's"
    exemplar = bype.build_model(data, prior="exemplar", hidden_dim=8, latent_dim=2, exemplars=10)
    with pytest.raises(bype.InputError, match="the exemplar prior leaves out each item's own component"):
        bype.Trainer(exemplar, data)
    with pytest.raises(bype.InputError, match=r"fresh: expected validation= and test= beside an iterable of batches"):
        bype.from_torch(train, fresh=True)


def test_train_and_fit_take_torch_data_as_they_are(tmp_path):
    source = TensorDataset(PIXELS, LABELS)
    data = bype.from_torch(source)
    _, losses = trained("exemplar", data, 2)
    same = bype.build_model(data, prior="exemplar", hidden_dim=8, latent_dim=2, exemplars=10, n_components=10)
    infos = bype.train(same, DataLoader(source, 7, shuffle=True), epochs=2, warmup=0, batch_size=20)
    assert [i.loss for i in infos] == losses
    run = bype.fit(same, source, tmp_path / "run", epochs=1, warmup=0, device="cpu").run
    loaded = run.load("cpu", data=data)
    assert loaded.model.prior.n_data == 48


def test_pictures_are_read_as_image_files_are():
    """Transparency on white, and upright by the EXIF orientation."""
    clear = Image.new("RGBA", (4, 3), (0, 0, 0, 0))
    turned = Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4))
    exif = turned.getexif()
    exif[0x0112] = 3
    stored = io.BytesIO()
    turned.save(stored, "PNG", exif=exif)
    turned = Image.open(stored)
    assert (bype.from_torch([(clear, 0)] * 12).train.stored() == 255).all()
    expected = torch.arange(11, -1, -1, dtype=torch.uint8).view(3, 4)
    assert torch.equal(bype.from_torch([(turned, 0)] * 12).train.stored()[0, 0], expected)
