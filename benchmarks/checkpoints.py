"""Time and memory of checkpoints with many pseudo-points: what saving an epoch costs training.

    python benchmarks/checkpoints.py [--components M] [--epochs E] [--coreset paper,elbo]

Trains a small network on random images of 784 bytes, N = M, in a separate process for each strategy. `held_s` is the
time per epoch, beside step (i), step (ii) and validation, after which training went on: the copy of the state, and
what training waits for its writing. `peak_mb` is the largest resident set of the process.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

import bype
from bype.core.config import Config
from bype.runs.fitting import fit


def measure(coreset, components, epochs):
    generator = torch.Generator().manual_seed(0)
    n = components * 5 // 4  # four fifths are for training
    data = bype.from_arrays(torch.randint(0, 256, (n, 28, 28), generator=generator, dtype=torch.uint8).numpy())
    config = Config(
        "random", n_components=components, latent_dim=8, hidden_dim=32, batch_size=1000, reencode=0.01,
        coreset=coreset, coreset_interval=10**6, epochs=epochs, warmup=0, device="cpu",
    )  # fmt: skip
    ends, inside = [], []

    def on_epoch(info, trainer):
        ends.append(time.perf_counter())
        inside.append(info.seconds + info.seconds_validation)

    with tempfile.TemporaryDirectory() as folder:
        fit(config, Path(folder) / "run", data=data, on_epoch=on_epoch)
        sizes = {f"{name}_mb": (Path(folder) / f"run/{name}.safetensors").stat().st_size / 1e6 for name in FILES}
    held = [b - a - s for a, b, s in zip(ends, ends[1:], inside[1:], strict=False)]
    return {
        "coreset": coreset, **sizes, "epoch_s": sum(inside[1:]) / len(held), "held_s": sum(held) / len(held),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }  # fmt: skip


FILES = ("last", "best")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--components", type=int, default=50_000)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--coreset", default="paper,elbo")
    given = parser.parse_args()
    names = given.coreset.split(",")
    if len(names) == 1:
        print(json.dumps(measure(names[0], given.components, given.epochs)), flush=True)
    for name in names if len(names) > 1 else ():
        options = ["--components", str(given.components), "--epochs", str(given.epochs), "--coreset", name]
        subprocess.run([sys.executable, __file__, *options], check=True)


if __name__ == "__main__":
    main()
