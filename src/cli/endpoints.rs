//! `posthaste endpoints`: list and show them, define them ([`define`]), hold them, let them go, try them now, and deal
//! with what removed ones are owed.

mod define;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::attempts::phases_text;
use super::client::{Client, Connect, encoded, with_query};
use super::explain::{message_text, read_event, request_text};
use super::failure::{Done, Failure};
use super::kept;
use super::print;
use super::status::endpoint_table;
use crate::control::types::{
    BuryRequest, EndpointRow, EndpointState, EndpointView, MoveRequest, Moved, PauseRequest, Status,
    TestRequest, TestView,
};

/// Arguments of `endpoints`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  posthaste endpoints list
  posthaste endpoints pause crm-sync --for 2h --reason \"their maintenance\"
  posthaste endpoints move old-crm --to crm-sync")]
pub struct EndpointsArgs {
    #[command(flatten)]
    connect: Connect,
    #[command(subcommand)]
    verb: EndpointsVerb,
}

#[derive(Clone, Debug, Subcommand)]
enum EndpointsVerb {
    /// List them with what they are doing
    #[command(after_help = "Examples:
  posthaste endpoints list
  posthaste endpoints list --state paused
  posthaste endpoints list --type contact.created --json")]
    List(Filter),
    /// Show one: what it is doing and how it is configured, secrets masked
    #[command(after_help = "Examples:
  posthaste endpoints show crm-sync")]
    Show {
        /// Its name
        name: String,
    },
    /// Make no requests to it; events for it are parked
    #[command(after_help = "Examples:
  posthaste endpoints pause crm-sync --for 2h --reason \"their maintenance\"")]
    Pause {
        /// Its name
        name: String,
        /// Why, for whoever finds it paused
        #[arg(long)]
        reason: Option<String>,
        /// Resume by itself after so long: 30m, 2h
        #[arg(long = "for", value_name = "DURATION")]
        pause_for: Option<String>,
    },
    /// End its pause
    #[command(after_help = "Examples:
  posthaste endpoints resume crm-sync")]
    Resume {
        /// Its name
        name: String,
    },
    /// Try it now: retries are due at once, a suspension or an open breaker ends; delayed events go on waiting
    #[command(after_help = "Examples:
  posthaste endpoints flush crm-sync")]
    Flush {
        /// Its name
        name: String,
    },
    /// Define it over the API, which keeps it: all its keys, as JSON or TOML
    #[command(after_help = "Examples:
  posthaste endpoints put billing billing.toml")]
    Put {
        /// Its name
        name: String,
        /// The keys of an `[[endpoint]]`; `-`: from standard input
        #[arg(default_value = "-")]
        file: PathBuf,
    },
    /// Remove one that was defined over the API
    #[command(after_help = "Examples:
  posthaste endpoints delete old-billing --yes")]
    Delete {
        /// Its name
        name: String,
        /// Don't ask
        #[arg(long)]
        yes: bool,
    },
    /// Send to it again; for one that was defined over the API
    #[command(after_help = "Examples:
  posthaste endpoints enable billing")]
    Enable {
        /// Its name
        name: String,
    },
    /// Send nothing to it; events for it are parked. For one that was defined over the API
    #[command(after_help = "Examples:
  posthaste endpoints disable billing")]
    Disable {
        /// Its name
        name: String,
    },
    /// Send it one request with a marked event at once and show what comes back; nothing is stored or counted
    #[command(after_help = "Examples:
  posthaste endpoints test billing
  posthaste endpoints test billing --event event.json")]
    Test {
        /// Its name
        name: String,
        /// A file with the event to send in place of a ping, or - for stdin
        #[arg(long, value_name = "FILE")]
        event: Option<std::path::PathBuf>,
    },
    /// Hand what a removed endpoint is owed to another one
    #[command(after_help = "Examples:
  posthaste endpoints move old-crm --to crm-sync")]
    Move {
        /// The removed endpoint
        name: String,
        /// The endpoint that takes over
        #[arg(long)]
        to: String,
    },
    /// Make dead letters of what a removed endpoint is owed
    #[command(after_help = "Examples:
  posthaste endpoints bury old-erp --reason \"shut down\"")]
    Bury {
        /// The removed endpoint
        name: String,
        /// Why, for the audit log
        #[arg(long)]
        reason: Option<String>,
    },
}

/// Which endpoints; every option narrows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
struct Filter {
    /// In this state: ready, suspended, tripped, probing, paused, disabled, orphaned
    #[arg(long)]
    state: Option<String>,
    /// Of this tenant; "": of none
    #[arg(long)]
    tenant: Option<String>,
    /// That take events of this type
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
}

impl Filter {
    fn path(&self) -> String {
        let pairs = [
            ("state", self.state.as_deref()),
            ("tenant", self.tenant.as_deref()),
            ("type", self.kind.as_deref()),
        ];
        with_query("/v1/endpoints", &pairs)
    }
}

