//! `GET /v1/status` and `GET /v1/endpoints`: what is stuck, since when, and why.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rfc3339;
use super::schema::Instant;
use crate::domain::age::Ages;
use crate::domain::names::{Names, name_of};
use crate::domain::time::Timestamp;

/// The whole daemon on one screen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    /// The daemon's version.
    pub version: String,
    /// Identifies the configuration in force.
    pub config_hash: String,
    /// The daemon's clock when this was read; ages are relative to it.
    #[serde(with = "rfc3339")]
    #[schemars(with = "Instant")]
    pub now: Timestamp,
    /// How long the daemon has been running, in milliseconds.
    pub uptime_ms: u64,
    /// Whether it works.
    pub health: Health,
    /// The queue in sum.
    pub totals: Totals,
    /// The store.
    pub store: StoreNumbers,
    /// The producers' socket.
    pub ingest: IngestNumbers,
    /// What has become of the spans of traces; `null`: there are none.
    #[serde(default)]
    pub traces: Option<TraceNumbers>,
    /// What is past a limit of `[alerts]`, by endpoint.
    #[serde(default)]
    pub alerts: Vec<AlertView>,
    /// One row for each endpoint: those configured, in the order written, then the orphaned ones.
    pub endpoints: Vec<EndpointRow>,
}

/// An alert that is raised; also the payload of `posthaste.alert.raised` and `posthaste.alert.cleared`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AlertView {
    /// The endpoint.
    pub endpoint: String,
    /// What about it: a key of `[alerts]`.
    pub alert: String,
    /// The latest value: seconds, a share from 0 to 1, or a count.
    pub value: f64,
    /// The limit, in the same unit.
    pub limit: f64,
    /// When it was raised.
    #[serde(with = "rfc3339")]
    #[schemars(with = "Instant")]
    pub since: Timestamp,
}

/// What has become of the spans since the start (`[traces]`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TraceNumbers {
    /// Sent, and taken by the receiver.
    pub exported: u64,
    /// Lost: more than could be sent, or not taken by the receiver.
    pub dropped: u64,
    /// Why the latest export failed; `null`: it did not.
    pub failing: Option<String>,
}

/// Whether the daemon works.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "state", content = "why")]
pub enum Health {
    /// It takes events and delivers them.
    Ok,
    /// It is stopping: no new events, requests under way end.
    Draining,
    /// The store has failed: nothing is accepted or delivered any more. The reason.
    Failed(String),
}

/// Sums over every endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Totals {
    /// Deliveries owed, those that wait for a later try too.
    pub pending: u64,
    /// Of these, those that wait for a later try.
    pub deferred: u64,
    /// Requests under way.
    pub in_flight: u64,
    /// Dead letters.
    pub dead: u64,
    /// When the oldest event still owed to anyone was accepted; `null`: nothing is owed.
    #[serde(with = "rfc3339::option")]
    #[schemars(with = "Option<Instant>")]
    pub oldest: Option<Timestamp>,
    /// Deliveries per second over the last minute.
    pub rate_per_second: f64,
}

/// The store as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StoreNumbers {
    /// Events kept.
    pub events: u64,
    /// Bytes of the events kept.
    pub live_bytes: u64,
    /// Bytes on disk.
    pub disk_bytes: u64,
    /// Bytes free on its file system.
    pub free_bytes: u64,
    /// Files that are never synced; anything but 0 is a bug.
    pub blob_files: u64,
    /// Records set aside because they would not decode.
    pub quarantined: u64,
    /// Durable commits since the start.
    pub commits: u64,
    /// Ids remembered for deduplication.
    pub dedup_ids: u64,
    /// How far back they reach; `null`: nothing is remembered.
    #[serde(with = "rfc3339::option")]
    #[schemars(with = "Option<Instant>")]
    pub dedup_since: Option<Timestamp>,
    /// Bytes of the attempt log on disk.
    #[serde(default)]
    pub attempts_bytes: u64,
    /// Attempts that could not be logged since the start.
    #[serde(default)]
    pub attempts_dropped: u64,
    /// Why new events are refused at this moment: `queue_full` or `disk_full`; `null`: they are taken.
    pub refusing: Option<String>,
}

/// What the producers' socket has seen since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct IngestNumbers {
    /// Connections open now.
    pub connections: u64,
    /// Connections ever.
    pub connections_total: u64,
    /// Events accepted.
    pub accepted: u64,
    /// Events answered as duplicates.
    pub duplicates: u64,
    /// Lines rejected, by the code of their answer.
    pub rejected: BTreeMap<String, u64>,
    /// Bytes read.
    pub bytes: u64,
    /// Lines taken from the spool.
    pub spooled: u64,
    /// Files that wait in the spool now.
    pub spool_waiting: u64,
    /// Files there now that hold lines which were refused, each with the reason.
    pub spool_rejected: u64,
}

