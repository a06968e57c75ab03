//! `posthaste send`: one event from the command line, or NDJSON from a file or a pipe, to the ingest socket, or into
//! the spool while the daemon is down. A producer like any other: it refuses to know what the daemon does with an event.

mod reach;
mod spool;

use std::borrow::Cow;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use self::reach::{Unreached, connect, ingest};
use self::spool::{Left, Spooler};
use crate::config::IngestConfig;
use crate::control::types::IngestAnswer;
use crate::ingest::lines::Limits;

/// Input at least this long gets a progress bar.
const LONG_INPUT_BYTES: u64 = 1 << 20;
/// Bytes written to the socket at once.
const WRITE_BYTES: usize = 64 << 10;
/// Something was refused (protocol §3).
const EXIT_REFUSED: u8 = 1;
/// The command line does not make sense (protocol §3).
const EXIT_USAGE: u8 = 2;
/// The daemon can't be reached, or went away before it had answered (protocol §3).
const EXIT_UNREACHABLE: u8 = 3;

/// Send one event, or a stream of them.
///
/// An event is on disk when this command says "accepted". While the daemon is down, events are left in the spool
/// (`[ingest] spool`), from where it takes them once it is up: they are on disk when this command says "spooled". Exit
/// code 1: something was refused; 3: the daemon can't be reached and there is no spool, or it was lost before it had
/// answered.
#[derive(Args, Clone, Debug, Default)]
#[command(after_help = "Examples:
  posthaste send contact.created --data '{\"email\":\"a@example.com\"}'
  posthaste send report.ready --data @report.json --delay 5m --endpoint crm-sync
  journalctl -o json -f | jq -c '{type:\"log.line\",data:.}' | posthaste send --ndjson")]
pub struct SendArgs {
    /// What happened, such as contact.created
    #[arg(
        value_name = "TYPE",
        required_unless_present = "ndjson",
        conflicts_with = "ndjson"
    )]
    pub kind: Option<String>,
    /// The payload: JSON, @FILE to read it from a file, or - to read it from stdin
    #[arg(
        long,
        value_name = "JSON|@FILE|-",
        conflicts_with = "ndjson",
        allow_hyphen_values = true
    )]
    pub data: Option<String>,
    /// The event's id; an id sent before is answered "duplicate" [default: a new one]
    #[arg(long, conflicts_with = "ndjson")]
    pub id: Option<String>,
    /// Where it happened [default: /local/USER]
    #[arg(long, conflicts_with = "ndjson")]
    pub source: Option<String>,
    /// What it happened to
    #[arg(long, conflicts_with = "ndjson")]
    pub subject: Option<String>,
    /// Deliver to this endpoint alone
    #[arg(long, value_name = "NAME", conflicts_with = "ndjson")]
    pub endpoint: Option<String>,
    /// Deliver this much later: 500ms, 5m, 1h30m
    #[arg(long, value_name = "DURATION", conflicts_with_all = ["ndjson", "deliver_at"])]
    pub delay: Option<String>,
    /// Deliver not before this time: 2026-01-15T10:30:00Z
    #[arg(long, value_name = "TIME", conflicts_with = "ndjson")]
    pub deliver_at: Option<String>,
    /// Don't deliver after this time
    #[arg(long, value_name = "TIME", conflicts_with = "ndjson")]
    pub expires: Option<String>,
    /// Ordering key
    #[arg(long, conflicts_with = "ndjson")]
    pub key: Option<String>,
    /// The tenant it belongs to
    #[arg(long, conflicts_with = "ndjson")]
    pub tenant: Option<String>,
    /// An extension attribute; may be repeated
    #[arg(
        short = 'e',
        long = "extension",
        value_name = "NAME=VALUE",
        conflicts_with = "ndjson"
    )]
    pub extensions: Vec<String>,
    /// Send every line of FILE, or of stdin, as it is: an event or an array of events each
    #[arg(long, value_name = "FILE|-", num_args = 0..=1, default_missing_value = "-")]
    pub ndjson: Option<PathBuf>,
    /// Print the daemon's answers as they are
    #[arg(long)]
    pub json: bool,
    /// The ingest socket
    #[arg(long, value_name = "PATH", env = "POSTHASTE_INGEST")]
    pub socket: Option<PathBuf>,
    /// The folder to leave events in while the daemon is down; "" for none [default: what the config file says, unless
    /// a socket is named]
    #[arg(long, value_name = "FOLDER", env = "POSTHASTE_SPOOL")]
    pub spool: Option<OsString>,
    /// Take socket and spool from this config file [default: /etc/posthaste/config.toml if it can be read]
    #[arg(long, value_name = "FILE", env = "POSTHASTE_CONFIG")]
    pub config: Option<PathBuf>,
}

