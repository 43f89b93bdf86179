"""Images in every form that is accepted give the same results; every other form is one clear error."""

import numpy as np
import pytest
import torch
from PIL import Image

import bype

FORMS = {
    "tensor": lambda x: x,
    "float64": lambda x: x.double(),
    "numpy": lambda x: x.numpy(),
    "numpy float64, big endian": lambda x: x.numpy().astype(">f8"),
    "no channel axis": lambda x: x[:, 0],
    "flat rows": lambda x: x.flatten(1),
    "flat numpy rows, Fortran order": lambda x: np.asfortranarray(x.flatten(1).numpy()),
    "a view": lambda x: torch.cat([x, x])[::2][torch.arange(len(x)) % len(x)] if False else x.flip(0).flip(0),
    "requires_grad": lambda x: x.clone().requires_grad_(),
    "Images": lambda x: bype.Images(x, levels=None),
}


@pytest.fixture(scope="module")
def digits():
    return bype.load("digits")


@pytest.fixture(scope="module", params=["standard", "vamp", "bype"])
def model(request, digits):
    return bype.build_model(digits, prior=request.param, likelihood="gaussian", latent_dim=4, n_components=9).eval()


def seeded():
    return torch.Generator().manual_seed(3)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_figures(model, digits, form):
    x = digits.test.scaled()[:20]
    given = FORMS[form](x)
    with torch.no_grad():
        assert torch.equal(bype.iwae(model, given, 7, generator=seeded()), bype.iwae(model, x, 7, generator=seeded()))
        ours, theirs = (bype.elbo(model, v, generator=seeded()) for v in (given, x))
        assert torch.equal(ours.log_likelihood, theirs.log_likelihood)
        assert torch.equal(ours.kl, theirs.kl)
    assert torch.equal(model.reconstruct(given), model.reconstruct(x))
    assert torch.equal(bype.interpolate(model, given, given, 3), bype.interpolate(model, x, x, 3))


def test_stored_values_are_scaled_by_the_levels_of_the_model_s_data(model, digits):
    stored, x = digits.test.stored()[:20], digits.test.scaled()[:20]
    for given in (stored, stored.numpy(), stored[:, 0], digits.test.first(20)):
        assert torch.equal(model.as_images(given), x)
    with pytest.raises(bype.InputError, match="expected values below 17, the levels of the model's data, got 255"):
        model.as_images(torch.full((2, 1, 8, 8), 255, dtype=torch.uint8))


def test_the_log_likelihood_of_rows_is_that_of_images(model, digits):
    x = digits.test.scaled()[:20]
    scores = bype.log_likelihood(model, bype.Images(x, levels=None), 7)
    for form in ("tensor", "numpy", "no channel axis", "flat rows"):
        assert torch.equal(bype.log_likelihood(model, FORMS[form](x), 7), scores), form


