//! `posthaste store repair`: first what it would do and why, then, with `--yes`, the work.

use std::path::PathBuf;

use clap::Args;
use schemars::JsonSchema;
use serde::Serialize;

use super::DAMAGED_SHOWN_MAX;
use crate::cli::failure::{Done, Failure};
use crate::cli::print::{self, counted};
use crate::cli::progress::Progress;
use crate::config::StoreConfig;
use crate::store::attempts::check::DamagedSegment;
use crate::store::sled::{Repair, RepairPlan, Repaired};

/// Arguments of `store repair`.
#[derive(Clone, Debug, Args)]
pub(super) struct RepairArgs {
    /// The folder of a queue that was set aside [default: the current one, or the latest that was set aside]
    #[arg(long, value_name = "FOLDER")]
    from: Option<PathBuf>,
    /// Do it
    #[arg(long)]
    yes: bool,
}

/// `store repair --json`
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub(in crate::cli) enum RepairLine<'a> {
    /// Without `--yes`, and where nothing is to be done.
    Plan(&'a RepairPlan),
    /// With it, when the work is done.
    Done(&'a Repaired),
}

/// Shows the plan; with `--yes` carries it out and shows what was done.
///
/// # Errors
/// When a daemon uses the store, when nothing of it can be read, and, so that scripts see it, when there is
/// something to repair and nothing was done.
pub(super) fn run(args: &RepairArgs, config: &StoreConfig, json: bool) -> Done {
    let wrong = |error: crate::store::sled::OpenError| Failure::Wrong(error.to_string());
    let waiting = Progress::waiting("reading everything");
    let repair = Repair::plan(config, args.from.as_deref()).map_err(wrong)?;
    drop(waiting);
    let plan = repair.shown();
    if !plan.is_needed {
        return match json {
            true => print::json_line(&RepairLine::Plan(plan)),
            false => print::line(&format!(
                "{}: nothing to repair: {} can be read, nothing is set aside",
                plan.from.display(),
                counted(plan.events, "event")
            )),
        };
    }
    if !args.yes {
        match json {
            true => print::json_line(&RepairLine::Plan(plan))?,
            false => print::line(&plan_text(plan))?,
        }
        return Err(Failure::Wrong(
            "nothing was changed; to do it, add --yes".to_owned(),
        ));
    }
    if !json {
        print::line(&plan_text(plan))?;
    }
    let waiting = Progress::waiting("repairing");
    let repaired = repair.carry_out().map_err(wrong)?;
    drop(waiting);
    match json {
        true => print::json_line(&RepairLine::Done(&repaired)),
        false => print::line(&repaired_text(&repaired)),
    }
}

fn plan_text(plan: &RepairPlan) -> String {
    let mut lines = vec![format!("{}:", plan.from.display())];
    if let Some(why) = &plan.unreadable {
        lines.push(format!("  it does not open as it is: {why}"));
        lines.push("  what can be read of its log may be older than what was last delivered: some deliveries may be repeated".to_owned());
    }
    for record in plan.damaged.iter().take(DAMAGED_SHOWN_MAX) {
        lines.push(format!(
            "  {}, {} bytes: {}",
            record.what, record.bytes, record.why
        ));
    }
    if plan.damaged.len() > DAMAGED_SHOWN_MAX {
        lines.push(format!("  … {} in all, with --json", plan.damaged.len()));
    }
    for segment in &plan.attempts {
        lines.push(damaged_segment(segment));
    }
    if !plan.rewrites_queue {
        lines.push("the queue is whole and stays as it is".to_owned());
        lines.push(
            "keeps these files whole in a quarantine folder, and in the log what can be read of them"
                .to_owned(),
        );
        return print::printable(&lines.join("\n"));
    }
    lines.push(format!(
        "keeps {} with {}, dead letters among them",
        counted(plan.events, "event"),
        deliveries(plan.deliveries)
    ));
    if plan.events_lost > 0 {
        lines.push(format!(
            "loses {} with {}",
            counted(plan.events_lost, "event"),
            deliveries(plan.deliveries_lost)
        ));
    }
    if plan.strays > 0 {
        lines.push(format!(
            "writes {} to a file, because nobody knows whether they are still owed; send them again if they are: \
             posthaste send --ndjson",
            counted(plan.strays, "event")
        ));
    }
    lines.push(format!(
        "writes the rest into a fresh queue, {}, and keeps the old one whole under another name",
        plan.into.display()
    ));
    print::printable(&lines.join("\n"))
}

fn repaired_text(repaired: &Repaired) -> String {
    let holds = &repaired.holds;
    let mut lines = vec![format!(
        "done: {} holds {}, {} pending ({} wait for a retry), {} dead",
        repaired.queue.display(),
        counted(holds.events, "event"),
        deliveries(holds.pending),
        holds.deferred,
        holds.dead
    )];
    if let Some(kept) = &repaired.kept {
        lines.push(format!("the old queue: {}", kept.display()));
    }
    if let Some(folder) = &repaired.quarantine {
        lines.push(format!("what could not be read: {}", folder.display()));
    }
    lines.push("next: systemctl start posthaste".to_owned());
    lines.join("\n")
}

/// A damaged file of the log of attempts, and what becomes of it.
fn damaged_segment(segment: &DamagedSegment) -> String {
    let why = segment
        .why
        .as_deref()
        .map_or(String::new(), |why| format!(": {why}"));
    format!(
        "  {} of the log of attempts: {} bytes are damaged, {} can be read{why}",
        segment.file.display(),
        segment.damaged_bytes,
        counted(segment.attempts, "attempt")
    )
}

fn deliveries(count: u64) -> String {
    match count {
        1 => "1 delivery".to_owned(),
        _ => format!("{count} deliveries"),
    }
}
