import pytest
import scipy.stats
from PIL import Image

from bype.core.config import Config
from bype.core.errors import InputError
from bype.experiments import ledger, records
from bype.experiments.page import render
from bype.experiments.stats import T_975, paired, summary


def write(
    folder, experiment, prior, seed, figures, *, coreset="paper", protocol="paper", set_="mnist", device="a card",
    arrays=None, **options,
):  # fmt: skip
    config = Config(set_, prior=prior, coreset=coreset, seed=seed, **({"precision": "bf16"} | options))
    epochs = [{"val_loss": 30.0 - epoch} for epoch in (1, 2, 3)]
    value = records.cell_record(
        experiment,
        config,
        protocol,
        epochs=epochs,
        metrics=figures,
        versions={},
        device=device,
        seconds=9.0,
        arrays=arrays,
    )
    ledger.write_cell(folder, value, records.cell_id(experiment, config, protocol))


@pytest.fixture
def page(tmp_path):
    """A ledger with a whole column, and its page."""
    folder = tmp_path / "results" / "ledger"
    own = {"standard": (24.40, 24.50, 24.60), "vamp": (23.60, 23.80), "exemplar": (23.90,), "bype": (23.5, 23.6, 23.7)}
    for prior, values in own.items():
        for seed, nll in enumerate(values):
            figures = {"nll_paper": nll, "nll_paper_short": nll + 0.1, "nll_paper_items": 10000, "epochs": 300 + seed}
            if prior == "bype":
                figures["nll_paper@all"] = nll - 0.4
            if prior == "vamp":
                figures["nll_paper_short@all"] = nll + 0.05
            write(folder, "table1", prior, seed, figures)
    for seed in (0, 1, 2):
        update = {"val_loss_before_10": 29.5, "val_loss_after_10": 29.0 + seed, "coreset_mean_distance_10": 0.25,
                  "coreset_outside_10": 0.0}  # fmt: skip
        for coreset, nll in (("none", 25.8), ("paper", 25.8 + 0.1 * (seed - 1))):
            figures = {"nll_paper_short": nll, "val_loss": 27.2, "kl_prior": 0.8, "kl_prior_reverse": 1.1}
            more = update if coreset == "paper" else {}
            write(folder, "step-two", "bype", seed, figures | more, coreset=coreset, protocol="short")
        for share in (0.5, 0.2):
            figures = {"nll_paper_short": 26.0 + 0.1 * (seed - 1), "val_loss": 27.2 + share}
            write(folder, "reencode", "bype", seed, figures, protocol="short", reencode=share)
    for seed, coreset in ((0, "paper"), (1, "paper"), (0, "elbo")):
        figures = {"nll_paper_short": 26.2 + seed, "val_loss": 27.0}
        write(folder, "table1", "bype", seed, figures, protocol="short", arch="hvae", coreset=coreset)
    (folder / "stray.json").write_text("{")
    return render(folder)


def test_the_table_sets_paper_beside_ours(page):
    lines = page.read_text().splitlines()
    bype = "| vae | mnist | bype | 23.61 | 23.60 | 0.10 | 3 | 23.35 to 23.85 | -0.01 | 301 | bf16 |"
    assert f"{bype} 10000 | a card |" in lines
    vamp = "| vae | mnist | vamp | 23.65 | 23.70 | 0.14 | 2 | 22.43 to 24.97 | +0.05 |"
    assert any(line.startswith(vamp) for line in lines)
    exemplar = "| vae | mnist | exemplar | 23.83 | 23.90 |  | 1 |  | +0.07 | 300 | bf16 | 10000 | a card |"
    assert exemplar in lines
    assert "| hvae | cifar10 | bype | 71.38 | not run |" + " |" * 8 in lines
    assert sum("| not run |" in line for line in lines) == 3 * 3 * 4 - 4 + 3, "and three strategies of step (ii)"
    table = lines[: lines.index("## Cells of Table 1, protocol `short`")]
    columns = {
        line.count("|") for line in table if line.startswith(("| vae", "| hvae", "| convhvae")) and " - " not in line
    }
    assert columns == {14, 11}, "the paper's rows, and those of refits"
    for refit in (
        "| vae | mnist | vamp | bf16 | `nll_paper_short` | 23.80 | 23.75 | +0.05 | 2 | 0.05 to 0.05 |",
        "| vae | mnist | bype | bf16 | `nll_paper` | 23.60 | 23.20 | +0.40 | 3 | 0.40 to 0.40 |",
    ):
        assert refit in lines


def test_a_page_of_somebody_else_s_and_a_missing_ledger_are_left_alone(page):
    folder = page.parent / "ledger"
    assert render(folder) == page, "its own page is replaced"
    page.write_text("# My project\n")
    with pytest.raises(InputError, match=r"README\.md: not a page made by reproduce --render"):
        render(folder)
    assert page.read_text() == "# My project\n"
    with pytest.raises(InputError, match="expected a folder of finished cells, but there is none"):
        render(folder.parent / "ledgers")


