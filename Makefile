# Ringfence's commands. `make help` lists them. Needs Rust, Go and a C compiler, and for the image musl-tools and buildah; everything else is built.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules --no-print-directory

GO := GOFLAGS= GOWORK=off GOTOOLCHAIN=local go
GO_MODULES := tests/controlplane tests/node tests/oracle tests/simulator tests/opa tests/gatekeeper tests/pod-security tests/match-conditions tests/promql tests/cert-manager tests/ech
# Each folder of tests/ with a main.rs, and each file there, is one test binary. Those that need the control plane go last: what is cheap and
# fails is known first. Apart from `make test`: real nodes take root and more time (`make e2e`), the image a build of its own (`make test-image`).
APART := e2e image
ALL_TESTS := $(filter-out $(APART),$(patsubst tests/%/main.rs,%,$(wildcard tests/*/main.rs)) $(patsubst tests/%.rs,%,$(wildcard tests/*.rs)))
CLUSTER_TESTS := $(filter cluster chart bypass soundness survival egress install engines,$(ALL_TESTS))
TESTS := $(filter-out $(CLUSTER_TESTS),$(ALL_TESTS)) $(CLUSTER_TESTS)

# $(call step,NAME,COMMAND): says what it does, and afterwards how long it took.
define step
@printf '\n==> %s\n' '$(1)'; started=$$SECONDS; \
if $(2); then printf '<== %s: ok in %s s\n' '$(1)' "$$((SECONDS - started))"; \
else printf '<== %s: FAILED after %s s\n' '$(1)' "$$((SECONDS - started))"; exit 1; fi
endef

.NOTPARALLEL:

.PHONY: help
help: ## List these commands
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@printf '  make %-16s %s\n' test-NAME 'Run one of: $(TESTS)'

.PHONY: build
build: tools ## Build the operator: target/release/ringfence
	$(call step,build the operator,cargo build --release --locked --bin ringfence)

.PHONY: controlplane
controlplane: tools ## Build the control plane for tests and demo (about ten minutes the first time)
	$(call step,build the control plane,tests/controlplane/build.sh)

.PHONY: simulator
simulator: tools ## Build the simulator of NetworkPolicies that tests ask (seconds after the control plane)
	$(call step,build the simulator of NetworkPolicies,tests/support/build-oracle.sh simulator)

.PHONY: opa
opa: tools ## Build the Open Policy Agent that the tests ask (two minutes the first time)
	$(call step,build the Open Policy Agent,tests/support/build-oracle.sh opa)

.PHONY: pod-security
pod-security: tools ## Build the Pod Security Standards' own checks, which the tests ask (seconds after the control plane)
	$(call step,build the checks of the Pod Security Standards,tests/support/build-oracle.sh pod-security)

.PHONY: gatekeeper
gatekeeper: tools ## Build the Gatekeeper that the tests ask (two minutes the first time)
	$(call step,build the Gatekeeper,tests/support/build-oracle.sh gatekeeper)

.PHONY: match-conditions
match-conditions: tools ## Build the API server's evaluator of matchConditions, which the tests ask (seconds after the control plane)
	$(call step,build the evaluator of matchConditions,tests/support/build-oracle.sh match-conditions)

.PHONY: promql
promql: tools ## Build the Prometheus that the tests ask about alerts (two minutes the first time)
	$(call step,build the evaluator of alerts,tests/support/build-oracle.sh promql)

.PHONY: cert-manager
cert-manager: tools ## Build cert-manager's controllers, which the tests run (three minutes the first time)
	$(call step,build the controllers of cert-manager,tests/support/build-oracle.sh cert-manager)

.PHONY: ech
ech: tools ## Build the client with an encrypted ClientHello that the tests of the proxy run (a minute the first time)
	$(call step,build the client with an encrypted ClientHello,tests/support/build-oracle.sh ech)

.PHONY: engines
engines: tools ## Build the controllers of engines that the tests run: Argo Workflows' and KubeRay's (minutes the first time)
	$(call step,build the controllers of engines,tests/engines/controllers/build.sh)

.PHONY: image
image: image-tools ## Build the image: target/image/ringfence.tar, for docker load, ctr images import and registries
	$(call step,build the image,image/build.sh target/image)

.PHONY: sbom
sbom: image-tools ## Write what the image's binary is made of, as CycloneDX: target/image/binary/ringfence.cdx.json
	$(call step,build the binary and its SBOM,image/compile.sh target/image/binary)

.PHONY: test
test: tools namespaces lint controlplane simulator opa pod-security gatekeeper match-conditions promql cert-manager ech engines compile unit $(TESTS:%=test-%) test-demo ## Run everything that CI runs (most of an hour)
	@printf '\nEvery step passed.\n'

.PHONY: test-image
test-image: image namespaces ## Look into the image and run it
	$(call step,tests: image,cargo test --workspace --locked --test image)

.PHONY: e2e
e2e: tools namespaces controlplane ## Run the chart on real nodes: two kubelets with containerd. Takes root; see CONTRIBUTING.md
	$(call step,build the nodes,tests/node/build.sh)
	$(call step,tests: e2e,cargo test --workspace --locked --test e2e -- --nocapture)

.PHONY: mutants
mutants: tools controlplane ## Take each guard away in turn: every attack that ends there must succeed. GUARDS="volumes ringfence-modes" for some; an hour
	$(call step,mutants of the guards,tests/bypass/mutants.py $(GUARDS))

.PHONY: soak
soak: controlplane ## Mixed traffic for half an hour: memory and lag stay flat. RINGFENCE_SOAK=MINUTES
	$(call step,soak,cargo test --workspace --locked --test survival -- --ignored --nocapture soak)

.PHONY: compile
compile: tools ## Compile the tests and benches
	$(call step,compile the tests,cargo test --workspace --locked --all-targets --no-run)

.PHONY: unit
unit: compile ## Run the unit tests: no network, no files, seconds
	$(call step,unit tests,cargo test --workspace --locked --lib --bins)

.PHONY: $(TESTS:%=test-%)
# Tests of the cluster mostly wait for it: more of them at a time than there are cores.
$(TESTS:%=test-%): test-%: compile
	$(call step,tests: $*,cargo test --workspace --locked --test $* $(if $(filter cluster,$*),-- --test-threads=6)$(if $(filter engines,$*),-- --test-threads=3))

$(CLUSTER_TESTS:%=test-%): controlplane

test-install: namespaces cert-manager

test-network test-cluster test-soundness test-chart test-engines: simulator

test-engines: engines

test-chart: promql

test-egress: ech

test-fuzz: controlplane match-conditions

test-conformance test-hostile: opa

test-pod_security: pod-security

test-gatekeeper_rules: gatekeeper

# The demo asserts each step of its story; here it is told to a file, and only what went wrong is shown.
.PHONY: test-demo
test-demo: controlplane ## Run the demo's story as a test, told to target/demo.log
	@mkdir -p target
	$(call step,the story of the demo,demo/demo.sh >target/demo.log 2>&1 || { tail -n 40 target/demo.log; false; })

# Go keeps what it compiled by its flags: with those of the builds, what the lints compile is theirs too, and not minutes more.
.PHONY: lint
lint: tools ## Check format and lints of Rust and Go; warnings are errors
	$(call step,format of Rust,cargo fmt --all --check)
	$(call step,format of Go,unformatted=$$(gofmt -l $(GO_MODULES)) && { [ -z "$$unformatted" ] || { echo "run gofmt -w on: $$unformatted"; false; }; })
	$(call step,lints of Rust,cargo clippy --workspace --all-targets --locked -- -D warnings)
	$(call step,lints of Go,(for module in $(GO_MODULES); do (cd "$$module" && $(GO) vet -trimpath .) || exit; done))

.PHONY: generate
generate: tools ## Write what is generated from the code: CRDs, the chart's copy of them, tables, a schema
	$(call step,generate,UPDATE_GENERATED=1 cargo test --workspace --locked --test layout --test policies)

.PHONY: bench
bench: tools ## Measure reviews beside the bare limit of server and parser
	$(call step,bench,cargo bench --workspace --locked --bench admission)

.PHONY: bench-scale
bench-scale: controlplane ## Measure the operator with 100, 1,000 and 5,000 AIWorkflows (half an hour)
	$(call step,bench of scale,cargo bench --workspace --locked --bench scale)

.PHONY: bench-egress
bench-egress: controlplane ## Measure the egress proxy beside a bare tunnel and beside none: bytes, latency, memory of idle connections
	$(call step,bench of the egress proxy,cargo test --workspace --release --locked --test egress -- --ignored --nocapture --exact bench::bench)

.PHONY: demo
demo: tools ## Show the main job on a real API server; KEEP=1 leaves it running, PAUSE=1 waits at each step
	@demo/demo.sh

.PHONY: demo-stop
demo-stop: ## Stop a demo that KEEP=1 left running
	@demo/demo.sh stop

.PHONY: clean
clean: ## Remove what was built, the control plane's binaries included
	cargo clean

.PHONY: namespaces
namespaces: ## Check that tests/install can make a network of its own
	@missing=0; \
	need() { command -v "$$1" >/dev/null || { echo "$$1 is missing. On Debian and Ubuntu, apt install $$2" >&2; missing=1; }; }; \
	need ip iproute2; need nft nftables; need nsenter util-linux; need unshare util-linux; \
	[ $$missing = 1 ] || unshare --user --map-root-user --net true || { missing=1; \
		echo "This user may not make namespaces: run as root, or allow it by sysctl user.max_user_namespaces, and on Ubuntu" \
			"kernel.apparmor_restrict_unprivileged_userns=0" >&2; }; \
	exit $$missing

.PHONY: image-tools
image-tools: tools ## Check that the image can be built: musl-tools and buildah
	@missing=0; \
	need() { command -v "$$1" >/dev/null || { echo "$$1 is missing. On Debian and Ubuntu, apt install $$2" >&2; missing=1; }; }; \
	need musl-gcc musl-tools; need buildah buildah; \
	exit $$missing

test-egress: clients

.PHONY: clients
clients: ## Check that the clients are there with which tests/egress asks hosts: curl and Node.js
	@missing=0; \
	need() { command -v "$$1" >/dev/null || { echo "$$1 is missing. On Debian and Ubuntu, apt install $$2" >&2; missing=1; }; }; \
	need curl curl; need node nodejs; \
	exit $$missing

.PHONY: tools
tools: ## Check that cargo, go and a C compiler are there
	@missing=0; \
	need() { command -v "$$1" >/dev/null || { echo "$$1 is missing. $$2" >&2; missing=1; }; }; \
	need cargo "Install Rust: https://rustup.rs"; \
	need go "Install Go: https://go.dev/doc/install"; \
	need "$${CC:-cc}" "Install a C compiler: on Debian and Ubuntu, apt install build-essential"; \
	exit $$missing
