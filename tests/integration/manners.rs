//! I8: the command line as a whole: exit codes, examples in every help, completions, manual pages, the schema.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::harness::servers::{Target, nobody};
use crate::harness::{Daemon, Setup, endpoint, event, eventually, installed, run};
use crate::openapi::differences;
use crate::packages;

/// The verbs of a help text, with what stands beneath them.
fn verbs(daemon: &Daemon, path: &[String], found: &mut Vec<(Vec<String>, String)>) {
    let mut words: Vec<&str> = path.iter().map(String::as_str).collect();
    words.push("--help");
    let help = daemon.cli(&words).exits(0).out;
    let listed: Vec<String> = help
        .split("Commands:\n")
        .nth(1)
        .unwrap_or_default()
        .lines()
        .take_while(|line| line.starts_with("  "))
        .filter(|line| !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|verb| *verb != "help")
        .map(str::to_owned)
        .collect();
    found.push((path.to_vec(), help));
    for verb in listed {
        verbs(daemon, &[path, &[verb]].concat(), found);
    }
}

/// Every verb has an example that begins as one would type it, and a page.
#[test]
fn i8_every_verb_shows_an_example_and_has_a_page() {
    let daemon = Setup::new("").stopped();
    let mut found = Vec::new();
    verbs(&daemon, &[], &mut found);
    assert!(found.len() > 25, "{found:?}");
    let pages = daemon.path("man");
    daemon.cli(&["man", "--into", pages.to_str().unwrap()]).exits(0);
    for (path, help) in &found {
        let page = pages.join(format!(
            "posthaste{}.1",
            path.iter().map(|word| format!("-{word}")).collect::<String>()
        ));
        let text =
            std::fs::read_to_string(&page).unwrap_or_else(|error| panic!("{}: {error}", page.display()));
        assert!(text.contains(".SH SYNOPSIS"), "{text}");
        if !path.is_empty() {
            let example = format!("posthaste {}", path.join(" "));
            let shown = help.split("Example").nth(1).unwrap_or_default();
            assert!(shown.contains(&example), "{example}: no example in\n{help}");
        }
    }
    assert_eq!(std::fs::read_dir(&pages).unwrap().count(), found.len());
    let words: Vec<&str> = vec!["man", "dead", "replay"];
    assert!(
        daemon
            .cli(&words)
            .exits(0)
            .out
            .contains("posthaste\\-dead\\-replay")
    );
    daemon.cli(&["man", "no-such-verb"]).exits(1);
    if installed("man") {
        let mut man = Command::new("man");
        man.args(["--warnings", "-E", "UTF-8", "-l"])
            .arg(pages.join("posthaste-send.1"));
        let shown = run(&mut man, "").unwrap().exits(0);
        assert!(
            shown.out.contains("--ndjson") && shown.err.is_empty(),
            "{shown:?}"
        );
    }
}

/// Contract §3: 0 done, 1 the thing asked about is wrong or not there, 2 usage, 3 the daemon can't be reached.
#[test]
fn i8_exit_codes() {
    let target = Target::new();
    let daemon = Daemon::start(&endpoint("crm", &target.url("/status/404"), ""));
    daemon.accept(&event("a", "1"));
    daemon.until_dead("crm", 1);
    let config = daemon.path("config.toml");
    let config = config.to_str().unwrap();
    for (words, code) in [
        ("status", 0),
        ("endpoints list", 0),
        ("dlq list", 0),
        ("events show 1", 0),
        ("check --config CONFIG", 0),
        ("reload", 0),
        ("endpoints show nobody", 1),
        ("events show nothing", 1),
        ("dead show crm:999999", 1),
        ("endpoints pause nobody", 1),
        ("check --config /nonexistent.toml", 1),
        ("store check --config CONFIG", 1),
        ("send a --endpoint nobody", 1),
        ("", 2),
        ("no-such-verb", 2),
        ("status --no-such-option", 2),
        ("dead list --status many", 2),
        ("dead list --since whenever", 2),
        ("dead replay", 2),
        ("dead purge --all", 2),
        ("send", 2),
        ("send a --data {", 2),
        ("completions tcsh", 2),
        ("status --socket /nonexistent", 3),
        ("endpoints list --socket /nonexistent", 3),
        ("events show 1 --socket /nonexistent", 3),
        ("dead list --socket /nonexistent", 3),
        ("reload --socket /nonexistent", 3),
        ("send a --socket /nonexistent", 3),
    ] {
        let words: Vec<&str> = words
            .split_whitespace()
            .map(|word| if word == "CONFIG" { config } else { word })
            .collect();
        let ran = daemon.cli(&words);
        assert_eq!(ran.code, code, "{words:?}: {ran:?}");
        assert!(code == 0 || !ran.err.is_empty(), "{words:?} says why: {ran:?}");
    }
}

