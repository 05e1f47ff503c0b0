#!/usr/bin/env bash
# Builds what the tests and the demo need to run a real control plane: etcd, kube-apiserver, kube-controller-manager,
# kubectl, helm and the supervisor that starts them. Builds only what is missing or older than its source; takes about nine
# minutes on two cores the first time, and a second after that.
#
#   build.sh [DIR]        DIR: where the binaries go (default: target/controlplane/bin)
#   KUBEBUILDER_ASSETS    a directory whose etcd, kube-apiserver, kube-controller-manager, kubectl and helm are used as they are
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
bin=${1:-$root/target/controlplane/bin}
helm_version=v4.3.1
# Without these a Kubernetes binary calls itself v0.0.0, and clients believe it. They follow go.mod.
kubernetes_version=$(awk '$1 == "k8s.io/kubernetes" { print $2; exit }' "$here/go.mod")
minor=${kubernetes_version#v1.}
minor=${minor%%.*}
version=k8s.io/component-base/version
ldflags="-s -w -X $version.gitVersion=$kubernetes_version -X $version.gitMajor=1 -X $version.gitMinor=$minor"

say() { printf 'controlplane: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

# The environment's own flags (-mod=vendor, -race, a build id) must not reach a build that go.sum pins.
export GOFLAGS='' GOWORK=off GOTOOLCHAIN=local
build_flags=(-trimpath -buildvcs=false)

check_tools() {
    command -v go >/dev/null || fail "Go is missing. Install Go $(go_wanted) or newer: https://go.dev/doc/install"
    command -v "$(go env CC | cut -d' ' -f1)" >/dev/null ||
        fail "a C compiler is missing ($(go env CC)). Install gcc or clang: on Debian and Ubuntu, apt install build-essential"
    local have
    have=$(go env GOVERSION)
    have=${have#go}
    [ "$(printf '%s\n%s\n' "$(go_wanted)" "${have%%[-+ ]*}" | sort -V | head -n 1)" = "$(go_wanted)" ] ||
        fail "Go $have is too old for Kubernetes $kubernetes_version. Install Go $(go_wanted) or newer: https://go.dev/doc/install"
}

go_wanted() { awk '$1 == "go" { print $2; exit }' "$here/go.mod"; }

# Two test binaries, or a test and the demo, may come here at once. Without flock (it is not on every system) both build.
lock() {
    command -v flock >/dev/null || return 0
    exec 9>"$bin/.lock"
    flock --nonblock 9 || { say "waiting for another build to end"; flock 9; }
}

stale() { # BINARY SOURCE…
    local binary=$bin/$1 source
    shift
    [ -x "$binary" ] || return 0
    for source; do
        if [ "$source" -nt "$binary" ]; then return 0; fi
    done
    return 1
}

# Takes a binary from KUBEBUILDER_ASSETS where there is one, and drops what an earlier run took where there is none now.
provided() {
    local name=$1 asset=${KUBEBUILDER_ASSETS:-}/$1
    if [ -n "${KUBEBUILDER_ASSETS:-}" ] && [ -x "$asset" ]; then
        [ "$(readlink "$bin/$name" || true)" = "$asset" ] || say "$name: using $asset"
        ln -sf "$asset" "$bin/$name"
        return 0
    fi
    if [ -L "$bin/$name" ]; then rm -f "$bin/$name"; fi
    return 1
}

build() { # WHAT COMMAND…
    local what=$1 started=$SECONDS log pid ticks=0
    shift
    log=$bin/.build.log
    say "building $what"
    what=${what%% (*}
    # Descriptor 9 is the lock: a build that lingers must not hold it.
    "$@" >"$log" 2>&1 9>&- &
    pid=$!
    trap 'kill "$pid" 2>/dev/null; exit 130' INT TERM
    while kill -0 "$pid" 2>/dev/null; do
        sleep 0.2
        ticks=$((ticks + 1))
        if [ $((ticks % 75)) = 0 ]; then
            say "  still building $what: $(grep -c / "$log" || true) packages, $((SECONDS - started)) s"
        fi
    done
    trap - INT TERM
    wait "$pid" || { tail -n 30 "$log" >&2; fail "building $what failed"; }
    say "  built $what in $((SECONDS - started)) s"
}

helm_is_current() { [ -x "$bin/helm" ] && go version -m "$bin/helm" | grep -q "helm.sh/helm/v4[[:space:]]*$helm_version"; }

main() {
    local name packages=() what=()
    mkdir -p "$bin"
    check_tools
    lock
    cd "$here"
    provided etcd || if stale etcd go.mod go.sum; then
        build "etcd (about a minute when nothing is cached)" \
            go build -v "${build_flags[@]}" -ldflags "-s -w" -o "$bin/etcd" go.etcd.io/etcd/server/v3
        touch "$bin/etcd"
    fi
    for name in kube-apiserver kube-controller-manager kubectl; do
        provided "$name" || if stale "$name" go.mod go.sum; then
            packages+=("k8s.io/kubernetes/cmd/$name")
            what+=("$name")
        fi
    done
    if [ ${#packages[@]} -gt 0 ]; then
        # One command for all three: they share most packages, and the linker runs beside the compiler.
        build "${what[*]} $kubernetes_version (about six minutes when nothing is cached)" \
            go build -v "${build_flags[@]}" -ldflags "$ldflags" -o "$bin/" "${packages[@]}"
        for name in "${what[@]}"; do touch "$bin/$name"; done
    fi
    provided helm || helm_is_current ||
        GOBIN=$bin build "helm $helm_version (about three minutes when nothing is cached)" \
            go install -v "${build_flags[@]}" -ldflags "-s -w" "helm.sh/helm/v4/cmd/helm@$helm_version"
    if stale controlplane ./*.go go.mod; then
        build "the supervisor" go build "${build_flags[@]}" -o "$bin/controlplane" .
        touch "$bin/controlplane"
    fi
}

main
