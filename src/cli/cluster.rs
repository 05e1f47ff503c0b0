//! The cluster that the caller's kubeconfig names, with the caller's own rights.
//!
//! Must never: write, wait without a deadline, or repeat what a kubeconfig or a login command holds: tokens lie beside the
//! mistake. What a subcommand may not read, the API server says; it is passed on with what to do.

use std::{
    error::Error as _,
    fmt,
    future::Future,
    io,
    path::{Path, PathBuf},
    pin::pin,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, bail};
use clap::Args as ClapArgs;
use kube::{
    Api, Client, Config,
    api::ListParams,
    client::AuthError,
    config::{KubeConfigOptions, Kubeconfig, KubeconfigError},
};
use serde::de::DeserializeOwned;

use super::client;
use crate::{
    api::is_exempt,
    reconcile::{CallError, DEADLINE},
};

/// Longest that a login command of the kubeconfig may take. A person may have to sign in with a browser.
const LOGIN: Duration = Duration::from_secs(300);
/// After this long it is said what is waited for.
const PATIENCE: Duration = Duration::from_secs(1);
/// Objects in one page of a list.
const PAGE: u32 = 500;
/// Group and version of our kinds.
const GROUP_VERSION: &str = "ringfence.dev/v1alpha1";
/// Most contexts that an error lists.
const MAX_LISTED: usize = 20;

/// Which cluster, and as whom: as with kubectl.
#[derive(ClapArgs, Debug)]
pub(super) struct Connection {
    /// The kubeconfig. Default: the files of KUBECONFIG, else ~/.kube/config, else the account of the pod around it.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig. Default: its current one.
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
}

/// Where Ringfence itself is.
#[derive(ClapArgs, Debug)]
pub(super) struct Release {
    /// Namespace that Ringfence is installed in, which is never fenced.
    #[arg(long, value_name = "NAMESPACE", default_value = "ringfence-system")]
    pub(super) release_namespace: String,
}

impl Release {
    /// Fails for a namespace that nothing ever fences.
    pub(super) fn refuse_exempt(&self, namespace: &str) -> Result<()> {
        if is_exempt(namespace, Some(&self.release_namespace)) {
            bail!("namespace {namespace} belongs to the platform and is never fenced: name one of workloads");
        }
        Ok(())
    }
}

impl Connection {
    /// A client that has not talked to the API server yet.
    pub(super) async fn client(&self) -> Result<Client> {
        self.target().await?.login().await
    }

    /// What the kubeconfig says, before anything is asked of anybody.
    pub(super) async fn target(&self) -> Result<Target> {
        self.config().await.map(Target)
    }

    async fn config(&self) -> Result<Config> {
        let Some(kubeconfig) = self.read()? else {
            if let Some(context) = &self.context {
                bail!(
                    "there is no kubeconfig, so no context {context:?}: name one with --kubeconfig, or set KUBECONFIG"
                );
            }
            return Config::incluster().map_err(|_| {
                anyhow!("cannot tell which cluster to talk to: name a kubeconfig with --kubeconfig, or set KUBECONFIG")
            });
        };
        let contexts: Vec<_> = kubeconfig.contexts.iter().map(|named| named.name.clone()).collect();
        let options = KubeConfigOptions {
            context: self.context.clone(),
            ..KubeConfigOptions::default()
        };
        let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
        config.map_err(|error| anyhow!(explain_kubeconfig(&error, &contexts)))
    }

    /// The kubeconfig, merged as kubectl merges; `None` where nobody named one and there is none at the usual place.
    fn read(&self) -> Result<Option<Kubeconfig>> {
        if let Some(path) = &self.kubeconfig {
            return read_file(path).map(Some);
        }
        let listed = std::env::var_os("KUBECONFIG").unwrap_or_default();
        let listed: Vec<_> = std::env::split_paths(&listed)
            .filter(|path| !path.as_os_str().is_empty())
            .collect();
        if listed.is_empty() {
            return match Kubeconfig::read() {
                Err(KubeconfigError::FindPath) => Ok(None),
                Err(KubeconfigError::ReadConfig(error, _)) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                read => read.map(Some).map_err(|error| anyhow!(explain_kubeconfig(&error, &[]))),
            };
        }
        // A list may name files that are not there, but not only such.
        let there: Vec<_> = listed.iter().filter(|path| path.exists()).collect();
        let files = if there.is_empty() {
            listed.iter().collect()
        } else {
            there
        };
        let mut merged = Kubeconfig::default();
        for path in files {
            merged = merged
                .merge(read_file(path)?)
                .map_err(|error| anyhow!("{}: {}", path.display(), explain_kubeconfig(&error, &[])))?;
        }
        Ok(Some(merged))
    }
}

