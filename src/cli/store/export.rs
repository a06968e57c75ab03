//! `posthaste store export`: everything that is owed or dead as JSON lines, for people and scripts, or as events
//! that `posthaste send --ndjson` takes.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;

use clap::Args;

use crate::cli::failure::{Done, Failure};
use crate::cli::progress::Progress;
use crate::control::events::view;
use crate::domain::event::Event;
use crate::ingest::rewrite::with_members;
use crate::store::{DeliveryState, FoundEvent, LaneId, LoadError, Store};

/// Arguments of `store export`.
#[derive(Clone, Debug, Args)]
pub(super) struct ExportArgs {
    /// The events alone, each addressed to the endpoints it is owed to: lines for `posthaste send --ndjson`
    #[arg(long)]
    events: bool,
    /// Only what is still to be delivered
    #[arg(long, conflicts_with = "dead")]
    owed: bool,
    /// Only dead letters
    #[arg(long)]
    dead: bool,
    /// Only what this endpoint has
    #[arg(long, value_name = "NAME")]
    endpoint: Option<String>,
    /// Write to this new file instead of standard output
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
}

/// What was written, and what could not be.
#[derive(Debug, Default)]
struct Tally {
    events: u64,
    deliveries: u64,
    damaged: u64,
}

/// Writes the lines; tells on standard error how many, when they went to a file.
///
/// # Errors
/// When the output can't be written, or an event is damaged: then everything else is written all the same.
pub(super) fn run(args: &ExportArgs, store: &dyn Store) -> Done {
    let names: HashMap<LaneId, Box<str>> = store
        .lanes()
        .into_iter()
        .map(|lane| (lane.lane, lane.name))
        .collect();
    let mut tally = Tally::default();
    let written = match &args.to {
        None => write(args, store, &names, io::stdout().lock(), &mut tally),
        Some(path) => {
            let file = File::create_new(path)
                .map_err(|error| Failure::Wrong(format!("{}: {error}", path.display())))?;
            let written = write(args, store, &names, &file, &mut tally);
            written.and_then(|()| {
                file.sync_all()
                    .map_err(|error| Failure::Wrong(format!("{}: {error}", path.display())))
            })
        }
    };
    written?;
    if args.to.is_some() {
        eprintln!("{} events with {} deliveries", tally.events, tally.deliveries);
    }
    match tally.damaged {
        0 => Ok(()),
        damaged => Err(Failure::Wrong(format!(
            "{damaged} events are damaged and were left out; posthaste store check tells which"
        ))),
    }
}

fn write(
    args: &ExportArgs,
    store: &dyn Store,
    names: &HashMap<LaneId, Box<str>>,
    out: impl Write,
    tally: &mut Tally,
) -> Done {
    let mut out = BufWriter::new(out);
    let mut failed = None;
    let progress = Progress::writing("events", Some(store.stats().events));
    let mut each = |shown: Result<FoundEvent, LoadError>| {
        progress.step();
        let Ok(mut found) = shown else {
            tally.damaged += 1;
            return ControlFlow::Continue(());
        };
        found
            .deliveries
            .retain(|(lane, state)| args.asks_for(names, *lane, state));
        if found.deliveries.is_empty() {
            return ControlFlow::Continue(());
        }
        tally.events += 1;
        tally.deliveries += found.deliveries.len() as u64;
        let line = if args.events {
            event_line(&found, names)
        } else {
            serde_json::to_vec(&view(&found, names)).map_err(|error| error.to_string())
        };
        let written = line
            .map_err(io::Error::other)
            .and_then(|line| out.write_all(&line).and_then(|()| out.write_all(b"\n")));
        match written {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        }
    };
    store
        .walk(&mut each)
        .map_err(|error| Failure::Wrong(error.to_string()))?;
    match failed.map_or_else(|| out.flush(), Err) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(Failure::OutputClosed),
        Err(error) => Err(Failure::Wrong(format!("cannot write: {error}"))),
    }
}

impl ExportArgs {
    fn asks_for(&self, names: &HashMap<LaneId, Box<str>>, lane: LaneId, state: &DeliveryState) -> bool {
        let is_dead = matches!(state, DeliveryState::Dead(_));
        let of_endpoint = self
            .endpoint
            .as_deref()
            .is_none_or(|name| names.get(&lane).is_some_and(|found| **found == *name));
        of_endpoint && (!self.owed || !is_dead) && (!self.dead || is_dead)
    }
}

/// The event as it was accepted, addressed to the endpoints that it is owed to. A delay counted from its
/// acceptance, so it is replaced by the instant it ended at.
fn event_line(found: &FoundEvent, names: &HashMap<LaneId, Box<str>>) -> Result<Vec<u8>, String> {
    let Event { head, json } = &found.event;
    let endpoints: Vec<&str> = found
        .deliveries
        .iter()
        .filter_map(|(lane, _)| names.get(lane).map(|name| &**name))
        .collect();
    let deliver_at = head.deliver_at.map(|at| at.to_string());
    with_members(
        json,
        &["delay"],
        &[
            ("endpoint", Some(&endpoints.join(","))),
            ("deliverat", deliver_at.as_deref()),
        ],
    )
}
