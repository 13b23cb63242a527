#!/usr/bin/env bash
# A clean clone on a machine that knows nothing of remcg: a new user (if this one is root), a path
# with spaces, empty HOME, temporary and cache folders, a strict umask. There a tiny campaign and a
# few tests run, with every supported Python that is installed. Packages come from where pip has
# them: what is tested is the project, not the network.
set -euo pipefail
cd "$(dirname "$0")/.."
. envs/python.sh

home=$(mktemp -d)
user=""
cleanup() {
    local code=$?
    if [ "$code" != 0 ]; then
        echo "fresh machine: failed; the ends of the logs:"
        find "$home" -path "*/logs/*" -name "*.log" -size -100k -exec tail -n 30 {} + || true
    fi
    rm -rf "$home"
    if [ -n "$user" ]; then userdel "$user" >/dev/null 2>&1 || true; fi
}
trap cleanup EXIT
chmod 755 "$home"
mkdir -p "$home/home" "$home/tmp" "$home/a fresh machine"

as_user=()
if [ "$(id -u)" = 0 ]; then
    user=remcg-fresh-$$
    useradd --system --no-create-home --home-dir "$home/home" --shell /bin/bash "$user"
    as_user=(setpriv --reuid="$user" --regid="$user" --clear-groups)
fi

fresh() { # run a command as the new user, in the folder "$place"
    (
        cd "$place"
        umask 077
        unset VIRTUAL_ENV PYTHONPATH NUMBA_CACHE_DIR MAKEFLAGS MFLAGS MAKELEVEL PYTHONDONTWRITEBYTECODE
        unset "${!XDG_@}" "${!REMCG_@}"
        HOME="$home/home" TMPDIR="$home/tmp" PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
            PIP_NO_CACHE_DIR=1 "${as_user[@]}" "$@"
    )
}

for version in 3.11 3.12 3.13; do
    if ! (PYTHON=python$version find_python) >/dev/null 2>&1; then
        echo "fresh machine: no python$version with venv here, skipped"
        continue
    fi
    start=$SECONDS
    place="$home/a fresh machine/$version"
    git -c safe.directory='*' clone --quiet --no-hardlinks "$PWD" "$place"
    if [ -n "$user" ]; then chown -R "$user" "$home"; fi
    fresh make install PYTHON="python$version"
    echo "fresh machine: python$version installed after $((SECONDS - start)) s"
    fresh env PYTHONPATH=tests .venv/bin/python -c '
import pathlib, tiny
tiny.write_campaign(pathlib.Path("a campaign"), n_frames=30, **tiny.SHORTEST)' >/dev/null
    fresh make run CONFIG="a campaign/config.yaml" CORES=2
    fresh .venv/bin/remcg verify results/tiny
    fresh make test ARGS="tests/test_model.py tests/test_basis.py"
    if find "$home/home" -mindepth 1 | grep -q .; then
        echo "fresh machine: written to HOME: $(ls -A "$home/home")"
    fi
    echo "fresh machine: python$version is good after $((SECONDS - start)) s"
    rm -rf "$place"
done
