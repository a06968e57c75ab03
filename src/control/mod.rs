//! The operator's door: HTTP and JSON over a Unix socket, and over TCP where that is configured. Knows the store's verbs, the scheduler's words
//! and the configuration; refuses to know how the daemon puts them together, and asks it for what it needs
//! through [`operator::Operator`].
//!
//! [`types`] is the schema that scripts rely on, shared with the command line, field by field.
//! [`server`] has every route in one table; [`doors`] takes the connections, [`guard`] holds each request to what its
//! peer may do, and each handler stands in the file of its subject.

pub mod attempts;
pub mod configuration;
pub mod dead;
pub mod doors;
pub mod endpoints;
pub mod error;
pub mod events;
pub mod guard;
pub mod live;
pub mod managed;
pub mod openapi;
pub mod operator;
pub mod orphans;
pub mod page;
pub mod post;
pub mod replay;
pub mod resend;
pub mod server;
pub mod status;
pub mod trial;
pub mod types;
pub mod units;
