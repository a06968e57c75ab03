//! `posthaste schema`: the JSON Schema of config.toml, for editors, and of what the other verbs print with `--json`, for
//! scripts. Asks no daemon and reads no file.

use clap::Args;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};

use super::failure::{Done, Failure};
use super::{bench, cases, check, print, receive, send, store};
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

/// Every command that has `--json`.
const OUTPUTS: &[Output] = &[
    ("check", of::<check::Checked>),
    ("send", of::<send::AnswerLine>),
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
    ("test", of::<cases::Ran>),
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
    ("store repair", of::<store::repair::RepairLine<'static>>),
    ("receive", of::<receive::RequestLine>),
    ("bench", of::<bench::report::Row>),
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

#[cfg(test)]
mod tests {
    use clap::{Command, CommandFactory};

    use super::OUTPUTS;
    use crate::cli::Cli;

    /// The verbs that take `--json`, as one types them.
    fn with_json(command: &Command, path: &[&str], found: &mut Vec<String>) {
        let takes = command
            .get_arguments()
            .any(|argument| argument.get_id() == "json");
        if takes && !command.has_subcommands() {
            found.push(path.join(" "));
        }
        for verb in command.get_subcommands().filter(|verb| verb.get_name() != "help") {
            with_json(verb, &[path, &[verb.get_name()]].concat(), found);
        }
    }

    /// I8: every verb with `--json` has a schema, and nothing else has.
    #[test]
    fn i8_every_verb_with_json_has_a_schema() {
        let mut tree = Cli::command();
        tree.build();
        let mut found = Vec::new();
        with_json(&tree, &[], &mut found);
        // It shares the option with those that ask the daemon, and answers it with what to use instead.
        found.retain(|verb| verb != "top");
        found.sort();
        let mut described: Vec<_> = OUTPUTS.iter().map(|(verb, _)| (*verb).to_owned()).collect();
        described.sort();
        assert_eq!(found, described);
    }
}
