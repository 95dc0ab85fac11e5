#!/bin/sh
# Builds the environment of the benchmark's peers from its lock.
set -eu
cd "$(dirname "$0")/.."
venv=.run/bench-venv

echo "Installing the benchmark's peers into $venv ..."
.venv/bin/python -m venv --clear "$venv"
"$venv/bin/python" -m pip --quiet --disable-pip-version-check --no-input install \
    --require-hashes -r bench/peers/requirements.lock
