//! Drives the built daemon over its real sockets, against real HTTP servers. One file for each theme; the names of the
//! tests begin with the row of the feature list that they hold. It refuses to look inside: what can't be seen from
//! outside is tested beside the code.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "../support/packages.rs"]
mod packages;
#[path = "../support/required.rs"]
mod required;
#[path = "../support/signature_verifiers.rs"]
mod signature_verifiers;
#[path = "../support/standard_webhooks.rs"]
mod verifiers;

mod harness;

mod access;
mod alerts;
mod answers;
mod attempts;
mod auth;
mod batches;
mod control;
mod dashboard;
mod dead;
mod delivery;
mod documented;
mod examples;
mod http_events;
mod ingest;
mod isolation;
mod lifecycle;
mod live;
mod managed;
mod manners;
mod metrics;
mod network;
mod openapi;
mod operations;
mod order;
mod readme;
mod reload;
mod requests;
mod retry;
mod secrets;
mod selection;
mod signatures;
mod space;
mod spool;
mod steps;
mod store;
mod traces;
mod trial;
