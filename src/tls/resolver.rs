//! The certificate that is served now. Swapped without a lock: handshakes under way keep the one that they began with.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// Serves one certificate, whatever name the client asks for. Until there is one, handshakes fail.
#[derive(Default)]
pub struct Resolver {
    served: ArcSwapOption<CertifiedKey>,
}

impl Resolver {
    /// Serves this certificate from now on.
    pub fn store(&self, certificate: Arc<CertifiedKey>) {
        self.served.store(Some(certificate));
    }

    /// Whether this very certificate is served.
    pub fn serves(&self, certificate: &CertifiedKey) -> bool {
        self.served
            .load()
            .as_ref()
            .is_some_and(|served| served.cert == certificate.cert)
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.served.load_full()
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Resolver").finish_non_exhaustive()
    }
}
