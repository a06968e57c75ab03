//! I8: the commands that every `--help` and README.md show do what they say: each is run by a shell as it stands, against
//! a daemon that has what they name.

use std::collections::BTreeSet;

use serde_json::json;

use crate::harness::servers::Target;
use crate::harness::{Daemon, Ran, Setup, endpoint, eventually, installed, run};

/// The event that the help texts name.
const EVENT: &str = "01JHM2Y8Z3W6N5T4R7Q9P0K1VX";

/// Beginnings of commands that are not run here, each for a reason.
const ELSEWHERE: &[&str] = &[
    // Until they are told to end, or on a terminal: their own tests drive them.
    "posthaste run",
    "posthaste top",
    "posthaste receive",
    "posthaste status --watch",
    "posthaste attempts --follow",
    "journalctl",
    // Minutes long: the demo is run by CI as a whole, the bench by hand.
    "posthaste demo",
    "posthaste bench",
    // Write into folders of the system.
    "posthaste completions",
    "posthaste man",
    // Of a stopped daemon into a running one: docs/OPERATIONS.md shows the same for a copy, and is run.
    "posthaste store export --events",
];

fn shell(daemon: &Daemon, line: &str) -> Ran {
    let mut command = daemon.shell(line);
    command
        .env("EDITOR", "sed -i s/404/200/")
        .env("POSTHASTE_CONFIG", daemon.path("config.toml"));
    run(&mut command, "").unwrap()
}

/// Adds the commands in the examples of this verb's help text, and of its own verbs'.
fn examples(daemon: &Daemon, verb: &[&str], found: &mut BTreeSet<String>) {
    let help = daemon.cli(&[verb, &["--help"]].concat()).exits(0).out;
    let shown = help.split("Examples:").nth(1).unwrap_or_default();
    let lines = shown
        .lines()
        .map(|line| line.split("  #").next().unwrap_or_default().trim());
    found.extend(
        lines
            .filter(|line| line.contains("posthaste "))
            .map(str::to_owned),
    );
    let verbs = help.split("Commands:\n").nth(1).unwrap_or_default();
    let verbs = verbs.lines().take_while(|line| line.starts_with("  "));
    let verbs = verbs
        .filter(|line| !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next());
    for next in verbs.filter(|next| *next != "help") {
        examples(daemon, &[verb, &[next]].concat(), found);
    }
}

/// A daemon with what the examples name: an endpoint with a dead letter and a test case, two that were removed while they
/// were owed something, two defined over the API, files with an event, a payload and an endpoint.
fn furnished(target: &Target) -> Daemon {
    let case = "[[endpoint.test]]\nname = \"it is refused\"\n\
                event = '{\"type\":\"contact.created\",\"data\":{\"n\":1}}'\n\
                expect = \"response.status_code == 404\"\n";
    let crm = endpoint(
        "crm-sync",
        &target.url("/status/404"),
        "events = [\"contact.*\", \"report.*\"]",
    );
    let old = ["old-crm", "old-erp"]
        .map(|name| endpoint(name, &target.url("/ok"), "events = [\"old.*\"]\nenabled = false"));
    let daemon = Setup::new(&format!("{crm}{case}{}", old.concat())).start();
    let billing = format!("url = \"{}\"\nevents = [\"invoice.*\"]\n", target.url("/ok"));
    std::fs::write(daemon.path("billing.toml"), billing).unwrap();
    for name in ["billing", "old-billing"] {
        daemon.cli(&["endpoints", "put", name, "billing.toml"]).exits(0);
    }
    let event = json!({ "type": "contact.created", "id": EVENT, "data": { "status": 404 } });
    daemon.accept(&event.to_string());
    daemon.accept(&json!({ "type": "old.thing", "id": "o1" }).to_string());
    daemon.until_dead("crm-sync", 1);
    std::fs::write(daemon.path("event.json"), event.to_string()).unwrap();
    std::fs::write(daemon.path("report.json"), "{\"pages\": 3}").unwrap();
    daemon.write_config(&format!("{crm}{case}"));
    daemon.cli(&["reload"]).exits(0);
    daemon
}

#[test]
fn i8_the_examples_in_the_help_work() {
    let target = Target::new();
    let mut daemon = furnished(&target);
    let is_elsewhere = |line: &String| {
        let needs_jq = line.contains("jq ") && !installed("jq");
        needs_jq || ELSEWHERE.iter().any(|beginning| line.starts_with(beginning))
    };
    let mut all = BTreeSet::new();
    examples(&daemon, &[], &mut all);
    assert!(all.len() > 50, "{all:?}");
    let here = all.into_iter().filter(|line| !is_elsewhere(line));
    let (offline, online): (Vec<_>, Vec<_>) = here.partition(|line| line.starts_with("posthaste store"));
    assert!(offline.len() >= 4 && online.len() >= 18, "{offline:?} {online:?}");
    for line in &online {
        let ran = shell(&daemon, line);
        assert_eq!(ran.code, 0, "{line}: {ran:?}");
        assert!(!ran.out.is_empty() || line.contains('>'), "{line}: {ran:?}");
    }
    daemon.stop();
    for line in &offline {
        let ran = shell(&daemon, line);
        assert_eq!(ran.code, 0, "{line}: {ran:?}");
    }
}

/// The commands of README.md for the night, with ids that are there.
#[test]
fn i8_the_readmes_commands_for_the_night_work() {
    let target = Target::new();
    let daemon = furnished(&target);
    let readme = include_str!("../../README.md");
    let block = readme.split("## At three in the morning\n\n```sh\n").nth(1);
    let block = block.and_then(|rest| rest.split("```").next()).unwrap();
    let letter = || {
        eventually("a dead letter", || {
            let page = daemon.get("/v1/dead?endpoint=crm-sync").1;
            page["items"][0]["id"].as_str().map(str::to_owned)
        })
    };
    let lines = block
        .lines()
        .map(|line| line.split("  #").next().unwrap_or_default().trim());
    let lines: Vec<_> = lines.filter(|line| !line.starts_with("posthaste top")).collect();
    assert!(lines.len() >= 8, "{lines:?}");
    for line in lines {
        let line = line.replace("01JZ...", EVENT).replace("crm-sync:1042", &letter());
        let ran = shell(&daemon, &line);
        assert!(ran.code == 0 && !ran.out.is_empty(), "{line}: {ran:?}");
    }
}
