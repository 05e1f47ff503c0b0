//! `ringfence run`: the operator and its webhook in one process.

use std::{
    collections::BTreeSet,
    hash::{BuildHasher as _, Hasher as _, RandomState},
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use clap::Args as ClapArgs;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Client;
use rustls::server::danger::ClientCertVerifier;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::client;
use super::egress::{cluster_domain, nameserver};
use super::memory::{MemoryLimit, settle_allocator};
use super::operator::Operator;
use super::policies::PolicyFiles;
use super::stop::until_stopped;
use crate::{
    api::{
        AIWorkflow, AIWorkflowClass, AIWorkflowGrant, MAX_CLUSTER_DOMAINS, RegoPolicy, RegoPolicyException,
        ResolvedNames,
    },
    decisions::DecisionInput,
    egress::Host,
    election::{Election, WentBack},
    plan::CLUSTER_DOMAIN,
    policy::{Target, count_thread},
    registry::{MAX_POLICIES, Registry},
    scan::{Preview, Scanner},
    telemetry::{self, LogFormat, Metrics, PolicyOrigin, PolicyState},
    tls::{self, ClientAuthentication, Keeper, KeeperConfig, Names, Resolver},
    vetting::Vetting,
    watch::{self, can_be_listed},
    webhook::{
        Gate, Limits, Parting, Pool, Readiness, admit::Admission, duration, health_router, lookup::Live, router, serve,
        serve_health, tls_config,
    },
};

/// How often the API server is asked whether our kinds are there.
const CRD_RETRY: Duration = Duration::from_secs(2);
/// Longest that one question at start may take.
const START_DEADLINE: Duration = Duration::from_secs(15);
/// Longest that the API server may say nothing on a connection that waits for it.
const SILENCE: Duration = Duration::from_secs(2 * watch::SECONDS as u64);
/// How long most threads that evaluate policies may be gone until this replica ends: longer than its Service takes to forget it,
/// and than an evaluation that is only slow.
const PATIENCE: Duration = Duration::from_secs(15);
/// Longest that stopping may take after that: the webhook's own grace, and a second.
const FINISH: Duration = Duration::from_secs(32);

/// Arguments of `ringfence run`. Each has an environment variable of its name.
#[derive(ClapArgs, Debug)]
pub(super) struct Args {
    /// Namespace that Ringfence is installed in: its Secret lives there, and it is never fenced.
    #[arg(long, env = "RINGFENCE_NAMESPACE")]
    namespace: String,
    /// Ringfence's own service account, which owns the Secret.
    #[arg(long, env = "RINGFENCE_SERVICE_ACCOUNT", default_value = "ringfence")]
    service_account: String,
    /// Service through which the API server reaches the webhook.
    #[arg(long, env = "RINGFENCE_SERVICE_NAME", default_value = "ringfence-webhook")]
    service_name: String,
    /// Host name or address of a webhook that the API server reaches by URL, outside the cluster.
    #[arg(long, env = "RINGFENCE_WEBHOOK_HOST")]
    webhook_host: Option<String>,
    /// Where the webhook listens.
    #[arg(long, env = "RINGFENCE_LISTEN", default_value = "0.0.0.0:9443")]
    listen: SocketAddr,
    /// Where /livez, /readyz and /metrics are served.
    #[arg(long, env = "RINGFENCE_METRICS_LISTEN", default_value = "0.0.0.0:8080")]
    metrics_listen: SocketAddr,
    /// ValidatingWebhookConfiguration whose caBundle is kept. That of its name and `-policies` is written for RegoPolicies.
    #[arg(long, env = "RINGFENCE_WEBHOOK_CONFIGURATION", default_value = "ringfence")]
    webhook_configuration: String,
    /// Lease by which replicas agree who makes the fences.
    #[arg(long, env = "RINGFENCE_LEASE", default_value = "ringfence")]
    lease: String,
    /// Who this replica is among the others; the name of its pod, which the chart sets. Left out, something random: then a replica that
    /// starts anew waits until its own Lease has run out.
    #[arg(long, env = "RINGFENCE_POD_NAME")]
    identity: Option<String>,
    /// Secret that holds the certificate.
    #[arg(long, env = "RINGFENCE_TLS_SECRET", default_value = "ringfence-webhook-tls")]
    tls_secret: String,
    /// The Secret is somebody else's, such as cert-manager's: its tls.crt, tls.key and ca.crt are served and trusted, and never written.
    #[arg(long, env = "RINGFENCE_TLS_PROVIDED")]
    tls_provided: bool,
    /// File of the CA, in PEM, that signs the client certificate of the API server: whoever shows none is cut off in the TLS handshake.
    /// Left out, the port believes whoever reaches it.
    #[arg(long, env = "RINGFENCE_CLIENT_CA", requires = "client_names")]
    client_ca: Option<PathBuf>,
    /// Common name or DNS name that a client's certificate must bear; may be given again.
    #[arg(
        long = "client-name",
        env = "RINGFENCE_CLIENT_NAMES",
        value_delimiter = ',',
        requires = "client_ca"
    )]
    client_names: Vec<String>,
    #[command(flatten)]
    policies: PolicyFiles,
    #[command(flatten)]
    memory: MemoryLimit,
    /// Addresses of its own pod, separated by commas: what the cluster's ranges must hold to be believed. The chart sets it.
    #[arg(long, env = "RINGFENCE_POD_IPS", default_value = "")]
    pod_ips: String,
    /// The chart's egress proxy is installed in the namespace above: workflows that declare domains get a way to it. Left out, they are told
    /// that there is none.
    #[arg(long, env = "RINGFENCE_EGRESS_PROXY")]
    egress_proxy: bool,
    /// The chart lets it write policies of Cilium: workflows that declare domains get one, where they are served and no egress proxy is there,
    /// or where their class says so.
    #[arg(long, env = "RINGFENCE_EGRESS_CILIUM")]
    egress_cilium: bool,
    /// The chart lets it write ClusterNetworkPolicies: workflows that declare domains get one, where their class says so.
    #[arg(long, env = "RINGFENCE_EGRESS_CLUSTER_NETWORK_POLICY")]
    egress_cluster_network_policy: bool,
    /// Domain below which names are the cluster's; may be given again. The first is the one that kubelets know.
    #[arg(
        long = "cluster-domain",
        env = "RINGFENCE_CLUSTER_DOMAIN",
        value_delimiter = ',',
        default_value = CLUSTER_DOMAIN,
        value_parser = cluster_domain
    )]
    cluster_domains: Vec<Host>,
    /// DNS resolver to ask for the names of workflows whose class says ResolvedAddresses, as an address with or without a port; may be given
    /// again, and all of them are asked. Left out: every replica of the DNS that the class has pods reach.
    #[arg(long = "nameserver", env = "RINGFENCE_NAMESERVERS", value_delimiter = ',', value_parser = nameserver)]
    nameservers: Vec<SocketAddr>,
    /// How often all that stands is scanned, such as 5m; 0 is never.
    #[arg(long, env = "RINGFENCE_SCAN_PERIOD", default_value = "5m", value_parser = period)]
    scan_period: Duration,
    /// What decision lines hold of what was decided about: enough to replay it with `ringfence explain`.
    #[arg(long, env = "RINGFENCE_DECISION_INPUT", value_enum, default_value_t)]
    decision_input: DecisionInput,
    /// How log lines are written.
    #[arg(long, env = "RINGFENCE_LOG_FORMAT", value_enum, default_value_t)]
    log_format: LogFormat,
}

