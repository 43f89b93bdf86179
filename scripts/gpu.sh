#!/usr/bin/env bash
# scripts/gpu.sh BUDGET OUT: spends BUDGET (90s, 9m, 1h) on the machine at hand and leaves what it measured in OUT.
#
# Needs a checkout, python3 with torch >= 2.11 and the core dependencies; no network, nothing is installed. In turn: the
# GPU's tests, the benchmark, then outstanding cells of the ledger, cheapest first. OUT holds few small files, whole at
# any moment: a run cut short loses the cell it was in and nothing else.
#
#   OUT/checks.json  OUT/steps.json  OUT/ledger.tar.gz (the cells made here)  OUT/log
#
# Environment: PYTHON (python3), BYPE_DATA (the data sets), WHAT (table1), ARGS (more for `bype reproduce`, such as
# "--seeds 0-4"), RUNS (where runs are kept, to be taken up again by a later call).
set -uo pipefail
if [ $# -ne 2 ]; then
    echo "usage: scripts/gpu.sh BUDGET OUT" >&2
    exit 2
fi
start=$SECONDS
here=$PWD
cd "$(dirname "$0")/.." || exit 2
export PYTHONPATH="$PWD/src${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
python=${PYTHON:-python3}
# Prints the budget in seconds; what is wrong goes to stderr.
budget=$("$python" - "$1" <<'PY'
import sys
try:
    import torch
except ImportError:
    sys.exit(f"gpu.sh: expected torch 2.11 or later, got none in {sys.executable}")
if tuple(int(p) for p in torch.__version__.split("+")[0].split(".")[:2]) < (2, 11):
    sys.exit(f"gpu.sh: expected torch 2.11 or later, got {torch.__version__}")
from bype.core.errors import InputError
from bype.experiments.estimates import parse_duration
try:
    print(round(parse_duration(sys.argv[1])))
except InputError as e:
    sys.exit(f"gpu.sh: {str(e).replace('--budget', 'BUDGET')}")
PY
) || exit 2
out=$(cd "$here" && mkdir -p "$2" && cd "$2" && pwd) || exit 2
work=$(mktemp -d)
# Steps run in the background, so that a signal is heard at once and what is under way ends with the script.
trap 'kill $(jobs -p) 2>/dev/null; rm -rf "$work" "$out"/*.part' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

say() { echo "gpu.sh: $*" | tee -a "$out/log"; }
left() { local s=$((budget - (SECONDS - start))); echo $((s > 1 ? s : 1)); }  # timeout takes 0 for no limit

device=$("$python" -c 'import torch
cuda = torch.cuda.is_available()
print(torch.__version__ + ", " + (torch.cuda.get_device_name() if cuda else "no GPU here: everything runs on the CPU"))')
say "torch $device"

step() {
    timeout "$(left)" "$python" "$@" 2>&1 | tee -a "$out/log" &
    wait $!
}

say "checks"
step tests/cuda_checks.py "$out/checks.json"

if [ "$(left)" -gt 30 ]; then
    say "benchmark"
    small=()
    "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' || small=(--items 2000 --epochs 1)
    step benchmarks/steps.py "$out/steps.json" "${small[@]}"
fi

# Cells already in the ledger are not run again; only those made here go into the archive.
mkdir -p "$work/ledger"
shopt -s nullglob
known=(results/ledger/*.json)
[ "${#known[@]}" -eq 0 ] || cp "${known[@]}" "$work/ledger/"
pack() {
    mapfile -t made < <(cd "$work/ledger" && for f in *.json; do
        cmp -s "$f" "$OLDPWD/results/ledger/$f" || echo "$f"
    done)
    [ "${#made[@]}" -gt 0 ] || return 0
    tar -czf "$work/ledger.tar.gz" -C "$work/ledger" "${made[@]}" && mv "$work/ledger.tar.gz" "$out/ledger.tar.gz.part" &&
        mv "$out/ledger.tar.gz.part" "$out/ledger.tar.gz"
}
reserve=5
if [ "$(left)" -gt $((reserve + 10)) ]; then
    say "cells, $(left) seconds left"
    # shellcheck disable=SC2086
    timeout "$(left)" "$python" -m bype reproduce "${WHAT:-table1}" ${ARGS:-} --budget "$(($(left) - reserve))s" --ledger "$work/ledger" \
        --runs "${RUNS:-$work/runs}" 2>&1 | grep --line-buffered -Ev ' epoch [0-9]+/' | tee -a "$out/log" &
    cells=$!
    while kill -0 "$cells" 2>/dev/null; do
        pack
        sleep 2
    done
    wait "$cells"
    status=$?
fi
pack
say "done, $((SECONDS - start)) seconds"
# What `reproduce` refused or gave up is said by the exit status too; that the budget ended is no failure.
case ${status:-0} in 2 | 3) exit "$status" ;; esac
