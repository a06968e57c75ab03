//! The operator's door: HTTP and JSON over a Unix socket. Knows the store's verbs, the scheduler's words
//! and the configuration; refuses to know how the daemon puts them together, and asks it for what it needs
//! through [`operator::Operator`].
//!
//! [`types`] is the schema that scripts rely on, shared with the command line, field by field.
//! [`server`] has every route in one table; each handler stands in the file of its subject.

pub mod attempts;
pub mod configuration;
pub mod dead;
pub mod endpoints;
pub mod error;
pub mod events;
pub mod operator;
pub mod orphans;
pub mod page;
pub mod replay;
pub mod server;
pub mod status;
pub mod types;
pub mod units;