/// Why nothing was sent, or not all of it: what to say, and the exit code.
struct Failure {
    message: String,
    exit: u8,
}

impl Failure {
    fn usage(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            exit: EXIT_USAGE,
        }
    }
}

/// Sends what `args` ask for, and says on stdout and stderr what became of it. Returns the exit code.
#[must_use]
pub fn run(args: &SendArgs) -> ExitCode {
    let sent = match &args.ndjson {
        Some(input) => stream(args, input),
        None => one(args),
    };
    match sent {
        Ok(tally) if tally.rejected == 0 => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(EXIT_REFUSED),
        Err(failure) => {
            eprintln!("posthaste send: {}", failure.message);
            ExitCode::from(failure.exit)
        }
    }
}

fn one(args: &SendArgs) -> Result<Tally, Failure> {
    let line = event_line(args)?;
    let ingest = ingest(args)?;
    let socket = match connect(&ingest) {
        Err(Unreached::Down(failure)) => return leave(&ingest, failure, line.as_bytes(), args.json, None),
        connected => connected?,
    };
    let (tally, _) = exchange(&socket, line.as_bytes(), &Printer::new(args.json, true, None))?;
    Ok(tally)
}

fn stream(args: &SendArgs, input: &Path) -> Result<Tally, Failure> {
    let (reader, bytes) = open(input)?;
    let ingest = ingest(args)?;
    let connected = connect(&ingest);
    let bar = progress(bytes);
    let reader = bar.wrap_read(reader);
    let socket = match connected {
        Err(Unreached::Down(failure)) => return leave(&ingest, failure, reader, args.json, Some(bar)),
        connected => connected?,
    };
    let printer = Printer::new(args.json, false, Some(bar.clone()));
    let exchanged = exchange(&socket, reader, &printer);
    bar.finish_and_clear();
    let (tally, lines) = exchanged?;
    eprintln!("{}", tally.summary(lines));
    Ok(tally)
}

/// Writes `input` in one thread and reads the answers in this one, until both sides are done. No line is
/// kept: the daemon reads on only when its answers have been read, so the socket itself bounds what is
/// under way. Returns the tally and the number of lines sent.
fn exchange(
    socket: &UnixStream,
    input: impl Read + Send,
    printer: &Printer,
) -> Result<(Tally, u64), Failure> {
    let sent = AtomicU64::new(0);
    let (tally, written) = thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let written = write_lines(socket, input, &sent);
            // Tells the daemon that this was all; it answers what it has and closes.
            let _ = socket.shutdown(Shutdown::Write);
            written
        });
        let tally = read_answers(socket, printer);
        (tally, writer.join())
    });
    let lines = sent.load(Ordering::Relaxed);
    let unanswered = lines.saturating_sub(tally.answers);
    if unanswered > 0 {
        return Err(Failure {
            message: format!(
                "the daemon closed the connection before it had answered {unanswered} of {lines} lines; whether \
                 these are kept is not known. Send them again: those with an id are not taken twice"
            ),
            exit: EXIT_UNREACHABLE,
        });
    }
    match written {
        Ok(Ok(())) => Ok((tally, lines)),
        Ok(Err(error)) => Err(Failure {
            message: format!("the input could not be read on: {error}"),
            exit: EXIT_REFUSED,
        }),
        Err(_) => Err(Failure {
            message: "the writing thread broke off".to_owned(),
            exit: EXIT_REFUSED,
        }),
    }
}

