"""Verdicts on the paper's claims: from synthetic ledgers in which the answer is known."""

import numpy as np
import pytest
import torch
from test_render import write

from bype.core.console import duration
from bype.experiments.arrays import pack, pack_images
from bype.experiments.catalog import fast_table1, table1, table2
from bype.experiments.catalog.sources import FAST, PAPER
from bype.experiments.cell import training_gflop
from bype.experiments.claims import CLAIMS
from bype.experiments.ledger import read, write_cell
from bype.experiments.page import render
from bype.experiments.records import cell_record, cell_settings, hash_settings, used_coreset
from bype.experiments.stats import paired, summary
from bype.experiments.verdicts import FAILS, HOLDS, NOT_RUN, OPEN, Comparison, Evidence, least_favourable, verdict

BY_NAME = {claim.name: claim for claim in CLAIMS}
COLUMNS = [(arch, name) for arch, sets in table1.PAPER.items() for name in sets]


def judge(folder, name, source=PAPER):
    cells, skipped = read(folder)
    assert not skipped
    return verdict(BY_NAME[name].evidence(cells, source))


def write_columns(folder, values, columns=COLUMNS, **figures):
    """A cell of Table 1 for each prior and seed; `values` are the NLLs of the seeds."""
    for arch, name in columns:
        for prior, seeds in values.items():
            for seed, nll in enumerate(seeds):
                whole = {"nll_paper": nll, "nll_paper_items": 10_000, "epochs": 300} | figures.get(prior, {})
                write(folder, "table1", prior, seed, whole, set_=name, arch=arch)


OWN = {
    "standard": (24.50, 24.51, 24.52),
    "vamp": (23.59, 23.60, 23.61),
    "exemplar": (23.80, 23.81, 23.82),
    "bype": (23.50, 23.51, 23.52),
}


@pytest.mark.parametrize(
    ("values", "complete", "expected"),
    [
        ([], True, NOT_RUN),
        ([(-1.0, -1.1, -0.9)], True, HOLDS),
        ([(-1.0, -1.1, -0.9)], False, OPEN),
        ([(-1.0,)], True, OPEN),  # one seed has no interval
        ([(-1.0, -1.1, -0.9), (-1.0, 1.0, 0.1)], True, OPEN),
        ([(-1.0, -1.1, -0.9), (1.0, 1.1, 0.9)], False, FAILS),
        ([(1.0,)], False, OPEN),
    ],
)
def test_a_verdict_follows_from_the_intervals(values, complete, expected):
    evidence = Evidence([Comparison("a", summary(v)) for v in values], complete, "")
    assert verdict(evidence) == expected


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        # Differences -0.2, -0.1, -0.3: mean -0.2, sd 0.1, half-width 4.3027 * 0.1 / sqrt(3) = 0.2484.
        ({0: 23.6, 1: 23.8, 2: 23.9}, {0: 23.8, 1: 23.9, 2: 24.2}, OPEN),
        # -0.2, -0.15, -0.25: half-width 0.1242, so from -0.3242 to -0.0758.
        ({0: 23.6, 1: 23.75, 2: 23.95}, {0: 23.8, 1: 23.9, 2: 24.2}, HOLDS),
        ({0: 23.8, 1: 23.9, 2: 24.2}, {0: 23.6, 1: 23.75, 2: 23.95}, FAILS),
        # Unpaired the seeds' spread of 0.5 would drown the difference; seed 3 has no partner and does not count.
        ({0: 23.0, 1: 23.5, 2: 24.0, 3: 99.0}, {0: 23.1, 1: 23.61, 2: 24.09}, HOLDS),
        # Two seeds: 12.7062 * sd / sqrt(2). Differences -0.10 and -0.11: half-width 0.0635, below 0.105.
        ({0: 1.00, 1: 1.00}, {0: 1.10, 1: 1.11}, HOLDS),
        # -0.10 and -0.12: half-width 0.1271, above 0.11.
        ({0: 1.00, 1: 1.00}, {0: 1.10, 1: 1.12}, OPEN),
        ({0: 1.0}, {0: 9.0}, OPEN),  # one seed, however far apart
        ({0: 9.0}, {0: 1.0}, OPEN),
    ],
)
def test_a_verdict_on_differences_paired_by_seed_is_that_computed_by_hand(ours, theirs, expected):
    assert verdict(Evidence([Comparison("a", paired(ours, theirs))], True, "")) == expected


def test_the_least_favourable_comparison_has_the_highest_interval():
    wide, narrow, single = summary([-3.0, 1.0]), summary([-0.2, -0.21]), summary([-0.1])
    named = [Comparison(name, value) for name, value in (("wide", wide), ("narrow", narrow), ("single", single))]
    assert least_favourable(Evidence(named, True, "")).label == "wide"
    assert least_favourable(Evidence(named[1:], True, "")).label == "single"


