//! `ringfence egress`: the proxy through which workflows reach domains; and below it, what asks it.

mod report;

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use clap::{Args as ClapArgs, Subcommand, ValueEnum};
use ipnet::IpNet;
use tokio::{
    net::{TcpListener, UdpSocket},
    task::JoinSet,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

use super::client;
use super::memory::settle_allocator;
use super::stop::until_stopped;
use crate::{
    egress::{Answers, ClusterDomains, Host},
    proxy::{
        Accounts, Health, Limits, NamePort, Proxy, Resolver, Tokens, follow, health_router, listen,
        listen_for_datagrams, serve, serve_names, system_servers, withdraw,
    },
    telemetry::{self, EgressMetrics, LogFormat},
    watch,
    webhook::{self, duration, serve_health},
};

/// Longest that the API server may say nothing on a connection that waits for it.
const SILENCE: Duration = Duration::from_secs(2 * watch::SECONDS as u64);
/// How long a stopping replica takes connections, while its Service and whoever obeys that forget it.
const FORGOTTEN: Duration = Duration::from_secs(10);
/// Longest that stopping may take once all connections have been told to end.
const FINISH: Duration = Duration::from_secs(2);
const RESOLV_CONF: &str = "/etc/resolv.conf";
const DNS: u16 = 53;

/// Run the proxy through which workflows reach the domains that they declare.
///
/// Pods name it by HTTPS_PROXY and HTTP_PROXY. It tells a workflow by the address of the calling pod, and lets through what the workflow's
/// NetworkPolicy in force names; docs/egress.md says what it sees and what it does not.
#[derive(ClapArgs, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Args {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    proxy: ProxyArgs,
}

#[derive(Debug, Subcommand)]
enum What {
    Report(report::Args),
}

#[derive(ClapArgs, Debug)]
struct ProxyArgs {
    /// Where the proxy listens; may be given again. [::] is both families, and IPv4 alone where the machine has no IPv6.
    #[arg(
        long,
        env = "RINGFENCE_EGRESS_LISTEN",
        value_delimiter = ',',
        default_value = "[::]:3128"
    )]
    listen: Vec<SocketAddr>,
    /// Where /livez, /readyz and /metrics are served; and /report, which ringfence egress report asks for, within this pod alone.
    #[arg(long, env = "RINGFENCE_METRICS_LISTEN", default_value = "[::]:8080")]
    metrics_listen: SocketAddr,
    /// Where pods ask for names of the cluster, by UDP and TCP; may be given again. Left out: nowhere.
    #[arg(long, env = "RINGFENCE_EGRESS_DNS_LISTEN", value_delimiter = ',')]
    dns_listen: Vec<SocketAddr>,
    /// Domain below which names are the cluster's; may be given again. No other name is passed on.
    #[arg(
        long = "cluster-domain",
        env = "RINGFENCE_EGRESS_CLUSTER_DOMAINS",
        value_delimiter = ',',
        default_value = "cluster.local",
        value_parser = cluster_domain
    )]
    cluster_domains: Vec<Host>,
    /// DNS resolver to ask, as an address with or without a port; may be given again. Left out: those of /etc/resolv.conf.
    #[arg(long = "nameserver", env = "RINGFENCE_EGRESS_NAMESERVERS", value_delimiter = ',', value_parser = nameserver)]
    nameservers: Vec<SocketAddr>,
    /// Private address range that declared domains may lead to, such as 10.20.0.0/16; may be given again. Left out: none. Services that hand
    /// out credentials stay closed.
    #[arg(
        long,
        env = "RINGFENCE_EGRESS_ALLOW_PRIVATE_ANSWERS",
        value_delimiter = ',',
        value_name = "CIDR"
    )]
    allow_private_answers: Vec<IpNet>,
    /// Address range that declared domains must not lead to, such as the cluster's own where it is not private; may be given again.
    #[arg(
        long,
        env = "RINGFENCE_EGRESS_REFUSE_ANSWERS",
        value_delimiter = ',',
        value_name = "CIDR"
    )]
    refuse_answers: Vec<IpNet>,
    /// What becomes of a token of its account that a pod shows in Proxy-Authorization, beside the address by which it is known.
    #[arg(long, env = "RINGFENCE_EGRESS_TOKENS", value_enum, default_value_t)]
    tokens: TokenUse,
    /// Audience that such a token must be for.
    #[arg(long, env = "RINGFENCE_EGRESS_TOKEN_AUDIENCE", default_value = "ringfence-egress")]
    token_audience: String,
    /// How many connections of pods may be open at a time.
    #[arg(long, env = "RINGFENCE_EGRESS_CONNECTIONS", default_value_t = Limits::default().connections)]
    connections: usize,
    /// How many of them may be of one pod.
    #[arg(long, env = "RINGFENCE_EGRESS_CONNECTIONS_PER_POD", default_value_t = Limits::default().connections_of_one)]
    connections_per_pod: usize,
    /// How long a connection may carry nothing, such as 1h.
    #[arg(long, env = "RINGFENCE_EGRESS_IDLE_TIMEOUT", default_value = "1h", value_parser = period)]
    idle_timeout: Duration,
    /// How long open connections may go on once this replica is asked to stop, after the 10 s in which it still takes new ones.
    #[arg(long, env = "RINGFENCE_EGRESS_DRAIN_TIMEOUT", default_value = "45s", value_parser = period)]
    drain_timeout: Duration,
    /// How log lines are written.
    #[arg(long, env = "RINGFENCE_LOG_FORMAT", value_enum, default_value_t)]
    log_format: LogFormat,
}

