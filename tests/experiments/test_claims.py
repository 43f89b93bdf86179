"""A claim counts as shown only where the whole interval of each difference is on one side of zero."""

import pytest
from test_render import write

from bype.experiments.page import render


def claims(folder):
    (line,) = (line for line in render(folder).read_text().splitlines() if line.startswith("Claim C1"))
    return line


@pytest.mark.parametrize(
    ("bype", "excluded"),
    [
        ((23.50, 23.51, 23.52), 1),  # the mean lead is 0.09 to 0.99, its interval excludes zero
        ((23.10, 23.58, 23.82), 0),  # the same mean lead, but the interval straddles zero
    ],
)
def test_an_interval_that_straddles_zero_shows_nothing(tmp_path, bype, excluded):
    folder = tmp_path / "results" / "ledger"
    own = {
        "standard": (24.5, 24.51, 24.52),
        "vamp": (23.59, 23.6, 23.61),
        "exemplar": (23.8, 23.81, 23.82),
        "bype": bype,
    }
    for prior, values in (own | {"bype": bype}).items():
        for seed, nll in enumerate(values):
            write(folder, "table1", prior, seed, {"nll_paper": nll, "nll_paper_items": 10_000, "epochs": 300})
    assert f"ByPE is lowest in 1; every 95 % interval of its lead excludes zero in {excluded}." in claims(folder)
    assert "in 1 of 1 complete columns; every 95 % interval excludes zero in 1." in claims(folder)
