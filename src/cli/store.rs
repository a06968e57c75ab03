//! `posthaste store status|check`: the store on disk while the daemon is stopped. Reads through the seam
//! only, so it serves every engine; who opens the folder is handed in.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::failure::{Done, Failure};
use super::print::{self, Column, or_dash};
use crate::control::units::bytes_text;
use crate::domain::event::Seq;
use crate::domain::time::Timestamp;
use crate::store::{DeadFilter, DueQuery, LaneTotals, LoadError, Store, StoreError, StoreStats};

/// Where the configuration is when nothing says otherwise.
const CONFIG_DEFAULT: &str = "/etc/posthaste/config.toml";
/// Deliveries that are looked at in one go. Those that wait for a retry are found again unless named, so
/// a page is large.
const PAGE: usize = 65_536;
/// Events that are read in one go; each may be a mebibyte.
const LOAD: usize = 64;

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

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// Deliveries owed whose event can be read.
    pub pending: u64,
    /// Dead letters whose event can be read.
    pub dead: u64,
    /// Records set aside before.
    pub quarantined: u64,
    /// What cannot be read, one sentence each.
    pub damaged: Vec<String>,
}

/// Reads everything that is owed and everything that is dead.
///
/// # Errors
/// [`StoreError::Failed`] when the store itself does.
pub fn check(store: &dyn Store) -> Result<CheckReport, StoreError> {
    let mut report = CheckReport::default();
    for lane in store.lanes() {
        let mut held = HashSet::new();
        let mut fresh_from = Seq(0);
        loop {
            let query = DueQuery {
                fresh_from,
                fresh_max: PAGE,
                now: Timestamp::MAX,
                deferred_max: PAGE,
                held: held.clone(),
            };
            let answer = store.due(lane.lane, &query)?;
            held.extend(answer.deferred.iter().map(|due| due.seq));
            let seqs: Vec<Seq> = answer
                .fresh
                .iter()
                .chain(&answer.deferred)
                .map(|due| due.seq)
                .collect();
            report.pending += read_all(store, &lane.name, &seqs, &mut report.damaged)?;
            fresh_from = answer.fresh_next;
            if !answer.fresh_more && answer.deferred.is_empty() {
                break;
            }
        }
    }
    check_dead(store, &mut report)?;
    report.quarantined = store.stats().quarantined;
    Ok(report)
}

fn check_dead(store: &dyn Store, report: &mut CheckReport) -> Result<(), StoreError> {
    let mut after = None;
    loop {
        let page = store.dead(&DeadFilter::default(), after, LOAD)?;
        let seqs: Vec<Seq> = page.letters.iter().map(|letter| letter.id.seq).collect();
        report.dead += read_all(store, "dead letters", &seqs, &mut report.damaged)?;
        after = page.next;
        if after.is_none() {
            return Ok(());
        }
    }
}

/// Reads events; returns how many could be read.
fn read_all(
    store: &dyn Store,
    place: &str,
    seqs: &[Seq],
    damaged: &mut Vec<String>,
) -> Result<u64, StoreError> {
    let mut good = 0;
    for loaded in seqs.chunks(LOAD).flat_map(|chunk| store.load(chunk)) {
        match loaded {
            Ok(_) => good += 1,
            Err(LoadError::Store(error)) => return Err(error),
            Err(error) => damaged.push(format!("{place}: {error}")),
        }
    }
    Ok(good)
}

fn check_and_tell(store: &dyn Store, json: bool) -> Done {
    let report = check(store).map_err(|error| Failure::Wrong(error.to_string()))?;
    if json {
        print::json_line(&report)?;
    } else {
        for problem in &report.damaged {
            print::line(&print::printable(problem))?;
        }
        print::line(&format!(
            "{} pending and {} dead can be read; {} cannot; {} set aside before",
            report.pending,
            report.dead,
            report.damaged.len(),
            report.quarantined
        ))?;
    }
    if report.damaged.is_empty() {
        return Ok(());
    }
    Err(Failure::Wrong(
        "the store is damaged; the daemon delivers the rest and keeps the damaged records in quarantine"
            .to_owned(),
    ))
}
