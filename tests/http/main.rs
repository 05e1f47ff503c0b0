//! The admission server over real TLS, with a scripted decision behind it: what it answers to whatever is thrown at it.

mod crowds;
mod health;
mod hostile;
mod lifecycle;
mod limits;
mod lines;
mod reviews;
mod support;
