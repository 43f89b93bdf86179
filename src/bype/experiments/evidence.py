"""The comparisons of each claim, collected from the ledger."""

from collections.abc import Callable, Sequence

from bype.evaluation.neighbours import KNN
from bype.experiments.catalog import fast_table1, fig1, fig3, fig5, step_two, table1, table2, table3
from bype.experiments.catalog.sources import PAPER, Source, by_prior, columns, one_kind
from bype.experiments.records import CellRecord, by_seed
from bype.experiments.remaining import device_in_words
from bype.experiments.stats import Summary, paired, summary
from bype.experiments.verdicts import Comparison, Evidence

#: The unit of the negative log-likelihoods of a comparison.
NLL = " in the paper's unit"
#: The data sets with labels that figures show.
LABELLED = ("mnist", "fashion-mnist")


def difference(ours: Sequence[CellRecord], theirs: Sequence[CellRecord], source: Source) -> Summary | None:
    """The negative log-likelihood of ours minus theirs, paired by seed and on the same test examples."""
    if source == PAPER:
        return table1.difference(ours, theirs)
    return paired(by_seed(ours, "nll_paper_short"), by_seed(theirs, "nll_paper_short"))


def lower_nll(pairs: Sequence[tuple[str, str]]) -> Callable[[Sequence[CellRecord], Source], Evidence]:
    """Evidence that the first prior of each pair has the lower negative log-likelihood.

    By the paper's protocol in all columns of Table 1; by the recipe `fast` in those that are run with it.
    """

    def collect(cells: Sequence[CellRecord], source: Source) -> Evidence:
        found, comparisons, full = columns(cells, source), [], 0
        wanted = [(arch, name) for arch, sets in table1.PAPER.items() for name in sets]
        if source != PAPER:
            wanted = [(arch, name) for arch, name, *_ in fast_table1.COLUMNS]
        for arch, name in wanted:
            own = found.get((arch, name), {})
            values = [(a, b, difference(own[a], own[b], source)) for a, b in pairs if a in own and b in own]
            full += len(values) == len(pairs) and all(v is not None for *_, v in values)
            comparisons += [
                Comparison(f"NLL of {a} minus {b} ({arch}, {name})", v) for a, b, v in values if v is not None
            ]
        return Evidence(comparisons, full == len(wanted), f"{full} of {len(wanted)} columns with all priors", 2, NLL)

    return collect


def epoch_cost(cells: Sequence[CellRecord], source: Source) -> Evidence:
    """C3: the paper's ratio minus ours, for each data set. That the NLL is as good is not measured by any cell."""
    comparisons = []
    paper = table2.METHODS["exemplar_25000"].paper, table2.METHODS["bype"].paper
    for c in _timed(cells):
        theirs, reference = (seconds[table2.SETS.index(c["set"])] for seconds in paper)
        if theirs is not None and reference is not None:
            own = table2.ratio(c, "exemplar_25000")
            less = own._replace(mean=theirs / reference - own.mean)
            what = f"the paper's ratio {theirs / reference:.2f} minus ours, {own.mean:.2f} ({_where(c)})"
            comparisons.append(Comparison(what, less))
    scope = f"times on {len(comparisons)} of 3 data sets; that the NLL is as good is measured by no cell"
    return Evidence(comparisons, False, scope)


def extra_cost(cells: Sequence[CellRecord], source: Source) -> Evidence:
    """C4: fixed points cost at most 10 % of the standard prior's epoch, and less than step (ii).

    Both in percent of an epoch with fixed points; the interval is that of the times of its blocks.
    """
    comparisons = []
    for c in _timed(cells):
        standard, f = table2.ratio(c, "standard"), c["figures"]
        points = Summary(standard.n, 100 * (1 - standard.mean), None, 100 * (standard.half_width or 0.0))
        update = 100 * f["seconds_coreset"] / 10 / f["seconds_per_epoch_bype"]
        allowed = 100 * (1 - 1 / 1.1)
        for label, limit in (("a tenth of the standard prior's epoch", allowed), ("the cost of step (ii)", update)):
            value = points._replace(mean=points.mean - limit)
            comparisons.append(Comparison(f"the cost of fixed points minus {label} ({_where(c)})", value))
    sets = len(comparisons) // 2
    return Evidence(comparisons, sets == len(table2.SETS), f"{sets} of 3 data sets", 1, " % of an epoch")


def _where(record: CellRecord) -> str:
    """Data set and device."""
    return f"{record['set']}, {device_in_words(record['device'])}"


def _timed(cells: Sequence[CellRecord]) -> list[CellRecord]:
    return [c for c in cells if c["experiment"] == table2.NAME and c["set"] in table2.SETS]


def equal_size(cells: Sequence[CellRecord], source: Source) -> Evidence:
    """C5: ByPE minus Exemplar at each M; run by the protocol `short`, which stands for the paper's here."""
    own = fig5.differences(cells, "short" if source == PAPER else source.protocol)
    comparisons = [Comparison(f"NLL of bype minus exemplar (M = {m})", value) for m, value in own.items()]
    scope = f"{len(own)} of {len(fig5.COMPONENTS)} sizes, MNIST" + (", protocol `short`" if source == PAPER else "")
    return Evidence(comparisons, len(own) == len(fig5.COMPONENTS), scope, 2, NLL)