def test_differences_are_paired_by_seed(page):
    lines = page.read_text().splitlines()
    # Over the seeds that both have: -0.1 and -0.2 against vamp, where the means differ by -0.1.
    assert "| vae | mnist | bf16 | bype - vamp | -0.04 | -0.15 | 2 | -0.79 to 0.49 |" in lines
    assert "| vae | mnist | bf16 | bype - standard | -0.80 | -0.90 | 3 | -0.90 to -0.90 |" in lines
    assert "| vae | mnist | bf16 | bype - exemplar | -0.22 | -0.40 | 1 |  |" in lines


def test_items_that_are_not_the_same_are_not_compared(tmp_path):
    folder = tmp_path / "ledger"
    every = {"nll_paper_items": 2000, "nll_paper_every": 5, "epochs": 3}
    whole = {"nll_paper_items": 10000, "nll_paper_every": 1, "epochs": 3}
    write(folder, "table1", "exemplar", 0, {"nll_paper": 23.90} | every)
    write(folder, "table1", "standard", 0, {"nll_paper": 24.40, "nll_paper_fifth": 24.50} | whole)
    write(folder, "table1", "bype", 0, {"nll_paper": 23.60, "nll_paper_fifth": 23.70} | whole)
    write(folder, "trunk", "exemplar", 0, {"nll_paper_short": 25.5, "nll_paper": 25.4, "nll_paper_items": 2000})
    write(folder, "trunk", "exemplar", 1, {"nll_paper_short": 25.7})
    text = render(folder).read_text()
    assert "| bf16 | 2000, every 5th | a card |" in text
    assert "| vae | mnist | bf16 | bype - exemplar | -0.22 | -0.20 | 1 |  |" in text, "over every fifth of both"
    assert "| vae | mnist | bf16 | bype - standard | -0.80 | -0.80 | 1 |  |" in text
    assert "| exemplar | bf16 | 2 | 25.60 | 0.14 | 25.40 (n = 1) | first 2000 |" in text
    write(folder, "table1", "bype", 0, {"nll_paper": 23.60} | whole)
    assert "bype - exemplar" not in render(folder).read_text()


def test_vampprior_s_first_cells_have_a_name_of_their_own(tmp_path, monkeypatch):
    folder = tmp_path / "ledger"
    figures = {"nll_paper_short": 25.6, "val_loss": 27.0}
    write(folder, "step-two", "vamp", 0, figures, protocol="short", coreset="none")
    with monkeypatch.context() as earlier:
        earlier.setattr(records, "VAMP_POINTS", {})
        write(folder, "step-two", "vamp", 1, figures | {"nll_paper_short": 25.9}, protocol="short", coreset="none")
    assert len(list(folder.iterdir())) == 2
    text = render(folder).read_text()
    assert "| vamp | 1 | 25.60 |" in text
    assert "| vamp (points clamped at use) | 1 | 25.90 |" in text


def test_a_control_of_table_1_stands_beside_what_it_controls(tmp_path):
    folder = tmp_path / "ledger"
    figures = {"nll_paper_items": 10_000, "epochs": 300}
    for prior, nll in (("standard", 24.4), ("vamp", 23.7), ("exemplar", 23.9), ("bype", 23.6)):
        write(folder, "table1", prior, 0, figures | {"nll_paper": nll})
    write(folder, "table1", "bype", 0, figures | {"nll_paper": 23.5}, coreset="none")
    text = render(folder).read_text()
    assert "| vae | mnist | bype (none) |  | 23.50 |  | 1 |  |  | 300 | bf16 | 10000 | a card |" in text
    assert "| vae | mnist | bf16 | bype - bype (none) |  | +0.10 | 1 |  |" in text
    assert "3 of 3 comparisons are as claimed" in text, "the paper's"


def test_a_ledger_of_a_control_alone_makes_a_page(tmp_path):
    folder = tmp_path / "ledger"
    figures = {"nll_paper": 23.5, "nll_paper_items": 10_000, "epochs": 300}
    write(folder, "table1", "bype", 0, figures, coreset="none")
    text = render(folder).read_text()
    assert "| vae | mnist | bype (none) |  | 23.50 |" in text
    assert "(curves-vae-mnist.png)" in text
    assert "(table1.png)" not in text, "there is nothing to set beside the paper"


def test_cells_of_other_settings_share_no_row(tmp_path):
    folder = tmp_path / "ledger"
    for lr, nll in ((5e-4, 24.4), (1e-3, 25.1)):
        write(folder, "table1", "standard", 0, {"nll_paper": nll, "nll_paper_items": 10_000, "epochs": 9}, lr=lr)
    lines = render(folder).read_text().splitlines()
    for nll in ("24.40", "25.10"):
        assert any(line.startswith(f"| vae | mnist | standard | 24.41 | {nll} |  | 1 |") for line in lines)


