//! The chart: what it renders, and what that does on a real API server.
//!
//! No webhook server runs here: every registration points at a port where nobody listens, so a request that is asked
//! about is refused with the registration's name. That shows what is asked about, and what goes on while we are down.

mod api;
mod bindings;
mod chart;
mod definitions;
mod egress;
mod flow_control;
mod identities;
mod lifecycle;
mod modes;
mod monitoring;
mod network;
mod orphans;
mod owned_objects;
mod people;
mod pods;
mod reach;
mod registrations;
mod rendered;
mod reserved_keys;
mod rights;
mod subresources;
