//! Holds the sets `pod-security-baseline` and `pod-security-restricted` to the Pod Security Standards' own checks, as the API server
//! of 1.36 has them: the same verdict of each policy as of its check, and of each set as of its level, in every version that a
//! policy's parameter can name.
//!
//! Must never weigh a difference: the only ones are those of `Sample::stricter`, pods that no API server stores and that we refuse.

mod compared;
mod fields;
mod fixtures;
mod pods;
mod samples;
mod shapes;
mod versions;
