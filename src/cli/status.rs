//! `posthaste status`: the whole daemon on one screen, what is wrong first, with what to type next.

use std::time::Duration;

use clap::Args;

use super::client::Connect;
use super::failure::Done;
use super::print::{self, Color, Column, Paint, age, age_or_dash, counted, or_dash};
use crate::control::types::{AlertView, EndpointRow, EndpointState, Health, Status, TraceNumbers};
use crate::control::units::{bytes_text, duration_text};
use crate::domain::age::Ages;
use crate::domain::time::Timestamp;

/// How old the oldest may be before an endpoint that works is said to fall behind.
const STALE: Duration = Duration::from_secs(300);

/// Arguments of `status`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  posthaste status
  posthaste status --watch 5
  posthaste status --json | jq .totals")]
pub struct StatusArgs {
    #[command(flatten)]
    connect: Connect,
    /// Show it again every so many seconds
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2")]
    watch: Option<u64>,
}

/// Shows the status, once or again and again.
///
/// # Errors
/// When the daemon can't be reached.
pub async fn run(args: StatusArgs) -> Done {
    let client = args.connect.client()?;
    let paint = Paint::for_stdout();
    loop {
        let status: Status = client.get("/v1/status").await?;
        match (args.connect.json, args.watch) {
            (true, _) => print::json_line(&status)?,
            (false, None) => print::line(&screen(&status, paint))?,
            // Home and clear: the screen is written anew in place.
            (false, Some(_)) => print::line(&format!("\x1b[H\x1b[2J{}", screen(&status, paint)))?,
        }
        let Some(seconds) = args.watch else {
            return Ok(());
        };
        tokio::time::sleep(Duration::from_secs(seconds.max(1))).await;
    }
}

/// The status as text: a line on the daemon, a line of totals, the problems, a table.
#[must_use]
pub fn screen(status: &Status, paint: Paint) -> String {
    let mut lines = vec![daemon_line(status, paint), totals_line(status)];
    let problems = problems(status);
    if !problems.is_empty() {
        lines.push(String::new());
    }
    for problem in problems {
        lines.push(format!(
            "{} {}",
            paint.paint("!", Color::Red),
            print::printable(&problem.what)
        ));
        lines.push(paint.paint(&format!("  → {}", problem.next), Color::Dim));
    }
    lines.push(String::new());
    lines.push(if status.endpoints.is_empty() {
        "no endpoints are configured; add an [[endpoint]] to config.toml, then: posthaste reload".to_owned()
    } else {
        endpoint_table(&status.endpoints, status.now)
    });
    lines.extend(
        age_table(status.endpoints.iter().map(|row| (&*row.name, row.ages)))
            .into_iter()
            .flat_map(|table| [String::new(), table]),
    );
    lines.join("\n")
}

/// How old what waits is, for each endpoint that has something older than a minute: in what passes at once there is
/// nothing to see.
fn age_table<'a>(endpoints: impl Iterator<Item = (&'a str, Ages)>) -> Option<String> {
    let is_old = |(_, ages): &&(&str, Ages)| ages.counts()[1..].iter().any(|count| *count > 0);
    let mut all = Ages::default();
    let rows: Vec<(&str, Ages)> = endpoints.collect();
    rows.iter().for_each(|(_, ages)| all.merge(ages));
    let old: Vec<_> = rows.iter().filter(is_old).collect();
    if old.is_empty() {
        return None;
    }
    let head = [Column::Text("WAITING SINCE"), Column::Number("PENDING")];
    let columns: Vec<Column> = head.into_iter().chain(Ages::NAMES.map(Column::Number)).collect();
    let row = |name: &str, ages: &Ages| {
        let counts = ages.counts();
        let sum: u64 = counts.iter().sum();
        let numbers = std::iter::once(sum).chain(counts);
        std::iter::once(name.to_owned())
            .chain(numbers.map(|count| {
                if count == 0 {
                    "-".to_owned()
                } else {
                    count.to_string()
                }
            }))
            .collect::<Vec<_>>()
    };
    let sum = (rows.len() > 1).then(|| row("all", &all));
    let each = old.iter().map(|(name, ages)| row(name, ages));
    Some(print::table(&columns, sum.into_iter().chain(each)))
}

fn daemon_line(status: &Status, paint: Paint) -> String {
    let health = match &status.health {
        Health::Ok => paint.paint("ok", Color::Green),
        Health::Draining => paint.paint("stopping", Color::Yellow),
        Health::Failed(_) => paint.paint("failed", Color::Red),
    };
    format!(
        "posthaste {} · {health} · up {} · config {}",
        status.version,
        duration_text(Duration::from_secs(status.uptime_ms / 1000)),
        status.config_hash
    )
}