def test_cells_of_two_versions_of_a_recipe_are_never_paired(tmp_path):
    """Seed 0 of the standard prior is of an earlier rate; with it, ByPE would seem worse."""
    for prior, seed, nll, lr in (
        ("standard", 0, 20.0, 4e-3), ("standard", 1, 25.0, 8e-3), ("bype", 0, 24.0, 8e-3), ("bype", 1, 24.0, 8e-3),
    ):  # fmt: skip
        figures = {"nll_paper_short": nll, "val_loss": 27.0, "epochs": 100, "seconds_evaluation": 1.0}
        write(tmp_path, "fast-table1", prior, seed, figures, protocol="fast", lr=lr)
    cells, _ = read(tmp_path)
    (one,) = BY_NAME["C2"].evidence(cells, FAST).comparisons
    assert (one.value.n, one.value.mean) == (1, -1.0)


@pytest.mark.parametrize("name", ["C1", "C2"])
def test_the_recipe_s_verdicts_are_about_the_columns_that_it_is_run_on(tmp_path, name):
    where = [(arch, set_) for arch, set_, *_ in fast_table1.COLUMNS]
    for arch, set_ in where:
        assert judge(tmp_path, name, FAST) != HOLDS
        for prior, seeds in OWN.items():
            for seed, nll in enumerate(seeds):
                figures = {"nll_paper_short": nll, "val_loss": 27.0, "epochs": 100, "seconds_evaluation": 1.0}
                write(tmp_path, "fast-table1", prior, seed, figures, protocol="fast", set_=set_, arch=arch)
    assert judge(tmp_path, name, FAST) == HOLDS


def test_the_lowest_in_all_columns_holds_only_if_all_of_them_are_run(tmp_path):
    write_columns(tmp_path, OWN, COLUMNS[:8])
    assert (judge(tmp_path, "C1"), judge(tmp_path, "C2")) == (OPEN, OPEN)
    write_columns(tmp_path, OWN, COLUMNS[8:])
    assert (judge(tmp_path, "C1"), judge(tmp_path, "C2")) == (HOLDS, HOLDS)


def test_an_interval_that_straddles_zero_decides_nothing(tmp_path):
    write_columns(tmp_path, OWN | {"bype": (23.10, 23.58, 23.82)})  # the same mean lead, widely spread
    assert judge(tmp_path, "C1") == OPEN


def test_one_column_refutes_a_claim_about_all(tmp_path):
    write_columns(tmp_path, OWN | {"vamp": (23.40, 23.41, 23.42)}, COLUMNS[:1])
    assert judge(tmp_path, "C1") == FAILS
    assert judge(tmp_path, "C2") == OPEN


def test_of_two_precisions_the_one_with_the_most_cells_counts(tmp_path):
    write_columns(tmp_path, OWN, COLUMNS[:1])
    for prior in OWN:  # one seed in another precision, in which ByPE is worse
        figures = {"nll_paper": 30.0 if prior == "bype" else 20.0, "nll_paper_items": 10_000, "epochs": 300}
        write(tmp_path, "table1", prior, 0, figures, precision="tf32")
    cells, _ = read(tmp_path)
    assert all(c.value.mean < 0 for c in BY_NAME["C1"].evidence(cells, PAPER).comparisons)


def test_controls_and_other_strategies_are_not_the_paper_s_method(tmp_path):
    write_columns(tmp_path, OWN, COLUMNS[:1])
    figures = {"nll_paper": 99.0, "nll_paper_items": 10_000, "epochs": 300}
    write(tmp_path, "table1", "bype", 0, figures, coreset="none")
    cells, _ = read(tmp_path)
    assert all(c.value.mean < 0 for c in BY_NAME["C1"].evidence(cells, PAPER).comparisons)


def test_the_recipe_s_cells_and_the_paper_s_never_mix(tmp_path):
    write_columns(tmp_path, OWN, COLUMNS[:1])
    assert judge(tmp_path, "C1", FAST) == NOT_RUN
    for prior, seeds in OWN.items():
        for seed, nll in enumerate(seeds):
            figures = {"nll_paper_short": nll + (1 if prior == "bype" else 0), "val_loss": 27.0}
            figures |= {"epochs": 60, "seconds_evaluation": 1.0}
            write(tmp_path, "fast-table1", prior, seed, figures, protocol="fast")
    assert judge(tmp_path, "C1", FAST) == FAILS
    assert judge(tmp_path, "C1", PAPER) == OPEN


