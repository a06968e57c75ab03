//! `posthaste store status|check|export|repair`: the store on disk while the daemon is stopped, or a copy of one.
//! Reads through the seam only, so it serves every engine; who opens the folder is handed in. [`repair`] alone is
//! the engine's own business.

mod export;
pub(super) mod repair;

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Subcommand};
use schemars::JsonSchema;
use serde::Serialize;

use super::failure::{Done, Failure};
use super::print::{self, Column, counted, or_dash};
use super::progress::Progress;
use crate::config::{DEFAULT_PATH, StoreConfig};
use crate::control::units::bytes_text;
use crate::store::{CheckReport, LaneTotals, Quarantined, Store, StoreStats};

const EXAMPLES: &str = "Examples:
  posthaste store status
  posthaste store check --json
  posthaste store export > owed.jsonl
  posthaste store export --events --owed | posthaste send --ndjson
  posthaste store repair              # what it would do, and why
  posthaste store repair --yes";

/// Damaged records that are listed for people; `--json` has all of them.
const DAMAGED_SHOWN_MAX: usize = 20;

/// Records set aside that are told of at most; each may take 64 KiB while it is read.
const SET_ASIDE_MAX: usize = 1000;

/// Arguments of `store`.
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct StoreArgs {
    /// Configuration file that names the store's folder
    #[arg(long, value_name = "FILE", default_value = DEFAULT_PATH, env = "POSTHASTE_CONFIG", global = true)]
    config: PathBuf,
    /// Folder of the store, such as a backup's, instead of the one that the configuration names
    #[arg(long, value_name = "FOLDER", global = true)]
    path: Option<PathBuf>,
    /// JSON instead of a table
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    verb: StoreVerb,
}

#[derive(Clone, Debug, Subcommand)]
enum StoreVerb {
    /// What it holds; quick
    #[command(after_help = "Examples:
  posthaste store status")]
    Status,
    /// Read everything that is owed or dead; exit code 1 when anything is damaged
    #[command(after_help = "Examples:
  posthaste store check
  posthaste store check --json")]
    Check,
    /// Write everything that is owed or dead as JSON lines
    #[command(after_help = "Examples:
  posthaste store export > owed.jsonl
  posthaste store export --dead --endpoint crm-sync > letters.jsonl")]
    Export(export::ExportArgs),
    /// Plan how to save what can be read of a damaged store; with --yes, do it
    #[command(after_help = "Examples:
  posthaste store repair
  posthaste store repair --yes")]
    Repair(repair::RepairArgs),
}

/// Opens the store that the configuration or `--path` names, by `open`, and does what is asked for.
///
/// # Errors
/// When it cannot be opened, or anything in it is damaged.
pub fn run(args: &StoreArgs, open: impl FnOnce(&StoreConfig) -> Result<Arc<dyn Store>, String>) -> Done {
    let config = config_of(args).map_err(Failure::Wrong)?;
    if let StoreVerb::Repair(repair) = &args.verb {
        return repair::run(repair, &config, args.json);
    }
    let opening = Progress::waiting("opening the store");
    let store = open(&config).map_err(Failure::Wrong)?;
    drop(opening);
    let done = match &args.verb {
        StoreVerb::Status => show(&*store, args.json),
        StoreVerb::Check => check_and_tell(&*store, args.json),
        StoreVerb::Export(export) => export::run(export, &*store),
        StoreVerb::Repair(_) => Ok(()),
    };
    let closed = store.close().map_err(|error| Failure::Wrong(error.to_string()));
    done.and(closed)
}

/// Which store is meant. A copy of one needs no configuration.
fn config_of(args: &StoreArgs) -> Result<StoreConfig, String> {
    let config = match &args.path {
        Some(path) => StoreConfig {
            path: path.clone(),
            ..StoreConfig::default()
        },
        None => {
            let loaded = crate::config::load(&args.config).map_err(|problems| problems.to_string())?;
            loaded.config.store
        }
    };
    // Opening would make one.
    if config.path.is_dir() {
        Ok(config)
    } else {
        Err(format!("{}: there is no such folder", config.path.display()))
    }
}

/// One endpoint's queue on disk.
#[derive(Clone, Debug, Serialize, JsonSchema)]
struct LaneLine {
    endpoint: String,
    pending: u64,
    deferred: u64,
    dead: u64,
    oldest: Option<String>,
    paused: Option<String>,
}

/// `store status --json`
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct StoreStatus {
    #[serde(flatten)]
    stats: StoreStats,
    endpoints: Vec<LaneLine>,
}

