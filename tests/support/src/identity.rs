//! Who a client is: the administrator, a user with a certificate, a service account with a token, or an impersonation.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::PostParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::commands::checked;
use crate::{ControlPlane, RELEASE_NAMESPACE, unique};

/// Somebody who talks to the API server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Identity {
    /// `ringfence-admin` of group `system:masters`: passes every authorization, though no admission.
    Admin,
    /// A user with a client certificate.
    User {
        /// User name.
        name: String,
        /// Groups beside `system:authenticated`.
        groups: Vec<String>,
    },
    /// A service account that exists, with a token from the API server.
    ServiceAccount {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
}

impl Identity {
    /// A user with a client certificate.
    pub fn user(name: &str, groups: &[&str]) -> Self {
        Self::User {
            name: name.into(),
            groups: groups.iter().map(|&group| group.into()).collect(),
        }
    }

    /// A service account.
    pub fn service_account(namespace: &str, name: &str) -> Self {
        Self::ServiceAccount {
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl ControlPlane {
    /// Client of the administrator.
    ///
    /// # Panics
    /// When no client can be made.
    pub async fn admin(&self) -> Client {
        self.client(&Identity::Admin).await
    }

    /// Client of a user, with a certificate. RBAC gives it nothing that the test does not.
    ///
    /// # Panics
    /// When no client can be made.
    pub async fn user(&self, name: &str, groups: &[&str]) -> Client {
        self.client(&Identity::user(name, groups)).await
    }

    /// Client of a service account that exists, with a token as a pod would have it.
    ///
    /// # Panics
    /// When the account does not exist or no client can be made.
    pub async fn service_account(&self, namespace: &str, name: &str) -> Client {
        self.client(&Identity::service_account(namespace, name)).await
    }

    /// Client of the administrator who impersonates a user. Such a request has no UID and no extra, as with `kubectl --as`.
    ///
    /// # Panics
    /// When no client can be made.
    pub async fn impersonate(&self, user: &str, groups: &[&str]) -> Client {
        let mut config = self
            .config(&Identity::Admin)
            .await
            .expect("configuration of the administrator");
        config.auth_info.impersonate = Some(user.into());
        config.auth_info.impersonate_groups = Some(groups.iter().map(|&group| group.into()).collect());
        Client::try_from(config).expect("client")
    }

    /// Client of somebody who sends these headers with every request, by which impersonation is asked for.
    ///
    /// # Panics
    /// When no client can be made.
    pub async fn client_with(&self, identity: &Identity, headers: &[(&str, &str)]) -> Client {
        let mut config = self.config(identity).await.expect("a configuration");
        config.headers = headers
            .iter()
            .map(|(name, value)| (name.parse().expect("a header"), value.parse().expect("its value")))
            .collect();
        Client::try_from(config).expect("client")
    }

    /// Client of anybody. Bound to the current test's runtime: make one per test.
    ///
    /// # Panics
    /// When no client can be made.
    pub async fn client(&self, identity: &Identity) -> Client {
        let config = self.config(identity).await;
        let client = config.and_then(|config| Ok(Client::try_from(config)?));
        client.unwrap_or_else(|error| panic!("no client for {identity:?}: {error:#}"))
    }

    /// Each answer is seen as it is: kube's own client would ask again, for minutes, where it is 429, 503 or 504, which is how a
    /// request is refused that got no verdict.
    async fn config(&self, identity: &Identity) -> Result<Config> {
        let kubeconfig = Kubeconfig::read_from(self.kubeconfig_for(identity).await?)?;
        let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        config.default_retry = false;
        Ok(config)
    }

    /// A kubeconfig file of that identity, in the control plane's directory.
    pub async fn kubeconfig_for(&self, identity: &Identity) -> Result<PathBuf> {
        let content = match identity {
            Identity::Admin => return Ok(self.ready().kubeconfig.clone()),
            Identity::User { name, groups } => self.user_kubeconfig(name, groups).await?,
            Identity::ServiceAccount { namespace, name } => self.token_kubeconfig(namespace, name).await?,
        };
        let path = self.directory().join(format!("{}.kubeconfig", unique("client")));
        std::fs::write(&path, content).with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }

    // The supervisor signs, because it can name any number of groups: rcgen keeps one O per name.
    async fn user_kubeconfig(&self, name: &str, groups: &[String]) -> Result<Vec<u8>> {
        let mut command = Command::new(self.binary("controlplane"));
        command
            .arg("user")
            .arg("--dir")
            .arg(self.directory())
            .args(["--name", name])
            .stdin(Stdio::null());
        for group in groups {
            command.args(["--group", group]);
        }
        Ok(checked(command).await?.stdout.into_bytes())
    }

    async fn token_kubeconfig(&self, namespace: &str, name: &str) -> Result<Vec<u8>> {
        // Boxed: a client needs a kubeconfig, and this kubeconfig a client. By the name of Ringfence, because in an enforced namespace
        // nobody else is given a token but kubelets.
        let ringfence = format!("system:serviceaccount:{RELEASE_NAMESPACE}:ringfence");
        let asking = Box::pin(self.impersonate(&ringfence, &["system:masters"])).await;
        let accounts: Api<ServiceAccount> = Api::namespaced(asking, namespace);
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                expiration_seconds: Some(24 * 3600),
                ..TokenRequestSpec::default()
            }),
            ..TokenRequest::default()
        };
        let made = accounts
            .create_token_request(name, &PostParams::default(), &request)
            .await;
        let made = made.with_context(|| format!("token of service account {namespace}/{name}"))?;
        let Some(status) = made.status else {
            bail!("the API server answered a TokenRequest without a token")
        };
        let mut kubeconfig: Value = serde_json::from_slice(&std::fs::read(&self.ready().kubeconfig)?)?;
        let user = format!("system:serviceaccount:{namespace}:{name}");
        kubeconfig["users"] = json!([{"name": user, "user": {"token": status.token}}]);
        kubeconfig["contexts"][0]["context"]["user"] = json!(user);
        Ok(serde_json::to_vec(&kubeconfig)?)
    }
}
