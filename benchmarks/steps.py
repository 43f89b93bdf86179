"""Times what training consists of: epochs under each prior, step (ii), validation, importance sampling.

    python benchmarks/steps.py [OUT.json] [--epochs N] [--items N]

The data are noise of MNIST's size (50,000 28x28 images), so that nothing need be at hand; the time does not depend on
the values. Each prior's epoch stands beside the standard prior's, measured in the same run. On CUDA the recorded step
stands beside the eager one.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

import torch

import bype
from bype.core.devices import device_model, versions
from bype.core.files import write_json
from bype.core.names import STRATEGIES
from bype.core.precision import bf16_is_fast
from bype.evaluation.likelihood import log_likelihood
from bype.training.trainer import Trainer

# Prior, strategy, share of the points that a step encodes.
KINDS = (
    ("standard", "none", 1.0),
    ("vamp", "none", 1.0),
    ("bype", "none", 1.0),
    ("bype", "none", 0.5),
    ("bype", "none", 0.2),
    ("bype", "paper", 1.0),
    ("bype", "elbo", 1.0),
    ("exemplar", "none", 1.0),
)


def title(prior, coreset, reencode):
    """`vamp`, `bype paper`, `bype none, 0.5 encoded`."""
    return (prior if prior != "bype" else f"bype {coreset}") + (f", {reencode} encoded" if reencode < 1 else "")


def epochs(data, prior, coreset, reencode, precision, n, graph=True):
    """Medians over n epochs after a first one that sets everything up."""
    model = bype.build_model(
        data, prior=prior, coreset=coreset, n_components=500, exemplars=500, reencode=reencode if reencode < 1 else None
    )
    strategy = STRATEGIES[coreset]() if prior == "bype" else None
    trainer = Trainer(model, data, precision=precision, graph=graph, strategy=strategy, coreset_interval=2)
    trainer.run_epoch()
    infos = [trainer.run_epoch() for _ in range(n)]
    figures = {
        "seconds_per_epoch": statistics.median(i.seconds for i in infos),
        "seconds_validation": statistics.median(i.seconds_validation for i in infos),
    }
    updates = [i.coreset["seconds_coreset"] for i in infos if "seconds_coreset" in i.coreset]
    if updates:
        figures["seconds_coreset"] = statistics.median(updates[1:] or updates)  # the first one records
        # At the paper's interval of ten epochs.
        figures["coreset_share"] = updates[-1] / (updates[-1] + 10 * figures["seconds_per_epoch"])
    return model, figures


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("out", nargs="?")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--items", type=int, default=50_000)
    parser.add_argument("--iwae-items", type=int)
    given = parser.parse_args()
    cuda = torch.cuda.is_available()
    device = torch.device("cuda" if cuda else "cpu")
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (given.items + given.items // 4, 28, 28), generator=generator).byte()
    data = bype.from_arrays(pixels.numpy()).to(device)
    result = {"device": device_model(device), "versions": versions(), "items": len(data.train), "rows": []}

    def row(name, **figures):
        result["rows"].append({"name": name, **figures})
        print(name, {k: round(v, 4) if isinstance(v, float) else v for k, v in figures.items()}, flush=True)
        if given.out:
            write_json(Path(given.out), result)

    models = {}
    on_cpu = ("fp32", "bf16") if bf16_is_fast(device) else ("fp32",)
    for precision in ("tf32", "bf16", "fp32") if cuda else on_cpu:
        standard = None
        for kind in KINDS:
            name = title(*kind)
            models[name], figures = epochs(data, *kind, precision, given.epochs)
            standard = standard or figures["seconds_per_epoch"]
            row(f"epoch, {name}, {precision}", **figures, over_standard=figures["seconds_per_epoch"] / standard)
    if cuda:
        for kind in KINDS:
            _, figures = epochs(data, *kind, "tf32", given.epochs, graph=False)
            row(f"epoch, {title(*kind)}, tf32, eager", **figures)
    items = data.test.first(given.iwae_items or (10_000 if cuda else 100))
    for name, model in models.items():
        if "encoded" in name or (name == "exemplar" and not cuda):
            continue
        start = time.perf_counter()
        log_likelihood(model.eval(), items, 5000)
        if cuda:
            torch.cuda.synchronize()
        seconds = time.perf_counter() - start
        row(
            f"iwae, {name}",
            seconds=seconds,
            items=len(items),
            samples=5000,
            of_10000_items=seconds * 10_000 / len(items),
        )


if __name__ == "__main__":
    sys.exit(main())
