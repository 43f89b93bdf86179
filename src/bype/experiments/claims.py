"""The claims of the paper, each judged from the ledger alone.

A claim is broken down into comparisons, each of which the claim says is below zero. A comparison with an interval
above zero refutes the claim; if all of them are there and below zero, the claim holds; anything else is not decided.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from bype.experiments.catalog import fig3, fig5, step_two, table1, table2
from bype.experiments.catalog.sources import FAST, PAPER, Source, columns
from bype.experiments.markdown import table_head
from bype.experiments.records import CellRecord, by_seed
from bype.experiments.stats import Summary, paired, summary

HOLDS, FAILS, OPEN, NOT_RUN = "holds", "does not hold", "not decided", "not run"


class Comparison(NamedTuple):
    """A value that the claim says is below zero."""

    label: str
    value: Summary

    @property
    def ends(self) -> tuple[float, float] | None:
        """The ends of the 95 % interval; None if there is none."""
        return self.value.interval


class Evidence(NamedTuple):
    """The comparisons that have been run, and whether these are all that the claim is about."""

    comparisons: list[Comparison]
    complete: bool
    scope: str  # the part of the claim that has been run, in words
    digits: int = 2
    scale: str = ""  # the unit of the values


@dataclass(frozen=True)
class Claim:
    """A claim.

    Args:
        name: C1 to C11.
        sentence: The claim, in a sentence.
        paper: The paper's figures.
        command: The command that runs what the verdict needs.
        evidence: Collects the comparisons from the records of the ledger.
        of_priors: Whether the claim compares priors, and is therefore judged for each `Source`.
        fast_command: The command for the networks of the recipe `fast`, if it is not that of Table 1 with another name.
    """

    name: str
    sentence: str
    paper: str
    command: str
    evidence: Callable[[Sequence[CellRecord], Source], Evidence]
    of_priors: bool = False
    fast_command: str = ""


def verdict(evidence: Evidence) -> str:
    """`holds`, `does not hold`, `not decided` or `not run`.

    >>> below = Comparison("a", summary([-1.0, -1.1, -0.9]))
    >>> verdict(Evidence([below], True, "")), verdict(Evidence([below], False, "")), verdict(Evidence([], False, ""))
    ('holds', 'not decided', 'not run')
    """
    ends = [c.ends for c in evidence.comparisons]
    if not ends:
        return NOT_RUN
    if any(e is not None and e[0] > 0 for e in ends):
        return FAILS
    return HOLDS if evidence.complete and all(e is not None and e[1] < 0 for e in ends) else OPEN


def section(cells: Sequence[CellRecord]) -> list[str]:
    """The verdicts: by the paper's protocol, then those that compare priors by the recipe `fast`."""
    return [
        "## Verdicts on the claims of the paper",
        "",
        "The paper claims that the pseudocoreset prior (ByPE) is better than the standard normal prior, VampPrior and "
        "the exemplar prior, and cheaper than the last. A claim **holds** if all its comparisons have been run and the "
        "95 % interval of each lies on the claimed side, and **does not hold** if one interval lies on the other side; "
        "otherwise it is **not decided**. A comparison of one seed has no interval, and decides nothing. `ours` names "
        "the comparison that is least favourable to the claim; n is its number of seeds or measurements.",
        "",
        "### By the paper's protocol",
        "",
        *_table(cells, CLAIMS, PAPER),
        "",
        "### Claims on priors, by the recipe `fast`",
        "",
        "The same comparisons with our own, shorter training recipe, which is cheap enough for several seeds; "
        "likelihoods are `nll_paper_short` (500 samples on the first 2,000 test examples).",
        "",
        *_table(cells, [c for c in CLAIMS if c.of_priors], FAST),
        "",
    ]


def _table(cells: Sequence[CellRecord], claims: Sequence[Claim], source: Source) -> list[str]:
    lines = table_head("claim", "in a sentence", "paper", "ours", "n", "95 % interval", "verdict", "command")
    for claim in claims:
        evidence = claim.evidence(cells, source)
        ours, n, ends = _weakest(evidence)
        command = claim.command
        if source == FAST:
            command = claim.fast_command or command.replace(PAPER.experiment, FAST.experiment)
        lines.append(
            f"| {claim.name} | {claim.sentence} | {claim.paper} | {ours} | {n} | {ends} | "
            f"**{verdict(evidence)}** | `{command}` |"
        )
    return lines