def test_cells_of_other_sets_and_figures_are_shown_or_left_out(tmp_path):
    """What a ledger may hold beside this project's own experiments makes no traceback."""
    folder = tmp_path / "ledger"
    short = {"nll_paper_short": 26.0, "val_loss": 27.0}
    write(folder, "table1", "standard", 0, short, protocol="short", set_="digits")
    write(folder, "table1", "standard", 0, short, protocol="short", arch="celeba")
    write(folder, "step-two", "bype", 0, short | {"coreset_mean_distance_x": 1.0}, protocol="short")
    write(folder, "table1", "standard", 0, {"nll_paper": 24.4, "epochs": 3})
    write(folder, "reencode", "bype", 0, short, protocol="short")
    text = render(folder).read_text()
    assert "| vae | digits | standard |" in text
    assert "| celeba | mnist | standard |" in text
    left_out = next(line for line in text.splitlines() if line.startswith("Skipped"))
    assert left_out.count("table1-mnist-vae-standard") == left_out.count("reencode-mnist") == 1


def test_step_two_is_compared_with_none(page):
    lines = page.read_text().splitlines()
    paper = "| paper | 3 | 25.80 | 0.10 | +0.00 | -0.25 to 0.25 | 27.20 | +0.00 | 0.80 | 1.10 |"
    assert any(line.replace("-0.00", "+0.00") == paper for line in lines)
    assert "| none | 3 | 25.80 | 0.00 |  |  | 27.20 |  | 0.80 | 1.10 |" in lines
    assert "| paper | 10 | 29.50 | 30.00 | 0.25 | 0.00 |" in lines
    assert "| elbo | 0 | not run | | | | | | | |" in lines


def test_shares_of_the_points_are_compared_with_all_of_them(page):
    lines = page.read_text().splitlines()
    assert "| 1 | 3 | 25.80 | 0.10 |  |  | 27.20 |  |  |" in lines
    assert "| 0.2 | 3 | 26.00 | 0.10 | +0.20 | 0.20 to 0.20 | 27.40 | +0.20 | 0.20 to 0.20 |" in lines
    assert lines.index("| 0.5 | 3 | 26.00 | 0.10 | +0.20 | 0.20 to 0.20 | 27.70 | +0.50 | 0.50 to 0.50 |") > 0


def test_a_short_cell_of_table_1_stands_in_a_table_of_its_own(page):
    lines = page.read_text().splitlines()
    assert "| hvae | mnist | bype | bf16 | 2 | 26.70 | 27.00 |  |  |" in lines
    assert "| hvae | mnist | bype (elbo) | bf16 | 1 | 26.20 | 27.00 |  |  |" in lines
    assert "| hvae | mnist | bype | 23.48 | not run |" + " |" * 8 in lines


def test_a_stray_file_is_named_and_the_protocols_share_no_table(page):
    text = page.read_text()
    assert "Skipped files, damaged or not cells: stray.json." in text
    write(page.parent / "ledger", "table1", "bype", 7, {"nll_paper_short": 9.99, "val_loss": 1.0}, protocol="short")
    paper, short = render(page.parent / "ledger").read_text().split("## Cells of Table 1, protocol `short`")
    assert "9.99" not in paper
    assert "9.99" in short


def test_the_pictures_are_there_and_the_page_is_the_same_again(page):
    text = page.read_text()
    for name in ("table1.png", "curves-vae-mnist.png", "step-two.png"):
        assert f"({name})" in text
        with Image.open(page.parent / name) as picture:
            assert min(picture.size) > 100
    assert render(page.parent / "ledger").read_text() == text


def test_an_empty_ledger_makes_a_page(tmp_path):
    (tmp_path / "ledger").mkdir()
    text = render(tmp_path / "ledger").read_text()
    assert "from the 0 cells" in text
    assert text.count("| not run |") == 36
    assert text.count("| **not run** |") == 18


def test_the_committed_page_is_that_of_the_committed_ledger(root, tmp_path):
    import shutil

    committed = root / "results"
    shutil.copytree(committed / "ledger", tmp_path / "ledger")
    assert render(tmp_path / "ledger").read_text() == (committed / "README.md").read_text(), (
        "run `bype reproduce --render`"
    )


def test_student_s_points_are_scipy_s():
    for df, t in enumerate(T_975, 1):
        assert t == pytest.approx(scipy.stats.t.ppf(0.975, df), abs=1e-4)


def test_summaries_are_scipy_s():
    values = [3.0, 4.5, 2.0, 7.0]
    s = summary(values)
    low, high = scipy.stats.t.interval(0.95, 3, s.mean, scipy.stats.sem(values))
    assert s.interval == pytest.approx((low, high), abs=1e-3)
    assert summary([1.0]).interval is None
    assert paired({0: 1.0, 1: 2.0}, {1: 5.0, 2: 1.0}) == summary([-3.0])
    assert paired({0: 1.0}, {1: 1.0}) is None
