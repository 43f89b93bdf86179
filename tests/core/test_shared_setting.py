"""Threads that compute at once leave torch's settings as they were, and do not change each other's results."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

import bype
from bype.core.precision import product_precision
from bype.core.torch_state import fixed_torch_state

PART = torch.backends.cudnn.conv


@pytest.fixture(params=["products", "dtype"])
def setting(request):
    """A context that changes a setting, and the function that reads it."""
    if request.param == "products":
        before = PART.fp32_precision
        assert before != "ieee"
        yield lambda: product_precision(tf32=False), lambda: PART.fp32_precision
        assert PART.fp32_precision == before
    else:
        torch.set_default_dtype(torch.float64)
        yield fixed_torch_state, torch.get_default_dtype
        assert torch.get_default_dtype() == torch.float64
        torch.set_default_dtype(torch.float32)


def test_a_call_that_ends_first_leaves_the_setting_to_the_other(setting):
    """The first thread enters first and leaves first."""
    context, read = setting
    before = read()
    entered, may_leave, seen = threading.Event(), threading.Event(), []

    def first():
        with context():
            entered.set()
            may_leave.wait(10)

    thread = threading.Thread(target=first)
    thread.start()
    entered.wait(10)
    with context():
        inside = read()
        may_leave.set()
        thread.join(10)
        seen.append(read())
    assert seen == [inside] != [before]
    assert read() == before


def test_calls_within_each_other_and_errors_end_as_they_began(setting):
    context, read = setting
    before = read()
    with context():
        inside = read()
        with pytest.raises(ZeroDivisionError), context():
            raise ZeroDivisionError
        assert read() == inside
    assert read() == before
    with product_precision(tf32=True), product_precision(tf32=False):
        assert PART.fp32_precision == "ieee"


def test_many_threads_score_to_the_bits_of_one():
    data = bype.load("digits")
    model = bype.build_model(data, likelihood="gaussian", n_components=5, latent_dim=2, hidden_dim=8, seed=0)
    images = data.test.scaled()[:40]

    def score(_):
        return bype.score(model, images, n_samples=3).log_likelihood

    expected = score(0)
    products, dtype = PART.fp32_precision, torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(score, range(24)))
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(dtype)
    assert all(torch.equal(one, expected) for one in found)
    assert PART.fp32_precision == products