pub(super) fn main(args: Args) -> Result<()> {
    telemetry::init(args.log_format)?;
    settle_allocator();
    // Both kube's client and our server use it; rustls panics when two providers are there and none is installed.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        bail!("another TLS provider is installed already");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .on_thread_stop(count_thread)
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(run(args))
}

async fn run(args: Args) -> Result<()> {
    if args.cluster_domains.len() > MAX_CLUSTER_DOMAINS + 1 {
        bail!("--cluster-domain names the cluster's own domain, and {MAX_CLUSTER_DOMAINS} beside it at the most");
    }
    let metrics = Arc::new(Metrics::new());
    let readiness = Readiness::default();
    let limits = Limits::default();
    let kept = args.memory.keep(&limits)?;
    let loaded = args.policies.in_force()?;
    if let Some(switched) = args.policies.switched() {
        info!(switched, "these policies do not do what they would by themselves");
    }
    let (policies, own) = (Arc::new(loaded.set), loaded.registered);
    if own.len() > MAX_POLICIES {
        bail!(
            "{} policies of files judge objects, the limit is {MAX_POLICIES}",
            own.len()
        );
    }
    let compiled = policies.policies().map(|policy| {
        let name = policy.metadata.name.as_str();
        (name, policies.revision(), PolicyState::Compiled)
    });
    metrics.set_policies(PolicyOrigin::Files, compiled);
    let names = policies.policies().map(|policy| policy.metadata.name.clone());
    let names = names.chain(own.iter().map(|policy| policy.name().to_owned())).collect();
    // A Namespace lies in none, so no exception is for what judges Namespaces.
    let excusable = policies
        .policies()
        .filter(|policy| policy.metadata.target != Target::Namespace);
    let excusable: BTreeSet<String> = excusable.map(|policy| policy.metadata.name.clone()).collect();
    readiness.set(Gate::Policies, Ok(()));
    info!(
        revision = policies.revision(),
        count = policies.policies().count(),
        of_objects = own.len(),
        "policies are compiled"
    );

    let mut config = kube::Config::infer()
        .await
        .context("cannot tell which cluster to talk to: set KUBECONFIG")?;
    // Lists have no deadline of their own, and a connection whose other end is gone says nothing. A watch is quiet for less than that.
    config.read_timeout = Some(SILENCE);
    config.reset_reader_on_write = true;
    let asking = client::impatient(config.clone()).context("cannot make a client from the kubeconfig")?;
    let client = client::client(config).context("cannot make a client from the kubeconfig")?;
    let stop = CancellationToken::new();
    // Admission answers while it drains; everything else stops at once.
    let stop_serving = CancellationToken::new();
    let mut tasks = JoinSet::new();

    let health =
        TcpListener::bind(args.metrics_listen).with_context(|| format!("cannot listen on {}", args.metrics_listen))?;
    let admission = TcpListener::bind(args.listen).with_context(|| format!("cannot listen on {}", args.listen))?;
    let health_routes = health_router(readiness.clone(), metrics.clone());
    let (health_limits, health_stop) = (limits.clone(), stop_serving.clone());
    tasks.spawn(async move {
        let served = serve_health(health, health_routes, &health_limits, health_stop).await;
        served.context("the health server ended")
    });

    let serving = stop_serving.clone();
    tasks.spawn(async move {
        tokio::select! {
            () = kept.correct() => {}
            () = serving.cancelled() => {}
        }
        Ok(())
    });
    let resolver = Arc::new(Resolver::default());
    let live = Arc::new(Live::new(asking, &args.webhook_configuration));
    let pool = Arc::new(Pool::new(policies, limits.evaluations, metrics.clone()));
    let vetting = Vetting::new().context("cannot tell which file this binary is, to vet policies with it")?;
    let registry = Registry::new(client.clone(), vetting, metrics.clone());
    let registry = Arc::new(registry.with_own(own));
    let evaluator = pool.evaluator();
    let lost = evaluator.clone();
    let judge = Admission::new(live.clone(), pool, &args.namespace, metrics.clone());
    let judge = Arc::new(judge.with_objects(registry.clone(), evaluator, names));
    let (gates, serving) = (readiness.clone(), stop_serving.clone());
    tasks.spawn(async move {
        let names = tokio::select! {
            names = lost.exhausted(&gates, PATIENCE) => names.join(", "),
            () = serving.cancelled() => return Ok(()),
        };
        bail!(
            "more than half of the threads that evaluate policies were lost to policies that do not end ({names}), and only a new \
             start brings them back: see ringfence_policy_overruns_total, and take these policies out or correct them"
        )
    });
    let scanner = Scanner::new(judge.clone(), live.clone(), live.clone());
    // What is scanned leaves no decision line.
    let recording = judge.over(live.clone()).recording(args.decision_input);
    let admit = Preview::new(Arc::new(recording), scanner.clone());
    let routes = router(Arc::new(admit), &limits, metrics.clone());
    let parting = Parting::new(readiness.clone());
    let routes = parting.of(routes);
    let clients = clients(&args)?;
    let verifier = clients.clone().map(|clients| clients as Arc<dyn ClientCertVerifier>);
    let (tls, serving) = (tls_config(resolver.clone(), verifier)?, stop_serving.clone());
    if let Some(clients) = clients {
        let (readiness, stop) = (readiness.clone(), stop_serving.clone());
        tasks.spawn(async move {
            clients.keep(&readiness, stop).await;
            Ok(())
        });
    }
    tasks.spawn(async move {
        serve(admission, tls, routes, &limits, serving)
            .await
            .context("the webhook ended")
    });

    let owner = owner(&args, &client).await;
    let keeper = keeper(&args, &client, owner.clone(), resolver, &readiness, &metrics);
    let keeping = stop_serving.clone();
    tasks.spawn(async move {
        keeper.run(keeping).await;
        Ok(())
    });

    let own_addresses = args
        .pod_ips
        .split(',')
        .filter_map(|address| address.trim().parse().ok());
    let identity = args.identity.unwrap_or_else(random_identity);
    let election = Election::new(client.clone(), &args.namespace, &args.lease, identity, owner);
    let operator = Operator {
        client: client.clone(),
        metrics,
        readiness: readiness.clone(),
        egress_proxy: args.egress_proxy.then(|| args.namespace.clone()),
        writes_cilium: args.egress_cilium,
        writes_cluster_policies: args.egress_cluster_network_policy,
        cluster_domains: args.cluster_domains.iter().map(Host::to_string).collect(),
        nameservers: args.nameservers,
        namespace: args.namespace,
        registration: args.webhook_configuration,
        addresses: own_addresses.collect(),
        excusable,
        registry: registry.clone(),
        scanner,
        scan_period: args.scan_period,
        was_ready: false.into(),
    };
    let serving = (readiness.clone(), stop_serving.clone());
    let policies = async move { registry.run(serving.0, serving.1).await };
    let controllers = operate(client, election, operator, policies, stop.clone());
    tasks.spawn(async move { Ok(Box::pin(controllers).await?) });
    let outcome = until_stopped(&mut tasks, "Ringfence", || readiness.stop()).await;
    stop.cancel();
    if outcome.is_ok() {
        parting.is_over().await;
    }
    stop_serving.cancel();
    let finish = async {
        while let Some(ended) = tasks.join_next().await {
            if let Ok(Err(error)) = ended {
                warn!(error = format!("{error:#}"), "while stopping");
            }
        }
    };
    if tokio::time::timeout(FINISH, finish).await.is_err() {
        warn!("something did not stop in time and is left behind");
    }
    info!("stopped");
    outcome
}

