//! The command line: the tree of verbs, and what their ends mean as exit codes. One verb, one file. Verbs
//! that ask the daemon know its control API and nothing else of it.

pub mod client;
pub mod dead;
pub mod endpoints;
pub mod events;
pub mod failure;
pub mod print;
pub mod reload;
pub mod status;
pub mod store;
#[cfg(test)]
mod tests;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use self::failure::{Done, Failure};

/// Takes events on a Unix socket and delivers them over HTTP: durable, retried, signed, with dead letters
/// you can replay.
#[derive(Debug, Parser)]
#[command(name = "posthaste", version, arg_required_else_help = true, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

const EXIT_CODES: &str = "Exit codes: 0 done, 1 the thing asked about is wrong or not there, 2 usage, \
                          3 the daemon can't be reached";

#[derive(Debug, Subcommand)]
enum Verb {
    /// What is stuck, since when, why, and what to type next
    Status(status::StatusArgs),
    /// List, show, pause, resume and flush endpoints; move or bury what removed ones are owed
    Endpoints(endpoints::EndpointsArgs),
    /// Where an event stands
    Events(events::EventsArgs),
    /// List, show, replay, export and purge dead letters
    #[command(alias = "dlq")]
    Dead(dead::DeadArgs),
    /// Adopt the changed configuration, all or nothing
    Reload(reload::ReloadArgs),
}

/// Reads the arguments, does what they say, tells how it ended.
#[must_use]
pub fn run() -> ExitCode {
    let done = match Cli::parse().verb {
        Verb::Status(args) => wait(status::run(args)),
        Verb::Endpoints(args) => wait(endpoints::run(args)),
        Verb::Events(args) => wait(events::run(args)),
        Verb::Dead(args) => wait(dead::run(args)),
        Verb::Reload(args) => wait(reload::run(args)),
    };
    failure::exit_code(done)
}

/// Runs a verb that talks to the daemon.
fn wait(verb: impl Future<Output = Done>) -> Done {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Wrong(format!("cannot start: {error}")))?
        .block_on(verb)
}

#[cfg(test)]
mod tree_tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_tree_of_verbs_is_sound() {
        Cli::command().debug_assert();
    }

    /// The contract's spellings parse, `dlq` among them, and shared options go before or after the verb.
    #[test]
    fn contract_spellings_parse() {
        for line in [
            "status --watch",
            "status --json --socket /tmp/s",
            "endpoints list",
            "endpoints --socket /tmp/s show crm",
            "endpoints pause crm --reason upgrade --for 2h",
            "endpoints resume crm",
            "endpoints flush crm",
            "endpoints move old --to new",
            "endpoints bury old --reason gone",
            "events show 01J",
            "dead list --endpoint crm --type contact.* --reason rejected --status 422 --since 2h --until 1h --json",
            "dlq show crm:1",
            "dead replay crm:1 crm:2 --rate 50/s --dry-run",
            "dead replay -",
            "dead export --all",
            "dead purge --all --yes",
            "reload",
        ] {
            let words = std::iter::once("posthaste").chain(line.split_whitespace());
            assert!(Cli::try_parse_from(words).is_ok(), "{line}");
        }
    }
}
