//! `posthaste schema`: the JSON Schema of config.toml, for editors, and of what the other verbs print with `--json`, for
//! scripts. Asks no daemon and reads no file.

use clap::Args;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};

use super::failure::{Done, Failure};
use super::{print, store};
use crate::config;
use crate::control::types::{
    ChangeReport, DeadLetterView, EndpointRow, EndpointView, EventView, ExplainedEndpoint, LoggedAttemptView,
    Moved, ReloadReport, Removed, Status, TestView,
};

/// Arguments of `schema`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  posthaste schema > posthaste.schema.json
  Then, as the first line of config.toml, for Even Better TOML and taplo:
  #:schema ./posthaste.schema.json

  posthaste schema dead list            # of each line of: posthaste dead list --json")]
pub struct SchemaArgs {
    /// The command whose lines of `--json` are meant; the configuration without it
    command: Vec<String>,
}

/// What a command prints with `--json`: a line of this kind, or several.
type Output = (&'static str, fn() -> Schema);

/// Every command whose output is described here. Those of `send` are the daemon's answers to producers.
const OUTPUTS: &[Output] = &[
    ("status", of::<Status>),
    ("endpoints list", of::<EndpointView>),
    ("endpoints show", of::<EndpointView>),
    ("endpoints put", of::<EndpointView>),
    ("endpoints enable", of::<EndpointView>),
    ("endpoints disable", of::<EndpointView>),
    ("endpoints delete", of::<Removed>),
    ("endpoints pause", of::<EndpointRow>),
    ("endpoints resume", of::<EndpointRow>),
    ("endpoints flush", of::<Moved>),
    ("endpoints test", of::<TestView>),
    ("endpoints move", of::<Moved>),
    ("endpoints bury", of::<Moved>),
    ("attempts", of::<LoggedAttemptView>),
    ("explain", of::<ExplainedEndpoint>),
    ("events show", of::<EventView>),
    ("dead list", of::<DeadLetterView>),
    ("dead show", of::<DeadLetterView>),
    ("dead export", of::<DeadLetterView>),
    ("dead replay", of::<ChangeReport>),
    ("dead purge", of::<ChangeReport>),
    ("reload", of::<ReloadReport>),
    ("store status", of::<store::StoreStatus>),
    ("store check", of::<store::Checked>),
    ("store export", of::<EventView>),
];

/// The schema of `T` as it is written.
fn of<T: JsonSchema>() -> Schema {
    let settings = SchemaSettings::draft2020_12().for_serialize();
    settings.into_generator().into_root_schema_for::<T>()
}

/// Prints a schema.
///
/// # Errors
/// When there is none of that command, or the output can't be written.
pub fn run(args: &SchemaArgs) -> Done {
    let command = args.command.join(" ");
    let schema = match OUTPUTS.iter().find(|(name, _)| *name == command) {
        _ if command.is_empty() => config::schema(),
        Some((_, schema)) => schema().to_value(),
        None => {
            let known: Vec<_> = OUTPUTS.iter().map(|(name, _)| *name).collect();
            return Err(Failure::Usage(format!(
                "there is no schema of {command:?}; there is one of: {}",
                known.join(", ")
            )));
        }
    };
    let text = serde_json::to_string_pretty(&schema).map_err(|error| Failure::Wrong(error.to_string()))?;
    print::line(&text)
}
