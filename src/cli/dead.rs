//! `posthaste dead` (`dlq`): the dead letters. Listing and showing change nothing; a purge asks first.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::Value;

use super::client::{Client, Connect, encoded, with_query};
use super::failure::{Done, Failure};
use super::print::{self, Color, Column, Paint, ask, counted, or_dash};
use super::progress::Progress;
use super::{ids, input, kept};
use crate::control::types::{AttemptView, Change, ChangeReport, DeadLetterView, DeadSelect};

/// Arguments of `dead`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  posthaste dead list --endpoint crm-sync --since 2h
  posthaste dead replay --endpoint crm-sync --reason rejected --rate 20/s
  posthaste dead list --status 422 --json | posthaste dead purge - --yes")]
pub struct DeadArgs {
    #[command(flatten)]
    connect: Connect,
    #[command(subcommand)]
    verb: DeadVerb,
}

#[derive(Clone, Debug, Subcommand)]
enum DeadVerb {
    /// List dead letters
    #[command(after_help = "Examples:
  posthaste dead list --endpoint crm-sync --since 2h
  posthaste dead list --status 404 --json")]
    List {
        #[command(flatten)]
        filter: Filter,
        /// At most so many
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// Show dead letters whole: event, reason, last request and answer
    #[command(after_help = "Examples:
  posthaste dead list --endpoint crm-sync --limit 1 --json | posthaste dead show -")]
    Show {
        /// Their ids; `-` reads them from standard input
        #[arg(required = true)]
        ids: Vec<String>,
    },
    /// Deliver dead letters again, with their whole retry budget
    #[command(after_help = "Examples:
  posthaste dead replay --endpoint crm-sync --reason rejected --rate 20/s
  posthaste dead replay --endpoint old-crm --to crm-sync")]
    Replay {
        #[command(flatten)]
        which: Which,
        /// At most so many a second or minute: 50/s, 600/m
        #[arg(long)]
        rate: Option<String>,
        #[command(flatten)]
        anew: Anew,
    },
    /// Write dead letters as JSON lines, with event and evidence
    #[command(after_help = "Examples:
  posthaste dead export --endpoint crm-sync > letters.jsonl")]
    Export {
        #[command(flatten)]
        filter: Filter,
    },
    /// Remove dead letters for good
    #[command(after_help = "Examples:
  posthaste dead purge --reason rejected --dry-run
  posthaste dead list --status 422 --json | posthaste dead purge - --yes")]
    Purge {
        #[command(flatten)]
        which: Which,
        /// Don't ask
        #[arg(long)]
        yes: bool,
    },
}

/// How a replay differs from the first delivery. Each makes a new event of the dead letter, which then goes.
#[derive(Clone, Debug, Default, Args)]
struct Anew {
    /// Deliver to this endpoint instead
    #[arg(long, value_name = "ENDPOINT")]
    to: Option<String>,
    /// Deliver this payload instead, JSON from a file or from standard input (-); for one id
    #[arg(long, value_name = "FILE", conflicts_with = "edit")]
    data: Option<PathBuf>,
    /// Change the payload in $EDITOR first; for one id
    #[arg(long)]
    edit: bool,
}

impl Anew {
    /// The payload to send instead; `None`: what the dead letter has.
    async fn payload(&self, client: &Client, which: &Which) -> Result<Option<Value>, Failure> {
        match (&self.data, self.edit, &which.ids[..]) {
            (None, false, _) => Ok(None),
            (Some(file), _, _) => {
                if input::is_standard(file) && which.ids.iter().any(|id| id == "-") {
                    return Err(Failure::Usage(
                        "standard input holds ids or a payload, not both".to_owned(),
                    ));
                }
                payload_in(file).map(Some)
            }
            (None, true, [id]) if id != "-" => edited(client, id).await.map(Some),
            (None, true, _) => Err(Failure::Usage("--edit is for one id".to_owned())),
        }
    }
}

fn payload_in(file: &Path) -> Result<Value, Failure> {
    let wrong = |problem: String| Failure::Usage(format!("--data {}: {problem}", file.display()));
    let text = input::text(file).map_err(|error| wrong(error.to_string()))?;
    serde_json::from_str(&text).map_err(|error| wrong(format!("not JSON: {error}")))
}

/// The payload of a dead letter as a person has changed it.
async fn edited(client: &Client, id: &str) -> Result<Value, Failure> {
    let letter: DeadLetterView = client.get(&format!("/v1/dead/{}", encoded(id))).await?;
    let event: Value = letter
        .event
        .as_ref()
        .and_then(|event| serde_json::from_str(event.get()).ok())
        .ok_or_else(|| {
            Failure::Wrong(format!(
                "the event of {id} cannot be shown, so it cannot be edited"
            ))
        })?;
    let before = event.get("data").cloned().unwrap_or_default();
    let text = serde_json::to_string_pretty(&before).unwrap_or_default() + "\n";
    let after: Value = serde_json::from_str(&super::editor::edit("payload", &text)?).map_err(|error| {
        Failure::Usage(format!(
            "what was saved is not JSON, so nothing was replayed: {error}"
        ))
    })?;
    if after == before {
        return Err(Failure::Usage(
            "nothing was changed, so nothing was replayed; leave --edit out to replay it as it is".to_owned(),
        ));
    }
    Ok(after)
}

/// What dead letters are; every option narrows.
#[derive(Clone, Debug, Default, Args)]
struct Filter {
    /// Of this endpoint
    #[arg(long)]
    endpoint: Option<String>,
    /// Whose event has this type; * stands for one segment, ** for any number
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// Dead for this reason: rejected, not_retried, max_attempts, max_age, aborted, render, damaged, orphaned
    #[arg(long)]
    reason: Option<String>,
    /// Whose last answer had this status
    #[arg(long)]
    status: Option<u16>,
    /// Dead since: RFC 3339, or how long ago (2h)
    #[arg(long)]
    since: Option<String>,
    /// Dead before: RFC 3339, or how long ago
    #[arg(long)]
    until: Option<String>,
    /// All of them, when nothing else narrows
    #[arg(long)]
    all: bool,
}

impl Filter {
    fn select(&self) -> DeadSelect {
        DeadSelect {
            endpoint: self.endpoint.clone(),
            kind: self.kind.clone(),
            reason: self.reason.clone(),
            status: self.status,
            since: self.since.clone(),
            until: self.until.clone(),
        }
    }