/// Who owns what this release makes, once that is known. A signal before that ends the process at once: nobody handles it yet.
async fn owner(args: &Args, client: &Client) -> Option<OwnerReference> {
    loop {
        match tls::owner_of(client.clone(), &args.namespace, &args.service_account).await {
            Ok(owner) => return owner,
            Err(error) => warn!(%error, "the API server does not answer yet"),
        }
        tokio::time::sleep(CRD_RETRY).await;
    }
}

/// Who may connect, where that is said.
fn clients(args: &Args) -> Result<Option<Arc<ClientAuthentication>>> {
    let Some(file) = &args.client_ca else {
        return Ok(None);
    };
    let names = args.client_names.iter().map(|name| name.trim().to_owned());
    let names: BTreeSet<String> = names.filter(|name| !name.is_empty()).collect();
    if names.is_empty() {
        bail!("--client-ca needs --client-name: the name in the API server's client certificate");
    }
    let clients = ClientAuthentication::new(file.clone(), names).context("clients cannot be told")?;
    Ok(Some(Arc::new(clients)))
}

fn keeper(
    args: &Args,
    client: &Client,
    owner: Option<OwnerReference>,
    resolver: Arc<Resolver>,
    readiness: &Readiness,
    metrics: &Arc<Metrics>,
) -> Keeper {
    let config = KeeperConfig {
        namespace: args.namespace.clone(),
        secret: args.tls_secret.clone(),
        is_provided: args.tls_provided,
        registration: args.webhook_configuration.clone(),
        names: Names::new(
            &args.service_name,
            &args.namespace,
            args.cluster_domains.first().map_or(CLUSTER_DOMAIN, Host::as_str),
            args.webhook_host.as_deref(),
        ),
        owner,
    };
    Keeper::new(client.clone(), config, resolver, readiness.clone(), metrics.clone())
}

