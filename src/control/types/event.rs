//! `GET /v1/events/{id}`: an event, what it still owes, and what was tried.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::dead::AttemptView;
use super::rfc3339;
use super::schema::{Instant, Reason};
use crate::domain::delivery::DeadReason;
use crate::domain::time::Timestamp;

/// One event. It is kept as long as it owes anything or has a dead letter; after that the log of attempts tells what
/// became of it, for as long as that reaches back.
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
    /// Whether it is still kept; if not, this is what the log of attempts knows.
    pub kept: bool,
    /// Other events kept under the same id with another source; `?source=` asks for one of them.
    pub other_sources: Vec<String>,
    /// The event as CloudEvents JSON; `null` when it is not kept, or its bytes are not JSON.
    #[schemars(with = "Option<serde_json::Value>")]
    pub event: Option<Box<RawValue>>,
    /// The deliveries it still owes, those that are dead, and of the others those in the log of attempts.
    pub deliveries: Vec<DeliveryView>,
}

/// One delivery of an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeliveryView {
    /// To whom.
    pub endpoint: String,
    /// `pending` (not tried yet), `deferred` (waits for a later try), `dead`; and where nothing is owed any more
    /// `delivered`, `skipped` or, when the last try known failed, `settled`: best effort, expired, moved or purged.
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
    /// The attempts that are known, oldest first.
    pub attempts: Vec<AttemptView>,
}
