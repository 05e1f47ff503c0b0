//! Calls of the API server with a deadline, and what they fail with.

use std::future::Future;
use std::time::Duration;

use thiserror::Error;
use tokio::time::timeout;

use super::provided::ProvidedError;

/// How long one call may take: longer than any healthy answer, shorter than the tick.
const DEADLINE: Duration = Duration::from_secs(10);

/// Why the certificate is not as it should be. Holds no key material and no text of the API server.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A call failed.
    #[error("cannot {what}: {problem}")]
    Api {
        /// What was tried.
        what: String,
        /// What went wrong, in our words.
        problem: String,
        /// The code of the answer, 0 where there was none.
        code: u16,
    },
    /// Others kept writing.
    #[error("cannot {what}: others write it all the time; see who does")]
    Contended {
        /// What was tried.
        what: String,
    },
    /// The Secret was made by somebody else.
    #[error(
        "Secret {0} exists and lacks ca.crt or ca.key, so it was not made by Ringfence: delete it if nobody needs it, or give \
         --tls-secret another name; if it is to be served as it is, say so by --tls-provided"
    )]
    Foreign(String),
    /// The Secret that somebody else writes holds nothing that could be served.
    #[error("Secret {0} cannot be served: {1}")]
    Provided(String, ProvidedError),
    /// A certificate could not be made.
    #[error("cannot make a certificate: {0}; check --service-name, --namespace and --webhook-host")]
    Issue(String),
    /// The registration is not there.
    #[error(
        "ValidatingWebhookConfiguration {0} does not exist: apply the chart, or name another by --webhook-configuration"
    )]
    NotRegistered(String),
}

impl TlsError {
    /// Whether it may go away by itself.
    pub(super) fn is_transient(&self) -> bool {
        matches!(self, Self::Api { .. } | Self::Contended { .. })
    }

    /// Whether somebody else wrote first.
    pub(super) fn is_conflict(&self) -> bool {
        matches!(self, Self::Api { code: 409, .. })
    }

    /// Whether a patch was refused; a JSON patch whose test fails is.
    pub(super) fn is_refused_patch(&self) -> bool {
        matches!(self, Self::Api { code: 409 | 422, .. })
    }
}

/// Awaits a call for as long as one may take.
pub(super) async fn call<T>(what: &str, call: impl Future<Output = kube::Result<T>>) -> Result<T, TlsError> {
    let (problem, code) = match timeout(DEADLINE, call).await {
        Ok(Ok(answer)) => return Ok(answer),
        Ok(Err(kube::Error::Api(status))) => (
            format!("the API server answered {} {}", status.code, status.reason),
            status.code,
        ),
        // The text of other errors may quote the answer, and the answer may be a Secret.
        Ok(Err(kube::Error::SerdeError(_))) => ("the API server's answer cannot be read".to_owned(), 0),
        Ok(Err(_)) => ("the API server cannot be reached".to_owned(), 0),
        Err(_) => ("the API server did not answer in time".to_owned(), 0),
    };
    Err(TlsError::Api {
        what: what.to_owned(),
        problem,
        code,
    })
}
