#!/usr/bin/env bash
# Resolve envs/requirements.lock from pyproject.toml, for every supported Python at once.
set -euo pipefail
cd "$(dirname "$0")/.."
. envs/python.sh

find_python
tool=$(mktemp -d)
trap 'rm -rf "$tool"' EXIT
"$PYTHON" -m venv "$tool"
"$tool/bin/python" -m pip install --quiet uv
UV_CUSTOM_COMPILE_COMMAND="make lock" "$tool/bin/uv" pip compile pyproject.toml --all-extras \
    --universal --python-version 3.11 --generate-hashes --no-emit-index-url --quiet \
    ${UPGRADE:+--upgrade} --output-file envs/requirements.lock
