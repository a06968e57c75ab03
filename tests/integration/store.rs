//! I6: the tools for a store on disk, run as an operator runs them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::servers::{Target, header};
use crate::harness::{Daemon, Setup, endpoint, event, run};
use crate::manners::as_described;
use crate::required;

fn store(daemon: &Daemon, words: &[&str]) -> crate::harness::Ran {
    let config = daemon.path("config.toml");
    let mut all = vec!["store"];
    all.extend(words);
    all.extend(["--config", config.to_str().unwrap()]);
    daemon.cli(&all)
}

/// A daemon that owes one endpoint everything, waits for another, and has dead letters of a third; stopped.
fn stopped(target: &Target) -> Daemon {
    let text = endpoint("parked", &target.url("/ok"), "enabled = false")
        + &endpoint("broken", &target.url("/status/503"), "retry = { delay = \"1h\" }")
        + &endpoint("refusing", &target.url("/status/404"), "");
    let mut daemon = Setup::new(&text).start();
    daemon.accept(&json!({ "type": "a", "id": "1", "data": 1 }).to_string());
    daemon.accept(&json!({ "type": "a", "id": "2", "delay": "1h", "endpoint": "parked" }).to_string());
    daemon.until_dead("refusing", 1);
    daemon.until_row("broken", "deferred", |row| row["deferred"] == 1);
    daemon.stop();
    daemon
}

/// I6: an export tells every delivery; as events it makes another daemon owe the same.
#[test]
fn i6_what_is_exported_can_be_sent_to_another_daemon() {
    let target = Target::new();
    let daemon = stopped(&target);
    let lines = store(&daemon, &["export"]).exits(0).lines();
    assert_eq!(lines.len(), 2);
    let deliveries = lines[0]["deliveries"].as_array().unwrap();
    let shown: Vec<_> = deliveries
        .iter()
        .map(|d| (&d["endpoint"], &d["state"], &d["tries"]))
        .collect();
    let names = ["parked", "broken", "refusing"].map(Value::from);
    let states = ["pending", "deferred", "dead"].map(Value::from);
    let (none, one) = (json!(0), json!(1));
    assert_eq!(
        shown,
        [
            (&names[0], &states[0], &none),
            (&names[1], &states[1], &one),
            (&names[2], &states[2], &one)
        ]
    );
    assert!(deliveries[1]["due"].is_string(), "{deliveries:?}");
    assert_eq!(lines[0]["event"]["data"], 1);

    let dead = store(&daemon, &["export", "--dead"]).exits(0).lines();
    assert_eq!(
        (dead.len(), &dead[0]["deliveries"][0]["endpoint"]),
        (1, &json!("refusing"))
    );
    let file = daemon.path("owed.ndjson");
    let words = ["export", "--events", "--owed", "--to", file.to_str().unwrap()];
    let told = store(&daemon, &words).exits(0);
    assert!(told.err.contains("2 events with 3 deliveries"), "{told:?}");
    let again = store(&daemon, &words).exits(1);
    assert!(
        again.err.contains("exists"),
        "a file is never written over: {again:?}"
    );
    let events = fs::read_to_string(&file).unwrap();
    assert!(events.contains("\"endpoint\":\"parked,broken\""), "{events}");
    assert!(
        events.contains("\"deliverat\"") && !events.contains("\"delay\""),
        "{events}"
    );

    let other = Daemon::start(
        &["parked", "broken", "refusing"]
            .map(|name| endpoint(name, &target.url("/ok"), "enabled = false"))
            .concat(),
    );
    other.cli(&["send", "--ndjson", file.to_str().unwrap()]).exits(0);
    assert_eq!(other.row("parked")["pending"], 2);
    assert_eq!(other.row("broken")["pending"], 1);
    assert_eq!(other.row("refusing")["pending"], 0);
}

/// I6, I3: a store in use is refused, with the pid of who uses it; a folder that is not there is not made.
#[test]
fn i6_a_store_in_use_is_refused() {
    let daemon = Daemon::start("");
    for words in [
        &["status"][..],
        &["check"],
        &["export"],
        &["repair"],
        &["repair", "--yes"],
    ] {
        let ran = store(&daemon, words).exits(1);
        let pid = daemon.pid().as_raw_nonzero().to_string();
        assert!(ran.err.contains(&format!("pid {pid}")), "{words:?}: {ran:?}");
    }
    let missing = daemon.path("missing");
    let ran = daemon
        .cli(&["store", "status", "--path", missing.to_str().unwrap()])
        .exits(1);
    assert!(ran.err.contains("no such folder") && !missing.exists(), "{ran:?}");
}