/// A cluster and somebody to be there, as a kubeconfig names them.
pub(super) struct Target(Config);

impl Target {
    /// Namespace of the context, `default` where it names none.
    pub(super) fn namespace(&self) -> &str {
        &self.0.default_namespace
    }

    /// A client that has not talked to the API server yet.
    pub(super) async fn login(self) -> Result<Client> {
        // rustls panics when it has to choose between two providers; an error says that one is chosen already.
        let _chosen = rustls::crypto::ring::default_provider().install_default();
        let mut config = self.0;
        config.connect_timeout = Some(DEADLINE);
        config.read_timeout = Some(DEADLINE);
        config.reset_reader_on_write = true;
        // Making it runs the kubeconfig's login command, which blocks.
        let making = tokio::task::spawn_blocking(move || client::client(config));
        let made = patiently("logging in as the kubeconfig says", tokio::time::timeout(LOGIN, making)).await;
        let made = made
            .map_err(|_| {
                anyhow!(
                    "the login command of the kubeconfig did not end within {} s: run it by itself",
                    LOGIN.as_secs()
                )
            })?
            .context("making a client")?;
        made.map_err(|error| anyhow!("cannot log in as the kubeconfig says: {}", explain(&error)))
    }
}

fn read_file(path: &Path) -> Result<Kubeconfig> {
    Kubeconfig::read_from(path).map_err(|error| match error {
        KubeconfigError::ReadConfig(error, _) => anyhow!("the kubeconfig {} cannot be read: {error}", path.display()),
        error => anyhow!("{}: {}", path.display(), explain_kubeconfig(&error, &[])),
    })
}

/// Says what is wrong with a kubeconfig, and nothing of what it holds but names.
fn explain_kubeconfig(error: &KubeconfigError, contexts: &[String]) -> String {
    let listed = || {
        let mut listed = contexts.iter().take(MAX_LISTED).cloned().collect::<Vec<_>>().join(", ");
        if contexts.len() > MAX_LISTED {
            listed.push_str(&format!(" and {} more", contexts.len() - MAX_LISTED));
        }
        if listed.is_empty() { "none".to_owned() } else { listed }
    };
    match error {
        // A snippet of the file would show the token beside the mistake.
        KubeconfigError::Parse(error) => match error.location() {
            Some(at) => format!("this is no kubeconfig: see line {}, column {}", at.line(), at.column()),
            None => "this is no kubeconfig".to_owned(),
        },
        KubeconfigError::CurrentContextNotSet => {
            format!(
                "the kubeconfig has no current context: choose one with --context; it has {}",
                listed()
            )
        }
        KubeconfigError::LoadContext(name) => {
            format!(
                "the kubeconfig has no context {name:?}: choose another with --context; it has {}",
                listed()
            )
        }
        KubeconfigError::LoadClusterOfContext(name) => {
            format!(
                "the kubeconfig has no cluster {name:?}, which its context names: add it, or choose another with --context"
            )
        }
        other => format!("the kubeconfig cannot be used: {other}"),
    }
}

/// Says why a call failed: the API server's own words, or the root of why it could not be asked. Nothing of a login.
pub(super) fn explain(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if status.is_forbidden() => {
            format!("{}; ask whoever runs the cluster for this right", status.message)
        }
        kube::Error::Api(status) if status.code == 401 => {
            "the API server does not know who is asking: log in again, and try kubectl auth whoami".to_owned()
        }
        kube::Error::Api(status) if status.message.is_empty() => {
            format!("the API server answered with code {} and no word", status.code)
        }
        kube::Error::Api(status) => status.message.clone(),
        kube::Error::SerdeError(error) => format!("the answer is not an API server's: {error}"),
        kube::Error::Auth(error) => explain_login(error).to_owned(),
        kube::Error::Service(error) => match error.downcast_ref::<AuthError>() {
            Some(error) => explain_login(error).to_owned(),
            None => {
                let mut root: &dyn std::error::Error = error.as_ref();
                while let Some(source) = root.source() {
                    root = source;
                }
                format!("the API server cannot be reached: {root}")
            }
        },
        other => match other.source() {
            Some(source) => source.to_string(),
            None => other.to_string(),
        },
    }
}