/// Every listing as JSON lines.
#[test]
fn i8_every_listing_has_json() {
    let target = Target::new();
    let daemon = Daemon::start(&endpoint("crm", &target.url("/status/404"), ""));
    daemon.accept(&event("a", "1"));
    daemon.until_dead("crm", 1);
    for words in [
        &["status", "--json"][..],
        &["endpoints", "list", "--json"],
        &["endpoints", "show", "crm", "--json"],
        &["events", "show", "1", "--json"],
        &["dead", "list", "--json"],
        &["dead", "show", "crm:1", "--json"],
        &["dead", "export"],
    ] {
        let lines = daemon.cli(words).exits(0).lines();
        assert!(lines.len() == 1 && lines[0].is_object(), "{words:?}: {lines:?}");
    }
}

/// H-rows' screen: what waits for longer than a minute is shown by its age.
#[test]
fn i8_the_status_shows_how_old_what_waits_is() {
    let target = Target::new();
    let daemon = Daemon::start(&endpoint("crm", &target.url("/ok"), "enabled = false"));
    daemon.accept_many("a", "n", 3);
    let row = daemon.row("crm");
    assert_eq!(
        row["ages"],
        json!({ "under_1m": 3, "under_5m": 0, "under_1h": 0, "under_6h": 0, "under_1d": 0, "older": 0 })
    );
    let screen = daemon.cli(&["status"]).exits(0).out;
    assert!(!screen.contains("WAITING SINCE"), "nothing is old: {screen}");
}

#[test]
fn i8_completions_are_what_the_shells_take() {
    let daemon = Setup::new("").stopped();
    for (shell, check) in [
        ("bash", &["bash", "-n"][..]),
        ("zsh", &["zsh", "-n"]),
        ("fish", &["fish", "-n"]),
    ] {
        let script = daemon.cli(&["completions", shell]).exits(0).out;
        assert!(script.contains("replay"), "{shell}");
        if installed(check[0]) {
            let file = daemon.path(shell);
            std::fs::write(&file, script).unwrap();
            run(Command::new(check[0]).args(&check[1..]).arg(&file), "")
                .unwrap()
                .exits(0);
        }
    }
}

/// The shipped configuration, its examples in force too.
fn shipped() -> Value {
    let text = include_str!("../../config.toml");
    let lines = text.lines().map(|line| match line.strip_prefix('#') {
        Some(example) if !example.is_empty() && !example.starts_with(' ') => example,
        _ => line,
    });
    let table: toml::Table = lines.collect::<Vec<_>>().join("\n").parse().unwrap();
    serde_json::to_value(table).unwrap()
}

/// Judges each line of standard input by the schema in the file named: the paths of what is wrong, as JSON.
const JUDGE: &str = "
import json, sys
sys.path.insert(0, sys.argv[1])
from jsonschema import Draft202012Validator as V
schema = json.load(open(sys.argv[2]))
V.check_schema(schema)
for line in sys.stdin:
    errors = V(schema).iter_errors(json.loads(line))
    print(json.dumps([['/'.join(map(str, e.absolute_path)), e.message] for e in errors]))
";

