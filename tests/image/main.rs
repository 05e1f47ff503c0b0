//! The image, built as `make image` builds it: what it holds, what it says of itself, that it runs with nothing around it, and that the
//! chart asks of it what it gives.
//!
//! No network is needed once the crates and the Python packages are there, and no root but for `buildah run`, which takes the image's own
//! user: without root it needs a range of IDs in /etc/subuid and /etc/subgid.

mod binary;
mod built;
mod chart;
mod context;
mod running;
mod sbom;
