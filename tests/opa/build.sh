#!/usr/bin/env bash
# Builds the Open Policy Agent that tests ask, where it is missing or older than its source. Some two minutes when nothing is
# cached.
#
#   build.sh [DIR]        DIR: where the binary goes (default: target/opa)
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
bin=${1:-$(cd "$here/../.." && pwd)/target/opa}

# As for the control plane: the environment's own flags must not reach a build that go.sum pins.
export GOFLAGS='' GOWORK=off GOTOOLCHAIN=local

say() { printf 'opa: %s\n' "$*" >&2; }

current() {
    local source
    [ -x "$bin/opa" ] || return 1
    for source in "$here"/*.go "$here/go.mod" "$here/go.sum"; do
        if [ "$source" -nt "$bin/opa" ]; then return 1; fi
    done
}

mkdir -p "$bin"
command -v go >/dev/null || { say "Go is missing: https://go.dev/doc/install"; exit 1; }
# Two test binaries may come here at once. Without flock (it is not on every system) both build.
if command -v flock >/dev/null; then exec 9>"$bin/.lock" && flock 9; fi
if ! current; then
    say "building (up to two minutes when nothing is cached)"
    cd "$here"
    # Beside and then over: nobody starts half a binary.
    go build -trimpath -buildvcs=false -ldflags "-s -w" -o "$bin/.opa.new" . 9>&-
    mv "$bin/.opa.new" "$bin/opa"
    touch "$bin/opa"
fi