/// I8: an independent validator takes the shipped configuration by our schema, and refuses what `check` refuses.
#[test]
fn i8_the_schema_says_what_check_says() {
    let Some(folder) = packages::pypi("jsonschema==4.26.0") else {
        return;
    };
    let daemon = Setup::new("").stopped();
    let schema = daemon.path("schema.json");
    std::fs::write(&schema, daemon.cli(&["schema"]).exits(0).out).unwrap();
    let with = |change: fn(&mut Value)| {
        let mut config = shipped();
        change(&mut config);
        config
    };
    let cases = [
        ("", shipped()),
        ("", json!({})),
        ("", with(|c| c["store"]["dedup_window"] = json!("${env:WINDOW}"))),
        ("", with(|c| c["store"]["dedup_window"] = json!("1h 30m"))),
        ("store", with(|c| c["store"]["dedup_windwo"] = json!("1h"))),
        ("", with(|c| c["ingest"]["spool"] = json!(""))),
        ("store/max_size", with(|c| c["store"]["max_size"] = json!("much"))),
        (
            "store/min_free",
            with(|c| c["store"]["min_free"] = json!("a lot")),
        ),
        ("limits/shutdown", with(|c| c["limits"]["shutdown"] = json!(30))),
        ("limits/in_flight", with(|c| c["limits"]["in_flight"] = json!(0))),
        ("log/format", with(|c| c["log"]["format"] = json!("xml"))),
        ("log/payloads", with(|c| c["log"]["payloads"] = json!("yes"))),
        ("ingest/mode", with(|c| c["ingest"]["mode"] = json!("0999"))),
        (
            "defaults/retry/jitter",
            with(|c| c["defaults"]["retry"]["jitter"] = json!(2)),
        ),
        (
            "defaults/retry/schedule/0",
            with(|c| c["defaults"]["retry"]["schedule"] = json!(["soon"])),
        ),
        (
            "endpoint/0/timeout",
            with(|c| c["endpoint"][0]["timeout"] = json!("30")),
        ),
        (
            "endpoint/0",
            with(|c| c["endpoint"][0]["ulr"] = json!("https://a.example")),
        ),
        (
            "endpoint/0/concurrency",
            with(|c| c["endpoint"][0]["concurrency"] = json!("many")),
        ),
    ];
    let lines: String = cases.iter().map(|(_, config)| format!("{config}\n")).collect();
    let mut judge = Command::new("python3");
    judge.arg("-c").arg(JUDGE).arg(&folder).arg(&schema);
    let verdicts = run(&mut judge, &lines).unwrap().exits(0).lines();
    assert_eq!(verdicts.len(), cases.len());
    for ((place, config), verdict) in cases.iter().zip(verdicts) {
        let found: Vec<&str> = verdict
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|e| e[0].as_str())
            .collect();
        if place.is_empty() {
            assert_eq!(found, Vec::<&str>::new(), "{verdict}\n{config}");
        } else {
            assert_eq!(found, [*place], "{verdict}");
        }
    }
}

/// Runs a command and holds each line it prints to its schema.
pub fn as_described(daemon: &Daemon, command: &str, arguments: &[&str]) {
    let words: Vec<&str> = command.split(' ').collect();
    let ran = daemon.cli(&[&words[..], arguments].concat());
    assert!(!ran.lines().is_empty(), "{command}: {ran:?}");
    lines_fit(daemon, command, &ran.lines());
}

/// Holds what a command has printed to its schema.
fn lines_fit(daemon: &Daemon, command: &str, lines: &[Value]) {
    let words: Vec<&str> = command.split(' ').collect();
    let schema = daemon.cli(&[&["schema"][..], &words].concat()).exits(0);
    let schema: Value = serde_json::from_str(&schema.out).unwrap();
    for line in lines {
        let wrong = differences(line, &schema, &schema, command);
        assert!(wrong.is_empty(), "{command}: {wrong:?}");
    }
}

