"""docs/mathematics.md ties each formula to the function that computes it: the names exist, and say it themselves."""

import re
from importlib import import_module

import pytest

import checkout

PAGE = (checkout.require() / "docs" / "mathematics.md").read_text()
NAMES = sorted(set(re.findall(r"`(bype\.[\w.]+)`", PAGE)))
ROWS = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith(("| quantity", "|--"))]


def find(name):
    """The object of a dotted name, from the longest part of it that is a module."""
    parts = name.split(".")
    for n in range(len(parts), 0, -1):
        try:
            found = import_module(".".join(parts[:n]))
        except ModuleNotFoundError:
            continue
        for part in parts[n:]:
            found = getattr(found, part)
        return found
    raise AttributeError(name)


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_that_of_a_documented_function_or_class(name):
    found = find(name)
    assert callable(found)
    assert found.__doc__


def test_every_formula_names_a_function():
    assert len(ROWS) > 20
    for row in ROWS:
        cells = row.strip("| ").split(" | ")
        assert len(cells) == 3, row
        assert re.search(r"`bype\.[\w.]+`", cells[2]), row


def test_a_name_that_is_not_there_is_noticed():
    for name in ("bype.VAE.sampel", "bype.nothing", "nowhere.f"):
        with pytest.raises(AttributeError):
            find(name)


@pytest.mark.parametrize(
    ("name", "formula"),
    [
        ("bype.VampPrior", r"\frac{1}{M} \sum_{m=1}^M"),
        ("bype.PseudocoresetPrior", r"\frac{w_m}{N}"),
        ("bype.iwae", r"\log \frac{1}{S} \sum_{s=1}^S"),
        ("bype.elbo", r"E_{q(z|x)}"),
        ("bype.distributions.DiscretizedLogistic", r"\mathrm{sigmoid}"),
    ],
)
def test_the_docstring_has_the_formula(name, formula):
    assert formula in find(name).__doc__