    fn path(&self, with: Option<&str>) -> String {
        let status = self.status.map(|status| status.to_string());
        with_query(
            "/v1/dead",
            &[
                ("endpoint", self.endpoint.as_deref()),
                ("type", self.kind.as_deref()),
                ("reason", self.reason.as_deref()),
                ("status", status.as_deref()),
                ("since", self.since.as_deref()),
                ("until", self.until.as_deref()),
                ("with", with),
            ],
        )
    }
}

/// Which dead letters to change: ids or a filter, and never all of them by accident.
#[derive(Clone, Debug, Args)]
struct Which {
    /// Their ids; `-` reads them from standard input, one a line, or JSON lines as `dead list --json` writes them
    ids: Vec<String>,
    #[command(flatten)]
    filter: Filter,
    /// Count them, change nothing
    #[arg(long)]
    dry_run: bool,
}

impl Which {
    fn change(&self) -> Result<Change, Failure> {
        let select = self.filter.select();
        let (ids, filter) = match (self.ids.is_empty(), select.is_all(), self.filter.all) {
            (false, true, false) => (Some(read_ids(&self.ids)?), None),
            (true, false, false) | (true, true, true) => (None, Some(select)),
            (true, true, false) => {
                return Err(Failure::Usage(
                    "say which: ids, a filter such as --endpoint NAME, or --all".to_owned(),
                ));
            }
            _ => {
                return Err(Failure::Usage(
                    "ids, filters and --all don't go together; use one of them".to_owned(),
                ));
            }
        };
        Ok(Change {
            ids,
            filter,
            dry_run: self.dry_run,
            ..Change::default()
        })
    }
}

/// The ids given, and those on standard input for `-`.
fn read_ids(given: &[String]) -> Result<Vec<String>, Failure> {
    ids::read(given, std::io::stdin().lock(), &["id"])
}

/// Does what `dead` was asked for.
///
/// # Errors
/// When the daemon refuses or can't be reached, or an id names no dead letter.
pub async fn run(args: DeadArgs) -> Done {
    let client = args.connect.client()?;
    let json = args.connect.json;
    match args.verb {
        DeadVerb::List { filter, limit } => list(&client, &filter, limit, json).await,
        DeadVerb::Show { ids } => show(&client, &read_ids(&ids)?, json).await,
        DeadVerb::Replay { which, rate, anew } => {
            let data = anew.payload(&client, &which).await?;
            let change = Change {
                rate,
                endpoint: anew.to,
                data,
                ..which.change()?
            };
            let waiting = Progress::waiting("replaying");
            let report: ChangeReport = client.post("/v1/dead/replay", &change).await?;
            drop(waiting);
            tell(&report, "replayed", json)
        }
        DeadVerb::Export { filter } => {
            let path = filter.path(Some("event"));
            let progress = Progress::writing("dead letters", None);
            let write = |letter: DeadLetterView| {
                progress.step();
                print::json_line(&letter)
            };
            client.each(&path, usize::MAX, write).await
        }
        DeadVerb::Purge { which, yes } => purge(&client, &which, yes, json).await,
    }
}

async fn list(client: &Client, filter: &Filter, limit: usize, json: bool) -> Done {
    let path = filter.path(None);
    if json {
        return client
            .each::<DeadLetterView>(&path, limit, |letter| print::json_line(&letter))
            .await;
    }
    let mut rows = Vec::new();
    client
        .each::<DeadLetterView>(&path, limit, |letter| {
            rows.push(cells(&letter));
            Ok(())
        })
        .await?;
    if rows.is_empty() {
        return print::line("no dead letters");
    }
    let full = rows.len() == limit;
    print::line(&list_table(rows))?;
    print::line("\nposthaste dead show ID shows all of one; posthaste dead replay ID delivers it again")?;
    if full {
        print::line(&format!("only the first {limit} are shown; see --limit"))?;
    }
    Ok(())
}

fn list_table(rows: Vec<Vec<String>>) -> String {
    let columns = [
        Column::Text("ID"),
        Column::Text("SINCE"),
        Column::Text("REASON"),
        Column::Number("TRIES"),
        Column::Number("STATUS"),
        Column::Text("TYPE"),
        Column::Text("EVENT"),
        Column::Text("ERROR"),
    ];
    print::table(&columns, rows)
}

fn cells(letter: &DeadLetterView) -> Vec<String> {
    let last = letter.last.as_ref();
    vec![
        letter.id.clone(),
        letter.since.to_string(),
        letter.reason.name().to_owned(),
        letter.tries.to_string(),
        or_dash(last.and_then(|last| last.status)),
        letter.event_type.clone(),
        letter.event_id.clone(),
        last.map_or(String::new(), |last| first_line(&last.message)),
    ]
}

/// The first line of a message, at most 60 characters of it.
fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    if line.chars().count() <= 60 {
        return line.to_owned();
    }
    line.chars().take(59).chain(['…']).collect()
}

