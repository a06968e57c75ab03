//! `GET /v1/events/{id}`: an event that is still kept, and what it still owes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::dead::AttemptView;
use super::rfc3339;
use super::schema::{Instant, Reason};
use crate::domain::delivery::DeadReason;
use crate::domain::time::Timestamp;

/// One event. Deliveries that have succeeded are not kept, so an event whose deliveries all did is gone.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct EventView {
    /// Its id.
    pub id: String,
    /// Its source.
    pub source: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// When it was accepted.
    #[serde(with = "rfc3339")]
    #[schemars(with = "Instant")]
    pub accepted: Timestamp,
    /// The uid of the process that sent it; `null`: not known.
    pub sender_uid: Option<u32>,
    /// Other events kept under the same id with another source; `?source=` asks for one of them.
    pub other_sources: Vec<String>,
    /// The event as CloudEvents JSON; `null` when its bytes are not JSON.
    #[schemars(with = "Option<serde_json::Value>")]
    pub event: Option<Box<RawValue>>,
    /// The deliveries it still owes, and those that are dead.
    pub deliveries: Vec<DeliveryView>,
}

/// One delivery of an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeliveryView {
    /// To whom.
    pub endpoint: String,
    /// `pending` (not tried yet), `deferred` (waits for a later try) or `dead`.
    pub state: String,
    /// Tries used.
    pub tries: u32,
    /// The next try, not before; `null`: as soon as the endpoint has room, or never when dead.
    #[serde(with = "rfc3339::option")]
    #[schemars(with = "Option<Instant>")]
    pub due: Option<Timestamp>,
    /// When the first try began.
    #[serde(with = "rfc3339::option")]
    #[schemars(with = "Option<Instant>")]
    pub first_attempt: Option<Timestamp>,
    /// When the latest try began.
    #[serde(with = "rfc3339::option")]
    #[schemars(with = "Option<Instant>")]
    pub last_attempt: Option<Timestamp>,
    /// The latest answer's status.
    pub last_status: Option<u16>,
    /// The latest error in one sentence.
    pub last_error: Option<String>,
    /// The dead letter's id; `null` unless dead.
    pub dead_id: Option<String>,
    /// Why it is dead.
    #[schemars(with = "Option<Reason>")]
    pub reason: Option<DeadReason>,
    /// The attempts whose evidence is kept, oldest first.
    pub attempts: Vec<AttemptView>,
}
