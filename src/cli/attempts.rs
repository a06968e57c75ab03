//! `posthaste attempts`: the log of attempts, as a table, as JSON lines, or as they come in.

use std::time::Duration;

use clap::Args;

use super::client::{Client, Connect, with_query};
use super::failure::Done;
use super::print::{self, Column, or_dash};
use crate::control::types::attempt::LoggedAttemptView;
use crate::control::types::{AttemptView, ExchangeView, Page};

/// How often `--follow` asks.
const FOLLOW_EVERY: Duration = Duration::from_secs(1);
/// Most attempts in a page.
const PAGE_MAX: usize = 500;

/// Arguments of `attempts`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  posthaste attempts --endpoint crm-sync --outcome error --since 2h
  posthaste attempts --event 01JHM2Y8Z3W6N5T4R7Q9P0K1VX --json
  posthaste attempts --follow")]
pub struct AttemptsArgs {
    #[command(flatten)]
    connect: Connect,
    #[command(flatten)]
    filter: Filter,
    /// At most so many, the newest
    #[arg(long, default_value_t = 100)]
    limit: usize,
    /// Show the newest, then every one that comes in, until interrupted
    #[arg(long)]
    follow: bool,
}

/// Which attempts; every option narrows.
#[derive(Clone, Debug, Default, Args)]
struct Filter {
    /// At this endpoint
    #[arg(long)]
    endpoint: Option<String>,
    /// At the event with this id
    #[arg(long, value_name = "ID")]
    event: Option<String>,
    /// That ended so: delivered, rejected, error, skipped
    #[arg(long)]
    outcome: Option<String>,
    /// That ended in an error of this class: dns, connect, tls, timeout, reset, http_5xx, ...
    #[arg(long)]
    class: Option<String>,
    /// Whose answer had this status
    #[arg(long)]
    status: Option<u16>,
    /// Begun since: RFC 3339, or how long ago (2h)
    #[arg(long)]
    since: Option<String>,
    /// Begun before: RFC 3339, or how long ago
    #[arg(long)]
    until: Option<String>,
}

impl Filter {
    fn path(&self) -> String {
        let status = self.status.map(|status| status.to_string());
        with_query(
            "/v1/attempts",
            &[
                ("endpoint", self.endpoint.as_deref()),
                ("event", self.event.as_deref()),
                ("outcome", self.outcome.as_deref()),
                ("class", self.class.as_deref()),
                ("status", status.as_deref()),
                ("since", self.since.as_deref()),
                ("until", self.until.as_deref()),
            ],
        )
    }
}

/// Does what `attempts` was asked for.
///
/// # Errors
/// When the daemon refuses or can't be reached.
pub async fn run(args: AttemptsArgs) -> Done {
    let client = args.connect.client()?;
    let path = args.filter.path();
    let json = args.connect.json;
    if args.follow {
        return follow(&client, &path, args.limit, json).await;
    }
    if json {
        return client
            .each::<LoggedAttemptView>(&path, args.limit, |attempt| print::json_line(&attempt))
            .await;
    }
    let mut found = Vec::new();
    client
        .each::<LoggedAttemptView>(&path, args.limit, |attempt| {
            found.push(attempt);
            Ok(())
        })
        .await?;
    if found.is_empty() {
        return print::line("no attempts");
    }
    print::line(&table(&found))?;
    print::line(
        "\nposthaste events show ID shows all tries of one event, with request and answer of those that failed",
    )?;
    if found.len() == args.limit {
        print::line(&format!("only the newest {} are shown; see --limit", args.limit))?;
    }
    Ok(())
}

/// Shows the newest `limit`, oldest first, then what comes in.
async fn follow(client: &Client, path: &str, limit: usize, json: bool) -> Done {
    let mut last = None;
    loop {
        let new = newer_than(client, path, last, limit).await?;
        if let Some(newest) = new.last() {
            last = Some(newest.id);
        }
        if json {
            new.iter().try_for_each(print::json_line)?;
        } else if !new.is_empty() {
            print::line(&table(&new))?;
        }
        tokio::time::sleep(FOLLOW_EVERY).await;
    }
}

/// What came in behind the attempt numbered `last`, oldest first; without one, the newest `limit`.
async fn newer_than(
    client: &Client,
    path: &str,
    last: Option<u64>,
    limit: usize,
) -> Result<Vec<LoggedAttemptView>, super::failure::Failure> {
    let mut found: Vec<LoggedAttemptView> = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let size = PAGE_MAX.min(limit).to_string();
        let page = [("limit", Some(size.as_str())), ("cursor", cursor.as_deref())];
        let page: Page<LoggedAttemptView> = client.get(&with_query(path, &page)).await?;
        let known = |attempt: &LoggedAttemptView| last.is_some_and(|last| attempt.id <= last);
        let more = page.next.is_some() && !page.items.iter().any(known);
        found.extend(page.items.into_iter().filter(|attempt| !known(attempt)));
        cursor = page.next;
        if !more || (last.is_none() && found.len() >= limit) {
            break;
        }
    }
    if last.is_none() {
        found.truncate(limit);
    }
    found.reverse();
    Ok(found)
}