def _weakest(evidence: Evidence) -> tuple[str, str, str]:
    """The comparison least favourable to the claim, in words; its n; its interval."""
    if not evidence.comparisons:
        return "", "0", ""
    least = max(evidence.comparisons, key=lambda c: c.value.mean if c.ends is None else c.ends[1])
    value, digits, total = least.value, evidence.digits, len(evidence.comparisons)
    better = sum(c.value.mean < 0 for c in evidence.comparisons)
    ends = (
        ""
        if not value.half_width or least.ends is None
        else f"{least.ends[0]:.{digits}f} to {least.ends[1]:.{digits}f}"
    )
    ours = f"as claimed in {better} of {total} comparisons ({evidence.scope}); least: {least.label} "
    return f"{ours}{value.mean:+.{digits}f}{evidence.scale}", str(value.n), ends


def difference(ours: Sequence[CellRecord], theirs: Sequence[CellRecord], source: Source) -> Summary | None:
    """The negative log-likelihood of ours minus theirs, paired by seed and on the same test examples."""
    if source == PAPER:
        return table1.difference(ours, theirs)
    return paired(by_seed(ours, "nll_paper_short"), by_seed(theirs, "nll_paper_short"))


def _nll(pairs: Sequence[tuple[str, str]]) -> Callable[[Sequence[CellRecord], Source], Evidence]:
    """Evidence that the first prior of each pair has the lower negative log-likelihood in all columns of Table 1."""

    def collect(cells: Sequence[CellRecord], source: Source) -> Evidence:
        found, wanted, comparisons = columns(cells, source), 0, []
        full = 0
        for arch, sets in table1.PAPER.items():
            for name in sets:
                wanted += 1
                own = found.get((arch, name), {})
                values = [(a, b, difference(own[a], own[b], source)) for a, b in pairs if a in own and b in own]
                full += len(values) == len(pairs) and all(v is not None for *_, v in values)
                comparisons += [Comparison(f"{a} - {b} ({arch}, {name})", v) for a, b, v in values if v is not None]
        return Evidence(comparisons, full == wanted, f"{full} of {wanted} columns complete")

    return collect


def _epoch_cost(cells: Sequence[CellRecord], source: Source) -> Evidence:
    """C3: the paper's ratio minus ours, for each data set. That the NLL is as good is not measured by any cell."""
    comparisons = []
    paper = table2.METHODS["exemplar_25000"].paper, table2.METHODS["bype"].paper
    for c in _timed(cells):
        theirs, reference = (seconds[table2.SETS.index(c["set"])] for seconds in paper)
        if theirs is not None and reference is not None:
            own = table2.ratio(c, "exemplar_25000")
            less = own._replace(mean=theirs / reference - own.mean)
            comparisons.append(Comparison(f"paper's ratio - ours ({c['set']})", less))
    scope = f"times on {len(comparisons)} of 3 data sets; the NLL of Exemplar(25,000) is not run"
    return Evidence(comparisons, False, scope)


def _extra_cost(cells: Sequence[CellRecord], source: Source) -> Evidence:
    """C4: an epoch with fixed points costs at most 10 % more than with the standard prior, and less than step (ii)."""
    comparisons = []
    for c in _timed(cells):
        standard = table2.ratio(c, "standard")  # to bype's epoch; it should be above 1/1.1
        comparisons.append(
            Comparison(f"1/1.1 - standard/bype ({c['set']})", standard._replace(mean=1 / 1.1 - standard.mean))
        )
        f = c["figures"]
        points = f["seconds_per_epoch_bype"] - f["seconds_per_epoch_standard"]
        share = points - f["seconds_coreset"] / 10
        comparisons.append(Comparison(f"s per epoch for the points - for step (ii) ({c['set']})", _exact(share)))
    sets = len(comparisons) // 2
    return Evidence(comparisons, sets == len(table2.SETS), f"{sets} of {len(table2.SETS)} data sets")


