//! What the operator wrote, and what it means: the file as written is read first, then checked into
//! [`Config`], with every problem reported at once.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::domain::endpoint::Endpoint;

/// Everything the daemon needs to know, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// `[store]`
    pub store: StoreConfig,
    /// `[ingest]`
    pub ingest: IngestConfig,
    /// `[control]`
    pub control: ControlConfig,
    /// `[log]`
    pub log: LogConfig,
    /// `[limits]`
    pub limits: LimitsConfig,
    /// Every endpoint, in the order written; names are unique.
    pub endpoints: Vec<Arc<Endpoint>>,
    /// Identifies what is in force: the beginning of a SHA-256 over the files' contents, in hex.
    pub hash: String,
}

/// `[store]`
#[derive(Clone, Debug, PartialEq)]
pub struct StoreConfig {
    /// Folder of the queue.
    pub path: PathBuf,
    /// Past so many bytes on disk, new events are refused.
    pub size_bytes_max: u64,
    /// Below this much free space, new events are refused.
    pub free_min: FreeMin,
    /// How long (source, id) pairs are remembered.
    pub dedup_window: Duration,
    /// At most so many of them; the oldest go first.
    pub dedup_ids_max: usize,
    /// How long dead letters are kept.
    pub dead_keep: Duration,
}

/// A floor on free disk space.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FreeMin {
    /// A share of the file system, 0 to 100.
    Percent(f64),
    /// So many bytes.
    Bytes(u64),
}

/// `[ingest]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IngestConfig {
    /// Path of the socket.
    pub socket: PathBuf,
    /// Its mode.
    pub mode: u32,
    /// Its group; empty: left as it is.
    pub group: String,
    /// Bytes of one event, as it stands in its line.
    pub event_bytes_max: usize,
    /// Bytes of one line that holds an array.
    pub batch_bytes_max: usize,
    /// Connections at once.
    pub connections_max: usize,
}

/// `[control]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlConfig {
    /// Path of the socket.
    pub socket: PathBuf,
    /// Its mode.
    pub mode: u32,
    /// Its group; empty: left as it is.
    pub group: String,
}

/// `[log]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// How lines look and where they go.
    pub format: LogFormat,
    /// A level, or a filter as tracing-subscriber's `EnvFilter` reads it.
    pub level: String,
    /// Bodies in the log.
    pub payloads: bool,
}

/// `log.format`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// journald under systemd, text on a terminal, JSON else.
    #[default]
    Auto,
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
    /// The journal's own protocol.
    Journald,
}

/// `[limits]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitsConfig {
    /// Requests under way, all endpoints together.
    pub in_flight_max: usize,
    /// How long a stop may wait for requests under way.
    pub shutdown: Duration,
}