/// Whether a token counts.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
enum TokenUse {
    /// None is looked at.
    #[default]
    Ignored,
    /// One that is shown must be the pod's own. The account needs the right to create TokenReviews.
    Checked,
    /// The same, and one must be shown.
    Required,
}

/// The exit code of what asks the proxy; `None` where this was the proxy itself, which has stopped.
pub(super) fn main(args: Args) -> Result<Option<ExitCode>> {
    match args.what {
        Some(What::Report(args)) => Ok(Some(report::main(&args))),
        None => serve_until_stopped(args.proxy).map(|()| None),
    }
}

fn serve_until_stopped(args: ProxyArgs) -> Result<()> {
    telemetry::init(args.log_format)?;
    settle_allocator();
    // The client uses it; rustls panics when two providers are there and none is installed.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        bail!("another TLS provider is installed already");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(run(args))
}

async fn run(args: ProxyArgs) -> Result<()> {
    let limits = limits(&args);
    let servers = match args.nameservers.is_empty() {
        true => system_servers(Path::new(RESOLV_CONF)).with_context(|| format!("cannot read {RESOLV_CONF}"))?,
        false => args.nameservers,
    };
    if servers.is_empty() {
        bail!("{RESOLV_CONF} names no resolver: name one by --nameserver");
    }
    let mut config = kube::Config::infer()
        .await
        .context("cannot tell which cluster to talk to: set KUBECONFIG")?;
    // A connection whose other end is gone says nothing. A watch is quiet for less than that.
    config.read_timeout = Some(SILENCE);
    config.reset_reader_on_write = true;
    let client = client::client(config).context("cannot make a client from the kubeconfig")?;

    let (stop, end, connections) = (CancellationToken::new(), CancellationToken::new(), TaskTracker::new());
    let metrics = Arc::new(EgressMetrics::default());
    let mut tasks = JoinSet::new();
    let tokens = (args.tokens != TokenUse::Ignored)
        .then(|| Tokens::new(client.clone(), args.token_audience, args.tokens == TokenUse::Required));
    let (callers, following) = follow(client, Arc::clone(&metrics), end.clone());
    tasks.spawn(async move {
        following.await;
        Ok(())
    });
    let accounts = Arc::new(Accounts::default());
    let health = Health::new(callers.clone(), Arc::clone(&metrics), Arc::clone(&accounts));
    let served = listen(args.metrics_listen).with_context(|| format!("cannot listen on {}", args.metrics_listen))?;
    let (routes, health_end) = (health_router(health.clone()), end.clone());
    tasks.spawn(async move {
        let served = serve_health(served, routes, &webhook::Limits::default(), health_end).await;
        served.context("the health server ended")
    });
    let answers = Answers::new(args.allow_private_answers, args.refuse_answers);
    let resolver = Resolver::new(servers);
    let proxy = Proxy::new(limits, callers, resolver, answers, metrics, accounts);
    let proxy = proxy.with_cluster_domains(ClusterDomains::new(args.cluster_domains));
    let proxy = Arc::new(proxy.with_tokens(tokens));
    let (looked_at, withdrawing_end) = (Arc::clone(&proxy), end.clone());
    tasks.spawn(async move {
        withdraw(looked_at, withdrawing_end).await;
        Ok(())
    });
    for address in args.listen {
        let listener = listen(address).and_then(TcpListener::from_std);
        let listener = listener.with_context(|| format!("cannot listen on {address}"))?;
        let address = listener.local_addr().unwrap_or(address);
        info!(%address, "listening");
        let (proxy, connections) = (Arc::clone(&proxy), connections.clone());
        let (stop, end) = (stop.clone(), end.clone());
        tasks.spawn(async move {
            serve(proxy, listener, connections, stop, end).await;
            Ok(())
        });
    }
    for address in args.dns_listen {
        let port = name_port(address).with_context(|| format!("cannot listen for questions on {address}"))?;
        let (proxy, questions) = (Arc::clone(&proxy), connections.clone());
        let (stop, end) = (stop.clone(), end.clone());
        tasks.spawn(async move {
            serve_names(proxy, port, questions, stop, end).await;
            Ok(())
        });
    }

    let outcome = until_stopped(&mut tasks, "the proxy", || health.stop()).await;
    if outcome.is_ok() {
        // The Service's endpoints forget an unready replica a moment later; until then it must answer.
        tokio::time::sleep(FORGOTTEN).await;
    }
    stop.cancel();
    connections.close();
    if outcome.is_ok()
        && tokio::time::timeout(args.drain_timeout, connections.wait())
            .await
            .is_err()
    {
        warn!(
            open = connections.len(),
            "connections that go on longer than stopping may take are ended"
        );
    }
    end.cancel();
    let finish = async {
        connections.wait().await;
        while tasks.join_next().await.is_some() {}
    };
    if tokio::time::timeout(FINISH, finish).await.is_err() {
        warn!("something did not stop in time and is left behind");
    }
    info!("stopped");
    outcome
}

