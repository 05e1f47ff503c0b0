#!/usr/bin/env bash
# Builds what real nodes run beside the control plane of tests/controlplane: kubelet, kube-proxy, kube-scheduler, containerd, runc, the
# network plugins ptp, host-local and loopback, and the program of the test images. Builds only what is missing or of another version;
# takes three minutes of two cores after the control plane, and a second after that.
#
#   build.sh [DIR]        DIR: where the binaries go (default: target/node/bin)
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
bin=${1:-$root/target/node/bin}
containerd=github.com/containerd/containerd/v2
containerd_version=v2.4.2
runc=github.com/opencontainers/runc
runc_version=v1.5.2
plugins=github.com/containernetworking/plugins
plugins_version=v1.10.0

# As for the control plane: the environment's own flags must not reach a build that go.sum pins.
export GOFLAGS='' GOWORK=off GOTOOLCHAIN=local
build_flags=(-trimpath -buildvcs=false)

say() { printf 'node: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

kubernetes_of() { awk '$1 == "k8s.io/kubernetes" { print $2; exit }' "$1/go.mod"; }

check_tools() {
    command -v go >/dev/null || fail "Go is missing: https://go.dev/doc/install"
    command -v pkg-config >/dev/null && pkg-config --exists libseccomp ||
        fail "runc needs libseccomp to confine containers. On Debian and Ubuntu, apt install libseccomp-dev pkg-config"
    # An older kubelet may join a newer API server; a newer one may not, and neither is what is tested here.
    [ "$(kubernetes_of "$here")" = "$(kubernetes_of "$root/tests/controlplane")" ] ||
        fail "tests/node/go.mod and tests/controlplane/go.mod name different versions of k8s.io/kubernetes"
}

# Two tests may come here at once. Without flock (it is not on every system) both build.
lock() {
    command -v flock >/dev/null || return 0
    exec 9>"$bin/.lock"
    flock --nonblock 9 || { say "waiting for another build to end"; flock 9; }
}

build() { # WHAT COMMAND…
    local what=$1 started=$SECONDS log=$bin/.build.log
    shift
    say "building $what"
    # Descriptor 9 is the lock: a build that lingers must not hold it.
    "$@" >"$log" 2>&1 9>&- || { tail -n 30 "$log" >&2; fail "building $what failed"; }
    say "  built $what in $((SECONDS - started)) s"
}

is_of() { [ -x "$bin/$1" ] && go version -m "$bin/$1" | grep -q "^[[:space:]]*mod[[:space:]]*$2[[:space:]]*$3[[:space:]]"; }

newer() { # BINARY SOURCE…
    local binary=$bin/$1 source
    shift
    [ -x "$binary" ] || return 1
    for source; do
        if [ "$source" -nt "$binary" ]; then return 1; fi
    done
}

kubernetes() {
    local version minor flags name names=(kubelet kube-proxy kube-scheduler) current=1
    for name in "${names[@]}"; do newer "$name" go.mod go.sum || current=0; done
    if [ $current = 1 ]; then return; fi
    version=$(kubernetes_of "$here")
    minor=${version#v1.}
    # Without these a Kubernetes binary calls itself v0.0.0, and others believe it.
    flags=$(printf -- '-X k8s.io/component-base/version.%s ' "gitVersion=$version" gitMajor=1 "gitMinor=${minor%%.*}")
    build "${names[*]} $version (about two minutes after the control plane)" \
        go build "${build_flags[@]}" -ldflags "-s -w $flags" -o "$bin/" "${names[@]/#/k8s.io/kubernetes/cmd/}"
    for name in "${names[@]}"; do touch "$bin/$name"; done
}

main() {
    mkdir -p "$bin"
    check_tools
    lock
    cd "$here"
    kubernetes
    is_of containerd "$containerd" "$containerd_version" && [ -x "$bin/ctr" ] && [ -x "$bin/containerd-shim-runc-v2" ] ||
        GOBIN=$bin build "containerd $containerd_version (about a minute)" go install "${build_flags[@]}" -ldflags "-s -w" \
            "$containerd/cmd/containerd-shim-runc-v2@$containerd_version" "$containerd/cmd/ctr@$containerd_version" \
            "$containerd/cmd/containerd@$containerd_version"
    is_of runc "$runc" "$runc_version" ||
        GOBIN=$bin build "runc $runc_version" go install "${build_flags[@]}" -tags seccomp "$runc@$runc_version"
    is_of ptp "$plugins" "$plugins_version" && [ -x "$bin/host-local" ] && [ -x "$bin/loopback" ] ||
        GOBIN=$bin build "network plugins $plugins_version" go install "${build_flags[@]}" \
            "$plugins/plugins/ipam/host-local@$plugins_version" "$plugins/plugins/main/loopback@$plugins_version" \
            "$plugins/plugins/main/ptp@$plugins_version"
    newer guest ./*.go || CGO_ENABLED=0 build "the program of the test images" \
        go build "${build_flags[@]}" -ldflags "-s -w" -o "$bin/guest" .
}

main
