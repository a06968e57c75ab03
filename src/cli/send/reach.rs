//! Where `posthaste send` finds the daemon: its socket, its spool and its limits, and the connection.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use super::{EXIT_UNREACHABLE, Failure, SendArgs};
use crate::config::{DEFAULT_PATH, IngestConfig, parse_size};

/// Why there is no connection.
pub(super) enum Unreached {
    /// Nobody listens.
    Down(Failure),
    /// Anything else.
    Other(Failure),
}

impl From<Unreached> for Failure {
    fn from(unreached: Unreached) -> Self {
        match unreached {
            Unreached::Down(failure) | Unreached::Other(failure) => failure,
        }
    }
}

pub(super) fn connect(ingest: &IngestConfig) -> Result<UnixStream, Unreached> {
    UnixStream::connect(&ingest.socket).map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::PermissionDenied => {
                "you need to be in the socket's group: sudo usermod -aG posthaste $USER, then log in again"
            }
            _ => {
                "is the daemon running? Start it with `systemctl start posthaste` or `posthaste run`, or name its \
                 socket with --socket or $POSTHASTE_INGEST"
            }
        };
        let path = ingest.socket.display();
        let failure = Failure {
            message: format!("can't reach the daemon at {path}: {error}; {hint}"),
            exit: EXIT_UNREACHABLE,
        };
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Unreached::Down(failure),
            _ => Unreached::Other(failure),
        }
    })
}

/// Socket, spool and limits: those named on the command line or in the environment, or by the config file, or the
/// defaults. A socket named by hand is another daemon's than the default spool.
pub(super) fn ingest(args: &SendArgs) -> Result<IngestConfig, Failure> {
    let mut ingest = match &args.config {
        Some(file) => configured(file)?,
        // Producers need not be allowed to read the daemon's own file.
        None => configured(Path::new(DEFAULT_PATH)).unwrap_or_default(),
    };
    if let Some(socket) = &args.socket {
        ingest.socket.clone_from(socket);
        ingest.spool = ingest.spool.filter(|_| args.config.is_some());
    }
    if let Some(spool) = &args.spool {
        ingest.spool = Some(spool).filter(|spool| !spool.is_empty()).map(PathBuf::from);
    }
    Ok(ingest)
}

/// `[ingest]` of a config file. Nothing else in it is looked at, so that a mistake elsewhere keeps nobody from sending.
fn configured(file: &Path) -> Result<IngestConfig, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::usage(format!("{}: {error}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| failed(&error))?;
    let config: toml::Table = text.parse().map_err(|error| failed(&error))?;
    let key = |key: &str| config.get("ingest")?.get(key)?.as_str();
    let beside = |path: &str| file.parent().unwrap_or(Path::new("")).join(path);
    let bytes = |name| {
        key(name)
            .and_then(parse_size)
            .and_then(|bytes| usize::try_from(bytes).ok())
    };
    let default = IngestConfig::default();
    Ok(IngestConfig {
        socket: key("socket").map_or(default.socket.clone(), beside),
        spool: match key("spool") {
            Some("") => None,
            Some(path) => Some(beside(path)),
            None => default.spool.clone(),
        },
        event_bytes_max: bytes("max_event").unwrap_or(default.event_bytes_max),
        batch_bytes_max: bytes("max_batch").unwrap_or(default.batch_bytes_max),
        ..default
    })
}
