#!/bin/sh
# Builds .venv from the locked dependencies, with the project itself installed for editing.
# PYTHON names the interpreter to build it with, if not the first suitable one on PATH.
set -eu
cd "$(dirname "$0")/.."

is_new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

find_python() {
    for name in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
        if is_new_enough "$name"; then
            echo "$name"
            return
        fi
    done
    echo "ccfs-worker needs Python 3.11 or newer: install it, or say where it is (make PYTHON=/path/to/python3)." >&2
    exit 1
}

quiet_apt_get() {
    DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=300 "$@" </dev/null >/dev/null
}

# Debian keeps venv's other half in a package of its own.
ensure_venv_module() {
    python=$1
    "$python" -c 'import ensurepip, venv' 2>/dev/null && return
    package=$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        echo "$python cannot make virtual environments: install its venv module (Debian: apt-get install $package)." >&2
        exit 1
    fi
    echo "Installing $package with apt-get ..."
    quiet_apt_get install --no-install-recommends "$package" 2>/dev/null || {
        quiet_apt_get update
        quiet_apt_get install --no-install-recommends "$package"
    }
}

if ! .venv/bin/python -m pip --version >/dev/null 2>&1 || ! is_new_enough .venv/bin/python; then
    python=$(find_python)
    ensure_venv_module "$python"
    "$python" -m venv --clear .venv
fi

echo "Installing the locked dependencies into .venv ..."
pip() {
    .venv/bin/python -m pip --quiet --disable-pip-version-check --no-input install "$@"
}
pip --require-hashes -r requirements-dev.lock
pip --no-deps --no-build-isolation -e .