@pytest.mark.parametrize(("margin", "expected"), [(0.5, HOLDS), (-0.5, FAILS)])
def test_neighbours_are_compared_at_every_k(tmp_path, margin, expected):
    for prior in OWN:
        for seed in range(3):
            accuracy = {f"knn_{k}": 97 + 0.1 * seed + (margin if prior == "bype" else 0) for k in range(3, 16, 2)}
            for name in ("mnist", "fashion-mnist"):
                figures = {"nll_paper": 24.0, "nll_paper_items": 10_000, "epochs": 300} | accuracy
                write(tmp_path, "table1", prior, seed, figures, set_=name)
    assert judge(tmp_path, "C6") == expected


@pytest.mark.parametrize(("lead", "expected"), [(0.05, HOLDS), (-0.05, FAILS), (0.0, OPEN)])
@pytest.mark.parametrize("source", [FAST, PAPER])
def test_classes_are_better_separated_if_the_difference_over_seeds_is(tmp_path, source, lead, expected):
    place, label = pack(np.zeros((2, 2), np.float32)), pack(np.arange(2))
    for prior in ("standard", "bype"):
        for seed in range(3):
            own = {"silhouette": 0.1 + 0.001 * seed + (prior == "bype") * (lead + 0.001 * (seed - 1))}
            arrays = {"map": place, "labels": label}
            write(tmp_path, "fig3", prior, seed, own, protocol=source.protocol, arrays=arrays)
    assert judge(tmp_path, "C7", source) == expected
    assert judge(tmp_path, "C7", FAST if source == PAPER else PAPER) == NOT_RUN


@pytest.mark.parametrize(("kl", "expected"), [((0.5, 0.9), HOLDS), ((0.5, 1.1), FAILS)])
def test_the_divergence_of_every_trained_prior_must_be_below_a_nat(tmp_path, kl, expected):
    for seed, value in enumerate(kl):
        figures = {"nll_paper": 24.0, "nll_paper_items": 10_000, "epochs": 300, "kl_prior": value}
        write(tmp_path, "table1", "bype", seed, figures)
    assert judge(tmp_path, "C10") == expected


def write_times(folder, name, exemplar, standard, update):
    figures = {"epochs": 3.0, "seconds_coreset": update, "coreset_share": 0.1}
    for method in table2.METHODS:
        ratio = {"exemplar_25000": exemplar, "standard": standard}.get(method, 1.0)
        figures |= {f"ratio_{method}": ratio, f"ratio_{method}_low": ratio - 0.01, f"ratio_{method}_high": ratio + 0.01}
        figures[f"seconds_per_epoch_{method}"] = 10 * ratio
    write(folder, "table2", "bype", 0, figures, protocol="timing", set_=name)


@pytest.mark.parametrize(
    ("exemplar", "standard", "update", "expected"),
    [
        (5.0, 0.95, 90.0, (OPEN, HOLDS)),  # that the NLL is as good is not measured
        (2.0, 0.30, 90.0, (FAILS, FAILS)),
        (5.0, 0.95, 0.1, (OPEN, FAILS)),  # 5 % of an epoch for the points, 0.1 % for step (ii)
        (5.0, 0.95, 5.0, (OPEN, OPEN)),  # 5 % each, with an interval of 1 % either way
    ],
)
def test_times_are_compared_with_the_paper_s_ratios(tmp_path, exemplar, standard, update, expected):
    for name in ("mnist", "fashion-mnist", "cifar10"):
        write_times(tmp_path, name, exemplar, standard, update)
    assert (judge(tmp_path, "C3"), judge(tmp_path, "C4")) == expected


@pytest.mark.parametrize("source", [FAST, PAPER])
def test_augmentation_is_of_table_3(tmp_path, source):
    for seed in range(3):
        for prior in OWN:
            errors = {"error_baseline": 1.4, "error_posterior": 1.2 + 0.01 * seed, "error_prior": 1.1}
            more = {"error_prior": 0.9 + 0.01 * seed} if prior == "bype" else {}
            write(tmp_path, "table3", prior, seed, errors | more, protocol=source.protocol)
    assert judge(tmp_path, "C9", source) == HOLDS
    assert judge(tmp_path, "C9", FAST if source == PAPER else PAPER) == NOT_RUN


@pytest.mark.parametrize(("fashion", "expected"), [(None, OPEN), (85.0, HOLDS), (70.0, FAILS)])
def test_plates_are_of_figure_1_and_must_agree_on_both_data_sets(tmp_path, fashion, expected):
    images = pack_images(torch.zeros(2, 1, 8, 8))
    arrays = {"points": images, "samples": pack_images(torch.zeros(2, 3, 1, 8, 8))}
    arrays |= {"components": pack(np.arange(2)), "weights": pack(np.ones(2, np.float32))}
    for name, share in (("mnist", 95.0), ("fashion-mnist", fashion)):
        for seed in range(3 if share is not None else 0):
            figures = {"plate_agreement": share + seed, "plate_variance": 20.0}
            write(tmp_path, "fig1", "bype", seed, figures, protocol="fast", set_=name, arrays=arrays)
    assert judge(tmp_path, "C8", FAST) == expected
    assert judge(tmp_path, "C8", PAPER) == NOT_RUN