def _timed(cells: Sequence[CellRecord]) -> list[CellRecord]:
    return [c for c in cells if c["experiment"] == table2.NAME and c["set"] in table2.SETS]


def _equal_size(cells: Sequence[CellRecord], source: Source) -> Evidence:
    """C5: ByPE minus Exemplar at each M; run by the protocol `short`, which stands for the paper's here."""
    own = fig5.differences(cells) if source == PAPER else {}
    comparisons = [Comparison(f"bype - exemplar (M = {m})", value) for m, value in own.items()]
    return Evidence(comparisons, len(own) == len(fig5.COMPONENTS), f"{len(own)} of {len(fig5.COMPONENTS)} sizes")


def _neighbours(cells: Sequence[CellRecord], source: Source) -> Evidence:
    """C6: the accuracy of each other prior minus ByPE's, at each K."""
    comparisons, found, full = [], columns(cells, source), 0
    for name in ("mnist", "fashion-mnist"):
        own = found.get(("vae", name), {})
        full += all(prior in own for prior in table1.PRIORS)
        for prior in table1.PRIORS:
            for k in range(3, 16, 2):
                if prior != "bype" and "bype" in own and prior in own:
                    value = paired(by_seed(own[prior], f"knn_{k}"), by_seed(own["bype"], f"knn_{k}"))
                    if value is not None:
                        comparisons.append(Comparison(f"{prior} - bype (K = {k}, {name})", value))
    return Evidence(comparisons, full == 2, f"{full} of 2 data sets complete", scale=" %")


def _separation(cells: Sequence[CellRecord], source: Source) -> Evidence:
    """C7: the silhouette of the standard prior's latents minus that of ByPE's, from Table 1 and Figure 3."""
    table = columns(cells, source).get(("vae", "mnist"), {})
    figure = [c for c in cells if (c["experiment"], c["protocol"], c["set"]) == (fig3.NAME, source.protocol, "mnist")]

    def silhouettes(prior: str) -> dict[int, float]:
        own = [c for c in figure if c["prior"] == prior and c["coreset"] in (None, "paper")]
        return by_seed(table.get(prior, ()), "silhouette") | by_seed(own, "silhouette")

    both = paired(silhouettes("standard"), silhouettes("bype"))
    comparisons = [] if both is None else [Comparison("silhouette, standard - bype (vae, mnist)", both)]
    return Evidence(comparisons, both is not None, "MNIST", 3)


def _plates(cells: Sequence[CellRecord], source: Source) -> Evidence:
    """C8: 80 % minus the share of a plate's samples that have the label of their point."""
    values = list(by_seed(_augmented(cells, "bype", source), "plate_agreement").values())
    comparisons = [Comparison("80 % - share of samples", summary([80 - v for v in values]))] if values else []
    return Evidence(comparisons, bool(values), "MNIST", 1, " %")


def _augmentation(cells: Sequence[CellRecord], source: Source) -> Evidence:
    """C9: the test error with ByPE's prior sampling minus that of each other method."""
    ours = by_seed(_augmented(cells, "bype", source), "error_prior")
    rivals = [(prior, "error_posterior") for prior in table1.PRIORS] + [("exemplar", "error_prior")]
    comparisons = []
    for prior, metric in [*rivals, ("bype", "error_baseline")]:
        value = paired(ours, by_seed(_augmented(cells, prior, source), metric))
        if value is not None:
            what = metric.removeprefix("error_")
            comparisons.append(Comparison(f"bype prior - {prior} {what}", value))
    return Evidence(comparisons, len(comparisons) == len(rivals) + 1, f"{len(comparisons)} of 6 methods", scale=" %")


def _augmented(cells: Sequence[CellRecord], prior: str, source: Source) -> list[CellRecord]:
    """The cells of Table 3: classifiers trained with a model's samples. They are from `fast` networks."""
    return [c for c in cells if (c["experiment"], c["prior"]) == ("table3", prior)] if source == FAST else []