/// What a login command prints, and how it is called, may be a secret.
const fn explain_login(error: &AuthError) -> &'static str {
    match error {
        AuthError::AuthExecStart(_) => "its login command cannot be started: is it installed, and in PATH?",
        AuthError::AuthExecRun { .. } => "its login command failed: run it by itself, or kubectl auth whoami",
        AuthError::AuthExecParse(_) | AuthError::ExecPluginFailed => "its login command printed no ExecCredential",
        AuthError::ReadTokenFile(..) => "its token file cannot be read",
        _ => "its credentials cannot be used: try kubectl auth whoami",
    }
}

/// Waits for a call, but not for ever. `what` is the end of a sentence that begins with "cannot".
pub(super) async fn bounded<T>(what: &str, call: impl Future<Output = kube::Result<T>>) -> Result<T, CallError> {
    let what = what.to_owned();
    match tokio::time::timeout(DEADLINE, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(source)) => Err(CallError::Api { what, source }),
        Err(_) => Err(CallError::Timeout { what }),
    }
}

/// Turns "not found" into `None`; every other failure stays one.
pub(super) fn optional<T>(answer: Result<T, CallError>) -> Result<Option<T>> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.status().is_some_and(kube::core::Status::is_not_found) => Ok(None),
        Err(error) => Err(told(error)),
    }
}

/// A failed call as it is told to whoever asked for it.
pub(super) fn told(error: CallError) -> anyhow::Error {
    match &error {
        CallError::Api { what, source } => anyhow!("cannot {what}: {}", explain(source)),
        CallError::Shape { .. } | CallError::Timeout { .. } | CallError::Unread(_) => error.into(),
    }
}

/// A list, page by page, of at most `most` objects; and whether that was all.
pub(super) async fn listed<K>(
    what: &str,
    api: &Api<K>,
    params: &ListParams,
    most: usize,
) -> Result<(Vec<K>, bool), CallError>
where
    K: Clone + DeserializeOwned + fmt::Debug,
{
    let mut params = params.clone();
    params.limit = params.limit.or(Some(PAGE));
    let mut found = Vec::new();
    loop {
        let page = bounded(what, api.list(&params)).await?;
        found.extend(page.items);
        let next = page.metadata.continue_.filter(|token| !token.is_empty());
        if found.len() > most || (found.len() == most && next.is_some()) {
            found.truncate(most);
            return Ok((found, false));
        }
        match next {
            Some(token) => params = params.continue_token(&token),
            None => return Ok((found, true)),
        }
    }
}

/// Whether an answer says that there is no such kind, which is said otherwise than that there is no such object.
pub(super) fn is_not_served(error: &CallError) -> bool {
    error.status().is_some_and(|status| status.code == 404)
}

/// Ends with an error where Ringfence is not installed.
pub(super) async fn serves_our_kinds(client: &Client) -> Result<()> {
    let what = format!("ask for the kinds of {GROUP_VERSION}");
    match bounded(&what, client.list_api_group_resources(GROUP_VERSION)).await {
        Ok(_) => Ok(()),
        Err(error) if is_not_served(&error) => bail!(
            "this cluster does not serve {GROUP_VERSION}: install Ringfence there, or choose another with --context"
        ),
        Err(error) => Err(told(error)),
    }
}

/// Does something that may take long, and says on standard error what it is when it does.
pub(super) async fn patiently<T>(what: &str, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    match tokio::time::timeout(PATIENCE, &mut work).await {
        Ok(done) => done,
        Err(_) => {
            eprintln!("ringfence: {what} …");
            work.await
        }
    }
}

/// Runs a subcommand that talks to the cluster. What is left of it afterwards, a login command that hangs, is left behind.
pub(super) fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let done = runtime.block_on(work);
    runtime.shutdown_background();
    done
}
