//! What the operator wrote, and what it means: the file as written is read first (`raw`, by the table of
//! `keys`), then checked into [`Config`] (`sections`, `endpoint`), with every problem reported at once.
//! Nothing outside this room knows TOML, and nothing in it opens a socket or a store.

mod access;
mod effective;
mod endpoint;
mod keys;
mod language;
mod load;
pub mod managed;
mod module;
mod noted;
mod problem;
mod raw;
mod schema;
mod secrets;
mod sections;
mod source;
#[cfg(test)]
mod tests;
mod traces;
mod url;
mod values;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::domain::access::{AllowRule, Who};
use crate::domain::endpoint::{Endpoint, Settings};
use crate::domain::names::Names;
use crate::domain::network::NetworkPolicy;
use crate::domain::outcome::Detail;
use crate::domain::secret::Secret;

pub use effective::effective;
pub use endpoint::is_name as is_endpoint_name;
pub use load::{Loaded, load, recheck, reload};
pub use noted::Noted;
pub use problem::{Excerpt, Problem, Problems};
pub use schema::schema;
pub use values::{parse_duration, parse_size, show_duration, show_size};

/// The file that is read when no other is named.
pub const DEFAULT_PATH: &str = "/etc/posthaste/config.toml";

/// Upper bound on `ingest.max_event`, in bytes.
pub const EVENT_BYTES_MAX: u64 = 16 << 20;

/// Everything the daemon needs to know, checked.
#[derive(Clone, Debug, PartialEq)]
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
    /// `[network]`
    pub network: NetworkConfig,
    /// `[alerts]`
    pub alerts: AlertsConfig,
    /// `[traces]`
    pub traces: TracesConfig,
    /// `[vars]` and `[secrets]`
    pub settings: Arc<Settings>,
    /// Every endpoint, in the order written; names are unique.
    pub endpoints: Vec<Arc<Endpoint>>,
    /// The names of those that were defined over the API.
    pub managed: BTreeSet<Box<str>>,
    /// Identifies what is in force: the first 16 hex digits of a SHA-256 over the files' contents. A secret
    /// that changes behind a reference doesn't change it.
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
    /// How long attempts are kept in the log.
    pub attempts_keep: Duration,
    /// At most so many bytes of them, beside the queue; the oldest go first. 0: none are kept.
    pub attempts_bytes_max: u64,
    /// Of which of them request and answer are kept.
    pub attempts_detail: Detail,
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
    /// Who may send what; empty: whoever can open the socket may send everything.
    pub allow: Vec<AllowRule>,
    /// Folder that `posthaste send` leaves events in while the daemon is down; `None`: there is none.
    pub spool: Option<PathBuf>,
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
    /// Who may see and change everything; empty, with `readers` empty too: whoever can open the socket.
    pub operators: Vec<Who>,
    /// Who may see everything and change nothing.
    pub readers: Vec<Who>,
    /// Where the API is served over TCP as well; never without `token`.
    pub listen: Option<SocketAddr>,
    /// What a client of [`ControlConfig::listen`] has to show.
    pub token: Option<Secret>,
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
    /// Bytes of batches under way, all endpoints together.
    pub batch_bytes_max: u64,
    /// How long a stop may wait for requests under way.
    pub shutdown: Duration,
}

/// `[network]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkConfig {
    /// Refuse http:// to hosts other than this machine, unless an endpoint says `allow_http = true`.
    pub https_only: bool,
    /// Where requests may go, and how long names are remembered.
    pub policy: NetworkPolicy,
}

/// `[alerts]`: past which values an endpoint needs a person; 0 switches a limit off.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertsConfig {
    /// What 95 of 100 requests take at most.
    pub response_time_p95: Duration,
    /// The share of the last minute's attempts that end in an error, 0 to 1.
    pub error_rate: f64,
    /// Attempts in a row that are answered with 401 or 403.
    pub auth_failures: u32,
    /// How long every attempt has failed.
    pub failing_for: Duration,
    /// Dead letters.
    pub dead_letters: u32,
}

/// `[traces]`: who is told of accepted events and attempts, by OTLP over HTTP.
#[derive(Clone, Debug, PartialEq)]
pub struct TracesConfig {
    /// Where spans go; `None`: there are none.
    pub endpoint: Option<TracesEndpoint>,
    /// The share of the traces begun here that is recorded, 0 to 1.
    pub sample: f64,
    /// What the daemon is called in traces.
    pub service_name: String,
    /// Headers of each export. Values may be secrets.
    pub headers: Vec<(http::HeaderName, Secret)>,
}

/// Where spans go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TracesEndpoint {
    /// An http or https URL.
    pub url: Secret,
    /// What may be shown of it.
    pub shown: Box<str>,
}

impl LogFormat {
    /// Every format with its name in the file.
    pub const NAMES: &'static Names<Self> = &[
        ("auto", Self::Auto),
        ("text", Self::Text),
        ("json", Self::Json),
        ("journald", Self::Journald),
    ];
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            path: "/var/lib/posthaste".into(),
            size_bytes_max: 20 << 30,
            free_min: FreeMin::Percent(5.0),
            dedup_window: Duration::from_secs(24 * 3600),
            dedup_ids_max: 1_000_000,
            attempts_keep: Duration::from_secs(7 * 86_400),
            attempts_bytes_max: 256 << 20,
            attempts_detail: Detail::Failed,
            dead_keep: Duration::from_secs(90 * 86_400),
        }
    }
}

impl Default for IngestConfig {
    fn default() -> Self {
        Self {
            socket: "/run/posthaste/ingest.sock".into(),
            mode: 0o660,
            group: "posthaste".to_owned(),
            event_bytes_max: 1 << 20,
            batch_bytes_max: 8 << 20,
            connections_max: 1024,
            allow: Vec::new(),
            spool: Some("/var/spool/posthaste".into()),
        }
    }
}

impl Default for ControlConfig {
    fn default() -> Self {
        Self {
            socket: "/run/posthaste/control.sock".into(),
            mode: 0o660,
            group: "posthaste-admin".to_owned(),
            operators: Vec::new(),
            readers: Vec::new(),
            listen: None,
            token: None,
        }
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            format: LogFormat::Auto,
            level: "info".to_owned(),
            payloads: false,
        }
    }
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            in_flight_max: 512,
            batch_bytes_max: 64 << 20,
            shutdown: Duration::from_secs(30),
        }
    }
}

impl Default for AlertsConfig {
    fn default() -> Self {
        Self {
            response_time_p95: Duration::from_secs(5),
            error_rate: 0.05,
            auth_failures: 3,
            failing_for: Duration::from_secs(3600),
            dead_letters: 100,
        }
    }
}

impl Default for TracesConfig {
    fn default() -> Self {
        Self {
            endpoint: None,
            sample: 1.0,
            service_name: "posthaste".to_owned(),
            headers: Vec::new(),
        }
    }
}

impl Default for NetworkConfig {
    fn default() -> Self {
        Self {
            https_only: true,
            policy: NetworkPolicy::default(),
        }
    }
}
