//! `GET /v1/config` and `POST /v1/reload`: what is in force. The keys are those of config.toml, and so is
//! how durations and sizes are written; secrets appear as `[secret]`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The configuration in force.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConfigView {
    /// Identifies it; the same files give the same hash.
    pub hash: String,
    /// The tables of the daemon itself, `[store]` to `[limits]`: table, key, value as text.
    pub daemon: BTreeMap<String, BTreeMap<String, String>>,
    /// Every endpoint, in the order written.
    pub endpoints: Vec<EndpointConfig>,
}

/// One `[[endpoint]]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EndpointConfig {
    /// Its name.
    pub name: String,
    /// Free text.
    pub description: String,
    /// False: events for it are parked.
    pub enabled: bool,
    /// Only events of this tenant; empty: of any.
    pub tenant: String,
    /// Event types it subscribes to.
    pub events: Vec<String>,
    /// The HTTP method.
    pub method: String,
    /// The URL, password and query values masked.
    pub url: String,
    /// Names of the headers added to each request; their values may be secrets and are masked.
    pub headers: Vec<(String, String)>,
    /// Bound on a whole attempt.
    pub timeout: String,
    /// Bound on connecting.
    pub connect_timeout: String,
    /// Bytes of an answer that are read.
    pub max_response: String,
    /// Whether certificates are verified.
    pub tls_verify: bool,
    /// How requests are signed, with the number of keys: `standard (2 keys)`.
    pub sign: Vec<String>,
    /// Statuses that mean delivered; empty: 200 to 299.
    pub success_status: Vec<u16>,
    /// `retry.schedule`, or the three keys of an exponential one.
    pub retry_schedule: String,
    /// `retry.jitter`
    pub retry_jitter: f64,
    /// `retry.max_attempts`
    pub retry_max_attempts: u32,
    /// `retry.max_age`
    pub retry_max_age: String,
    /// `retry.retry_on`
    pub retry_on: Vec<String>,
    /// `retry.dont_retry_on`
    pub dont_retry_on: Vec<String>,
    /// `breaker.failures`
    pub breaker_failures: u32,
    /// `breaker.open`
    pub breaker_open: String,
    /// `breaker.max_open`
    pub breaker_max_open: String,
    /// `concurrency.min`
    pub concurrency_min: u32,
    /// `concurrency.max`
    pub concurrency_max: u32,
    /// One try, no dead letter.
    pub best_effort: bool,
}

/// What a reload changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