fn totals_line(status: &Status) -> String {
    let totals = &status.totals;
    let oldest = totals.oldest.map_or(String::new(), |oldest| {
        format!(", oldest {}", age(status.now, oldest))
    });
    format!(
        "{} pending ({} wait for a retry{oldest}) · {} in flight · {} dead · {:.1}/s · {} on disk",
        totals.pending,
        totals.deferred,
        totals.in_flight,
        totals.dead,
        totals.rate_per_second,
        bytes_text(status.store.disk_bytes)
    )
}

/// Something that needs a person.
struct Problem {
    /// What is stuck, since when, why.
    what: String,
    /// What to type.
    next: String,
}

fn problems(status: &Status) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut add = |what: String, next: String| problems.push(Problem { what, next });
    if let Health::Failed(why) = &status.health {
        add(
            format!("nothing is accepted or delivered any more: {why}"),
            "journalctl -u posthaste".to_owned(),
        );
    }
    if let Some(refusing) = &status.store.refusing {
        let free = bytes_text(status.store.free_bytes);
        let next = match &**refusing {
            "disk_full" => "df -h: free space on the disk of [store] path, or lower min_free",
            _ => {
                "wait for deliveries to make room, purge dead letters, or raise [store] max_size and restart"
            }
        };
        add(
            format!("new events are refused: {refusing}, {free} free; deliveries go on"),
            next.to_owned(),
        );
    }
    if status.store.quarantined > 0 {
        add(
            format!(
                "{} set aside as damaged",
                counted(status.store.quarantined, "record")
            ),
            "with the daemon stopped: posthaste store check, then: posthaste store repair".to_owned(),
        );
    }
    if status.ingest.spool_rejected > 0 {
        add(
            format!(
                "{} with refused lines in the spool",
                counted(status.ingest.spool_rejected, "file")
            ),
            "read the *.rejected files in [ingest] spool, send what can be mended, and remove them"
                .to_owned(),
        );
    }
    problems.extend(status.endpoints.iter().filter_map(|row| stuck(row, status.now)));
    problems.extend(
        status
            .endpoints
            .iter()
            .filter(|row| row.dead > 0 && row.state != EndpointState::Orphaned)
            .map(dead_letters),
    );
    problems.extend(status.alerts.iter().map(|alert| raised(alert, status.now)));
    problems.extend(status.traces.as_ref().and_then(untraced));
    problems
}

/// Traces that are lost; deliveries are not touched by it.
fn untraced(traces: &TraceNumbers) -> Option<Problem> {
    let why = traces.failing.as_ref()?;
    Some(Problem {
        what: format!(
            "traces are not taken: {why}; {} lost so far, deliveries go on",
            counted(traces.dropped, "span")
        ),
        next: "look at the receiver in [traces] endpoint; nothing else waits for it".to_owned(),
    })
}

fn raised(alert: &AlertView, now: Timestamp) -> Problem {
    let AlertView {
        endpoint,
        alert: name,
        value,
        limit,
        since,
    } = alert;
    Problem {
        what: format!(
            "{endpoint} is past {name} for {}: {value:.2}, limit {limit}",
            age(now, *since)
        ),
        next: format!("posthaste attempts --endpoint {endpoint} --outcome error"),
    }
}

fn dead_letters(row: &EndpointRow) -> Problem {
    Problem {
        what: format!(
            "{} has {}{}",
            row.name,
            counted(row.dead, "dead letter"),
            // An endpoint that is stuck has said so already.
            match &row.attempts.last_error {
                Some(error) if row.state == EndpointState::Ready => format!("; last error: {error}"),
                _ => String::new(),
            }
        ),
        next: format!("posthaste dead list --endpoint {}", row.name),
    }
}

/// What keeps an endpoint's deliveries from leaving, if anything does.
fn stuck(row: &EndpointRow, now: Timestamp) -> Option<Problem> {
    let name = &row.name;
    let retrying = row.deferred > 0 && row.attempts.last_error.is_some();
    if row.state == EndpointState::Ready && !retrying {
        return slow(row, now);
    }
    let next = match row.state {
        EndpointState::Ready => format!("posthaste endpoints flush {name}   # once it is mended"),
        EndpointState::Tripped | EndpointState::Probing | EndpointState::Suspended => {
            format!("posthaste endpoints flush {name}   # tries it now")
        }
        EndpointState::Paused => format!("posthaste endpoints resume {name}"),
        EndpointState::Disabled if row.pending == 0 => return None,
        EndpointState::Disabled => format!("set enabled = true for {name}, then: posthaste reload"),
        EndpointState::Orphaned if row.pending == 0 => {
            format!("posthaste dead export --endpoint {name}, then: posthaste dead purge --endpoint {name}")
        }
        EndpointState::Orphaned => {
            format!("posthaste endpoints move {name} --to OTHER, or: posthaste endpoints bury {name}")
        }
    };
    Some(Problem {
        what: stuck_text(row, now),
        next,
    })
}

