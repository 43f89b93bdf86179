"""Memory and time of the commands at the largest sizes: 5,000,000 images of 784 bytes, 50,000 pseudo-points.

    python benchmarks/scale.py FOLDER [--out OUT.json] [--only train,evaluate,...] [--keep]
        [--images N] [--components M] [--latent-dim D] [--hidden-dim H] [--batch-size B] [--reencode SHARE]
        [--items N] [--samples S] [--em K] [--set mnist]

FOLDER, which must be empty, holds the data (3.9 GB), the run and the exports. All of it is removed at the end, unless
--keep is given; then --only adds single commands later. The data are the images of a set, repeated, in one .npy, which
bype maps into memory.

Each command runs in a separate process. `peak_mb` is its largest resident set (ru_maxrss). This includes the pages of
the mapped file that are in memory, which the system may drop at any time; `peak_own_mb` is the largest sum without them
(RssAnon, read from /proc every 50 ms; Linux only).

The networks are small, so that an epoch ends in minutes on two cores.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

import bype
from bype.core.devices import device_model, versions
from bype.core.files import write_json

MB = 2**20
MARK = "scale.json"  # in FOLDER, so that only a folder of this script is ever used again or removed


@dataclass(frozen=True)
class Command:
    """A command of bype, in the order in which they run; the run folder is `run`, the data are `images.npy`."""

    name: str
    arguments: str


COMMANDS = (
    Command(
        "train",
        "train {data} --out {run} --components {components} --latent-dim {latent_dim} --hidden-dim {hidden_dim} "
        "--batch-size {batch_size} --reencode {reencode} --coreset paper --coreset-interval 1 --coreset-steps 1 "
        "--epochs 1 --warmup 0",
    ),
    Command("evaluate", "evaluate {run} --items {items} --samples {samples}"),
    Command("embed", "embed {run} --split all --out {folder}/latents.npz --map {folder}/map.png"),
    Command("coreset", "coreset {run} --out {folder}/coreset"),
    Command("refit --em", "refit {run} --name em --em {em}"),
)


def make_data(path, name, n):
    """Writes n images of a set, repeated, as a .npy, a part at a time."""
    pixels = bype.load(name).train.pixels.squeeze(1).numpy()
    with path.open("wb") as f:
        header = {"descr": "|u1", "fortran_order": False, "shape": (n, *pixels.shape[1:])}
        np.lib.format.write_array_header_1_0(f, header)
        for start in range(0, n, len(pixels)):
            f.write(pixels[: min(len(pixels), n - start)].tobytes())
    return path.stat().st_size


def own_memory(pid):
    """RssAnon of a process, in bytes; 0 where /proc does not have it."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def measure(arguments, log):
    """Runs bype in a separate process; its exit status, seconds, peaks of memory and the JSON it printed."""
    start, own = time.perf_counter(), 0
    output = log.with_suffix(".out")
    with log.open("wb") as err, output.open("wb") as out:
        process = subprocess.Popen([sys.executable, "-m", "bype", *arguments, "--json"], stdout=out, stderr=err)
        while True:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            own = max(own, own_memory(process.pid))
            time.sleep(0.05)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - start
    unit = 1 if sys.platform == "darwin" else 1024
    measured = {
        "seconds": round(seconds, 1),
        "seconds_of_cpu": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_mb": round(usage.ru_maxrss * unit / MB),
    }
    if own:
        measured["peak_own_mb"] = round(own / MB)
    if process.returncode:
        return measured | {"exit": process.returncode, "error": log.read_text(errors="replace")[-2000:]}
    return measured | {"result": json.loads(output.read_text())}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only", help="names of commands, separated by commas")
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--images", type=int, default=5_000_000)
    parser.add_argument("--components", type=int, default=50_000)
    parser.add_argument("--latent-dim", type=int, default=8)
    parser.add_argument("--hidden-dim", type=int, default=32)
    parser.add_argument("--batch-size", type=int, default=1000)
    parser.add_argument("--reencode", type=float, default=0.01)
    parser.add_argument("--items", type=int, default=1000)
    parser.add_argument("--samples", type=int, default=500)
    parser.add_argument("--em", type=int, default=500)
    parser.add_argument("--set", default="mnist")
    given = parser.parse_args()
    wanted = [c.name for c in COMMANDS] if given.only is None else given.only.split(",")
    if unknown := set(wanted) - {c.name for c in COMMANDS}:
        parser.error(f"--only: expected some of {', '.join(c.name for c in COMMANDS)}, got {', '.join(unknown)}")
    folder = given.folder.expanduser()
    if folder.exists() and any(folder.iterdir()) and not (folder / MARK).exists():
        parser.error(f"{folder}: expected an empty folder, since it is removed at the end")
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / MARK, {})
    data = folder / "images.npy"
    try:
        size = data.stat().st_size if data.exists() else make_data(data, given.set, given.images)
        result = {
            "device": device_model(torch.device("cpu")), "versions": versions(), "bytes": size,
            "options": {k: v for k, v in vars(given).items() if isinstance(v, int | float)}, "rows": [],
        }  # fmt: skip
        values = vars(given) | {"data": data, "run": folder / "run", "folder": folder}
        for command in COMMANDS:
            if command.name not in wanted:
                continue
            arguments = [part.format(**values) for part in command.arguments.split()]
            row = {"name": command.name, **measure(arguments, folder / f"{command.name.split()[0]}.log")}
            result["rows"].append(row)
            print(json.dumps({k: v for k, v in row.items() if k != "result"}), flush=True)
            if given.out:
                write_json(given.out, result)
            if "error" in row:
                return 1
    finally:
        if not given.keep:
            shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
