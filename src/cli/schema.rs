//! `posthaste schema`: the JSON Schema of config.toml, for editors. Asks no daemon and reads no file.

use clap::Args;

use super::failure::{Done, Failure};
use super::print;
use crate::config;

/// Arguments of `schema`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  posthaste schema > posthaste.schema.json
  Then, as the first line of config.toml, for Even Better TOML and taplo:
  #:schema ./posthaste.schema.json")]
pub struct SchemaArgs {}

/// Prints the schema.
///
/// # Errors
/// When the output can't be written.
pub fn run(_: &SchemaArgs) -> Done {
    let text =
        serde_json::to_string_pretty(&config::schema()).map_err(|error| Failure::Wrong(error.to_string()))?;
    print::line(&text)
}