async fn show(client: &Client, ids: &[String], json: bool) -> Done {
    let paths = ids.iter().map(|id| format!("/v1/dead/{}", encoded(id)));
    let show = |letter: &DeadLetterView| match json {
        true => print::json_line(letter),
        false => print::line(&details(letter, Paint::for_stdout())),
    };
    ids::show_each(client, paths, show).await
}

fn details(letter: &DeadLetterView, paint: Paint) -> String {
    let mut lines = vec![
        format!("  endpoint  {}", letter.endpoint),
        format!("  reason    {}", letter.reason.name()),
        format!("  since     {}", letter.since),
        format!("  accepted  {}", letter.accepted),
        format!("  tries     {}", letter.tries),
        format!("  first try {}", or_dash(letter.first_attempt)),
        format!(
            "  event     {} {} from {}",
            letter.event_type, letter.event_id, letter.event_source
        ),
    ];
    if let Some(last) = &letter.last {
        lines.push(attempt_text(last));
    }
    match (&letter.event, &letter.event_problem) {
        (Some(event), _) => lines.push(format!("\n{}", event.get())),
        (None, Some(problem)) => lines.push(format!("\n  the event cannot be shown: {problem}")),
        (None, None) => {}
    }
    format!(
        "{}\n{}",
        paint.paint(&letter.id, Color::Yellow),
        print::printable(&lines.join("\n"))
    )
}

