#!/usr/bin/env bash
# The main job on a real API server, told with real kubectl: an AIWorkflow becomes a fence, and what would not fit inside it
# is refused. Every refusal is asserted: a demo that shows what does not hold fails.
#
#   demo.sh        builds what is missing, starts a control plane and Ringfence, tells the story, removes everything
#   demo.sh stop   stops what KEEP=1 left running
#
#   KEEP=1                  leave everything running and print how to use and stop it
#   PAUSE=1                 wait for Enter before each step
#   CONTEXT, KUBECONFIG     tell the story on that cluster, where Ringfence must be installed
#   NO_COLOR                no colours
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
bin=$root/target/controlplane/bin
state=$root/target/demo
namespace=ai-secure
unfenced=ai-unfenced
legacy=ai-legacy
supervisor='' operator='' created='' policies='' proxy_port='' web_port=''

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
    bold=$'\e[1m' dim=$'\e[2m' red=$'\e[31m' green=$'\e[32m' cyan=$'\e[36m' plain=$'\e[0m'
else
    bold='' dim='' red='' green='' cyan='' plain=''
fi

say() { printf '%s\n' "$*"; }
fail() { printf '\n%sdemo: %s%s\n' "$red" "$*" "$plain" >&2; exit 1; }
step() {
    printf '\n%s== %s%s\n' "$bold" "$*" "$plain"
    if [ -n "${PAUSE:-}" ]; then read -r -p "${dim}Enter to go on${plain} " _ </dev/tty; fi
}

kubectl() { "$bin/kubectl" ${CONTEXT:+--context "$CONTEXT"} --request-timeout=30s "$@"; }
ringfence() { "${CARGO_TARGET_DIR:-$root/target}/debug/ringfence" "$@" ${CONTEXT:+--context "$CONTEXT"}; }
prompt() {
    local told=$*
    printf '\n%s$ %s%s\n' "$cyan" "${told//"$root/"/}" "$plain"
}

# Shows a command and what it says; it must succeed.
run() {
    prompt "$@"
    "$@" 2>&1 || fail "this should have worked: $*"
}

# Shows a command that must be refused, for a reason that matches the pattern.
refused() {
    local pattern=$1 output
    shift
    prompt "$@"
    if output=$("$@" 2>&1); then
        say "$output"
        fail "this should have been refused: $*"
    fi
    printf '%s%s%s\n' "$red" "$output" "$plain"
    grep -qiE -- "$pattern" <<<"$output" || fail "refused, but not for the right reason (expected: $pattern)"
    printf '%s✓ refused%s\n' "$green" "$plain"
}

# Waits at most a minute. For what controllers do: nothing else says when they are done.
until_true() {
    local what=$1 end=$((SECONDS + 60))
    shift
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || { "$@" || true; fail "not within a minute: $what"; }
        sleep 0.2
    done
}

# ---- start and stop ----

cleanup() {
    local status=$?
    trap - EXIT
    # A second Ctrl-C must not leave half of it behind.
    trap '' INT TERM
    if [ -n "${CONTEXT:-}" ]; then
        if [ -n "$created" ] && [ -z "${KEEP:-}" ]; then
            say "Removing the namespaces of the demo."
            if [ -n "$policies" ]; then kubectl delete regopolicy cost-centre --ignore-not-found >/dev/null || true; fi
            kubectl delete namespace "$namespace" "$unfenced" "$legacy" --ignore-not-found --timeout=60s >/dev/null || true
        fi
    elif [ $status != 0 ] || [ -z "${KEEP:-}" ]; then
        if [ $status != 0 ] && [ -s "$state/ringfence.log" ]; then
            printf '\n%sThe last that Ringfence logged (%s):%s\n' "$dim" "$state/ringfence.log" "$plain" >&2
            tail -n 15 "$state/ringfence.log" >&2
        fi
        stop
    fi
    exit "$status"
}

# By the file that it runs, and not by its name: ringfence begins again as /proc/self/exe, and is called so by then.
name_of() { # PID
    local file
    if file=$(readlink "/proc/$1/exe" 2>/dev/null); then
        # What was built again since runs from a file that is gone.
        basename "${file% (deleted)}"
    else
        basename "$(ps -o comm= -p "$1")"
    fi
}

# By process ID, and only while the process is still what was started: an ID may have been given to another.
end_process() { # FILE NAME
    local pid
    [ -f "$1" ] || return 0
    pid=$(cat "$1")
    if ! kill -0 "$pid" 2>/dev/null || [ "$(name_of "$pid")" != "$2" ]; then
        rm -f "$1"
        return 0
    fi
    kill "$pid" 2>/dev/null || true
    rm -f "$1"
    for _ in $(seq 100); do
        kill -0 "$pid" 2>/dev/null || return 0
        sleep 0.1
    done
    kill -KILL "$pid" 2>/dev/null || true
}

