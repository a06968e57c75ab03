//! `posthaste store status|check`: the store on disk while the daemon is stopped. Reads through the seam
//! only, so it serves every engine; who opens the folder is handed in.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::failure::{Done, Failure};
use super::print::{self, Column, or_dash};
use crate::control::units::bytes_text;
use crate::store::{LaneTotals, Store, StoreStats};

/// Where the configuration is when nothing says otherwise.
const CONFIG_DEFAULT: &str = "/etc/posthaste/config.toml";

/// Arguments of `store`.
#[derive(Clone, Debug, Args)]
pub struct StoreArgs {
    /// Configuration file that names the store's folder
    #[arg(long, value_name = "FILE", default_value = CONFIG_DEFAULT, global = true)]
    config: PathBuf,
    /// JSON instead of a table
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    verb: StoreVerb,
}

#[derive(Clone, Copy, Debug, Subcommand)]
enum StoreVerb {
    /// What it holds; quick
    Status,
    /// Read everything that is owed or dead; exit code 1 when anything is damaged
    Check,
}

/// Opens the store that the configuration file names, read by `open`, and shows or checks it.
///
/// # Errors
/// When it cannot be opened, or a check finds something damaged.
pub fn run(args: &StoreArgs, open: impl FnOnce(&Path) -> Result<Arc<dyn Store>, String>) -> Done {
    let store = open(&args.config).map_err(Failure::Wrong)?;
    let done = match args.verb {
        StoreVerb::Status => show(&*store, args.json),
        StoreVerb::Check => check_and_tell(&*store, args.json),
    };
    let closed = store.close().map_err(|error| Failure::Wrong(error.to_string()));
    done.and(closed)
}

/// One endpoint's queue on disk.
#[derive(Clone, Debug, Serialize)]
struct LaneLine {
    endpoint: String,
    pending: u64,
    deferred: u64,
    dead: u64,
    oldest: Option<String>,
    paused: Option<String>,
}

/// `store status --json`
#[derive(Clone, Debug, Serialize)]
struct StoreStatus {
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
        "{} events, {} of {} on disk, {} free; {} set aside as damaged\n",
        stats.events,
        bytes_text(stats.live_bytes),
        bytes_text(stats.disk_bytes),
        bytes_text(stats.free_bytes),
        stats.quarantined
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

fn check_and_tell(store: &dyn Store, json: bool) -> Done {
    let report = store
        .verify()
        .map_err(|error| Failure::Wrong(error.to_string()))?;
    if json {
        print::json_line(&report)?;
    } else {
        for problem in &report.problems {
            print::line(&print::printable(problem))?;
        }
        print::line(&format!(
            "{} events, {} deliveries pending ({} wait for a retry), {} dead; {} damaged, {} set aside before",
            report.events, report.pending, report.deferred, report.dead, report.damaged, report.quarantined
        ))?;
    }
    if report.damaged == 0 {
        return Ok(());
    }
    Err(Failure::Wrong(
        "the store is damaged; the daemon delivers the rest and keeps the damaged records in quarantine"
            .to_owned(),
    ))
}