/// Not for secrets: two replicas must not have the same one by chance.
fn random_identity() -> String {
    let random = RandomState::new().build_hasher().finish();
    format!("ringfence-{random:016x}")
}

/// Waits for our kinds, then holds policies ready, and makes fences whenever it is this replica's turn, until `stop`; or until nothing that
/// was read can be believed any more.
async fn operate(
    client: Client,
    election: Election,
    operator: Operator,
    policies: impl Future<Output = ()>,
    stop: CancellationToken,
) -> Result<(), WentBack> {
    loop {
        match Box::pin(kinds_are_served(&client)).await {
            Ok(()) => break,
            Err(reason) => operator.readiness.set(Gate::Crds, Err(reason)),
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(CRD_RETRY) => {}
        }
    }
    operator.readiness.set(Gate::Crds, Ok(()));
    let turns = election.run(stop, |seen| operator.waits(seen), |stop| Box::pin(operator.term(stop)));
    let policies = async {
        policies.await;
        Ok(())
    };
    tokio::try_join!(turns, policies).map(drop)
}

/// A duration as Kubernetes writes it, at least a second, or 0.
fn period(text: &str) -> std::result::Result<Duration, String> {
    if text.trim_end_matches(char::is_alphabetic) == "0" {
        return Ok(Duration::ZERO);
    }
    let period = duration(text).filter(|period| *period >= Duration::from_secs(1));
    period.ok_or_else(|| "write it like 5m, at least 1s; 0 is never".to_owned())
}

async fn kinds_are_served(client: &Client) -> std::result::Result<(), String> {
    let asked = async {
        tokio::try_join!(
            can_be_listed::<AIWorkflow>(client),
            can_be_listed::<AIWorkflowClass>(client),
            can_be_listed::<AIWorkflowGrant>(client),
            can_be_listed::<ResolvedNames>(client),
            can_be_listed::<RegoPolicyException>(client),
            can_be_listed::<RegoPolicy>(client)
        )
    };
    match tokio::time::timeout(START_DEADLINE, Box::pin(asked)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(format!(
            "the kinds of ringfence.dev cannot be listed ({error}): apply crds/ or the chart"
        )),
        Err(_) => Err("the API server did not answer in time".to_owned()),
    }
}
