//! Ten thousand policies that mean harm, with inputs that do: none ends or hangs the process that it is in, and none lets pass
//! what the real Open Policy Agent refuses.
//!
//! Each is made of its number, so that a failure is made again by `HOSTILE_FROM=<number> HOSTILE_COUNT=1`. They are read and
//! evaluated in children of this process: one that dies names its policy.

mod attacks;
mod grammar;
mod inputs;
mod judged;
mod random;
mod run;