/// Copies `input` to the socket and counts its lines that are not blank. Errors are the input's; that the
/// socket broke shows in the answers that are missing.
fn write_lines(mut socket: &UnixStream, input: impl Read, sent: &AtomicU64) -> io::Result<()> {
    let mut input = BufReader::with_capacity(WRITE_BYTES, input);
    let mut blank_so_far = true;
    loop {
        let bytes = match input.fill_buf() {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if bytes.is_empty() {
            sent.fetch_add(u64::from(!blank_so_far), Ordering::Relaxed);
            return Ok(());
        }
        let mut lines = 0;
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            blank_so_far &= piece.iter().all(u8::is_ascii_whitespace);
            if piece.ends_with(b"\n") {
                lines += u64::from(!blank_so_far);
                blank_so_far = true;
            }
        }
        let length = bytes.len();
        let written = socket.write_all(bytes);
        sent.fetch_add(lines, Ordering::Relaxed);
        if written.is_err() {
            return Ok(());
        }
        input.consume(length);
    }
}

fn read_answers(socket: &UnixStream, printer: &Printer) -> Tally {
    let mut tally = Tally::default();
    let mut line = String::new();
    let mut answers = BufReader::new(socket);
    loop {
        line.clear();
        // A connection that broke has no more answers, like one that was closed.
        if !matches!(answers.read_line(&mut line), Ok(1..)) {
            return tally;
        }
        let answer: Answer<'_> = serde_json::from_str(&line).unwrap_or_default();
        tally.count(&answer);
        printer.print(&answer, &line);
    }
}

/// An answer of the daemon (protocol §1).
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Answer<'a> {
    #[serde(borrow)]
    status: Cow<'a, str>,
    id: Option<Cow<'a, str>>,
    ids: Option<Vec<Cow<'a, str>>>,
    deliveries: u64,
    duplicates: u64,
    code: Option<Cow<'a, str>>,
    message: Option<Cow<'a, str>>,
    line: Option<u64>,
}

/// A line of `send --json`: what became of a line that was sent. Those of the daemon are handed on as they are.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub(super) struct AnswerLine {
    /// As the daemon says it; `status` is `spooled` for what was left in the spool, with its `ids`.
    #[serde(flatten)]
    answer: IngestAnswer,
    /// When the line was a control line: what is answered from there on, `each` `none` `errors`.
    #[serde(skip_serializing_if = "Option::is_none")]
    ack: Option<String>,
}

/// What the answers add up to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    answers: u64,
    accepted: u64,
    duplicates: u64,
    deliveries: u64,
    rejected: u64,
}

impl Tally {
    fn count(&mut self, answer: &Answer<'_>) {
        let events = match (&answer.ids, &answer.id) {
            (Some(ids), _) => ids.len() as u64,
            (None, Some(_)) => 1,
            (None, None) => 0,
        };
        self.answers += 1;
        self.deliveries += answer.deliveries;
        match &*answer.status {
            "accepted" => {
                self.accepted += events.saturating_sub(answer.duplicates);
                self.duplicates += answer.duplicates;
            }
            "duplicate" => self.duplicates += events,
            _ => self.rejected += 1,
        }
    }

    fn summary(&self, lines: u64) -> String {
        let Self {
            accepted,
            duplicates,
            deliveries,
            rejected,
            ..
        } = self;
        format!(
            "{lines} lines: {accepted} events accepted ({deliveries} deliveries), {duplicates} duplicates, \
             {rejected} lines rejected"
        )
    }
}