fn name_port(address: SocketAddr) -> std::io::Result<NamePort> {
    Ok(NamePort {
        datagrams: UdpSocket::from_std(listen_for_datagrams(address)?)?,
        streams: TcpListener::from_std(listen(address)?)?,
    })
}

/// The bounds, as far as this process may open so many files.
fn limits(args: &ProxyArgs) -> Limits {
    let asked = Limits {
        connections: args.connections,
        connections_of_one: args.connections_per_pod,
        idle: args.idle_timeout,
        ..Limits::default()
    };
    let limits = asked.clone().within_files();
    if limits.connections < asked.connections || limits.starting < asked.starting {
        warn!(
            connections = limits.connections,
            asked = asked.connections,
            being_made = limits.starting,
            "this process may open too few files for as many connections: raise its limit on open files"
        );
    }
    limits
}

pub(super) fn nameserver(text: &str) -> std::result::Result<SocketAddr, String> {
    let with_port = text.parse().ok();
    let without = || text.parse::<IpAddr>().ok().map(|address| SocketAddr::new(address, DNS));
    with_port
        .or_else(without)
        .ok_or_else(|| "write an address, such as 10.96.0.10 or 10.96.0.10:53".to_owned())
}

pub(super) fn cluster_domain(text: &str) -> std::result::Result<Host, String> {
    Host::named(text).map_err(|_| "write a domain of two labels at least, such as cluster.local".to_owned())
}

/// A duration as Kubernetes writes it, at least a second.
fn period(text: &str) -> std::result::Result<Duration, String> {
    let period = duration(text).filter(|period| *period >= Duration::from_secs(1));
    period.ok_or_else(|| "write it like 5m, at least 1s".to_owned())
}
