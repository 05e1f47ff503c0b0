//! Holds the engine that decides to the real Open Policy Agent: the same module and input to both, and the same value, or
//! nothing from both, or an error from both.
//!
//! Of answers that differ there is one, in `compliance.rs`. What the engine gets wrong is put right by a function of ours, or refused
//! when a policy is loaded, and then `refused.rs` holds the refusal.

mod builtins;
mod compare;
mod compliance;
mod language;
mod negation;
mod refused;
mod shipped;
