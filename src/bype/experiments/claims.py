"""The claims of the paper, each judged from the ledger alone."""

from collections.abc import Sequence

from bype.core.console import duration
from bype.experiments import evidence as of
from bype.experiments.catalog.sources import FAST, PAPER, Source
from bype.experiments.markdown import table_head
from bype.experiments.records import CellRecord
from bype.experiments.remaining import Pace, device_in_words, missing
from bype.experiments.verdicts import Claim, Evidence, Wanted, least_favourable, verdict

#: Seeds of a verdict: fewer than two have no interval.
SEEDS = (0, 1, 2)


def section(cells: Sequence[CellRecord]) -> list[str]:
    """The verdicts: by the paper's protocol, then those that compare priors by the recipe `fast`."""
    pace = Pace.of(cells)
    where = "" if pace is None else f", at the pace of the runs here on {device_in_words(pace.device)}"
    return [
        "## Verdicts on the claims of the paper",
        "",
        "The paper proposes a prior for variational autoencoders (VAEs): a mixture whose components are computed from "
        "a few hundred learned, weighted points, a pseudocoreset (ByPE, here `bype`). It claims that this prior is "
        "better than the standard normal prior (`standard`), VampPrior (`vamp`) and the exemplar prior (`exemplar`), "
        "and cheaper than the last. Step (i) is the training of the networks, step (ii) the update of the points; NLL "
        "is the negative log-likelihood of test examples, lower is better ([glossary](../docs/glossary.md)).",
        "",
        "Each claim is broken down into comparisons, stated so that the claim says that they are **negative**. It "
        "**holds** if all of them have been run and the 95 % interval of each is below zero, and **does not hold** if "
        "the interval of one is above zero; otherwise it is **not decided**. The intervals are those of the single "
        "comparisons, paired by seed; they are not widened for the number of comparisons. A comparison of one seed "
        "has no interval, and decides nothing; C10 alone is about each trained model by itself, not a mean over seeds. "
        "n is the number of seeds, or of timed blocks, of the comparison that is named. The last columns have the "
        "command with three seeds, and the number and time of the cells that are "
        f"missing, with what they measure after training{where}.",
        "",
        "### By the paper's protocol",
        "",
        *_table(cells, CLAIMS, PAPER, pace),
        "",
        "### Claims on priors, by the recipe `fast`",
        "",
        "The same comparisons with our own, shorter training recipe, which is cheap enough for several seeds; NLLs are "
        "`nll_paper_short` (500 samples on the first 2,000 test examples).",
        "",
        *_table(cells, [c for c in CLAIMS if c.fast is not None], FAST, pace),
        "",
    ]


def _table(cells: Sequence[CellRecord], claims: Sequence[Claim], source: Source, pace: Pace | None) -> list[str]:
    lines = table_head(
        "claim", "in a sentence", "paper", "ours", "n", "95 % interval", "verdict", "command", "still to run"
    )
    for claim in claims:
        evidence, wanted = claim.evidence(cells, source), claim.cells_wanted(source)
        ours, n, ends = _in_words(evidence)
        lines.append(
            f"| {claim.name} | {claim.sentence} | {claim.paper} | {ours} | {n} | {ends} | "
            f"**{verdict(evidence)}** | `{wanted.command}` | {_left(wanted, cells, pace)} |"
        )
    return lines


def _in_words(evidence: Evidence) -> tuple[str, str, str]:
    """The comparisons in words, with the one that is least favourable to the claim; its n; its interval."""
    if not evidence.comparisons:
        return "", "0", ""
    least, digits, total = least_favourable(evidence), evidence.digits, len(evidence.comparisons)
    value, better = least.value, sum(c.value.mean < 0 for c in evidence.comparisons)
    ends = ""
    if value.half_width and least.ends is not None:
        ends = f"{least.ends[0]:.{digits}f} to {least.ends[1]:.{digits}f}"
    which = "the comparison" if total == 1 else f"{better} of {total} comparisons are as claimed; least favourable"
    ours = f"{which}: {least.label}: {value.mean:+.{digits}f}{evidence.scale}. Covered: {evidence.scope}"
    return ours.removeprefix("the comparison: "), str(value.n), ends