/// I8: every line that a command prints with `--json` is as `posthaste schema COMMAND` says, no field more.
#[test]
fn i8_what_json_prints_is_as_described() {
    let target = Target::new();
    let parked = |name: &str| endpoint(name, &target.url("/"), "events = [\"c\"]\nenabled = false");
    let text = endpoint("crm", &target.url("/status/404"), "events = [\"a\"]")
        + "[[endpoint.test]]\nname = \"gone\"\nevent = '{\"type\":\"a\"}'\nexpect = \"response.status_code == 404\"\n"
        + &endpoint("down", &target.url("/status/500"), "events = [\"b\"]");
    let mut daemon = Daemon::start(&(text.clone() + &parked("moved") + &parked("buried")));
    daemon.accept_many("a", "dead", 2);
    daemon.accept(&event("b", "late"));
    daemon.accept(&event("c", "parked"));
    let letters = daemon.until_dead("crm", 2);
    let letter = letters[0]["id"].as_str().unwrap();
    daemon.until_row("down", "deferred", |row| row["deferred"] == 1);
    daemon.write_config(&text);
    daemon.cli(&["reload"]).exits(0);
    let config = daemon.path("config.toml");
    let config = config.to_str().unwrap();
    std::fs::write(daemon.path("new.toml"), "url = \"http://127.0.0.1:1/\"\n").unwrap();
    let lines = format!("{{\"ack\":\"each\"}}\n[{}]\n", event("a", "batched"));
    std::fs::write(daemon.path("lines.ndjson"), lines).unwrap();
    for (command, arguments) in [
        ("status", &["--json"][..]),
        ("endpoints list", &["--json"]),
        ("endpoints show", &["crm", "--json"]),
        ("endpoints pause", &["crm", "--reason", "x", "--json"]),
        ("endpoints resume", &["crm", "--json"]),
        ("endpoints flush", &["down", "--json"]),
        ("endpoints test", &["crm", "--json"]),
        ("endpoints put", &["new", "new.toml", "--json"]),
        ("endpoints disable", &["new", "--json"]),
        ("endpoints enable", &["new", "--json"]),
        ("endpoints delete", &["new", "--yes", "--json"]),
        ("endpoints move", &["moved", "--to", "down", "--json"]),
        ("endpoints bury", &["buried", "--json"]),
        ("check", &["--config", config, "--json"]),
        ("test", &["--config", config, "--json"]),
        ("send", &["a", "--id", "sent", "--json"]),
        ("send", &["a", "--id", "sent", "--json"]),
        ("send", &["a", "--endpoint", "nobody", "--json"]),
        ("send", &["--ndjson", "lines.ndjson", "--json"]),
        ("attempts", &["--json"]),
        ("explain", &["--type", "a", "--json"]),
        ("events show", &["late", "dead-0", "--json"]),
        ("dead list", &["--json"]),
        ("dead show", &[letter, "--json"]),
        ("dead export", &["--json"]),
        ("dead replay", &["--all", "--dry-run", "--json"]),
        ("dead purge", &["--endpoint", "crm", "--yes", "--json"]),
        ("reload", &["--json"]),
    ] {
        as_described(&daemon, command, arguments);
    }
    let ran = daemon.cli(&["schema", "nonsense"]).exits(2);
    assert!(ran.err.contains("dead list"), "{ran:?}");
    daemon.kill();
    for command in ["store status", "store check", "store repair"] {
        as_described(&daemon, command, &["--config", config, "--json"]);
    }
    as_described(&daemon, "store export", &["--config", config]);
}

/// I8: the same of what is left in the spool, of a configuration that is refused, of a bench, and of a receiver.
#[test]
fn i8_what_json_prints_elsewhere_is_as_described() {
    let at = nobody();
    let daemon = Daemon::start(&endpoint("taker", &format!("http://{at}/ok"), ""));
    let spool = daemon.path("spool");
    std::fs::create_dir(&spool).unwrap();
    let spool = spool.to_str().unwrap();
    let down = daemon.path("nothing.sock").display().to_string();
    let left = ["--socket", &*down, "--spool", spool, "--json"];
    as_described(&daemon, "send", &[&["a"][..], &left].concat());
    as_described(&daemon, "send", &[&["a", "--id", ""][..], &left].concat());
    std::fs::write(daemon.path("bad.toml"), "[store]\nnonsense = 1\n").unwrap();
    as_described(&daemon, "check", &["--config", "bad.toml", "--json"]);
    let folder = daemon.path(".").display().to_string();
    let short = ["--only", "delay", "--seconds", "0.1", "--rounds", "1"];
    as_described(
        &daemon,
        "bench",
        &[&short[..], &["--dir", &folder, "--json"]].concat(),
    );

    let mut receiver = Command::new(env!("CARGO_BIN_EXE_posthaste"))
        .args(["receive", "--json", "--listen", &at.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    eventually("the receiver takes a request", || {
        let tried = daemon.post("/v1/endpoints/taker/test", &json!({})).1;
        (tried["outcome"] == "delivered").then_some(())
    });
    let mut line = String::new();
    BufReader::new(receiver.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    receiver.kill().unwrap();
    receiver.wait().unwrap();
    lines_fit(&daemon, "receive", &[serde_json::from_str(&line).unwrap()]);
}