/// Does what `endpoints` was asked for.
///
/// # Errors
/// When the daemon refuses or can't be reached.
pub async fn run(args: EndpointsArgs) -> Done {
    let client = args.connect.client()?;
    let json = args.connect.json;
    match args.verb {
        EndpointsVerb::List(filter) => list(&client, &filter, json).await,
        EndpointsVerb::Show { name } => show(&client, &name, json).await,
        EndpointsVerb::Pause {
            name,
            reason,
            pause_for,
        } => {
            let request = PauseRequest { reason, pause_for };
            let row = client.post(&path(&name, "/pause"), &request).await?;
            tell_row(&row, json)
        }
        EndpointsVerb::Resume { name } => {
            let nothing = serde_json::json!({});
            let row = client.post(&path(&name, "/resume"), &nothing).await?;
            tell_row(&row, json)
        }
        EndpointsVerb::Flush { name } => {
            let nothing = serde_json::json!({});
            let moved = client.post(&path(&name, "/flush"), &nothing).await?;
            tell_moved(moved, "due now", json)
        }
        EndpointsVerb::Put { name, file } => define::put(&client, &name, &file, json).await,
        EndpointsVerb::Delete { name, yes } => define::delete(&client, &name, yes, json).await,
        EndpointsVerb::Enable { name } => define::enable(&client, &name, true, json).await,
        EndpointsVerb::Disable { name } => define::enable(&client, &name, false, json).await,
        EndpointsVerb::Test { name, event } => {
            let event = event.as_deref().map(read_event).transpose()?;
            let view = client.post(&path(&name, "/test"), &TestRequest { event }).await?;
            tell_test(&view, json)
        }
        EndpointsVerb::Move { name, to } => {
            let done = format!("moved from {name} to {to}");
            let moved = client.post(&path(&name, "/move"), &MoveRequest { to }).await?;
            tell_moved(moved, &done, json)
        }
        EndpointsVerb::Bury { name, reason } => {
            let moved = client
                .post(&path(&name, "/bury"), &BuryRequest { reason })
                .await?;
            tell_moved(moved, "among the dead letters now", json)
        }
    }
}

fn path(name: &str, verb: &str) -> String {
    format!("/v1/endpoints/{}{verb}", encoded(name))
}

async fn list(client: &Client, filter: &Filter, json: bool) -> Done {
    let mut found = Vec::new();
    let show = |view: EndpointView| {
        if json {
            return print::json_line(&view);
        }
        found.push(view.status);
        Ok(())
    };
    client.each(&filter.path(), usize::MAX, show).await?;
    if json {
        return Ok(());
    }
    if !found.is_empty() {
        let status: Status = client.get("/v1/status").await?;
        return print::line(&endpoint_table(&found, status.now));
    }
    print::line(match *filter == Filter::default() {
        true => "no endpoints are configured",
        false => "there are none like this",
    })
}

async fn show(client: &Client, name: &str, json: bool) -> Done {
    let view: EndpointView = client.get(&path(name, "")).await?;
    if json {
        return print::json_line(&view);
    }
    let value = serde_json::to_value(&view).unwrap_or_default();
    let mut lines = vec![name.to_owned()];
    for part in ["status", "config"] {
        if let Some(fields) = value.get(part).and_then(serde_json::Value::as_object) {
            lines.push(String::new());
            lines.extend(fields.iter().flat_map(|(key, value)| field_lines(key, value)));
        }
    }
    print::line(&print::printable(&lines.join("\n")))
}

/// A field and its value on a line of its own; the fields of an object under their dotted names.
fn field_lines(key: &str, value: &serde_json::Value) -> Vec<String> {
    use serde_json::Value;
    let text = match value {
        Value::Object(fields) => {
            return fields
                .iter()
                .flat_map(|(inner, value)| field_lines(&format!("{key}.{inner}"), value))
                .collect();
        }
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    };
    vec![format!("  {key:<34} {text}")]
}

fn plain(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn tell_row(row: &EndpointRow, json: bool) -> Done {
    if json {
        return print::json_line(row);
    }
    let until = match (row.state, row.until) {
        (EndpointState::Paused, Some(until)) => format!(" until {until}"),
        (EndpointState::Paused, None) => " until resumed".to_owned(),
        _ => String::new(),
    };
    print::line(&format!(
        "{} is {}{until}; {} pending",
        row.name,
        row.state.name(),
        row.pending
    ))
}

/// Shows both sides of a test.
///
/// # Errors
/// When it was not delivered, so that scripts learn of it.
fn tell_test(view: &TestView, json: bool) -> Done {
    if json {
        print::json_line(view)?;
    } else {
        let steps: Vec<_> = view.steps.iter().map(kept::step_line).collect();
        let mut texts: Vec<String> = Vec::new();
        texts.extend((!steps.is_empty()).then(|| steps.join("\n")));
        texts.extend(view.request.iter().map(request_text));
        if let Some(status) = view.status {
            let line = format!("{status} after {} ms", view.duration_ms);
            texts.push(message_text(&line, &view.response_headers, &view.response_body));
        }
        texts.extend(view.exchange.iter().map(phases_text));
        texts.push(format!("{}: {}", view.endpoint, view.outcome));
        print::line(&print::printable(&texts.join("\n\n")))?;
    }
    match &*view.message {
        "" => Ok(()),
        message => Err(Failure::Wrong(message.to_owned())),
    }
}

fn tell_moved(moved: Moved, done: &str, json: bool) -> Done {
    if json {
        return print::json_line(&moved);
    }
    let noun = if moved.deliveries == 1 {
        "delivery"
    } else {
        "deliveries"
    };
    print::line(&format!("{} {noun} {done}", moved.deliveries))
}