def _left(wanted: Wanted, done: Sequence[CellRecord], pace: Pace | None) -> str:
    left = missing(wanted.cells(), done)
    if not left:
        return "nothing"
    time = "" if pace is None else f", roughly {duration(pace.seconds(left))}"
    return f"{len(left)} cell{'s' if len(left) > 1 else ''}{time}"


_OTHERS = [("bype", prior) for prior in ("standard", "vamp", "exemplar")]
CLAIMS = (
    Claim(
        "C1",
        "ByPE has the lowest negative log-likelihood of the four priors, for three networks on three data sets.",
        "lowest in 9 of 9 columns; least: bype - vamp -0.01",
        Wanted("table1", seeds=SEEDS),
        of.lower_nll(_OTHERS),
        Wanted("fast-table1", seeds=SEEDS),
    ),
    Claim(
        "C2",
        "The priors built from data have a lower negative log-likelihood than the standard normal prior.",
        "in 24 of 27 comparisons; not exemplar on CIFAR10",
        Wanted("table1", seeds=SEEDS),
        of.lower_nll([(prior, "standard") for prior in ("vamp", "exemplar", "bype")]),
        Wanted("fast-table1", seeds=SEEDS),
    ),
    Claim(
        "C3",
        "A training epoch with the exemplar prior and 25,000 exemplars takes 2.7, 3.1 and 3.9 times as long as with "
        "ByPE and 500 points, whose NLL is at most 0.04 worse.",
        "2.69, 3.09, 3.86 times",
        Wanted("table2"),
        of.epoch_cost,
    ),
    Claim(
        "C4",
        "While its points are fixed, an epoch with ByPE takes as long as with the standard prior (up to a tenth more); "
        "the main extra cost is step (ii).",
        "stated without figures",
        Wanted("table2"),
        of.extra_cost,
    ),
    Claim(
        "C5",
        "With the same number M of components, ByPE has a lower negative log-likelihood than the exemplar prior.",
        "Figure 5, without numbers",
        Wanted("fig5", seeds=SEEDS),
        of.equal_size,
        Wanted("fig5", {"protocol": "fast"}, SEEDS),
    ),
    Claim(
        "C6",
        "A K-nearest-neighbour classifier on the latents is most accurate with ByPE, for every K from 3 to 15.",
        "Figure 4, without numbers",
        Wanted("fig4", {"protocol": "paper"}),
        of.neighbours,
        Wanted("fig4"),
    ),
    Claim(
        "C7",
        "ByPE's latents separate the classes better than those of the standard prior (silhouette on test examples).",
        "Figure 3, by eye",
        Wanted("fig3", {"protocol": "paper"}),
        of.separation,
        Wanted("fig3"),
    ),
    Claim(
        "C8",
        "Samples of one pseudo-point's component resemble that point: a classifier gives at least 80 % of them its "
        "label.",
        "Figure 1, by eye",
        Wanted("fig1", {"protocol": "paper"}, sets=of.LABELLED),
        of.plates,
        Wanted("fig1", sets=of.LABELLED),
    ),
    Claim(
        "C9",
        "Of the ways to augment a classifier's training set, sampling from ByPE's prior gives the lowest test error.",
        "0.88 % against 1.10 % to 1.23 %",
        Wanted("table3", {"protocol": "paper"}),
        of.augmentation,
        Wanted("table3"),
    ),
    Claim(
        "C10",
        "At the end of training, ByPE's prior is close to that of all training examples: the Kullback-Leibler "
        "divergence (KL) is below 1 nat.",
        "stated without figures",
        Wanted("table1", {"prior": "bype"}, SEEDS),
        of.prior_divergence,
    ),
    Claim(
        "C11",
        "(ours) Step (ii) matters: with it, by either strategy, the NLL is lower than with fixed points.",
        "not tested",
        Wanted("step-two"),
        of.step_two_matters,
    ),
)
