# The story that demo.sh tells: sourced by it, with its `run`, `refused`, `prompt`, `step` and `until_true`. Every step is asserted.

# Whoever runs this, as a launcher: user:NAME or serviceaccount:NAMESPACE/NAME.
me() {
    local user
    user=$(kubectl auth whoami -o jsonpath='{.status.userInfo.username}')
    case $user in
    system:serviceaccount:*)
        user=${user#system:serviceaccount:}
        echo "serviceaccount:${user%%:*}/${user#*:}"
        ;;
    system:*) fail "you are $user, which cannot be a launcher: use a named user or a service account" ;;
    *) echo "user:$user" ;;
    esac
}

# The example with whoever runs this as its launcher.
example() {
    local name launcher
    launcher=$(me)
    name=${launcher#*:}
    case $launcher in
    serviceaccount:*) launcher="serviceAccount: {namespace: ${name%%/*}, name: ${name#*/}}" ;;
    *) launcher="user: \"$name\"" ;;
    esac
    awk -v launcher="$launcher" '/^  - user: ringfence-admin/ { print "  - " launcher; next } { print }' examples/invoice-triage.yaml
}

# What the workflow's account may read, asked of the API server.
allowed() { # RESOURCE ANSWER
    local answer
    prompt kubectl auth can-i get "$1" --namespace "$namespace" --as "system:serviceaccount:$namespace:invoice-triage"
    answer=$(kubectl auth can-i get "$1" --namespace "$namespace" --as "system:serviceaccount:$namespace:invoice-triage" || true)
    say "$answer"
    [ "$answer" = "$2" ] || fail "the answer should be $2"
}

joined() { [ "$(kubectl get aiworkflow reports --namespace "$legacy" -o jsonpath='{.status.conditions[?(@.type=="Programmed")].status}')" = True ]; }
# What runs, all of it with the label.
rolled_out() {
    local all labelled
    all=$(kubectl get pods --namespace "$legacy" -o name | wc -l)
    labelled=$(kubectl get pods --namespace "$legacy" --selector ringfence.dev/workflow=reports -o name | wc -l)
    [ "$all" = 2 ] && [ "$labelled" = 2 ]
}
legacy_runs() { [ -n "$(kubectl get pods --namespace "$legacy" -o name)" ]; }
policy_acts() {
    [ "$(kubectl get regopolicy cost-centre -o jsonpath='{.status.conditions[?(@.type=="Compiled")].status}{.status.conditions[?(@.type=="Enforced")].status}')" = TrueTrue ]
}
pods_there() { [ -n "$(kubectl get pods --namespace "$namespace" -o name)" ]; }

tell_the_fence() {
    step "A namespace is fenced, a workflow is declared and launched: one apply"
    local file=examples/invoice-triage.yaml
    example >"$state/invoice-triage.yaml"
    if ! cmp -s "$file" "$state/invoice-triage.yaml"; then
        file=$state/invoice-triage.yaml
        say "The example, with you as its launcher: nobody is one by right."
    fi
    prompt "kubectl apply -f $file"
    created=yes
    kubectl apply -f "$file" || fail "the example should be accepted"
    prompt kubectl wait --for=condition=Ready aiworkflow/invoice-triage --namespace "$namespace" --timeout=60s
    kubectl wait --for=condition=Ready aiworkflow/invoice-triage --namespace "$namespace" --timeout=60s || {
        kubectl get aiworkflows --namespace "$namespace" -o wide
        fail "the workflow should be ready within a minute"
    }

    step "What Ringfence made of it: an account, its rights, and a network fence"
    run kubectl get aiworkflows --namespace "$namespace"
    run kubectl get serviceaccounts,roles,rolebindings,networkpolicies --namespace "$namespace"
    run kubectl describe aiworkflow invoice-triage --namespace "$namespace"
    run kubectl describe roles --namespace "$namespace"
    local made
    for made in serviceaccount/invoice-triage networkpolicy/ringfence; do
        kubectl get "$made" --namespace "$namespace" -o name >/dev/null || fail "$made should be there"
    done
    [ -n "$(kubectl get rolebindings --namespace "$namespace" -o name)" ] || fail "the workflow's rights should be bound"
    allowed configmaps/triage-config yes
    allowed configmaps/another no
    allowed secrets/openai no

    step "Its Job made a pod, and the pod was admitted"
    until_true "the Job has a pod" pods_there
    run kubectl get jobs,pods --namespace "$namespace"
    if [ -z "${CONTEXT:-}" ]; then
        say "The pod stays Pending: this control plane has no node to run it on. Admission is what you see here."
    fi
}

