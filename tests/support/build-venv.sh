#!/usr/bin/env bash
# Installs Python packages that tests ask, where they are missing or older than their list: those in FOLDER/requirements.txt, each with its
# hash, in a virtual environment of their own. About a minute when nothing is cached.
#
#   build-venv.sh FOLDER DIR        FOLDER: below tests/, such as engines/airflow; DIR: where the environment goes: DIR/venv
#
# Newer ones: change requirements.in, then
#   uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header requirements.in -o requirements.txt
set -euo pipefail

name=$1
list=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/$name/requirements.txt
environment=$2

say() { printf '%s: %s\n' "$name" "$*" >&2; }

command -v python3 >/dev/null || { say "python3 is missing: install Python 3.11 or newer with its venv module"; exit 1; }
mkdir -p "$environment"
# Two test binaries may come here at once. Without flock (it is not on every system) both install.
if command -v flock >/dev/null; then exec 9>"$environment/.lock" && flock 9; fi
if ! cmp -s "$list" "$environment/installed"; then
    say "installing its Python packages (about a minute)"
    python3 -m venv --clear "$environment/venv" ||
        { say "python3 cannot make virtual environments: install its venv module (Debian: python3-venv)"; exit 1; }
    "$environment/venv/bin/pip" install --quiet --disable-pip-version-check --no-input --require-hashes -r "$list"
    # Last, so that half an installation is done again.
    cp "$list" "$environment/installed"
fi
