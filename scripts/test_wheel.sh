#!/usr/bin/env bash
# Tests the built wheel alone: in an empty environment in a new folder outside the tree, `bype demo` and the fast tests
# that need no checkout. With the argument `lowest`, with the lowest versions that pyproject.toml allows.
# PYTHON is the interpreter; WORK a folder to keep, in place of a temporary one; TESTS the tests to run.
set -euo pipefail
tree=$(cd "$(dirname "$0")/.." && pwd)
wheel=$(ls "$tree"/dist/*.whl 2>/dev/null | tail -1) || true
[ -n "$wheel" ] || { echo "expected a wheel in dist/, got none: make package" >&2; exit 2; }
if [ -z "${WORK:-}" ]; then
    WORK=$(mktemp -d)
    trap 'rm -rf "$WORK"' EXIT
fi
mkdir -p "$WORK"
cd "$WORK"
[ -x env/bin/python ] || "${PYTHON:-python3}" -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check "pip>=25.1"
if [ "${1:-}" = lowest ]; then
    env/bin/python "$tree/scripts/lowest.py" "$tree/pyproject.toml" > bounds.txt
    env/bin/python -m pip install --quiet --disable-pip-version-check --constraint bounds.txt "$wheel" pytest hypothesis scipy
else
    env/bin/python -m pip install --quiet --disable-pip-version-check --constraint "$tree/constraints.txt" "$wheel" \
        pytest hypothesis scipy
fi
cp -r "$tree/tests" .
unset PYTHONPATH
env/bin/python -c 'import bype, sys; print("bype", bype.__version__, "in", bype.__path__[0]); sys.exit("site-packages" not in bype.__path__[0])'
env/bin/python -m pip list --disable-pip-version-check
env/bin/bype demo --out demo
env/bin/python -m pytest -c "$tree/pyproject.toml" --rootdir . -p no:cacheprovider -m "not slow" ${TESTS:-tests}
