#!/usr/bin/env bash
# Make or update the environment in $1 from the lock file: hashes checked, nothing resolved.
set -euo pipefail
cd "$(dirname "$0")/.."
. envs/python.sh

venv=$1
if ! "$venv/bin/python" -c "$supported
import pip" >/dev/null 2>&1; then
    find_python
    echo "making $venv with $("$PYTHON" --version) and installing the locked packages (a few minutes)"
    "$PYTHON" -m venv --clear "$venv"
else
    echo "bringing $venv up to date with the lock file"
fi

pip=("$venv/bin/python" -m pip install -qq --require-hashes --no-deps)
# The build backend first: packages that come as source are built with the locked one.
awk '/^[a-z]/ { keep = /^(packaging|pip|setuptools|wheel)==/ } keep' envs/requirements.lock \
    >"$venv/build.lock"
"${pip[@]}" -r "$venv/build.lock"
"${pip[@]}" --no-build-isolation -r envs/requirements.lock
"$venv/bin/python" -m pip install -qq --no-deps --no-build-isolation --editable .
"$venv/bin/python" -m pip check >/dev/null || "$venv/bin/python" -m pip check
