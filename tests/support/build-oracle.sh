#!/usr/bin/env bash
# Builds another implementation that tests ask or run, where it is missing or older than its source: the Go module in tests/NAME. Seconds
# to a quarter of a minute after the control plane, whose compiled packages they share; some two minutes without.
#
#   build-oracle.sh NAME [DIR]        DIR: where the binary goes (default: target/NAME)
set -euo pipefail

name=$1
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
source=$root/tests/$name
bin=${2:-$root/target/$name}

# As for the control plane: the environment's own flags must not reach a build that go.sum pins.
export GOFLAGS='' GOWORK=off GOTOOLCHAIN=local

say() { printf '%s: %s\n' "$name" "$*" >&2; }

current() {
    local file
    [ -x "$bin/$name" ] || return 1
    for file in "$source"/*.go "$source/go.mod" "$source/go.sum" "$root"/tests/oracle/*; do
        if [ "$file" -nt "$bin/$name" ]; then return 1; fi
    done
}

mkdir -p "$bin"
command -v go >/dev/null || { say "Go is missing: https://go.dev/doc/install"; exit 1; }
# Two test binaries may come here at once. Without flock (it is not on every system) both build.
if command -v flock >/dev/null; then exec 9>"$bin/.lock" && flock 9; fi
if ! current; then
    say "building (up to three minutes when nothing is cached)"
    cd "$source"
    # Beside and then over: nobody starts half a binary.
    go build -trimpath -buildvcs=false -ldflags "-s -w" -o "$bin/.$name.new" . 9>&-
    mv "$bin/.$name.new" "$bin/$name"
    touch "$bin/$name"
fi