# What decided, from the log alone. It holds what was decided about, and not the key.
explained() {
    local output
    step "Why was that? The decision log tells, policy by policy, without the cluster and without the key"
    prompt 'grep no-literal-secrets ringfence.log | tail -n 1 | ringfence explain'
    output=$(grep no-literal-secrets "$state/ringfence.log" | tail -n 1 | ringfence explain) || fail "the line should be explained"
    say "$output"
    grep -q 'refuses: spec.template.spec.containers\[0\].env\[0\].value = ' <<<"$output" || fail "the field should be found again"
    if grep -q demo-0f3c9a71b2d84e65a9c1 "$state/ringfence.log"; then fail "the log repeats the key"; fi
}

# The words of the cluster, at the line of the manifest, before anybody applies it.
reviewed() {
    local output
    step "The same without a cluster, in CI or before a commit: the same verdict, at the line that is at fault"
    prompt ringfence review --context examples/invoice-triage.yaml demo/refused/4-literal-key.yaml
    output=$("${CARGO_TARGET_DIR:-$root/target}/debug/ringfence" review --context examples/invoice-triage.yaml demo/refused/4-literal-key.yaml 2>&1) &&
        fail "the review should refuse it"
    printf '%s\n' "$output"
    grep -q 'demo/refused/4-literal-key.yaml:[0-9]*' <<<"$output" || fail "the review should name the line"
    if grep -q demo-0f3c9a71b2d84e65a9c1 <<<"$output"; then fail "the review repeats the key"; fi
}

tell_the_refusals() {
    kubectl create namespace "$unfenced" >/dev/null
    until_true "the namespaces have their default account" \
        kubectl get serviceaccount default --namespace "$unfenced"
    until_true "the namespaces have their default account" \
        kubectl get serviceaccount default --namespace "$namespace"

    step "Refused: a pod that no workflow declares"
    refused 'declared-workflow' kubectl apply -f demo/refused/1-undeclared-pod.yaml

    step "Refused: the workflow's pod in a namespace that is not fenced"
    refused 'approved-namespace' kubectl apply -f demo/refused/2-unfenced-namespace.yaml

    step "Refused: a privileged container, at the Job and not only at its pods"
    refused 'restricted-pod-security.*privileged' kubectl apply -f demo/refused/3-privileged.yaml

    step "Refused: a Job that mounts a Secret which its workflow does not declare"
    refused 'declared-secrets.*payroll' kubectl apply -f demo/refused/7-undeclared-secret.yaml

    step "Refused: a Job whose template carries an API key, and the message does not repeat the key"
    refused 'no-literal-secrets' kubectl apply -f demo/refused/4-literal-key.yaml
    if kubectl apply -f demo/refused/4-literal-key.yaml 2>&1 | grep -q demo-0f3c9a71b2d84e65a9c1; then
        fail "the refusal repeats the key"
    fi
    if [ -z "${CONTEXT:-}" ]; then explained; fi
    reviewed

    step "Refused: a tenant who takes the fence down, with every right that a tenant needs for that"
    run kubectl create role tenant --namespace "$namespace" --verb=get,update,patch --resource=namespaces
    run kubectl create rolebinding tenant --namespace "$namespace" --role=tenant --group=finance-ml
    refused 'verb approve' kubectl label namespace "$namespace" ringfence.dev/enforce- --as=mia --as-group=finance-ml
    [ "$(kubectl get namespace "$namespace" -o jsonpath='{.metadata.labels.ringfence\.dev/enforce}')" = default ] ||
        fail "the namespace has lost its fence"
}

tell_the_window() {
    local pod
    pod=$(kubectl get pods --namespace "$namespace" --selector ringfence.dev/workflow=invoice-triage -o name | head -n 1)
    step "Refused: a shell in the workflow's pod, to the administrator too"
    refused 'debug-window' kubectl exec "$pod" --namespace "$namespace" -- sh
}

# What the pod gets, whose address is this machine's: no node runs it.
asks() { # URL
    printf '\n%s(in the pod) $ get %s%s\n' "$cyan" "$1" "$plain"
    python3 demo/outside.py get "$proxy_port" "$1" 2>&1
}
not_passed() { # PATTERN URL
    local output
    output=$(asks "$2") && fail "this should not have been let through: $2"
    printf '%s\n' "$output"
    grep -qE -- "$1" <<<"$output" || fail "refused, but not for the right reason (expected: $1)"
    printf '%s✓ refused%s\n' "$green" "$plain"
}
enquirer() { kubectl get pods --namespace ai-reach --selector ringfence.dev/workflow=enquiries -o name | grep .; }
logged() { grep '"message":"egress"' "$state/egress.log" | grep -q '"verdict":"not-declared"'; }

