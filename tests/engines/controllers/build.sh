#!/usr/bin/env bash
# Builds the controllers of engines that are no Python packages, from the modules that go.mod pins, and copies their definitions: Argo
# Workflows' workflow-controller and KubeRay's operator. Builds only what is missing or older than go.mod; takes some four minutes on two
# cores when nothing is cached, and a second after that.
#
#   build.sh [DIR]        DIR: where programs and definitions go (default: target/engines/controllers)
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../../.." && pwd)
dir=${1:-$root/target/engines/controllers}
argo=github.com/argoproj/argo-workflows/v4
ray=github.com/ray-project/kuberay/ray-operator

# As for the control plane: the environment's own flags must not reach a build that go.sum pins. Without cgo, as Argo builds its own.
export GOFLAGS='' GOWORK=off GOTOOLCHAIN=local CGO_ENABLED=0

say() { printf 'engines: %s\n' "$*" >&2; }

definitions() { # MODULE FOLDER NAME
    local folder
    folder=$(go list -m -f '{{.Dir}}' "$1")/$2
    rm -rf "$dir/$3"
    mkdir "$dir/$3"
    cp "$folder"/*.io_*.yaml "$dir/$3/"
    # Those of the module cache may only be read.
    chmod u+w "$dir/$3"/*
}

mkdir -p "$dir"
command -v go >/dev/null || { say "Go is missing: https://go.dev/doc/install"; exit 1; }
# Two test binaries may come here at once. Without flock (it is not on every system) both build.
if command -v flock >/dev/null; then exec 9>"$dir/.lock" && flock 9; fi
if ! cmp -s "$here/go.mod" "$dir/built"; then
    started=$SECONDS
    say "building the controllers of Argo Workflows and KubeRay (some four minutes when nothing is cached)"
    cd "$here"
    # One command: they share most packages.
    go build -trimpath -buildvcs=false -ldflags "-s -w" -o "$dir/" "$argo/cmd/workflow-controller" "$ray" 9>&-
    # The small ones: the others say more than a client may apply.
    definitions "$argo" manifests/base/crds/minimal argo
    definitions "$ray" config/crd/bases ray
    # Last, so that half a build is done again.
    cp go.mod "$dir/built"
    say "  built in $((SECONDS - started)) s"
fi
