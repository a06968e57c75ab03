//! `GET /v1/config` and `POST /v1/reload`: what is in force.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The configuration in force.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ConfigView {
    /// Identifies it; the same files give the same hash.
    pub hash: String,
    /// The tables and keys of config.toml with every default filled in, values as they are written there,
    /// secrets masked.
    pub config: serde_json::Value,
}

/// What a reload changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReloadReport {
    /// The hash now in force.
    pub hash: String,
    /// The hash before.
    pub previous_hash: String,
    /// Endpoints that are new.
    pub added: Vec<String>,
    /// Endpoints that are gone; what they were owed stays, as orphaned.
    pub removed: Vec<String>,
    /// Endpoints that are configured differently now.
    pub changed: Vec<String>,
    /// Keys whose new value needs a restart (`store.path`, sockets).
    pub needs_restart: Vec<String>,
}