/// One attempt, request and answer, as `curl -v` marks them.
#[must_use]
pub fn attempt_text(attempt: &AttemptView) -> String {
    let mut lines = vec![
        String::new(),
        format!(
            "  try {} at {}, {} ms: {}{}",
            attempt.number,
            attempt.started,
            attempt.duration_ms,
            attempt.outcome,
            attempt
                .class
                .map_or(String::new(), |class| format!(" ({})", class.name()))
        ),
    ];
    lines.extend((!attempt.message.is_empty()).then(|| format!("  {}", attempt.message)));
    if let Some(hint) = &attempt.hint {
        lines.push(format!("  hint: {hint}"));
    }
    if !attempt.request_line.is_empty() {
        lines.push(format!("  > {}", attempt.request_line));
    }
    lines.extend(
        attempt
            .request_headers
            .iter()
            .map(|(name, value)| format!("  > {name}: {value}")),
    );
    if let Some(status) = attempt.status {
        lines.push(format!("  < {status}"));
    }
    lines.extend(
        attempt
            .response_headers
            .iter()
            .map(|(name, value)| format!("  < {name}: {value}")),
    );
    lines.extend(attempt.response_excerpt.lines().map(|line| format!("  < {line}")));
    lines.extend(kept::lines(attempt));
    lines.retain(|line| line.is_empty() || !line.trim().is_empty());
    lines.join("\n")
}

async fn purge(client: &Client, which: &Which, yes: bool, json: bool) -> Done {
    let change = which.change()?;
    if !change.dry_run && !yes {
        let count = Change {
            dry_run: true,
            ..change.clone()
        };
        let report: ChangeReport = client.post("/v1/dead/purge", &count).await?;
        let question = format!("Remove {} for good?", counted(report.changed, "dead letter"));
        if !ask(&question)? {
            return print::line("nothing was removed");
        }
    }
    let waiting = Progress::waiting("purging");
    let report: ChangeReport = client.post("/v1/dead/purge", &change).await?;
    drop(waiting);
    tell(&report, "purged", json)
}

/// Shows what was done.
fn tell(report: &ChangeReport, done: &str, json: bool) -> Done {
    if json {
        print::json_line(report)?;
    } else {
        print::line(&report_text(report, done))?;
    }
    complete(report)
}

/// Exit code 1 when something that was asked for was not done.
fn complete(report: &ChangeReport) -> Done {
    if !report.not_found.is_empty() {
        return Err(Failure::Wrong(format!(
            "no such dead letter (any more): {}",
            report.not_found.join(" ")
        )));
    }
    if !report.refused.is_empty() {
        return Err(Failure::Wrong(format!(
            "no new event could be made of {}",
            report.refused.join("; ")
        )));
    }
    if report.orphaned > 0 {
        return Err(Failure::Wrong(format!(
            "not replayed: {}, because their endpoint is not in the configuration any more; put it back and reload, \
             replay them --to another, or export and purge them",
            counted(report.orphaned, "dead letter")
        )));
    }
    Ok(())
}

fn report_text(report: &ChangeReport, done: &str) -> String {
    let would = if report.dry_run { "would be " } else { "" };
    let last = report
        .last_due
        .map_or(String::new(), |due| format!(", the last one due at {due}"));
    format!("{} {would}{done}{last}", counted(report.changed, "dead letter"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::Timestamp;

    /// G2: nothing is replayed or purged whole unless `--all` says so.
    #[test]
    fn g2_all_must_be_said() {
        let which = |ids: &[&str], endpoint: Option<&str>, all: bool| Which {
            ids: ids.iter().map(|id| (*id).to_owned()).collect(),
            filter: Filter {
                endpoint: endpoint.map(str::to_owned),
                all,
                ..Filter::default()
            },
            dry_run: false,
        };
        assert!(matches!(which(&[], None, false).change(), Err(Failure::Usage(_))));
        assert!(matches!(
            which(&["a:1"], Some("a"), false).change(),
            Err(Failure::Usage(_))
        ));
        assert!(matches!(
            which(&["a:1"], None, true).change(),
            Err(Failure::Usage(_))
        ));
        assert!(which(&[], None, true).change().unwrap().filter.unwrap().is_all());
        assert_eq!(
            which(&["a:1"], None, false).change().unwrap().ids.unwrap(),
            ["a:1"]
        );
        let narrowed = which(&[], Some("a"), false).change().unwrap().filter.unwrap();
        assert_eq!(narrowed.endpoint.as_deref(), Some("a"));
    }

    #[test]
    fn reports_say_what_was_done() {
        let report = ChangeReport {
            dry_run: true,
            matched: 2,
            changed: 2,
            last_due: Some(Timestamp(1000)),
            ..ChangeReport::default()
        };
        assert_eq!(
            report_text(&report, "replayed"),
            "2 dead letters would be replayed, the last one due at 1970-01-01T00:00:01.000Z"
        );
        assert!(complete(&report).is_ok());
        let orphaned = ChangeReport {
            orphaned: 1,
            ..ChangeReport::default()
        };
        assert!(matches!(complete(&orphaned), Err(Failure::Wrong(_))));
    }
}
