//! `posthaste events show ID…`: where events stand, and what was tried.

use clap::{Args, Subcommand};

use super::attempts::{COLUMNS, cells};
use super::client::{Connect, encoded, with_query};
use super::dead::attempt_text;
use super::failure::Done;
use super::print::{self, Column, or_dash};
use super::{ids, kept};
use crate::control::types::{DeliveryView, EventView};

/// Arguments of `events`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  posthaste events show 01JHM2Y8Z3W6N5T4R7Q9P0K1VX")]
pub struct EventsArgs {
    #[command(flatten)]
    connect: Connect,
    #[command(subcommand)]
    verb: EventsVerb,
}

#[derive(Clone, Debug, Subcommand)]
enum EventsVerb {
    /// Show events with their deliveries and tries; one that was delivered as long as the log of attempts knows it
    #[command(after_help = "Examples:
  posthaste events show 01JHM2Y8Z3W6N5T4R7Q9P0K1VX
  posthaste attempts --outcome error --limit 1 --json | posthaste events show -")]
    Show {
        /// Their ids; `-` reads them from standard input, one a line, or JSON lines as the listings write them
        #[arg(required = true)]
        ids: Vec<String>,
        /// Their source, when several events have this id
        #[arg(long)]
        source: Option<String>,
    },
}

/// What the id of an event is called in a line of a listing: in one of tries or of dead letters, and in one of events.
const MEMBERS: &[&str] = &["event_id", "id"];

/// Does what `events` was asked for.
///
/// # Errors
/// When an event is neither kept nor in the log, or the daemon can't be reached.
pub async fn run(args: EventsArgs) -> Done {
    let client = args.connect.client()?;
    let EventsVerb::Show { ids, source } = args.verb;
    let ids = ids::read(&ids, std::io::stdin().lock(), MEMBERS)?;
    let path = |id: &String| {
        with_query(
            &format!("/v1/events/{}", encoded(id)),
            &[("source", source.as_deref())],
        )
    };
    let show = |view: &EventView| match args.connect.json {
        true => print::json_line(view),
        false => print::line(&details(view)),
    };
    ids::show_each(&client, ids.iter().map(path), show).await
}

fn details(view: &EventView) -> String {
    let mut lines = vec![
        format!("{} {} from {}", view.kind, view.id, view.source),
        format!(
            "  accepted {} from uid {}",
            view.accepted,
            or_dash(view.sender_uid)
        ),
    ];
    for other in &view.other_sources {
        lines.push(format!(
            "  the same id came from {other} too; --source shows that one"
        ));
    }
    if !view.kept {
        lines.push("  not kept any more: this is what the log of attempts knows".to_owned());
    }
    let tries = attempt_table(&view.deliveries);
    // What was said the last time: to every endpoint that still waits for it or never got it, and to others if the log
    // tells of that.
    let is_told = |delivery: &&DeliveryView| {
        let last = delivery.attempts.last();
        delivery.state != "delivered" || last.is_some_and(|last| !last.request_line.is_empty())
    };
    let attempts: Vec<String> = view
        .deliveries
        .iter()
        .filter(is_told)
        .filter_map(|delivery| delivery.attempts.last().map(attempt_text))
        .collect();
    // What else was kept of those that went well: of the others it is told with the rest.
    let kept: Vec<String> = view
        .deliveries
        .iter()
        .filter(|delivery| !is_told(delivery))
        .filter_map(kept_text)
        .collect();
    let tail = view.event.as_ref().map(|event| format!("\n{}", event.get()));
    lines.push(String::new());
    lines.push(delivery_table(&view.deliveries));
    lines.extend(tries);
    lines.extend(
        attempts
            .iter()
            .chain(&kept)
            .chain(&tail)
            .map(|text| print::printable(text)),
    );
    lines.join("\n")
}

/// What was kept of a delivery's latest try; `None`: nothing.
fn kept_text(delivery: &DeliveryView) -> Option<String> {
    let lines = kept::lines(delivery.attempts.last()?);
    (!lines.is_empty()).then(|| format!("\n  {}\n{}", delivery.endpoint, lines.join("\n")))
}

/// Every try, by endpoint; `None`: there was none.
fn attempt_table(deliveries: &[DeliveryView]) -> Option<String> {
    let mut columns = vec![Column::Text("ENDPOINT"), Column::Text("WHEN")];
    columns.extend(COLUMNS);
    let rows: Vec<_> = deliveries
        .iter()
        .flat_map(|delivery| {
            delivery
                .attempts
                .iter()
                .map(|attempt| (&delivery.endpoint, attempt))
        })
        .map(|(endpoint, attempt)| {
            let mut row = vec![endpoint.clone(), attempt.started.to_string()];
            row.extend(cells(attempt));
            row
        })
        .collect();
    (!rows.is_empty()).then(|| format!("\n{}", print::table(&columns, rows)))
}

fn delivery_table(deliveries: &[DeliveryView]) -> String {
    let columns = [
        Column::Text("ENDPOINT"),
        Column::Text("STATE"),
        Column::Number("TRIES"),
        Column::Text("DUE"),
        Column::Number("LAST"),
        Column::Text("DEAD LETTER"),
        Column::Text("ERROR"),
    ];
    let rows = deliveries.iter().map(|delivery| {
        vec![
            delivery.endpoint.clone(),
            delivery.state.clone(),
            delivery.tries.to_string(),
            or_dash(delivery.due),
            or_dash(delivery.last_status),
            or_dash(delivery.dead_id.as_deref()),
            delivery.last_error.clone().unwrap_or_default(),
        ]
    });
    print::table(&columns, rows)
}
