"""`step-two` and `step-two-settings`: the strategies of step (ii), and strategy `paper` with other settings."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from bype.experiments.cell import Cell, Experiment, Selection, short_config
from bype.experiments.markdown import CLAMPED_AT_USE, interval, mean, number, prior_label, signed_mean, table_head
from bype.experiments.records import CellRecord, by_seed
from bype.experiments.stats import paired, summary
from bype.viz.charts import loss_curves
from bype.viz.images import save_png

NAME, SETTINGS_NAME = "step-two", "step-two-settings"
#: Metrics that the tables need of every cell.
SHOWN = {"short": ("nll_paper_short", "val_loss")}


def step_two(selection: Selection) -> list[Cell]:
    """All strategies of step (ii), and VampPrior."""
    strategies = [("bype", "paper"), ("bype", "published"), ("bype", "elbo"), ("bype", "none"), ("vamp", "none")]
    return [
        Cell(NAME, short_config(selection, seed, prior, coreset), "short", samples=None)
        for seed in selection.seeds or (0, 1, 2)
        for prior, coreset in strategies
    ]


def step_two_settings(selection: Selection) -> list[Cell]:
    """Strategy `paper` with 10 times the inner steps, and with 30 times the learning rate."""
    cells = []
    for seed in selection.seeds or (0,):
        default = short_config(selection, seed, "bype", "paper")
        for config in (replace(default, coreset_steps=1000), replace(default, coreset_lr=3e-2)):
            cells.append(Cell(SETTINGS_NAME, config, "short", samples=None))
    return cells


def section(cells: Sequence[CellRecord], folder: Path) -> list[str]:
    """A row per strategy, compared with `none` by seed; then the updates, and `paper` with other settings."""
    mine = [c for c in cells if c["experiment"] == NAME]
    if not mine:
        return []
    strategies = {
        strategy: [c for c in mine if (c["coreset"] or prior_label(c)) == strategy]
        for strategy in ("none", "paper", "published", "elbo", "vamp", CLAMPED_AT_USE)
    }
    if not strategies[CLAMPED_AT_USE]:
        del strategies[CLAMPED_AT_USE]
    lines = [
        "## Step (ii): strategies, protocol `short`",
        "",
        "MNIST, MLP VAE, M = 500, 30 epochs, warm-up 10. `nll_paper_short` uses 500 samples on the first 2,000 test "
        "examples; the validation loss is that of the best epoch. [docs/step-two.md](../docs/step-two.md) discusses "
        "the results.",
        "",
        *table_head(
            "strategy", "n", "`nll_paper_short`", "sd", "minus `none`, paired", "95 % interval", "validation loss",
            "minus `none`", "`kl_prior`", "`kl_prior_reverse`",
        ),
    ]  # fmt: skip
    for strategy, own in strategies.items():
        if not own:
            lines.append(f"| {strategy} | 0 | not run |" + " |" * 7)
            continue
        nll, loss = (summary(list(by_seed(own, metric).values())) for metric in ("nll_paper_short", "val_loss"))
        difference, loss_difference = (
            paired(by_seed(own, metric), by_seed(strategies["none"], metric)) if strategy != "none" else None
            for metric in ("nll_paper_short", "val_loss")
        )
        lines.append(
            f"| {strategy} | {nll.n} | {nll.mean:.2f} | {number(nll.sd)} | {signed_mean(difference)} | "
            f"{interval(difference)} | {loss.mean:.2f} | {signed_mean(loss_difference)} | {mean(own, 'kl_prior')} | "
            f"{mean(own, 'kl_prior_reverse')} |"
        )
    lines += ["", *_updates(strategies), *_settings(cells, strategies["paper"])]
    curves = {f"{k} s{c['seed']}": c["curve"] for k, own in strategies.items() for c in own if c["seed"] == 0}
    save_png(loss_curves(curves, "step (ii): validation loss", "the paper's unit"), folder / "step-two.png")
    return [*lines, "![Validation loss by strategy, seed 0](step-two.png)", ""]


def _updates(strategies: Mapping[str, Sequence[CellRecord]]) -> list[str]:
    """Before and after each update of the points, means over seeds."""
    lines = table_head(
        "strategy", "epoch", "validation loss before", "after", "distance of means", "fraction of U outside [0, 1]"
    )
    for strategy in ("paper", "published", "elbo"):
        own = strategies[strategy]
        updates = (re.fullmatch("coreset_mean_distance_([0-9]{1,9})", k) for c in own for k in c["figures"])
        for epoch in sorted({int(update[1]) for update in updates if update}):
            metrics = ("val_loss_before", "val_loss_after", "coreset_mean_distance", "coreset_outside")
            means = [mean(own, f"{metric}_{epoch}") for metric in metrics]
            lines.append(f"| {strategy} | {epoch} | {' | '.join(means)} |")
    return [*lines, ""]


def _settings(cells: Sequence[CellRecord], default: Sequence[CellRecord]) -> list[str]:
    """Strategy `paper` with other settings, and with the defaults at the same seeds."""
    others = [c for c in cells if c["experiment"] == SETTINGS_NAME]
    if not others:
        return []
    lines = [
        "`paper` with other settings than the defaults (100 inner steps, learning rate 1e-3):",
        "",
        *table_head(
            "seed", "inner steps", "learning rate of U", "`nll_paper_short`", "validation loss",
            "before the last update", "after the last update", "distance of means", "`kl_prior`",
        ),
    ]  # fmt: skip
    metrics = (
        "nll_paper_short", "val_loss", "val_loss_before_30", "val_loss_after_30", "coreset_mean_distance_30", "kl_prior"
    )  # fmt: skip
    seeds = {c["seed"] for c in others}
    for c in sorted([*(d for d in default if d["seed"] in seeds), *others], key=lambda c: c["seed"]):
        steps, lr = c["settings"].get("coreset_steps", 100), float(c["settings"].get("coreset_lr", 1e-3))
        means = [mean([c], metric) for metric in metrics]
        lines.append(f"| {c['seed']} | {steps} | {lr:g} | {' | '.join(means)} |")
    return [*lines, ""]


EXPERIMENT = Experiment(
    NAME, "All strategies of step (ii) on MNIST, and VampPrior.", step_two, shown=SHOWN, section=section
)
#: Shown in the section of `step-two`.
SETTINGS = Experiment(
    SETTINGS_NAME,
    "Strategy `paper` with more inner steps, and with a higher learning rate.",
    step_two_settings,
    shown=SHOWN,
)
