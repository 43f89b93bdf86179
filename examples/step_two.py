"""Effect of step (ii) on a trained model: `python examples/step_two.py RUN OUT` (any run with prior bype).

With the networks fixed, Algorithm 2 continues from the run's U and w with more inner steps and larger learning rates.
Each setting is measured by the validation loss, KL(p(z|U,w) || p(z|X)), the distance of sum w u / N from the data's
mean, the distance that the points moved, and the part of the displacement that all points have in common. Writes a
table, and pictures of U before and after, to OUT.
"""

import argparse
import copy
from pathlib import Path

import torch

from bype.core.seeds import Stream
from bype.evaluation.divergences import prior_divergences
from bype.pseudocoreset.paper import Algorithm2
from bype.pseudocoreset.published import ReferenceCode
from bype.pseudocoreset.strategy import coreset_metrics
from bype.runs.run import Run
from bype.training.validation import validation_bound
from bype.viz import images as pictures

SETTINGS = [(0, 1e-3), (100, 1e-3), (1000, 1e-3), (5000, 1e-3), (100, 1e-2), (100, 1e-1), (1000, 1e-2)]
SHOWN = 24


def measure(model, data, before):
    prior = model.prior
    moved = (prior.pseudo_inputs - before).flatten(1)
    common = moved.mean(0)
    return {
        "validation loss": -validation_bound(model, data.validation, Stream.VALIDATION),
        "kl_prior": prior_divergences(model, data.train)["kl_prior"],
        "distance of means": coreset_metrics(prior, data.train)["coreset_mean_distance"],
        "norm of u - u0, mean": moved.norm(dim=1).mean().item(),
        "common part": (common.norm() / moved.norm(dim=1).mean()).item() if moved.any() else 0.0,
        "change of w, relative, mean": (prior.weights / (prior.n_data / len(prior.weights)) - 1).abs().mean().item(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", metavar="RUN")
    parser.add_argument("out", metavar="OUT", type=Path)
    options = parser.parse_args()
    out = options.out
    out.mkdir(parents=True, exist_ok=True)
    loaded = Run.open(options.run).load("cpu")
    data, start = loaded.data, loaded.model
    before = start.prior.pseudo_inputs.clone()
    strategies = [(f"paper, {steps} steps at {lr:g}", Algorithm2(steps, lr)) for steps, lr in SETTINGS]
    strategies += [("published, one pass", ReferenceCode())]
    lines, rows = [], [before[:SHOWN]]
    for name, strategy in strategies:
        model = copy.deepcopy(start)
        strategy.update(model, data.train, torch.Generator().manual_seed(0))
        figures = measure(model, data, before)
        if not lines:
            lines += ["| step (ii) | " + " | ".join(figures) + " |", "|" + "---|" * (1 + len(figures))]
        lines.append(f"| {name} | " + " | ".join(f"{v:.3f}" for v in figures.values()) + " |")
        print(lines[-1], flush=True)
        if name in ("paper, 100 steps at 0.001", "paper, 1000 steps at 0.01", "published, one pass"):
            rows.append(model.prior.pseudo_inputs[:SHOWN])
    pictures.save_png(pictures.grid(torch.cat(rows), SHOWN), out / "step-two-points.png")
    (out / "step-two-probe.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
