//! The measured side: the product's own server, in a process of its own.
//!
//! Must never outlive the bench: it ends when its standard input does, and the kernel closes that however the bench ended.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use futures::FutureExt;
use futures::future::BoxFuture;
use ringfence::policy::{PolicySet, Source, Target, count_thread, limit_memory};
use ringfence::review::{Decision, Review};
use ringfence::telemetry::{self, LogFormat, Metrics};
use ringfence::tls::Resolver;
use ringfence::webhook::admit::Admission;
use ringfence::webhook::lookup::{Live, Lookup};
use ringfence::webhook::{Admit, Limits, Pool, Webhook, router, serve, tls_config};
use rustls::pki_types::PrivateKeyDer;
use rustls::sign::CertifiedKey;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{generated, review};

/// What the chart's limit on memory leaves for what is counted: keeping it costs time too.
const LIMIT: u64 = 384 << 20;

/// Name in every server's certificate.
pub const NAME: &str = "ringfence-webhook.ringfence-system.svc";

/// Which server to be.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Spec {
    /// The server with all its limits, metrics and log lines, which parses the review and says yes.
    Bare,
    /// The real decision; facts from a table.
    Ringfence {
        /// How many times over the shipped policies are loaded.
        copies: usize,
    },
    /// The real decision with so many small policies; facts from a table.
    Small {
        /// How many.
        count: usize,
    },
    /// The real decision; facts from the API server of `KUBECONFIG`.
    Live,
}

/// What a server says once it listens.
#[derive(Debug, Deserialize, Serialize)]
pub struct Ready {
    pub port: u16,
    /// Its certificate, which signs itself.
    pub certificate: Vec<u8>,
    /// How many policies judge a pod.
    pub policies: usize,
}

/// Says yes to whatever could be parsed.
struct Yes;

impl Admit for Yes {
    fn admit<'a>(&'a self, _: Webhook, _: &'a Review, _: Instant) -> BoxFuture<'a, Decision> {
        std::future::ready(Decision::default()).boxed()
    }
}

pub fn main(spec: &str) -> Result<()> {
    let spec: Spec = serde_json::from_str(spec).context("this argument is for the bench itself: run cargo bench")?;
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        bail!("another TLS provider is installed already");
    }
    telemetry::init(LogFormat::Json)?;
    limit_memory(LIMIT);
    // As `ringfence run` has it.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .on_thread_stop(count_thread)
        .build()?;
    runtime.block_on(run(&spec))
}

async fn run(spec: &Spec) -> Result<()> {
    let mut policies = 0;
    let admit: Arc<dyn Admit> = match spec {
        Spec::Bare => Arc::new(Yes),
        Spec::Ringfence { copies } => {
            let set = generated::compile(shipped(*copies)?)?;
            Arc::new(admission(Arc::new(review::facts()?), set, &mut policies))
        }
        Spec::Small { count } => {
            let set = generated::compile(generated::small(*count))?;
            Arc::new(admission(Arc::new(review::facts()?), set, &mut policies))
        }
        Spec::Live => {
            let client = kube::Client::try_from(kube::Config::infer().await?)?;
            let set = generated::compile(shipped(1)?)?;
            Arc::new(admission(Arc::new(Live::new(client, "ringfence")), set, &mut policies))
        }
    };
    let (limits, resolver) = (Limits::default(), Arc::new(Resolver::default()));
    let made = rcgen::generate_simple_self_signed([NAME.to_owned()])?;
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).map_err(anyhow::Error::msg)?;
    let provider = rustls::crypto::ring::default_provider();
    let certificate = CertifiedKey::from_der(vec![made.cert.der().clone()], key, &provider)?;
    resolver.store(Arc::new(certificate));

    let listener = TcpListener::bind("127.0.0.1:0")?;
    let ready = Ready {
        port: listener.local_addr()?.port(),
        certificate: made.cert.der().to_vec(),
        policies,
    };
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{}", serde_json::to_string(&ready)?)?;
    stdout.flush()?;
    let routes = router(admit, &limits, Arc::new(Metrics::new()));
    serve(
        listener,
        tls_config(resolver, None)?,
        routes,
        &limits,
        CancellationToken::new(),
    )
    .await?;
    Ok(())
}

fn admission(lookup: Arc<dyn Lookup>, set: PolicySet, policies: &mut usize) -> Admission {
    *policies = set
        .policies()
        .filter(|policy| policy.metadata.target == Target::Pod)
        .count();
    let pool = Pool::new(Arc::new(set), Limits::default().evaluations, Arc::default());
    Admission::new(lookup, Arc::new(pool), "ringfence-system", Arc::default())
}

/// The shipped policies that many times over, each copy by a name of its own.
fn shipped(copies: usize) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    for copy in 1..=copies {
        for source in generated::shipped() {
            let text = if copy == 1 {
                source.text
            } else {
                renamed(&source.text, copy).with_context(|| format!("{} has no name", source.file))?
            };
            sources.push(Source {
                file: source.file,
                text,
            });
        }
    }
    Ok(sources)
}

fn renamed(text: &str, copy: usize) -> Option<String> {
    let at = text.find("#   name: ")?;
    let end = at + text.get(at..)?.find('\n')?;
    Some(format!("{}-{copy}{}", text.get(..end)?, text.get(end..)?))
}
