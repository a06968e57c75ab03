//! The command line: the tree of verbs, and what their ends mean as exit codes. One verb, one file. Verbs
//! that ask the daemon know its control API and nothing else of it.

pub mod attempts;
pub mod bench;
pub mod cases;
pub mod check;
pub mod client;
pub mod completions;
pub mod dead;
pub mod demo;
mod editor;
pub mod endpoints;
pub mod events;
pub mod explain;
pub mod failure;
mod ids;
mod input;
mod kept;
pub mod man;
pub mod print;
pub mod progress;
pub mod receive;
pub mod reload;
pub mod run;
mod sample;
pub mod schema;
pub mod send;
pub mod status;
pub mod store;
#[cfg(test)]
mod tests;
pub mod top;

use std::process::ExitCode;
use std::sync::Arc;

use clap::{CommandFactory, Parser, Subcommand};

use self::failure::{Done, Failure};
use crate::config::StoreConfig;
use crate::store::Store;
use crate::store::sled::{OpenOptions, SledStore};

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
    /// The daemon, in the foreground, until it is told to stop
    Run(run::RunArgs),
    /// A real daemon in a temporary folder, a receiver, events, a retry, a dead letter, and what to type next
    #[command(after_help = "Examples:\n  posthaste demo")]
    Demo,
    /// Read the configuration and show every problem at once
    Check(check::CheckArgs),
    /// Send an event, or a file of them
    Send(send::SendArgs),
    /// What is stuck, since when, why, and what to type next
    Status(status::StatusArgs),
    /// The endpoints on a live screen, the one in most trouble first
    Top(top::TopArgs),
    /// List, show, define, pause, resume and flush endpoints; move or bury what removed ones are owed
    Endpoints(endpoints::EndpointsArgs),
    /// Every try of the last days: when, to whom, how it ended, how long its parts took
    Attempts(attempts::AttemptsArgs),
    /// Who would get an event, why or why not, and with which request; sends nothing
    Explain(explain::ExplainArgs),
    /// Run the test cases saved with the endpoints, by real requests; needs no daemon
    Test(cases::TestArgs),
    /// Where an event stands
    Events(events::EventsArgs),
    /// List, show, replay, export and purge dead letters
    #[command(alias = "dlq")]
    Dead(dead::DeadArgs),
    /// Adopt the changed configuration, all or nothing
    Reload(reload::ReloadArgs),
    /// A receiver for development: shows requests, verifies signatures, misbehaves on request
    Receive(receive::ReceiveArgs),
    /// The store on disk, while the daemon is stopped
    Store(store::StoreArgs),
    /// Measure posthaste against the limits of this machine
    Bench(bench::BenchArgs),
    /// A script that completes these commands in a shell
    Completions(completions::CompletionsArgs),
    /// Manual pages
    Man(man::ManArgs),
    /// The JSON Schema of the configuration, for editors
    Schema(schema::SchemaArgs),
}

/// Reads the arguments, does what they say, tells how it ended.
#[must_use]
pub fn run() -> ExitCode {
    let done = match Cli::parse().verb {
        Verb::Run(args) => return run::run(args),
        Verb::Demo => return demo::run(),
        Verb::Check(args) => return check::run(&args),
        Verb::Send(args) => return send::run(&args),
        Verb::Status(args) => wait(status::run(args)),
        Verb::Top(args) => wait(top::run(args)),
        Verb::Endpoints(args) => wait(endpoints::run(args)),
        Verb::Attempts(args) => wait(attempts::run(args)),
        Verb::Explain(args) => wait(explain::run(args)),
        Verb::Test(args) => wait(cases::run(args)),
        Verb::Events(args) => wait(events::run(args)),
        Verb::Dead(args) => wait(dead::run(args)),
        Verb::Reload(args) => wait(reload::run(args)),
        Verb::Receive(args) => wait(receive_requests(args)),
        Verb::Store(args) => store::run(&args, open_store),
        Verb::Bench(args) => bench::run(args),
        Verb::Completions(args) => completions::run(&args, Cli::command()),
        Verb::Man(args) => man::run(&args, Cli::command()),
        Verb::Schema(args) => schema::run(&args),
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

async fn receive_requests(args: receive::ReceiveArgs) -> Done {
    receive::run(args)
        .await
        .map(drop)
        .map_err(|error| Failure::Wrong(error.to_string()))
}

/// The store in a folder, to be looked at; refused while a daemon has it open.
fn open_store(config: &StoreConfig) -> Result<Arc<dyn Store>, String> {
    let options = OpenOptions {
        check_only: true,
        ..OpenOptions::default()
    };
    let store = SledStore::open(config, options).map_err(|error| error.to_string())?;
    Ok(Arc::new(store))
}

#[cfg(test)]
mod tree_tests {
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
            "endpoints test crm --event /tmp/e.json",
            "explain -",
            "explain --type a.b --data {}",
            "test",
            "test crm --config /tmp/c",
            "endpoints put crm",
            "endpoints put crm crm.toml",
            "endpoints delete crm --yes",
            "endpoints enable crm",
            "endpoints disable crm",
            "endpoints move old --to new",
            "endpoints bury old --reason gone",
            "attempts --endpoint crm --event 01J --outcome error --class timeout --status 503 --since 2h --until 1h",
            "attempts --limit 5 --json --follow",
            "events show 01J",
            "events show 01J 01K -",
            "dead list --endpoint crm --type contact.* --reason rejected --status 422 --since 2h --until 1h --json",
            "dlq show crm:1",
            "dead replay crm:1 crm:2 --rate 50/s --dry-run",
            "dead replay -",
            "dead replay --endpoint old --to new",
            "dead replay crm:1 --data fixed.json",
            "dead replay crm:1 --edit --to other",
            "dead export --all",
            "dead purge --all --yes",
            "reload",
            "run --config /tmp/c",
            "demo",
            "check --config /tmp/c --json",
            "send contact.created --data {}",
            "receive --listen 127.0.0.1:0 --secret whsec_x",
            "store --config /tmp/c status",
            "store check --json",
            "store --path /tmp/copy status",
            "store export --owed --endpoint crm",
            "store export --events --dead",
            "store repair",
            "store repair --yes --json --from /tmp/queue-1.corrupt-5",
            "bench --only deliver,store --seconds 0.5 --connections 128 --json",
            "completions bash",
            "man",
            "man dead replay",
            "schema",
        ] {
            let words = std::iter::once("posthaste").chain(line.split_whitespace());
            assert!(Cli::try_parse_from(words).is_ok(), "{line}");
        }
    }
}