@pytest.mark.parametrize(("less", "expected"), [((-0.2, -0.2), HOLDS), ((-0.2, 0.2), FAILS), ((0.0, 0.0), OPEN)])
def test_step_two_matters_if_both_strategies_beat_fixed_points(tmp_path, less, expected):
    for seed in range(3):
        for coreset, offset in (("none", 0.0), ("paper", less[0]), ("published", less[1])):
            noise = 0.01 * seed * (coreset != "none") if offset else 0.01 * (seed - 1) * (coreset != "none")
            figures = {"nll_paper_short": 25.8 + offset + noise, "val_loss": 27.0}
            write(tmp_path, "step-two", "bype", seed, figures, coreset=coreset, protocol="short")
    assert judge(tmp_path, "C11") == expected


def test_the_page_opens_with_a_row_per_claim(tmp_path):
    folder = tmp_path / "results" / "ledger"
    write_columns(folder, OWN | {"bype": (23.50, 23.51, 23.54)}, COLUMNS[:1])
    lines = render(folder).read_text().splitlines()
    rows = [line.split(" | ")[0] for line in lines if line.startswith("| C")]
    assert rows == [f"| C{i}" for i in (*range(1, 12), 1, 2, 5, 6, 7, 8, 9)]
    assert lines.index("## Verdicts on the claims of the paper") < lines.index(
        "## Table 1: four priors, protocol `paper`"
    )
    (c1, _) = (line for line in lines if line.startswith("| C1 |"))
    assert "3 of 3 comparisons are as claimed; least favourable: NLL of bype minus vamp (vae, mnist): -0.08" in c1
    assert "Covered: 1 of 9 columns with all priors | 3 | -0.11 to -0.05 | **not decided** | " in c1
    assert "`bype reproduce table1 --seeds 0,1,2` | " in c1


def test_every_command_of_the_page_is_one(tmp_path, run_cli):
    wanted = [claim.cells_wanted(source) for claim in CLAIMS for source in (PAPER, FAST)]
    for command in {one.command for one in wanted}:
        code, _, err = run_cli(*command.split()[1:], "--list", "--ledger", tmp_path / "none")
        assert code == 0, err


def test_times_name_their_device(tmp_path):
    write_times(tmp_path, "mnist", 3.0, 0.4, 2.0)
    (row,) = (line for line in render_of(tmp_path) if line.startswith("| C4 |"))
    assert "the cost of fixed points minus the cost of step (ii) (mnist, a card): +58.0 % of an epoch" in row
    assert "| 30 | 57.0 to 59.0 | **does not hold** | `bype reproduce table2` | 3 cells" in row


def test_missing_cells_are_counted_and_their_time_is_that_of_the_ledger(tmp_path):
    """Of 15 cells of step (ii), the standard prior's pace of 10 s for 30 epochs of 500 steps of 0.6 GFLOP."""
    cells = BY_NAME["C11"].cells_wanted(PAPER).cells()
    for cell in cells[:-1]:
        metrics = {"nll_paper_short": 25.0, "val_loss": 27.0, "epochs": 30}
        gflop = training_gflop("mnist", "vae", cell.config.prior, 100)
        value = cell_record(
            cell.experiment, cell.config, cell.protocol, epochs=[{"val_loss": 27.0}], metrics=metrics, versions={},
            device="a card", seconds=0.1 * 30 * gflop,
        )  # fmt: skip
        write_cell(tmp_path, value, cell.id)
    (row,) = (line for line in render_of(tmp_path) if line.startswith("| C11 |"))
    assert row.endswith(f"| 1 cell, roughly {duration(0.1 * cells[-1].gflop)} |")
    assert "at the pace of the runs here on a card" in "".join(render_of(tmp_path))
    write_cell(tmp_path, value | {"seed": cells[-1].config.seed} | settings_of(cells[-1]), cells[-1].id)
    (row,) = (line for line in render_of(tmp_path) if line.startswith("| C11 |"))
    assert row.endswith("| nothing |")


def settings_of(cell):
    c = cell.config
    own = cell_settings(c)
    return {"settings": own, "settings_hash": hash_settings(own), "prior": c.prior, "coreset": used_coreset(c)}


def render_of(ledger):
    return render(ledger).read_text().splitlines()
