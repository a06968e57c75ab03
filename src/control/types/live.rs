//! `GET /v1/live`: what happens, as it happens.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::EndpointState;
use super::rfc3339;
use super::schema::{Instant, Reason};
use crate::domain::delivery::DeadReason;
use crate::domain::time::Timestamp;

/// One thing that happened. As a server-sent event, `event` is its kind and `data` the rest as JSON.
#[derive(Clone, Debug, PartialEq)]
pub enum LiveEvent {
    /// `state`: an endpoint does something else now.
    State(LiveState),
    /// `dead`: a delivery has become a dead letter.
    Dead(LiveDead),
    /// `rates`: where every endpoint stands; at once, then every second.
    Rates(LiveRates),
}

/// `event: state`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LiveState {
    /// The endpoint.
    pub endpoint: String,
    /// What it does now.
    pub state: EndpointState,
    /// Since when.
    #[serde(with = "rfc3339")]
    #[schemars(with = "Instant")]
    pub since: Timestamp,
    /// Until when at the latest; `null`: until something happens.
    #[serde(with = "rfc3339::option")]
    #[schemars(with = "Option<Instant>")]
    pub until: Option<Timestamp>,
    /// Failures in a row.
    pub failures: u32,
}

/// `event: dead`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LiveDead {
    /// The dead letter's id.
    pub id: String,
    /// To whom it was owed.
    pub endpoint: String,
    /// Why it was given up.
    #[schemars(with = "Reason")]
    pub reason: DeadReason,
    /// Since when.
    #[serde(with = "rfc3339")]
    #[schemars(with = "Instant")]
    pub since: Timestamp,
    /// The event's id.
    pub event_id: String,
    /// The event's type.
    pub event_type: String,
    /// The last answer's status; `null`: none came.
    pub last_status: Option<u16>,
}

/// `event: rates`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LiveRates {
    /// The daemon's clock.
    #[serde(with = "rfc3339")]
    #[schemars(with = "Instant")]
    pub now: Timestamp,
    /// Every endpoint, in the order of the status.
    pub endpoints: Vec<LiveRow>,
}

/// Where one endpoint stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LiveRow {
    /// The endpoint.
    pub endpoint: String,
    /// What it does.
    pub state: EndpointState,
    /// Deliveries owed.
    pub pending: u64,
    /// Requests under way.
    pub in_flight: u32,
    /// Dead letters.
    pub dead: u64,
    /// Deliveries per second over the last minute.
    pub rate_per_second: f64,
    /// Half of the latest attempts took at most so long, in milliseconds; `null`: there were none.
    pub p50_ms: Option<u64>,
    /// The same for 95 of 100.
    pub p95_ms: Option<u64>,
}