def _prior_divergence(cells: Sequence[CellRecord], source: Source) -> Evidence:
    """C10: the divergence of ByPE's prior from that of all training examples, minus 1 nat, for each trained model."""
    comparisons = []
    for (arch, name), own in columns(cells, source).items():
        for seed, value in by_seed(own.get("bype", ()), "kl_prior").items():
            # An estimate from 10,000 draws: its standard error is below 0.02.
            comparisons.append(Comparison(f"KL - 1 nat ({arch}, {name}, seed {seed})", _exact(value - 1)))
    return Evidence(comparisons, bool(comparisons), f"{len(comparisons)} trained models", scale=" nats")


def _exact(value: float) -> Summary:
    """A value that the claim is about as it is, not as the mean of a sample."""
    return Summary(1, value, None, 0.0)


def _step_two(cells: Sequence[CellRecord], source: Source) -> Evidence:
    """C11: strategies `paper` and `published` minus `none`."""

    def of(strategy: str) -> dict[int, float]:
        own = [c for c in cells if c["experiment"] == step_two.NAME and c["coreset"] == strategy]
        return by_seed(own, "nll_paper_short")

    both = [(strategy, paired(of(strategy), of("none"))) for strategy in ("paper", "published")]
    comparisons = [Comparison(f"{strategy} - none", value) for strategy, value in both if value is not None]
    return Evidence(comparisons, len(comparisons) == 2, "MNIST, protocol `short`")


_OTHERS = [("bype", prior) for prior in ("standard", "vamp", "exemplar")]
CLAIMS = (
    Claim(
        "C1",
        "ByPE has the lowest negative log-likelihood of the four priors, for three networks on three data sets.",
        "lowest in 9 of 9 columns; least: bype - vamp -0.01",
        "bype reproduce table1",
        _nll(_OTHERS),
        of_priors=True,
    ),
    Claim(
        "C2",
        "The priors built from data have a lower negative log-likelihood than the standard normal prior.",
        "in 24 of 27 comparisons; not exemplar on CIFAR10",
        "bype reproduce table1",
        _nll([(prior, "standard") for prior in ("vamp", "exemplar", "bype")]),
        of_priors=True,
    ),
    Claim(
        "C3",
        "An epoch of Exemplar(25,000) costs 2.7, 3.1 and 3.9 times that of ByPE(500), whose NLL is at most 0.04 worse.",
        "2.69, 3.09, 3.86 times",
        "bype reproduce table2",
        _epoch_cost,
    ),
    Claim(
        "C4",
        "With fixed points an epoch costs what it costs with the standard prior; step (ii) is the main extra cost.",
        "stated without figures",
        "bype reproduce table2",
        _extra_cost,
    ),
    Claim(
        "C5",
        "With the same number M of components, ByPE has a lower negative log-likelihood than the exemplar prior.",
        "Figure 5, without numbers",
        "bype reproduce fig5",
        _equal_size,
        of_priors=True,
    ),
    Claim(
        "C6",
        "A K-nearest-neighbour classifier on the latents is most accurate with ByPE, for every K from 3 to 15.",
        "Figure 4, without numbers",
        "bype reproduce fig4 --protocol paper",
        _neighbours,
        of_priors=True,
        fast_command="bype reproduce fig4",
    ),
    Claim(
        "C7",
        "ByPE's latents separate the classes better than those of the standard prior (silhouette on test examples).",
        "Figure 3, by eye",
        "bype reproduce fig3 --protocol paper",
        _separation,
        of_priors=True,
        fast_command="bype reproduce fig3",
    ),
    Claim(
        "C8",
        "Samples of one pseudo-point's component resemble that point: at least 80 % have its label.",
        "Figure 1, by eye",
        "bype reproduce table3",
        _plates,
        of_priors=True,
    ),
    Claim(
        "C9",
        "Of the ways to augment a classifier's training set, sampling from ByPE's prior gives the lowest test error.",
        "0.88 % against 1.10 % to 1.23 %",
        "bype reproduce table3",
        _augmentation,
        of_priors=True,
    ),
    Claim(
        "C10",
        "At the end of training, ByPE's prior is close to that of all training examples: KL below 1 nat.",
        "stated without figures",
        "bype reproduce table1 --prior bype",
        _prior_divergence,
    ),
    Claim(
        "C11",
        "(ours) Step (ii) matters: with it, the negative log-likelihood is lower than with fixed points.",
        "not tested",
        "bype reproduce step-two",
        _step_two,
    ),
)