fn lane_line(lane: &LaneTotals) -> LaneLine {
    LaneLine {
        endpoint: lane.name.to_string(),
        pending: lane.pending,
        deferred: lane.deferred,
        dead: lane.dead,
        oldest: lane.oldest_pending.map(|oldest| oldest.to_string()),
        paused: lane.paused.as_ref().map(|pause| pause.reason.to_string()),
    }
}

fn show(store: &dyn Store, json: bool) -> Done {
    let status = StoreStatus {
        stats: store.stats(),
        endpoints: store.lanes().iter().map(lane_line).collect(),
    };
    if json {
        return print::json_line(&status);
    }
    let stats = &status.stats;
    print::line(&format!(
        "{} events, {} of {} on disk, {} free; {} set aside as damaged; {} of attempts\n",
        stats.events,
        bytes_text(stats.live_bytes),
        bytes_text(stats.disk_bytes),
        bytes_text(stats.free_bytes),
        stats.quarantined,
        bytes_text(stats.attempts_bytes)
    ))?;
    let columns = [
        Column::Text("ENDPOINT"),
        Column::Number("PENDING"),
        Column::Number("RETRY"),
        Column::Number("DEAD"),
        Column::Text("OLDEST"),
        Column::Text("PAUSED"),
    ];
    let rows = status.endpoints.iter().map(|lane| {
        vec![
            lane.endpoint.clone(),
            lane.pending.to_string(),
            lane.deferred.to_string(),
            lane.dead.to_string(),
            or_dash(lane.oldest.as_ref()),
            or_dash(lane.paused.as_ref()),
        ]
    });
    print::line(&print::table(&columns, rows))
}

/// `store check --json`
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct Checked {
    #[serde(flatten)]
    report: CheckReport,
    /// What was set aside before, newest first.
    set_aside: Vec<SetAside>,
}

/// One record that was set aside.
#[derive(Clone, Debug, Serialize, JsonSchema)]
struct SetAside {
    found: String,
    what: String,
    why: String,
    bytes: u64,
}

impl SetAside {
    fn of(record: &Quarantined) -> Self {
        Self {
            found: record.found.to_string(),
            what: record.what.clone(),
            why: record.why.clone(),
            bytes: record.bytes.len() as u64,
        }
    }
}

fn check_and_tell(store: &dyn Store, json: bool) -> Done {
    let waiting = Progress::waiting("reading everything");
    let checked = Checked {
        report: store
            .verify()
            .map_err(|error| Failure::Wrong(error.to_string()))?,
        set_aside: store.quarantine(SET_ASIDE_MAX).iter().map(SetAside::of).collect(),
    };
    drop(waiting);
    let report = &checked.report;
    if json {
        print::json_line(&checked)?;
    } else {
        print::line(&check_text(&checked))?;
    }
    match (report.damaged, report.quarantined) {
        (0, 0) if report.attempts.damaged.is_empty() => Ok(()),
        (0, 0) => Err(Failure::Wrong(
            "the log of attempts is damaged: searches miss what can't be read, deliveries are not touched. To set the \
             damaged files aside: posthaste store repair"
                .to_owned(),
        )),
        (0, _) => Err(Failure::Wrong(
            "records are set aside as damaged; the daemon delivers the rest. To write them out as files and go on with \
             a clean queue: posthaste store repair"
                .to_owned(),
        )),
        _ => Err(Failure::Wrong(
            "the store is damaged; the daemon delivers the rest and keeps the damaged records in quarantine. To see \
             what can be saved: posthaste store repair"
                .to_owned(),
        )),
    }
}

fn check_text(checked: &Checked) -> String {
    let report = &checked.report;
    let mut lines = report.problems.clone();
    for record in checked.set_aside.iter().take(DAMAGED_SHOWN_MAX) {
        lines.push(format!(
            "set aside {}: {}, {} bytes: {}",
            record.found, record.what, record.bytes, record.why
        ));
    }
    if checked.set_aside.len() > DAMAGED_SHOWN_MAX {
        lines.push("… more with --json".to_owned());
    }
    let log = &report.attempts;
    for segment in &log.damaged {
        let why = segment
            .why
            .as_deref()
            .unwrap_or("what is in it does not fit its checksums");
        lines.push(format!(
            "{}: {} bytes are damaged: {why}",
            segment.file.display(),
            segment.damaged_bytes
        ));
    }
    lines.push(format!(
        "{} events, {} deliveries pending ({} wait for a retry), {} dead; {} damaged, {} set aside before",
        report.events, report.pending, report.deferred, report.dead, report.damaged, report.quarantined
    ));
    lines.push(format!(
        "log of attempts: {} in {}, {}; {} damaged",
        counted(log.attempts, "attempt"),
        counted(log.segments, "file"),
        bytes_text(log.bytes),
        log.damaged.len()
    ));
    print::printable(&lines.join("\n"))
}