/// I6, G4: a queue whose log is damaged is not started with; what to type is said, and typing it helps.
#[test]
fn i6_a_damaged_store_is_repaired_by_what_the_messages_say() {
    let target = Target::new();
    let mut daemon = Daemon::start(&endpoint("parked", &target.url("/ok"), "enabled = false"));
    for id in 0..50 {
        daemon.accept(&event("a", &format!("early-{id}")));
    }
    daemon.accept(&event("a", "late-marker"));
    daemon.accept(&event("a", "after"));
    daemon.kill();
    let sound = store(&daemon, &["repair"]).exits(0);
    assert!(sound.out.contains("nothing to repair"), "{sound:?}");
    // The log is read up to what is damaged in it.
    let queue = daemon.path("queue/queue-1");
    for entry in fs::read_dir(&queue).unwrap().flatten() {
        if entry.file_name().to_string_lossy().starts_with("snap.") {
            fs::remove_file(entry.path()).unwrap();
        }
    }
    let log = queue.join("db");
    let mut bytes = fs::read(&log).unwrap();
    let marker = b"late-marker";
    let places: Vec<usize> = bytes
        .windows(marker.len())
        .enumerate()
        .filter(|(_, window)| window == marker)
        .map(|(at, _)| at)
        .collect();
    assert!(!places.is_empty());
    places.iter().for_each(|at| bytes[*at] ^= 1);
    fs::write(&log, bytes).unwrap();

    let checked = store(&daemon, &["check"]).exits(1);
    assert!(checked.err.contains("posthaste store repair"), "{checked:?}");
    daemon.spawn();
    assert!(!daemon.wait().success());
    assert!(
        daemon.log().contains("posthaste store repair --yes"),
        "{}",
        daemon.log()
    );

    let planned = store(&daemon, &["repair"]).exits(1);
    assert!(
        planned.out.contains("keeps 5") && planned.err.contains("--yes"),
        "{planned:?}"
    );
    assert!(!daemon.path("queue/queue-2").exists());
    let done = store(&daemon, &["repair", "--yes", "--json"]).exits(0).lines();
    let events = done[0]["holds"]["events"].as_u64().unwrap();
    assert!((50..52).contains(&events), "{done:?}");
    let kept = done[0]["kept"].as_str().unwrap();
    assert!(fs::metadata(kept).unwrap().is_dir() && kept.contains("queue-1.corrupt-"));
    daemon.restart();
    assert_eq!(daemon.row("parked")["pending"], events);
    assert_eq!(daemon.send(&event("a", "early-7"))["status"], "duplicate");
}

/// Flips a bit of the one record of a queue that has these bytes in it. By the engine itself, which would else find by
/// its own checksums that its file was changed, and open nothing.
fn damage_record(queue: &Path, marker: &[u8]) {
    let engine = sled::Config::new().path(queue).segment_size(2 << 20);
    let engine = engine.use_compression(false).open().unwrap();
    let is_marked = |value: &[u8]| value.windows(marker.len()).any(|window| window == marker);
    let records = engine.iter().map(Result::unwrap);
    let found: Vec<_> = records.filter(|(_, value)| is_marked(value)).collect();
    assert_eq!(found.len(), 1, "the marked record is one");
    let mut value = found[0].1.to_vec();
    *value.last_mut().unwrap() ^= 1;
    engine.insert(&found[0].0, value).unwrap();
    engine.flush().unwrap();
}

/// G4: with one record damaged the daemon starts, delivers the rest, keeps the record's bytes, and says so wherever an
/// operator looks; a repair leaves a clean queue.
#[test]
fn g4_a_daemon_starts_with_a_damaged_record_and_says_so() {
    let mut target = Target::new();
    let crm = |more: &str| endpoint("crm", &target.url("/ok"), more);
    let mut daemon = Daemon::start(&crm("enabled = false"));
    for id in ["first", "marked-one", "last"] {
        daemon.accept(&event("a", id));
    }
    daemon.stop();
    damage_record(&daemon.path("queue/queue-1"), b"marked-one");
    daemon.write_config(&crm(""));
    daemon.restart();
    let delivered: Vec<String> = target
        .take(2)
        .iter()
        .map(|got| header(got, "webhook-id").to_owned())
        .collect();
    assert_eq!(
        BTreeSet::from_iter(delivered),
        BTreeSet::from(["first".to_owned(), "last".to_owned()])
    );
    daemon.until_settled("crm");

    let status = daemon.cli(&["status", "--json"]).exits(0).lines().remove(0);
    assert_eq!(status["store"]["quarantined"], 1, "{status}");
    let screen = daemon.cli(&["status"]).exits(0).out;
    assert!(
        screen.contains("1 record set aside as damaged") && screen.contains("posthaste store repair"),
        "{screen}"
    );
    let aside = daemon.get("/v1/quarantine").1["items"].clone();
    assert_eq!(aside.as_array().map(Vec::len), Some(1), "{aside}");
    assert!(
        aside[0]["why"].as_str().is_some_and(|why| !why.is_empty())
            && aside[0]["bytes"].as_u64().is_some_and(|bytes| bytes > 0),
        "{aside}"
    );
    let metrics = daemon.http("GET", "/metrics", None).1;
    assert!(metrics.contains("\nposthaste_store_quarantined 1\n"), "{metrics}");
    assert_eq!(target.requests(), 2);
    daemon.stop();

    let checked = store(&daemon, &["check", "--json"]).exits(1).lines();
    assert_eq!(checked[0]["quarantined"], 1, "{checked:?}");
    let config = daemon.path("config.toml").display().to_string();
    as_described(&daemon, "store repair", &["--config", &config, "--json"]);
    as_described(&daemon, "store repair", &["--config", &config, "--yes", "--json"]);
    store(&daemon, &["check"]).exits(0);
}

