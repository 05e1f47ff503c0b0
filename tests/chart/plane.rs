//! Where the control plane and the tools come from.

use std::path::PathBuf;

/// Path of a tool of the control plane: `helm`, `kubectl`.
pub fn tool(name: &str) -> PathBuf {
    let built = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/controlplane/bin");
    std::env::var_os("KUBEBUILDER_ASSETS")
        .map_or_else(built, PathBuf::from)
        .join(name)
}

/// Path of the administrator's kubeconfig.
pub fn kubeconfig() -> PathBuf {
    PathBuf::from(std::env::var_os("RINGFENCE_TEST_KUBECONFIG").expect("RINGFENCE_TEST_KUBECONFIG names a kubeconfig"))
}