tell_the_way_out() {
    local address='{"status": {"phase": "Running", "podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}]}}'
    step "Egress by domain, on any network plugin: a workflow declares the names that it reaches"
    start_egress
    sed "s/{port: 80}/{port: $web_port}/" demo/egress.yaml >"$state/egress.yaml"
    run kubectl apply -f "$state/egress.yaml"
    run kubectl wait --for=condition=Ready aiworkflow/enquiries --namespace ai-reach --timeout=60s
    run kubectl describe networkpolicies --namespace ai-reach
    until_true "the Job has a pod" enquirer
    kubectl patch "$(enquirer)" --namespace ai-reach --subresource=status --type=merge --patch "$address" >/dev/null ||
        fail "the pod should be said to run"

    step "Through Ringfence's proxy it reaches that name, and no other: not by HTTPS, and not by an address"
    asks "http://api.partner.example:$web_port/rates" || fail "what is declared should be reached"
    not_passed 'ringfence: not-declared.*' "https://paste.attacker.example/"
    not_passed 'ringfence: bad-request.*' "http://169.254.169.254/latest/meta-data/"

    step "Each of them left one line: who, where to, how much, and the verdict"
    until_true "the proxy logs what it refused" logged
    prompt "grep '\"message\":\"egress\"' egress.log"
    grep '"message":"egress"' "$state/egress.log"
}

# The platform's own rules, in Rego, as objects of the cluster.
tell_the_policies() {
    local policy=examples/policies/cost-centre.yaml
    step "A policy of your own with a mistake in it: refused before it is written, with the line at fault"
    refused 'registries\.rego:5:[0-9]+: .*in the line: .*not starts_with' kubectl apply -f demo/refused/5-mistaken-policy.yaml

    step "A good one is in force at once: vetted, tried on its samples, asked about by the API server"
    policies=yes
    run kubectl apply -f "$policy"
    until_true "the policy is enforced" policy_acts
    run kubectl get regopolicies

    step "Refused by it without a restart: the Job already, and not only its pods"
    refused '\[cost-centre\] spec\.template\.metadata\.labels.*\(via Job/unpaid\)' kubectl apply -f demo/refused/6-no-cost-centre.yaml
    run kubectl delete -f "$policy"
    until_true "the policy is gone" kubectl apply --dry-run=server -f demo/refused/6-no-cost-centre.yaml
    run kubectl apply --dry-run=server -f demo/refused/6-no-cost-centre.yaml
}

# Legacy: nothing there is declared. What would fence it, what would be refused, and how a team finds out before it hurts.
tell_the_way_in() {
    local output
    step "A namespace that runs something already: what would fence it?"
    run kubectl apply -f demo/legacy.yaml
    until_true "the deployment has pods" legacy_runs
    prompt ringfence draft "$legacy" --launcher "$(me)"
    ringfence draft "$legacy" --launcher "$(me)" >"$state/draft.yaml" || fail "a draft should have been written"
    cat "$state/draft.yaml"
    grep -q '^kind: AIWorkflow' "$state/draft.yaml" || fail "the draft should hold an AIWorkflow"

    step "Setting a mode tells at once what would be refused; nothing is refused yet"
    prompt kubectl label namespace "$legacy" ringfence.dev/warn=default
    output=$(kubectl label namespace "$legacy" ringfence.dev/warn=default 2>&1) || fail "the mode should have been set: $output"
    say "$output"
    grep -q 'Warning: .*declared-workflow' <<<"$output" || fail "setting a mode should tell what does not fit"

    step "The same as a report, for people and for pipelines (-o json, sarif, junit)"
    prompt ringfence check namespace "$legacy"
    output=$(ringfence check namespace "$legacy") && fail "check should find something"
    say "$output"
    grep -q 'declared-workflow' <<<"$output" || fail "check should name what does not fit"

    step "Declared, adopted, labelled: the team's part, with everything still running"
    run kubectl apply -f "$state/draft.yaml"
    run kubectl annotate serviceaccount reports --namespace "$legacy" ringfence.dev/adopt=reports
    until_true "the account has joined" joined
    run kubectl patch deployment reports --namespace "$legacy" --type merge --patch-file demo/labelled.json
    until_true "the rollout is over" rolled_out
    run kubectl delete role,rolebinding reports --namespace "$legacy"
    run kubectl get aiworkflows --namespace "$legacy"

    step "Nothing is left to tell: enforced without a warning, and nothing in the cluster is outside its fence"
    run ringfence check namespace "$legacy"
    prompt kubectl label namespace "$legacy" ringfence.dev/enforce=default
    output=$(kubectl label namespace "$legacy" ringfence.dev/enforce=default 2>&1) || fail "the mode should have been set: $output"
    say "$output"
    if grep -q 'Warning:' <<<"$output"; then fail "nothing should be left to warn of"; fi
    run kubectl wait --for=condition=Ready aiworkflow/reports --namespace "$legacy" --timeout=60s
    run kubectl get aiworkflows --all-namespaces
    if [ -z "${CONTEXT:-}" ]; then
        run ringfence scan
    fi
}

