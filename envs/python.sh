# Sourced: sets PYTHON to a Python of a supported version that runs and has venv, or explains.
supported='import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))'

find_python() {
    local given=${PYTHON:-} candidate seen=""
    for candidate in ${given:+"$given"} python3.13 python3.12 python3.11 python3 python; do
        if ! "$candidate" -c "$supported" >/dev/null 2>&1; then
            if [ -n "$given" ]; then
                echo "PYTHON=$given is not a Python of version 3.11, 3.12 or 3.13 that runs." >&2
                return 1
            fi
            continue
        fi
        if "$candidate" -c 'import ensurepip, venv' >/dev/null 2>&1; then
            PYTHON=$candidate
            return 0
        fi
        seen=$candidate
        if [ -n "$given" ]; then break; fi
    done
    if [ -n "$seen" ]; then
        local version
        version=$("$seen" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
        echo "$seen (Python $version) lacks the module venv. On Debian and Ubuntu:" >&2
        echo "    apt install python$version-venv    (or python3-venv)" >&2
        echo "Or name another Python: make ... PYTHON=/path/to/python3.12" >&2
    else
        echo "remcg needs Python 3.11, 3.12 or 3.13, and none was found on PATH." >&2
        echo "On Debian 12 and later, Ubuntu 24.04 and later: apt install python3 python3-venv" >&2
        echo "Or name one: make ... PYTHON=/path/to/python3.12" >&2
    fi
    return 1
}
