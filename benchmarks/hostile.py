"""Measures how soon, and with how much memory, each hostile file of the tests is refused.

    python benchmarks/hostile.py [OUT.json] [--seconds S] [--megabytes M]

Ends with 1 if one takes longer than S, more than M, or is not refused with exit 2. What is measured is `bype train` in
this process, on one thread, beyond what the process takes already; use a machine that does nothing else meanwhile.
"""

import argparse
import contextlib
import io
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

import torch

from bype import cli
from bype.core.files import write_json

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from hostile_files import own_files, published_files


def resident(field):
    """Megabytes of this process now (VmRSS), or at the most since the last reset (VmHWM)."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # macOS, in bytes, never reset
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def reset_peak():
    if Path("/proc/self/clear_refs").exists():
        Path("/proc/self/clear_refs").write_text("5")


def train(*words):
    """`bype train`'s exit code and what it says."""
    said = io.StringIO()
    sys.argv = ["bype", "train", *map(str, words)]
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            cli.main()
    except SystemExit as e:
        return e.code or 0, said.getvalue()
    return 0, said.getvalue()


def measured(what, words):
    reset_peak()
    at_rest, start = resident("VmRSS"), time.perf_counter()
    code, said = train(*words)
    seconds, megabytes = time.perf_counter() - start, resident("VmHWM") - at_rest
    return {"name": what, "code": code, "said": said.strip(), "seconds": seconds, "megabytes": megabytes}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("out", nargs="?", type=Path)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--megabytes", type=float, default=200.0)
    given = parser.parse_args()
    out = given.out and given.out.resolve()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        os.environ["HOME"] = folder
        os.environ.pop("BYPE_DATA", None)
        os.chdir(root)
        (root / "own").mkdir()
        cases = {what: [path] for what, path in own_files(root / "own", megabytes=300).items()}
        for what, (name, where) in published_files(root / "known").items():
            cases[what] = [name, "--data-dir", where]
        train("missing.npy")  # imports what is needed
        rows = [measured(what, words) for what, words in cases.items()]
        os.chdir("/")
    slowest, largest = (max(rows, key=lambda row, by=by: row[by]) for by in ("seconds", "megabytes"))
    print(f"{len(rows)} files; slowest {slowest['seconds']:.2f} s ({slowest['name']})")
    print(f"largest {largest['megabytes']:.0f} MB ({largest['name']})")
    over = [r for r in rows if r["code"] != 2 or r["seconds"] > given.seconds or r["megabytes"] > given.megabytes]
    for row in over:
        print(f"beyond: {row['name']}: code {row['code']}, {row['seconds']:.2f} s, {row['megabytes']:.0f} MB")
    if out:
        write_json(out, {"rows": rows})
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