/// Says what became of each line: in the daemon's words, or in a person's.
struct Printer {
    json: bool,
    /// One event was asked for, so its acceptance is worth a line.
    is_single: bool,
    bar: Option<ProgressBar>,
}

impl Printer {
    fn new(json: bool, is_single: bool, bar: Option<ProgressBar>) -> Self {
        Self { json, is_single, bar }
    }

    fn print(&self, answer: &Answer<'_>, line: &str) {
        let write = || {
            // Whoever closed stdout does not want to hear more; the events are sent all the same.
            if self.json {
                let _ = io::stdout().write_all(line.as_bytes());
            } else if answer.status == "rejected" {
                eprintln!("{}", self.rejected(answer));
            } else if self.is_single {
                let _ = writeln!(io::stdout(), "{}", taken(answer));
            }
        };
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    /// Says what became of a line that went into the spool.
    fn print_left(&self, line: u64, left: &Left) {
        let (answer, text) = match left {
            Left::Ids(ids) => {
                let ids: Vec<&str> = ids.iter().map(|id| &**id).collect();
                let text = self.is_single.then(|| {
                    format!(
                        "spooled {}: the daemon is down; it takes this once it is up",
                        ids.join(" ")
                    )
                });
                let ids = ids.iter().map(ToString::to_string).collect();
                let answer = IngestAnswer {
                    status: "spooled".to_owned(),
                    ids: Some(ids),
                    ..IngestAnswer::default()
                };
                (answer, text)
            }
            Left::Refused(refused) => {
                let code = refused.code.name();
                let answer = Answer {
                    status: "rejected".into(),
                    code: Some(code.into()),
                    message: Some((&*refused.message).into()),
                    line: Some(line),
                    ..Answer::default()
                };
                if !self.json {
                    return self.print(&answer, "");
                }
                let answer = IngestAnswer {
                    status: "rejected".to_owned(),
                    code: Some(code.to_owned()),
                    message: Some(refused.message.clone()),
                    id: refused.id.as_deref().map(str::to_owned),
                    line: Some(line),
                    ..IngestAnswer::default()
                };
                (answer, None)
            }
        };
        let line = AnswerLine { answer, ack: None };
        let shown = if self.json {
            serde_json::to_string(&line).ok()
        } else {
            text
        };
        if let Some(shown) = shown {
            // Whoever closed stdout does not want to hear more; the events are kept all the same.
            let _ = writeln!(io::stdout(), "{shown}");
        }
    }

    fn rejected(&self, answer: &Answer<'_>) -> String {
        let code = answer.code.as_deref().unwrap_or("rejected");
        let message = answer.message.as_deref().unwrap_or("no reason given");
        match answer.line {
            Some(number) if !self.is_single => format!("line {number}: {code}: {message}"),
            _ => format!("rejected: {code}: {message}"),
        }
    }
}

fn taken(answer: &Answer<'_>) -> String {
    let id = answer.id.as_deref().unwrap_or("?");
    match (&*answer.status, answer.deliveries) {
        ("duplicate", _) => format!("duplicate {id}: it was accepted before"),
        (_, 0) => format!("accepted {id}: no endpoint asks for it, so it is not kept"),
        (_, 1) => format!("accepted {id}: 1 delivery"),
        (_, n) => format!("accepted {id}: {n} deliveries"),
    }
}

/// The event that the arguments describe, as one line.
fn event_line(args: &SendArgs) -> Result<String, Failure> {
    let text = |value: &str| serde_json::Value::from(value).to_string();
    let mut members: Vec<(&str, String)> = [
        ("type", &args.kind),
        ("id", &args.id),
        ("source", &args.source),
        ("subject", &args.subject),
        ("endpoint", &args.endpoint),
        ("delay", &args.delay),
        ("deliverat", &args.deliver_at),
        ("expirytime", &args.expires),
        ("partitionkey", &args.key),
        ("tenant", &args.tenant),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, text(value.as_deref()?))))
    .collect();
    for extension in &args.extensions {
        let (name, value) = extension
            .split_once('=')
            .ok_or_else(|| Failure::usage(format!("-e {extension}: write it as NAME=VALUE")))?;
        members.push((name, text(value)));
    }
    if let Some(data) = &args.data {
        members.push(("data", payload(data)?));
    }
    let members: Vec<String> = members
        .into_iter()
        .map(|(name, value)| format!("{}:{value}", text(name)))
        .collect();
    Ok(format!("{{{}}}\n", members.join(",")))
}

