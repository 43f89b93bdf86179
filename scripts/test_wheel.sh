#!/usr/bin/env bash
# Tests the built wheel alone: in an empty environment in a new folder outside the tree, `bype demo`, the doctests of the
# installed package and the fast tests that need no checkout (tests/checkout.py says which do).
# With the argument `lowest`, with the lowest versions that pyproject.toml allows.
# PYTHON is the interpreter; EXTRAS are extras such as tables,onnx to install with it; WORK is a folder to keep, in place
# of a temporary one; TESTS the tests to run.
set -euo pipefail
EXTRAS=${EXTRAS:-}
old=()
tree=$(cd "$(dirname "$0")/.." && pwd)
wheel=$(ls "$tree"/dist/*.whl 2>/dev/null | tail -1) || true
[ -n "$wheel" ] || { echo "expected a wheel in dist/, got none: make package" >&2; exit 2; }
if [ -z "${WORK:-}" ]; then
    WORK=$(mktemp -d)
    trap 'rm -rf "$WORK"' EXIT
fi
mkdir -p "$WORK"
cd "$WORK"
unset PYTHONPATH
[ -x env/bin/python ] || "${PYTHON:-python3}" -m venv env
install=(env/bin/python -m pip install --quiet --disable-pip-version-check)
"${install[@]}" "pip>=25.1"
if [ "${1:-}" = lowest ]; then
    env/bin/python "$tree/scripts/lowest.py" "$tree/pyproject.toml" ${EXTRAS//,/ } > bounds.txt
    old=(-W ignore::DeprecationWarning)  # of old packages about the new ones that they use
else
    cp "$tree/constraints.txt" bounds.txt
fi
# The wheel first and alone: what it lacks is seen by the demo, before the tests bring their own packages.
"${install[@]}" --constraint bounds.txt "$wheel${EXTRAS:+[$EXTRAS]}"
env/bin/python -c 'import bype, sys; print("bype", bype.__version__, "in", bype.__path__[0]); sys.exit("site-packages" not in bype.__path__[0])'
env/bin/python -m pip list --disable-pip-version-check
env/bin/bype demo --out demo
"${install[@]}" --constraint bounds.txt pytest hypothesis scipy
rm -rf tests
cp -r "$tree/tests" .
env/bin/python -m pytest -c "$tree/pyproject.toml" --rootdir . -p no:cacheprovider -rs -m "not slow" \
    "${old[@]}" ${TESTS:-tests --pyargs bype}