/// An endpoint without failures that takes less than it gets.
fn slow(row: &EndpointRow, now: Timestamp) -> Option<Problem> {
    let oldest = row.oldest.filter(|oldest| now.since(*oldest) > STALE)?;
    // What waits for its time is not late.
    let waiting = row
        .pending
        .saturating_sub(row.deferred)
        .saturating_sub(u64::from(row.in_flight));
    (waiting > 0).then(|| Problem {
        what: format!(
            "{} takes less than it gets: {waiting} wait, the oldest for {}, {:.1}/s go out",
            row.name,
            age(now, oldest),
            row.attempts.rate_per_second
        ),
        next: format!(
            "posthaste endpoints show {}: raise concurrency or rate if it can take more",
            row.name
        ),
    })
}

fn stuck_text(row: &EndpointRow, now: Timestamp) -> String {
    let state = match row.state {
        EndpointState::Ready => "keeps failing",
        other => other.name(),
    };
    let since = match row.state {
        EndpointState::Ready => row.attempts.failing_since,
        _ => row.since,
    };
    let since = since.map_or(String::new(), |since| format!(" for {}", age(now, since)));
    let then = match row.state {
        EndpointState::Paused => "resumes",
        _ => "next",
    };
    let until = row
        .until
        .or(row.next_attempt.filter(|_| row.state == EndpointState::Ready))
        .map_or(String::new(), |until| format!(", {then} in {}", age(until, now)));
    let held = match (row.pending, row.dead) {
        (0, dead) if row.state == EndpointState::Orphaned => format!("{} left", counted(dead, "dead letter")),
        (pending, _) => format!("{pending} pending"),
    };
    let why = if row.why.is_empty() {
        row.attempts.last_error.as_deref().unwrap_or_default()
    } else {
        &row.why
    };
    format!("{} {state}{since}{until}, {held}: {why}", row.name)
}

/// One row for each endpoint.
#[must_use]
pub fn endpoint_table(rows: &[EndpointRow], now: Timestamp) -> String {
    let columns = [
        Column::Text("ENDPOINT"),
        Column::Text("STATE"),
        Column::Number("PENDING"),
        Column::Number("RETRY"),
        Column::Number("FLIGHT"),
        Column::Number("DEAD"),
        Column::Number("OLDEST"),
        Column::Number("NEXT"),
        Column::Number("LAST"),
        Column::Number("RATE/S"),
        Column::Number("P50"),
        Column::Number("P95"),
        Column::Number("P99"),
    ];
    print::table(&columns, rows.iter().map(|row| cells(row, now)))
}

/// When something is sent next: while an endpoint is left alone, nothing that is due goes out before the end of that.
fn next_try(row: &EndpointRow) -> Option<Timestamp> {
    match row.state {
        EndpointState::Tripped | EndpointState::Suspended => row.until,
        _ => row.next_attempt,
    }
}

fn cells(row: &EndpointRow, now: Timestamp) -> Vec<String> {
    let ms = |value: Option<u64>| value.map_or("-".to_owned(), |ms| format!("{ms}ms"));
    let attempts = &row.attempts;
    vec![
        row.name.clone(),
        row.state.name().to_owned(),
        row.pending.to_string(),
        row.deferred.to_string(),
        format!("{}/{}", row.in_flight, row.limit),
        row.dead.to_string(),
        age_or_dash(now, row.oldest),
        next_try(row).map_or("-".to_owned(), |next| age(next, now)),
        or_dash(attempts.last_status),
        format!("{:.1}", attempts.rate_per_second),
        ms(attempts.p50_ms),
        ms(attempts.p95_ms),
        ms(attempts.p99_ms),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// G2: how old what waits is, by endpoint and together; what is young alone is not worth a line.
    #[test]
    fn g2_the_histogram_tells_since_when_something_is_stuck() {
        let ages = |counts: [(u64, u64); 2]| {
            let mut ages = Ages::default();
            counts
                .iter()
                .for_each(|(minutes, count)| ages.add(Duration::from_secs(60 * minutes), *count));
            ages
        };
        let young = ("young", ages([(0, 7), (0, 1)]));
        let stuck = ("stuck", ages([(0, 2), (90, 3)]));
        let older = ("older", ages([(4, 1), (5000, 12)]));
        assert_eq!(age_table([young].into_iter()), None);
        let table = age_table([young, stuck, older].into_iter()).unwrap_or_default();
        let lines: Vec<Vec<&str>> = table
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        let expected = [
            "WAITING SINCE PENDING <1m <5m <1h <6h <1d OLDER",
            "all 26 10 1 - 3 - 12",
            "stuck 5 2 - - 3 - -",
            "older 13 - 1 - - - 12",
        ];
        assert_eq!(lines, expected.map(|line| line.split(' ').collect::<Vec<_>>()));
        let alone = age_table([stuck].into_iter()).unwrap_or_default();
        assert_eq!(alone.lines().count(), 2, "one needs no sum: {alone}");
    }
}
