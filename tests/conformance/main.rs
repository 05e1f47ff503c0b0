//! Holds the engine that decides to the real Open Policy Agent: the same module and input to both, and the same value, or
//! nothing from both, or an error from both.
//!
//! There is no list of answers that may be wrong. What the engine gets wrong is put right by a function of ours, or refused
//! when a policy is loaded, and then `refused.rs` holds the refusal.

mod builtins;
mod compare;
mod language;
mod negation;
mod refused;
mod shipped;
