//! What a store tells of itself as a whole. Values alone; how they come about is each store's business.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::attempts::check::AttemptLogCheck;
use crate::domain::time::Timestamp;

/// The store as a whole, for status and metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StoreStats {
    /// Events kept.
    pub events: u64,
    /// Bytes of the events kept.
    pub live_bytes: u64,
    /// Bytes on disk.
    pub disk_bytes: u64,
    /// Bytes free on the file system.
    pub free_bytes: u64,
    /// Files in `blobs/`; anything but 0 is a bug, because those are never synced.
    pub blob_files: u64,
    /// Records set aside because they would not decode.
    pub quarantined: u64,
    /// Durable commits since the start.
    pub commits: u64,
    /// Ids remembered for deduplication.
    pub dedup_ids: u64,
    /// How far back they reach, in milliseconds since 1970; `None`: nothing remembered.
    #[schemars(with = "Option<u64>")]
    pub dedup_since: Option<Timestamp>,
    /// Bytes of the attempt log on disk.
    pub attempts_bytes: u64,
    /// Tries that could not be logged since the start.
    pub attempts_dropped: u64,
    /// What kind of events are refused at this moment, if any: `queue_full` or `disk_full`.
    pub refusing: Option<String>,
}

/// A record that would not decode, set aside with its bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantined {
    /// When it was found.
    pub found: Timestamp,
    /// What kind of record it was, and where.
    pub what: String,
    /// Why it would not decode.
    pub why: String,
    /// Its bytes as they were, at most 64 KiB of them.
    pub bytes: Vec<u8>,
}

/// What [`Store::verify`](super::Store::verify) found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CheckReport {
    /// Events kept.
    pub events: u64,
    /// Deliveries owed, deferred ones too.
    pub pending: u64,
    /// Of these, those that wait for a later try.
    pub deferred: u64,
    /// Dead letters.
    pub dead: u64,
    /// Records set aside earlier.
    pub quarantined: u64,
    /// How many records or events are damaged or contradict each other.
    pub damaged: u64,
    /// The first of them, each in one sentence.
    pub problems: Vec<String>,
    /// The log of attempts, which is no part of the queue.
    #[serde(default)]
    pub attempts: AttemptLogCheck,
}