/// I6: damage in the log of attempts is told and mended by itself; the queue stays as it is, the damaged file is kept.
#[test]
fn i6_a_damaged_log_of_attempts_is_told_and_mended() {
    let target = Target::new();
    let mut daemon = Daemon::start(&endpoint("crm", &target.url("/"), ""));
    for round in 0..3 {
        daemon.accept_many("a", &format!("e{round}"), 20);
        daemon.until_settled("crm");
    }
    daemon.stop();
    let sound = store(&daemon, &["check"]).exits(0);
    assert!(
        sound.out.contains("log of attempts: 60 attempts in 1 file"),
        "{sound:?}"
    );
    let status = store(&daemon, &["status"]).exits(0);
    assert!(status.out.contains(" of attempts"), "{status:?}");

    let file = daemon.path("queue/attempts/00000000000000000001");
    let mut bytes = fs::read(&file).unwrap();
    bytes[20] ^= 1;
    fs::write(&file, &bytes).unwrap();
    let checked = store(&daemon, &["check"]).exits(1);
    assert!(
        checked.out.contains("bytes are damaged") && checked.err.contains("deliveries are not touched"),
        "{checked:?}"
    );
    let planned = store(&daemon, &["repair"]).exits(1);
    assert!(
        planned.out.contains("the queue is whole") && planned.err.contains("--yes"),
        "{planned:?}"
    );
    assert_eq!(fs::read(&file).unwrap(), bytes, "a plan changes nothing");
    let done = store(&daemon, &["repair", "--yes", "--json"]).exits(0).lines();
    assert_eq!(done[0]["kept"], Value::Null);
    let aside = Path::new(done[0]["quarantine"].as_str().unwrap()).join("attempts");
    assert_eq!(
        fs::read(aside.join(file.file_name().unwrap())).unwrap(),
        bytes,
        "the file is kept as it was"
    );
    store(&daemon, &["check"]).exits(0);
    daemon.restart();
    let left = daemon.get("/v1/attempts?limit=500").1["items"]
        .as_array()
        .unwrap()
        .len();
    assert!((1..60).contains(&left), "{left}");
}

/// I6: what may take long shows a person on a terminal that it goes on, and nobody else.
#[test]
fn i6_what_takes_long_shows_progress_on_a_terminal() {
    let target = Target::new();
    let daemon = stopped(&target);
    let config = daemon.path("config.toml");
    for (verb, shown) in [
        ("check", "reading everything"),
        ("export", "2 events"),
        ("repair", "reading everything"),
    ] {
        let words = format!("store {verb} --config {}", config.display());
        if !shows_progress(&daemon, &words, shown) {
            return;
        }
    }
    let plain = store(&daemon, &["check"]).exits(0);
    assert_eq!(plain.err, "");
}

/// Runs a command with its standard error on a terminal and its output in a file: the one shows how it goes on, the other
/// nothing but what was asked for. False: there is no terminal to be had.
fn shows_progress(daemon: &Daemon, words: &str, shown: &str) -> bool {
    let out = daemon.path("out");
    let command = format!("{} {words} > {}", env!("CARGO_BIN_EXE_posthaste"), out.display());
    // util-linux's script gives a program a terminal of its own.
    let mut script = Command::new("script");
    script.args(["-qefc", &command, "/dev/null"]).env("TERM", "xterm");
    let ran = match run(&mut script, "") {
        Ok(ran) => ran.exits(0),
        Err(error) => {
            required::missing("script", "apt-get install bsdutils", error);
            return false;
        }
    };
    assert!(ran.out.contains(shown), "{words}: {ran:?}");
    let written = fs::read_to_string(out).unwrap();
    assert!(!written.contains('\x1b'), "{words}: {written:?}");
    assert!(!written.is_empty() || words.starts_with("send"), "{words}");
    true
}

/// G2, I8: the same of what is asked of a running daemon: a long file that is sent, dead letters by the thousand.
#[test]
fn i8_what_a_daemon_takes_long_for_shows_progress_on_a_terminal() {
    let target = Target::new();
    let daemon = Daemon::start(&endpoint(
        "refusing",
        &target.url("/status/404"),
        "events = [\"a\"]",
    ));
    daemon.accept_many("a", "dead", 3);
    daemon.until_dead("refusing", 3);
    let line = json!({ "type": "b", "data": "x".repeat(2000) }).to_string() + "\n";
    let file = daemon.path("long.ndjson");
    fs::write(&file, line.repeat(800)).unwrap();
    let (control, ingest) = (daemon.control(), daemon.ingest());
    for (words, socket, shown) in [
        (format!("send --ndjson {}", file.display()), &ingest, "MiB"),
        ("dead export".to_owned(), &control, "dead letters"),
        ("dead replay --all".to_owned(), &control, "replaying"),
        ("dead purge --all --yes".to_owned(), &control, "purging"),
    ] {
        if !shows_progress(&daemon, &format!("{words} --socket {}", socket.display()), shown) {
            return;
        }
    }
}