REFUSED = {
    "bytes as floats": (lambda x: x * 255, r"expected values in \[0, 1\], got values from .* to 247.5"),
    "minus one to one": (lambda x: 2 * x - 1, r"expected values in \[0, 1\], got values from -0.94"),
    "NaN": (lambda x: x.where(x > 0.1, torch.nan), r"expected values in \[0, 1\], got values from nan"),
    "integers": (lambda x: (17 * x).long(), r"expected uint8 or floats in \[0, 1\], got int64"),
    "booleans": (lambda x: x > 0.5, r"expected uint8 or floats in \[0, 1\], got bool"),
    "numpy integers": (lambda x: (17 * x).long().numpy(), r"expected uint8 or floats in \[0, 1\], got int64"),
    "masked": (lambda x: np.ma.masked_array(x.numpy(), x.numpy() > 0.5), "masked arrays are not accepted"),
    "lists of numbers": (lambda x: x.tolist(), r"expected images in the list, got list"),
    "a string": (
        lambda x: "x.png",
        "expected a tensor, a numpy array, PIL images, .* or bype.Images, got builtins.str",
    ),
    "an empty list": (lambda x: [], "expected at least one image, got none"),
    "a list of sizes": (lambda x: [x[0], x[0, :, :7]], "expected images of one shape"),
    "another size": (lambda x: x[..., :7], r"expected images of shape \(n, 1, 8, 8\), \(n, 8, 8\) or \(n, 64\)"),
    "channels last": (lambda x: x.permute(0, 2, 3, 1), r"expected images of shape .*, got \(20, 8, 8, 1\)"),
    "none": (lambda x: x[:0], "expected at least one image, got none"),
    "text": (lambda x: np.array(["a"] * 20), "expected uint8 or floats"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_every_other_form_is_refused_by_every_function(model, digits, what):
    spoil, message = REFUSED[what]
    given = spoil(digits.test.scaled()[:20])
    calls = [
        lambda: bype.elbo(model, given),
        lambda: bype.iwae(model, given, 3),
        lambda: model.reconstruct(given),
        lambda: bype.interpolate(model, given, given),
        lambda: bype.log_likelihood(model, given, 3),
    ]
    for call in calls:
        with pytest.raises(bype.InputError, match=message):
            call()


def test_images_are_checked_when_they_are_made(digits):
    x = digits.test.scaled()
    assert bype.Images(x).levels is None, "floats have no levels"
    assert bype.Images(digits.test.stored()).levels == 256
    for given, more, message in [
        (x * 255, {}, r"expected floats in \[0, 1\], got values from .* to 247.5"),
        (x.where(x > 0.1, torch.nan), {}, r"expected floats in \[0, 1\]"),
        (x[:, 0], {}, r"expected images \(n, c, h, w\)"),
        (x.numpy(), {}, "expected a tensor, got a numpy.ndarray"),
        ((17 * x).long(), {}, "expected uint8 or a floating dtype, got int64"),
        (x, {"levels": 256}, "expected levels=None for floats, got 256"),
        (digits.test.stored(), {"levels": 9}, "expected values below levels=9, got 16"),
        (x, {"labels": torch.arange(3)}, r"expected 179 labels, got 3"),
        (x, {"labels": torch.rand(179)}, "expected integer labels, got float32"),
    ]:
        with pytest.raises(bype.InputError, match=message):
            bype.Images(given, **more)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, d: m.sample(-1), "n: expected a whole number from 0 to 2\\^31, got -1"),
        (lambda m, d: m.sample(2.5), "n: expected a whole number from 0 to 2\\^31, got 2.5"),
        (lambda m, d: m.sample("4"), "n: expected a whole number from 0 to 2\\^31, got '4'"),
        (lambda m, d: bype.build_model(d, latent_dim="4"), "latent_dim: expected a whole number from 1"),
        (lambda m, d: bype.build_model(d, seed=-1), "seed: expected a whole number from 0"),
        (lambda m, d: bype.Config(d), "SET: expected str, got a Dataset"),
        (lambda m, d: bype.Config("digits", lr=torch.ones(3)), "--lr: expected float, got a Tensor"),
        (lambda m, d: bype.iwae(m, d.test, 0), "n_samples: expected a whole number from 1"),
        (lambda m, d: bype.log_likelihood(m, d.test[d.test.labels == 42], 5), "expected at least one image, got none"),
        (lambda m, d: bype.evaluate(m, d, n_samples=0), "expected"),
        (lambda m, d: bype.plates(m, 0), "n: expected a whole number from 1"),
    ],
)  # fmt: skip
def test_numbers_that_do_not_fit_are_one_short_line(model, digits, call, message):
    with pytest.raises(bype.InputError, match=message) as caught:
        call(model, digits)
    assert len(str(caught.value)) < 200


def test_numpy_scalars_and_whole_floats_are_numbers(digits):
    config = bype.Config("digits", seed=np.int64(1), lr=np.float64(1e-3), n_components=10.0, epochs=np.float32(3))
    assert config == bype.Config("digits", seed=1, lr=1e-3, n_components=10, epochs=3)
    assert {type(v) for v in (config.seed, config.n_components, config.epochs)} == {int}
    assert type(config.lr) is float
    model = bype.build_model(digits, n_components=10.0, latent_dim=np.int32(3), seed=np.int64(1))
    assert len(model.sample(np.int64(2)).images) == 2
    trainer = bype.Trainer(model, digits, lr=np.float64(1e-3), seed=np.int64(1), epochs=2.0, batch_size=np.uint8(50))
    assert (trainer.epochs, trainer.batch_size) == (2, 50)


def test_pictures_and_lists_are_the_same_as_arrays():
    pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 8), np.uint8)
    data = bype.from_arrays(np.tile(pixels, (10, 1, 1)))
    model = bype.build_model(data, prior="standard", likelihood="gaussian", latent_dim=2, hidden_dim=8)
    expected = model.as_images(pixels)
    pictures = [Image.fromarray(p) for p in pixels]
    for same in (pictures, tuple(pictures), list(pixels), [torch.from_numpy(p) for p in pixels]):
        assert torch.equal(model.as_images(same), expected)
    assert torch.equal(model.as_images(pictures[1]), expected[1:2])
    assert torch.equal(model.as_images([p.convert("RGB") for p in pictures]), expected), "grey, as the model's images"
    a, b = (bype.score(model, x, 5).log_likelihood for x in (pictures, pixels))
    assert torch.equal(a, b)