stop() {
    end_process "$state/ringfence.pid" ringfence
    end_process "$state/controlplane.pid" controlplane
}

start_control_plane() {
    local options=() started=$SECONDS
    say "Starting etcd, the API server and the controller manager …"
    rm -f "$state/stdin" "$state/ready"
    mkfifo "$state/stdin"
    # Without KEEP the supervisor lives as long as this script holds the pipe, so even kill -9 leaves nothing behind.
    if [ -n "${KEEP:-}" ]; then options=(--detached); fi
    "$bin/controlplane" run --bin "$bin" ${options[@]+"${options[@]}"} \
        <"$state/stdin" >"$state/ready" 2>"$state/controlplane.log" &
    supervisor=$!
    echo "$supervisor" >"$state/controlplane.pid"
    exec 3>"$state/stdin"
    rm -f "$state/stdin"
    until [ -s "$state/ready" ]; do
        kill -0 "$supervisor" 2>/dev/null || { cat "$state/controlplane.log" >&2; fail "the control plane did not start"; }
        sleep 0.1
    done
    KUBECONFIG=$(sed -n 's/.*"kubeconfig":"\([^"]*\)".*/\1/p' "$state/ready")
    export KUBECONFIG
    say "  Kubernetes $(sed -n 's/.*"kubernetes":"\([^"]*\)".*/\1/p' "$state/ready") is ready after $((SECONDS - started)) s"
}

start_ringfence() {
    local ports port metrics_port end
    ports=$("$bin/controlplane" ports 2)
    port=${ports%%$'\n'*} metrics_port=${ports##*$'\n'}
    export HELM_CACHE_HOME=$state/helm HELM_CONFIG_HOME=$state/helm HELM_DATA_HOME=$state/helm
    say "Installing the chart: CRDs, rights, registrations and guards …"
    "$bin/helm" upgrade --install ringfence charts/ringfence --namespace ringfence-system --create-namespace \
        --set replicaCount=0 --set "webhook.url.host=127.0.0.1:$port" \
        --set egress.enabled=true --set egress.replicas=1 >"$state/helm.log" 2>&1 ||
        { cat "$state/helm.log" >&2; fail "Helm could not install the chart"; }

    say "Starting ringfence with the rights of its own service account …"
    ( umask 077; kubeconfig_of ringfence >"$state/ringfence.kubeconfig" )
    # A scan that falls between two steps of the story says what does not fit, and Ready waits until the next one says otherwise.
    local command=("${CARGO_TARGET_DIR:-$root/target}/debug/ringfence" run --namespace ringfence-system
        --webhook-host 127.0.0.1 --listen "127.0.0.1:$port" --metrics-listen "127.0.0.1:$metrics_port"
        --decision-input masked --scan-period 5s --egress-proxy)
    if [ -n "${KEEP:-}" ]; then
        KUBECONFIG=$state/ringfence.kubeconfig nohup "${command[@]}" </dev/null >"$state/ringfence.log" 2>&1 3>&- &
        operator=$!
        echo "$operator" >"$state/ringfence.pid"
    else
        rm -f "$state/stdin"
        mkfifo "$state/stdin"
        KUBECONFIG=$state/ringfence.kubeconfig "$bin/controlplane" guard -- "${command[@]}" \
            <"$state/stdin" >"$state/ringfence.log" 2>&1 3>&- &
        operator=$!
        exec 4>"$state/stdin"
        rm -f "$state/stdin"
    fi
    end=$((SECONDS + 60))
    until [ "$(status_of "$metrics_port" /readyz)" = 200 ]; do
        kill -0 "$operator" 2>/dev/null || fail "ringfence ended before it was ready"
        [ $SECONDS -lt $end ] || fail "ringfence was not ready within a minute"
        sleep 0.2
    done
    # A workflow that is written within two seconds of the registration could be older than what reviews it, and would wait for an
    # administrator's word.
    sleep 2
    say "  ringfence is ready"
}

kubeconfig_of() { # ACCOUNT
    local token ca server
    token=$(kubectl create token "$1" --namespace ringfence-system --duration 24h)
    ca=$(kubectl config view --raw --minify -o jsonpath='{.clusters[0].cluster.certificate-authority-data}')
    server=$(kubectl config view --minify -o jsonpath='{.clusters[0].cluster.server}')
    cat <<END
apiVersion: v1
kind: Config
clusters: [{name: demo, cluster: {server: "$server", certificate-authority-data: "$ca"}}]
users: [{name: ringfence, user: {token: "$token"}}]
contexts: [{name: demo, context: {cluster: demo, user: ringfence}}]
current-context: demo
END
}

# The proxy as its pods would run, with the rights of its own account, and a world outside: no node runs pods here. Both end with the demo.
start_egress() {
    local ports port metrics_port dns_port end
    ports=$("$bin/controlplane" ports 4)
    read -r port metrics_port dns_port web_port <<<"${ports//$'\n'/ }"
    proxy_port=$port
    ( umask 077; kubeconfig_of ringfence-egress >"$state/egress.kubeconfig" )
    rm -f "$state/egress-stdin"
    mkfifo "$state/egress-stdin"
    exec 6<>"$state/egress-stdin"
    python3 demo/outside.py serve "$dns_port" "$web_port" <"$state/egress-stdin" >"$state/outside.log" 2>&1 3>&- 4>&- 6>&- &
    KUBECONFIG=$state/egress.kubeconfig "$bin/controlplane" guard -- "${CARGO_TARGET_DIR:-$root/target}/debug/ringfence" egress \
        --listen "127.0.0.1:$port" --metrics-listen "127.0.0.1:$metrics_port" --nameserver "127.0.0.1:$dns_port" \
        --allow-private-answers 127.0.0.0/8 <"$state/egress-stdin" >"$state/egress.log" 2>&1 3>&- 4>&- 6>&- &
    end=$((SECONDS + 60))
    until [ "$(status_of "$metrics_port" /readyz)" = 200 ]; do
        [ $SECONDS -lt $end ] || { tail -n 15 "$state/egress.log" >&2; fail "the egress proxy was not ready within a minute"; }
        sleep 0.2
    done
}

# Without curl, which is not on every machine.
status_of() { # PORT PATH
    (
        exec 5<>"/dev/tcp/127.0.0.1/$1"
        printf 'GET %s HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n' "$2" >&5
        read -r -t 5 _ status _ <&5
        echo "$status"
    ) 2>/dev/null || true
}

check_cluster() {
    say "Using context $CONTEXT."
    kubectl get --raw /readyz >/dev/null || fail "the API server of context $CONTEXT does not answer"
    if ! kubectl get validatingwebhookconfigurations ringfence >/dev/null 2>&1; then
        say "Ringfence is not installed there. Install it with:"
        say "  helm upgrade --install ringfence charts/ringfence --namespace ringfence-system --create-namespace"
        exit 1
    fi
    if kubectl get regopolicy cost-centre >/dev/null 2>&1; then
        fail "RegoPolicy cost-centre exists there, and the demo would change it. Use another cluster."
    fi
    local name
    for name in "$namespace" "$unfenced" "$legacy"; do
        if kubectl get namespace "$name" >/dev/null 2>&1; then
            fail "namespace $name exists there, and the demo would change it. Delete it, or use another cluster."
        fi
    done
}

# shellcheck source=demo/story.sh
source demo/story.sh

main() {
    if [ "${1:-}" = stop ]; then
        stop
        say "Stopped."
        return
    fi
    mkdir -p "$state"
    if [ -f "$state/controlplane.pid" ] && kill -0 "$(cat "$state/controlplane.pid")" 2>/dev/null && [ -z "${CONTEXT:-}" ]; then
        fail "a demo is running already: stop it with make demo-stop"
    fi
    if [ -n "${CONTEXT:-}" ] && [ -x "$bin/kubectl" ]; then
        : # Their cluster needs our kubectl alone.
    else
        tests/controlplane/build.sh
    fi
    # kubectl's cache of what an API server serves must not outlive the demo's API server.
    export KUBECACHEDIR=$state/cache
    trap cleanup EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    say "Building ringfence …"
    cargo build --locked --bin ringfence
    if [ -n "${CONTEXT:-}" ]; then
        check_cluster
    else
        start_control_plane
        start_ringfence
    fi
    tell_the_fence
    tell_the_refusals
    tell_the_window
    if [ -z "${CONTEXT:-}" ]; then tell_the_way_out; fi
    tell_the_policies
    tell_the_way_in

    printf '\n%sEvery step did what it should.%s\n' "$green" "$plain"
    if [ -n "${KEEP:-}" ]; then
        say "It is left running. Look around with:"
        if [ -z "${CONTEXT:-}" ]; then
            say "  export KUBECONFIG=$KUBECONFIG"
            say "  export PATH=$bin:${CARGO_TARGET_DIR:-$root/target}/debug:\$PATH"
            say "Stop it with: make demo-stop"
        else
            say "Remove it with: kubectl --context $CONTEXT delete namespace $namespace $unfenced $legacy"
        fi
    fi
}

main "$@"
