//! Where log lines go and how they look.

use std::io::IsTerminal;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

use crate::config::{LogConfig, LogFormat};

/// Libraries that say more than an operator wants to read at the daemon's own level; and who changed what, which is
/// written down at any level but one that names `audit` itself.
const ALWAYS: &str = "audit=info,sled=warn,hyper=warn,hyper_util=warn,reqwest=warn,h2=warn,rustls=warn";

/// Starts logging for the process. `RUST_LOG` wins over `log.level`.
///
/// # Errors
/// Says what is wrong when the level is no filter, the journal can't be reached, or logging was started before.
pub fn start(config: &LogConfig) -> Result<(), String> {
    let filter = match std::env::var("RUST_LOG") {
        Ok(text) if !text.is_empty() => text,
        _ => format!("{ALWAYS},{}", config.level),
    };
    let filter =
        EnvFilter::try_new(&filter).map_err(|error| format!("log.level {:?}: {error}", config.level))?;
    let lines = lines(resolve(config.format))?;
    tracing_subscriber::registry()
        .with(lines.with_filter(filter))
        .try_init()
        .map_err(|error| error.to_string())
}

/// `auto`: the journal under systemd, text on a terminal, JSON else.
fn resolve(format: LogFormat) -> LogFormat {
    match format {
        LogFormat::Auto if std::env::var_os("JOURNAL_STREAM").is_some() => LogFormat::Journald,
        LogFormat::Auto if std::io::stderr().is_terminal() => LogFormat::Text,
        LogFormat::Auto => LogFormat::Json,
        chosen => chosen,
    }
}

fn lines(format: LogFormat) -> Result<Box<dyn Layer<Registry> + Send + Sync>, String> {
    let stderr = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    Ok(match format {
        LogFormat::Journald => tracing_journald::layer()
            .map_err(|error| {
                format!("log.format: the journal can't be reached ({error}); write format = \"json\"")
            })?
            .with_syslog_identifier("posthaste".to_owned())
            .boxed(),
        LogFormat::Json => stderr.json().flatten_event(true).boxed(),
        LogFormat::Text | LogFormat::Auto => stderr.with_ansi(std::io::stderr().is_terminal()).boxed(),
    })
}
