//! The image, built as `make image` builds it: what it holds, what it says of itself, that it runs with nothing around it, and that the
//! chart asks of it what it gives.
//!
//! No root and no network is needed once the crates are there: buildah runs in a user namespace, and so do the image's processes.

mod binary;
mod built;
mod chart;
mod context;
mod running;