/// What the attempts at one endpoint have shown since the start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LaneNumbers {
    /// Attempts the endpoint took.
    pub delivered: u64,
    /// Attempts it said no to.
    pub rejected: u64,
    /// Attempts that ended in a technical error.
    pub failed: u64,
    /// The same by the class of the error.
    pub errors: BTreeMap<String, u64>,
    /// Deliveries given up because their event had expired, as its sender wished.
    pub expired: u64,
    /// Deliveries settled without a request because `when` was false.
    #[serde(default)]
    pub skipped: u64,
    /// Events read whose `order_key` could not be worked out, so that they are in order with nobody. One that is read
    /// again, as after a pause, counts again.
    #[serde(default)]
    pub unkeyed: u64,
    /// Deliveries per second over the last minute.
    pub rate_per_second: f64,
    /// Of the attempts of the last minute, the share that delivered, 0 to 1; `null`: there were none.
    #[serde(default)]
    pub success_rate: Option<f64>,
    /// Of the attempts of the last minute, the share that ended in an error, by its class; timeouts are `timeout`.
    #[serde(default)]
    pub error_rates: BTreeMap<String, f64>,
    /// Seconds that the requests since the start spent in each phase: `dns`, `connect`, `tls`, `first_byte`, `body`.
    #[serde(default)]
    pub phase_seconds: BTreeMap<String, f64>,
    /// Requests over a connection that was made for them.
    #[serde(default)]
    pub connections_opened: u64,
    /// Requests over a connection that was open already.
    #[serde(default)]
    pub connections_reused: u64,
    /// Half of the latest attempts (one to two minutes of them) took at most so long, in milliseconds;
    /// `null`: there were none.
    pub p50_ms: Option<u64>,
    /// The same for 95 of 100.
    pub p95_ms: Option<u64>,
    /// The same for 99 of 100.
    pub p99_ms: Option<u64>,
    /// The status of the latest answer.
    pub last_status: Option<u16>,
    /// The latest error in one sentence; `null` once an attempt has succeeded.
    pub last_error: Option<String>,
    /// When the latest attempt began.
    #[serde(with = "rfc3339::option")]
    #[schemars(with = "Option<Instant>")]
    pub last_attempt: Option<Timestamp>,
    /// Since when every attempt has failed; `null`: the latest did not.
    #[serde(with = "rfc3339::option", default)]
    #[schemars(with = "Option<Instant>")]
    pub failing_since: Option<Timestamp>,
}

/// What an endpoint is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EndpointState {
    /// Sends as its limits allow.
    Ready,
    /// The endpoint asked to be left alone for a while.
    Suspended,
    /// It kept failing: its backlog waits without attempts.
    Tripped,
    /// One request finds out whether it works again.
    Probing,
    /// Paused by someone; events for it are parked.
    Paused,
    /// `enabled = false` in the configuration; events for it are parked.
    Disabled,
    /// Not in the configuration any more, but deliveries are still owed to it or dead.
    Orphaned,
}

impl EndpointState {
    /// Every state with its name.
    pub const NAMES: &'static Names<Self> = &[
        ("ready", Self::Ready),
        ("suspended", Self::Suspended),
        ("tripped", Self::Tripped),
        ("probing", Self::Probing),
        ("paused", Self::Paused),
        ("disabled", Self::Disabled),
        ("orphaned", Self::Orphaned),
    ];

    /// The state's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        name_of(Self::NAMES, &self)
    }
}

/// One endpoint in the status.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EndpointRow {
    /// Its name.
    pub name: String,
    /// What it is doing.
    pub state: EndpointState,
    /// Since when; `null` where that is not known.
    #[serde(with = "rfc3339::option")]
    #[schemars(with = "Option<Instant>")]
    pub since: Option<Timestamp>,
    /// Until when at the latest; `null`: until something happens.
    #[serde(with = "rfc3339::option")]
    #[schemars(with = "Option<Instant>")]
    pub until: Option<Timestamp>,
    /// Why, in one sentence; empty while ready and nothing is held up.
    pub why: String,
    /// Deliveries owed, deferred ones too.
    pub pending: u64,
    /// Of these, those that wait for a later try.
    pub deferred: u64,
    /// Dead letters.
    pub dead: u64,
    /// Requests under way.
    pub in_flight: u32,
    /// How many may be under way.
    pub limit: u32,
    /// When the oldest event still owed to it was accepted.
    #[serde(with = "rfc3339::option")]
    #[schemars(with = "Option<Instant>")]
    pub oldest: Option<Timestamp>,
    /// How old what is owed to it is.
    pub ages: Ages,
    /// The earliest retry that is planned; `null`: none.
    #[serde(with = "rfc3339::option")]
    #[schemars(with = "Option<Instant>")]
    pub next_attempt: Option<Timestamp>,
    /// Until when a batch waits for more events; `null`: none does.
    #[serde(with = "rfc3339::option", default)]
    #[schemars(with = "Option<Instant>")]
    pub batch_until: Option<Timestamp>,
    /// With `order`: keys whose first delivery waits for another try and holds up all that follows.
    #[serde(default)]
    pub held_up: u32,
    /// What its attempts have shown since the start.
    pub attempts: LaneNumbers,
}

/// One endpoint whole. `GET /v1/endpoints` and `GET /v1/endpoints/{name}`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EndpointView {
    /// Its name.
    pub name: String,
    /// Where it is defined, which is where it can be changed; `null` for an orphaned one.
    #[serde(default)]
    pub defined_in: Option<DefinedIn>,
    /// What it is doing.
    pub status: EndpointRow,
    /// Its keys of config.toml with every default filled in, secrets masked; `null` for an orphaned one.
    pub config: Option<serde_json::Value>,
}

/// Where an endpoint is defined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DefinedIn {
    /// In the configuration's files: read-only over the API.
    File,
    /// Over the API.
    Api,
}

impl DefinedIn {
    /// By whether the API has it.
    #[must_use]
    pub fn of(is_managed: bool) -> Self {
        if is_managed { Self::Api } else { Self::File }
    }
}
