//! `posthaste explain`: who would get an event, why or why not, and with which request. Sends nothing.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;
use serde_json::value::RawValue;

use super::client::Connect;
use super::failure::{Done, Failure};
use super::{input, print};
use crate::control::types::{ExplainRequest, ExplainedEndpoint, Explanation, RequestView};

/// Arguments of `explain`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  posthaste explain event.json
  posthaste explain --type contact.created --data '{\"email\":\"a@example.com\"}'")]
pub struct ExplainArgs {
    #[command(flatten)]
    connect: Connect,
    /// A file with one event, or - for stdin
    #[arg(
        value_name = "FILE",
        required_unless_present = "kind",
        conflicts_with = "kind"
    )]
    file: Option<PathBuf>,
    /// The type of the event, in place of a file
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// Its payload as JSON
    #[arg(long, value_name = "JSON", requires = "kind")]
    data: Option<String>,
}

/// Asks the daemon, and shows what it says of each endpoint.
///
/// # Errors
/// When the event is none, or the daemon can't be reached.
pub async fn run(args: ExplainArgs) -> Done {
    let event = match (&args.file, &args.kind) {
        (Some(file), _) => read_event(file)?,
        (None, kind) => {
            let data: Option<serde_json::Value> = args
                .data
                .as_deref()
                .map(serde_json::from_str)
                .transpose()
                .map_err(|error| Failure::Usage(format!("--data is not JSON: {error}")))?;
            raw(json!({ "type": kind, "data": data }).to_string())?
        }
    };
    let client = args.connect.client()?;
    let explained: Explanation = client.post("/v1/explain", &ExplainRequest { event }).await?;
    if args.connect.json {
        return explained.endpoints.iter().try_for_each(print::json_line);
    }
    if explained.endpoints.is_empty() {
        return print::line("no endpoints are configured");
    }
    let texts: Vec<_> = explained.endpoints.iter().map(endpoint_text).collect();
    print::line(&print::printable(&texts.join("\n\n")))
}

fn endpoint_text(endpoint: &ExplainedEndpoint) -> String {
    let word = if endpoint.gets {
        "gets it"
    } else {
        "does not get it"
    };
    let mut text = format!("{} {word}: {}", endpoint.endpoint, endpoint.why);
    if let Some(state) = endpoint.state.filter(|_| endpoint.gets) {
        text.push_str(&format!("\n  it is {} now", state.name()));
    }
    for step in &endpoint.steps {
        text.push_str(&format!("\n  step {}, {} the request", step.name, step.stage));
        match &step.request {
            Some(request) => text.push_str(&format!("\n{}\n", request_text(request))),
            None => text.push_str(&format!(": {}", step.why)),
        }
    }
    if let Some(error) = &endpoint.error {
        text.push_str(&format!("\n  but no request can be made: {error}"));
    }
    if let Some(request) = &endpoint.request {
        text.push('\n');
        text.push_str(&request_text(request));
    }
    text
}

/// A request, indented.
pub(super) fn request_text(request: &RequestView) -> String {
    message_text(&request.line, &request.headers, &request.body)
}

/// A first line, headers and a body, indented.
pub(super) fn message_text(line: &str, headers: &[(String, String)], body: &str) -> String {
    let mut lines = vec![format!("  {line}")];
    lines.extend(headers.iter().map(|(name, value)| format!("  {name}: {value}")));
    if !body.is_empty() {
        lines.push(String::new());
        lines.extend(body.lines().map(|line| format!("  {line}")));
    }
    lines.join("\n")
}

/// The event in `file`, or on standard input for `-`.
///
/// # Errors
/// It can't be read, or is not JSON.
pub(super) fn read_event(file: &Path) -> Result<Box<RawValue>, Failure> {
    let shown = file.display();
    let text = input::text(file);
    raw(text.map_err(|error| Failure::Wrong(format!("{shown} can't be read: {error}")))?)
}

fn raw(text: String) -> Result<Box<RawValue>, Failure> {
    serde_json::from_str(&text).map_err(|error| Failure::Wrong(format!("the event is not JSON: {error}")))
}