fn table(attempts: &[LoggedAttemptView]) -> String {
    let mut columns = vec![
        Column::Text("WHEN"),
        Column::Text("ENDPOINT"),
        Column::Text("EVENT"),
        Column::Text("TYPE"),
    ];
    columns.extend(COLUMNS);
    let rows = attempts.iter().map(|logged| {
        let mut row = vec![
            logged.attempt.started.to_string(),
            logged.endpoint.clone(),
            logged.event_id.clone(),
            logged.event_type.clone(),
        ];
        row.extend(cells(&logged.attempt));
        row
    });
    print::table(&columns, rows)
}

/// The columns that tell how a try went.
pub const COLUMNS: [Column; 9] = [
    Column::Number("TRY"),
    Column::Text("OUTCOME"),
    Column::Number("STATUS"),
    Column::Number("TOOK"),
    Column::Number("CONNECT"),
    Column::Number("TLS"),
    Column::Number("FIRST BYTE"),
    Column::Number("BODY"),
    Column::Text("ERROR"),
];

/// The cells of [`COLUMNS`].
#[must_use]
pub fn cells(attempt: &AttemptView) -> Vec<String> {
    let exchange = attempt.exchange.unwrap_or_default();
    let connect = match (exchange.dns_us, exchange.connect_us) {
        _ if exchange.reused => "reused".to_owned(),
        (None, None) => "-".to_owned(),
        (dns, connect) => ms_text(dns.unwrap_or(0) + connect.unwrap_or(0)),
    };
    let phase = |us: Option<u64>| us.map_or("-".to_owned(), ms_text);
    let took = attempt
        .exchange
        .map_or(format!("{}ms", attempt.duration_ms), |exchange| {
            ms_text(exchange.total_us)
        });
    vec![
        attempt.number.to_string(),
        attempt
            .class
            .map_or_else(|| attempt.outcome.clone(), |class| class.name().to_owned()),
        or_dash(attempt.status),
        took,
        connect,
        phase(exchange.tls_us),
        phase(exchange.first_byte_us),
        phase(exchange.body_us),
        attempt.message.lines().next().unwrap_or_default().to_owned(),
    ]
}

/// What the parts of one request took, those that happened.
#[must_use]
pub fn phases_text(exchange: &ExchangeView) -> String {
    let parts = [
        ("looking up", exchange.dns_us),
        ("connecting", exchange.connect_us),
        ("TLS", exchange.tls_us),
        ("first byte", exchange.first_byte_us),
        ("body", exchange.body_us),
    ];
    let parts = parts
        .iter()
        .filter_map(|(part, us)| Some(format!("{part} {}", ms_text((*us)?))));
    parts.collect::<Vec<_>>().join(", ")
}

/// Microseconds for people.
fn ms_text(us: u64) -> String {
    format!("{:.1}ms", us as f64 / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::outcome::{Attempt, ErrorClass, Outcome};
    use crate::domain::time::Timestamp;

    fn view(outcome: Outcome, exchange: Option<ExchangeView>) -> AttemptView {
        let attempt = Attempt {
            duration_ms: 31,
            status: Some(200),
            message: "first\nsecond".into(),
            ..Attempt::new(2, Timestamp(0), outcome)
        };
        AttemptView {
            exchange,
            ..AttemptView::from(&attempt)
        }
    }

    /// H1: connecting, or that there was no need to, and the kind of an error, stand in the table.
    #[test]
    fn h1_a_try_reads_well_in_a_row() {
        let reused = ExchangeView {
            total_us: 31_240,
            reused: true,
            first_byte_us: Some(31_000),
            body_us: Some(60),
            ..ExchangeView::default()
        };
        let connected = ExchangeView {
            reused: false,
            dns_us: Some(500),
            connect_us: Some(1_600),
            tls_us: Some(4_200),
            ..reused
        };
        let timeout = Outcome::Error(ErrorClass::Timeout);
        for (view, wanted) in [
            (
                view(Outcome::Delivered, Some(reused)),
                "2 delivered 200 31.2ms reused - 31.0ms 0.1ms first",
            ),
            (
                view(timeout, Some(connected)),
                "2 timeout 200 31.2ms 2.1ms 4.2ms 31.0ms 0.1ms first",
            ),
            (view(timeout, None), "2 timeout 200 31ms - - - - first"),
        ] {
            assert_eq!(cells(&view).join(" "), wanted);
        }
    }
}