/// The payload as JSON on one line.
fn payload(data: &str) -> Result<String, Failure> {
    let text = match (data, data.strip_prefix('@')) {
        ("-", _) => io::read_to_string(io::stdin()).map_err(|error| ("stdin", error)),
        (_, Some(path)) => std::fs::read_to_string(path).map_err(|error| (path, error)),
        _ => Ok(data.to_owned()),
    };
    let text = text.map_err(|(from, error)| Failure::usage(format!("--data: {from}: {error}")))?;
    let json = RawValue::from_string(text.trim().to_owned()).map_err(|error| {
        Failure::usage(format!(
            "--data is not JSON: {error}; a text needs its own quotes: --data '\"hello\"'"
        ))
    })?;
    // In JSON a line end is always white space between two tokens.
    Ok(json.get().replace(['\n', '\r'], " "))
}

/// The input and, if it can be known, its length in bytes.
fn open(input: &Path) -> Result<(Box<dyn Read + Send>, Option<u64>), Failure> {
    if super::input::is_standard(input) {
        return Ok((Box::new(io::stdin()), None));
    }
    let failed = |error: io::Error| Failure::usage(format!("{}: {error}", input.display()));
    let file = File::open(input).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    let bytes = metadata.is_file().then_some(metadata.len());
    Ok((Box::new(file), bytes))
}

/// A bar on stderr when a person is watching and the input is long; else one that shows nothing.
fn progress(bytes: Option<u64>) -> ProgressBar {
    let long = bytes.map_or_else(|| !io::stdin().is_terminal(), |bytes| bytes >= LONG_INPUT_BYTES);
    if !long || !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let template = match bytes {
        Some(_) => "{bar:40} {bytes}/{total_bytes} {binary_bytes_per_sec} {eta}",
        None => "{spinner} {bytes} {binary_bytes_per_sec}",
    };
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::with_draw_target(bytes, ProgressDrawTarget::stderr()).with_style(style)
}

/// Leaves everything in the spool, if there is one; else `unreached` is what went wrong.
fn leave(
    ingest: &IngestConfig,
    unreached: Failure,
    input: impl Read,
    json: bool,
    bar: Option<ProgressBar>,
) -> Result<Tally, Failure> {
    let Some(folder) = ingest.spool.as_deref().filter(|folder| folder.is_dir()) else {
        return Err(unreached);
    };
    let limits = Limits {
        event_bytes_max: ingest.event_bytes_max,
        batch_bytes_max: ingest.batch_bytes_max,
    };
    let printer = Printer::new(json, bar.is_none(), bar);
    let mut spooler = Spooler::new(folder, limits);
    let lines = spooler.leave(input, |line, left| printer.print_left(line, left));
    let lines = lines.map_err(|error| Failure {
        message: format!(
            "{}; the spool {} did not take the events either: {error}",
            unreached.message,
            folder.display()
        ),
        exit: EXIT_UNREACHABLE,
    })?;
    let Spooler {
        spooled, rejected, ..
    } = spooler;
    if let Some(bar) = &printer.bar {
        bar.finish_and_clear();
        eprintln!(
            "{lines} lines: {spooled} events left in {}, {rejected} lines rejected; the daemon takes them once it is up",
            folder.display()
        );
    }
    Ok(Tally {
        rejected,
        ..Tally::default()
    })
}

#[cfg(test)]
mod tests;
