"""Compares recipes on validation data: learning rates, schedules, batch sizes, averaging.

    python benchmarks/recipes.py OUT.jsonl [--set mnist] [--show]

Each trial is one run of the MLP VAE with M = 500 and seed 0. A finished trial is a line of OUT.jsonl, with the
validation loss and the processor's seconds after each epoch; a second call runs only what is missing. At the end, and
alone with `--show`, the table of docs/recipes.md is printed. Test data are never read.

The seconds are processor seconds of this process, which other processes disturb less than the time on the wall; on more
than one core they are those of all cores.
"""

import argparse
import json
import time
from pathlib import Path

import torch

import bype
from bype.training.trainer import Trainer

#: Options of `Trainer`, of the prior under `model`, in the order in which they are run.
TRIALS = [
    {"model": {"prior": "standard"}, "epochs": 10, "warmup": 3, "batch_size": 200, "lr": 4e-3, "schedule": "cosine"},
    {"model": {"prior": "standard"}, "epochs": 10, "warmup": 3, "batch_size": 200, "lr": 8e-3, "schedule": "cosine"},
    {"model": {"prior": "standard"}, "epochs": 10, "warmup": 3, "batch_size": 400, "lr": 8e-3, "schedule": "cosine"},
    {"model": {"prior": "standard"}, "epochs": 10, "warmup": 3, "batch_size": 100, "lr": 4e-3, "schedule": "cosine"},
    {"model": {"prior": "standard"}, "epochs": 10, "warmup": 3, "batch_size": 200, "lr": 4e-3, "schedule": "linear"},
    {
        "model": {"prior": "standard"}, "epochs": 10, "warmup": 3, "batch_size": 200, "lr": 4e-3,
        "averaging": 0.999,
    },
    {"model": {"prior": "standard"}, "epochs": 10, "warmup": 3, "batch_size": 200, "lr": 4e-3},
    {
        "model": {"prior": "standard"}, "epochs": 10, "warmup": 3, "batch_size": 200, "lr": 8e-3,
        "schedule": "cosine", "lr_warmup": 1,
    },
]  # fmt: skip


def run(data, trial, seed=0):
    """Trains one trial; returns it with its curve."""
    options = {k: v for k, v in trial.items() if k != "model"}
    torch.manual_seed(seed)
    model = bype.build_model(data, n_components=500, seed=seed, **trial["model"])
    trainer = Trainer(model, data, precision="fp32", seed=seed, **options)
    start, losses, seconds = time.process_time(), [], []
    for info in trainer:
        losses.append(round(info.val_loss, 4))
        seconds.append(round(time.process_time() - start, 1))
        print(f"  epoch {info.epoch}/{trainer.epochs}  validation {info.val_loss:.3f}  {seconds[-1]:.0f} s", flush=True)
    return {"trial": trial, "losses": losses, "seconds": seconds}


def table(lines):
    """The trials by their best validation loss, as Markdown."""
    head = (
        "prior", "step (ii)", "epochs", "warm-up", "batch", "rate", "schedule", "averaging", "seconds",
        "validation loss",
    )  # fmt: skip
    rows = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for line in sorted(lines, key=lambda x: (x["trial"]["model"]["prior"], min(x["losses"]))):
        t = line["trial"]
        schedule = t.get("schedule", "constant") + (f", rising for {t['lr_warmup']}" if t.get("lr_warmup") else "")
        cells = (
            t["model"]["prior"], t["model"].get("coreset", "-"), t["epochs"], t["warmup"], t["batch_size"], t["lr"],
            schedule, t.get("averaging", "-"), f"{line['seconds'][-1]:.0f}", f"{min(line['losses']):.2f}",
        )  # fmt: skip
        rows.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(rows)


def main():
    """Runs the missing trials, then prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--set", default="mnist")
    parser.add_argument("--show", action="store_true", help="only print the table")
    parser.add_argument("--trials", type=Path, help="a JSON list of other trials")
    options = parser.parse_args()
    lines = [json.loads(line) for line in options.out.read_text().splitlines()] if options.out.exists() else []
    trials = json.loads(options.trials.read_text()) if options.trials else TRIALS
    missing = [] if options.show else [t for t in trials if t not in [line["trial"] for line in lines]]
    data = bype.load(options.set) if missing else None
    for trial in missing:
        print(json.dumps(trial), flush=True)
        lines.append(run(data, trial))
        with options.out.open("a") as file:
            file.write(json.dumps(lines[-1]) + "\n")
    print(table(lines))


if __name__ == "__main__":
    main()
