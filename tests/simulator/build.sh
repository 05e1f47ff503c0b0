#!/usr/bin/env bash
# Builds the simulator of NetworkPolicies, where it is missing or older than its source. A quarter of a minute after the control
# plane, whose compiled packages it shares; some two minutes without.
#
#   build.sh [DIR]        DIR: where the binary goes (default: target/simulator)
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
bin=${1:-$(cd "$here/../.." && pwd)/target/simulator}

# As for the control plane: the environment's own flags must not reach a build that go.sum pins.
export GOFLAGS='' GOWORK=off GOTOOLCHAIN=local

say() { printf 'simulator: %s\n' "$*" >&2; }

current() {
    local source
    [ -x "$bin/simulator" ] || return 1
    for source in "$here"/*.go "$here/go.mod" "$here/go.sum"; do
        if [ "$source" -nt "$bin/simulator" ]; then return 1; fi
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
    go build -trimpath -buildvcs=false -ldflags "-s -w" -o "$bin/.simulator.new" . 9>&-
    mv "$bin/.simulator.new" "$bin/simulator"
    touch "$bin/simulator"
fi