def neighbours(cells: Sequence[CellRecord], source: Source) -> Evidence:
    """C6: the accuracy of each other prior minus ByPE's, at each K."""
    comparisons, found, full = [], columns(cells, source), 0
    for name in LABELLED:
        own = found.get(("vae", name), {})
        full += all(prior in own for prior in table1.PRIORS)
        for prior in (p for p in table1.PRIORS if p != "bype" and p in own and "bype" in own):
            for k in KNN:
                value = paired(by_seed(own[prior], f"knn_{k}"), by_seed(own["bype"], f"knn_{k}"))
                if value is not None:
                    comparisons.append(Comparison(f"accuracy of {prior} minus bype (K = {k}, {name})", value))
    return Evidence(comparisons, full == 2, f"{full} of 2 data sets with all priors", scale=" %")


def separation(cells: Sequence[CellRecord], source: Source) -> Evidence:
    """C7: the silhouette of the standard prior's latents minus that of ByPE's, from Table 1 and Figure 3."""
    names = (source.experiment, fig3.NAME)
    own = [
        c
        for c in cells
        if (c["protocol"], c["arch"], c["set"]) == (source.protocol, "vae", "mnist")
        and c["experiment"] in names
        and c["coreset"] in (None, "paper")
    ]
    groups = by_prior(one_kind([c for c in own if "silhouette" in c["figures"]]))
    both = paired(by_seed(groups.get("standard", ()), "silhouette"), by_seed(groups.get("bype", ()), "silhouette"))
    comparisons = [] if both is None else [Comparison("silhouette of standard minus bype", both)]
    return Evidence(comparisons, both is not None, "MNIST, MLP VAE", 3)


def plates(cells: Sequence[CellRecord], source: Source) -> Evidence:
    """C8: 80 % minus the share of a plate's samples that have the label of their point, on each labelled data set."""
    comparisons = []
    for name in LABELLED:
        own = one_kind(_cells_of(cells, fig1.NAME, source, name))
        if values := list(by_seed(own, "plate_agreement").values()):
            less = summary([80 - v for v in values])
            comparisons.append(Comparison(f"80 % minus the share of samples, {80 - less.mean:.1f} % ({name})", less))
    return Evidence(comparisons, len(comparisons) == 2, f"{len(comparisons)} of 2 data sets", 1, " %")


def augmentation(cells: Sequence[CellRecord], source: Source) -> Evidence:
    """C9: the test error with ByPE's prior sampling minus that of each other method."""
    groups = by_prior(one_kind(_cells_of(cells, table3.NAME, source, "mnist")))
    ours = by_seed(groups.get("bype", ()), "error_prior")
    rivals = [(prior, "error_posterior") for prior in table1.PRIORS] + [("exemplar", "error_prior")]
    comparisons = []
    for prior, metric in [*rivals, ("bype", "error_baseline")]:
        value = paired(ours, by_seed(groups.get(prior, ()), metric))
        if value is not None:
            method = metric.removeprefix("error_")
            other = "no augmentation" if method == "baseline" else f"{method} sampling of {prior}"
            comparisons.append(Comparison(f"error with prior sampling of bype minus {other}", value))
    return Evidence(comparisons, len(comparisons) == len(rivals) + 1, f"{len(comparisons)} of 6 methods", scale=" %")


def _cells_of(cells: Sequence[CellRecord], experiment: str, source: Source, name: str) -> list[CellRecord]:
    return [c for c in cells if (c["experiment"], c["protocol"], c["set"]) == (experiment, source.protocol, name)]


def prior_divergence(cells: Sequence[CellRecord], source: Source) -> Evidence:
    """C10: the divergence of ByPE's prior from that of all training examples, minus 1 nat, for each trained model."""
    comparisons = []
    for (arch, name), own in columns(cells, source).items():
        for seed, value in by_seed(own.get("bype", ()), "kl_prior").items():
            # An estimate from 10,000 draws: its standard error is below 0.02.
            comparisons.append(Comparison(f"KL minus 1 nat ({arch}, {name}, seed {seed})", _exact(value - 1)))
    return Evidence(comparisons, bool(comparisons), f"each of {len(comparisons)} trained models", scale=" nats")


def _exact(value: float) -> Summary:
    """A value that the claim is about as it is, not as the mean of a sample."""
    return Summary(1, value, None, 0.0)


def step_two_matters(cells: Sequence[CellRecord], source: Source) -> Evidence:
    """C11: strategies `paper` and `published` minus `none`."""

    def of(strategy: str) -> dict[int, float]:
        own = [c for c in cells if c["experiment"] == step_two.NAME and c["coreset"] == strategy]
        return by_seed(own, "nll_paper_short")

    both = [(strategy, paired(of(strategy), of("none"))) for strategy in ("paper", "published")]
    comparisons = [
        Comparison(f"NLL with `{strategy}` minus fixed points", value) for strategy, value in both if value is not None
    ]
    return Evidence(
        comparisons, len(comparisons) == 2, f"{len(comparisons)} of 2 strategies, MNIST, protocol `short`", 2, NLL
    )
