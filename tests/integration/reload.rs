//! Changing the configuration of a running daemon, and what becomes of what removed endpoints are owed.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::servers::{Gate, Judge, Target, header};
use crate::harness::{Daemon, endpoint, event, eventually};

/// I2: by signal, by API and by command: the new configuration is in force as a whole, and its hash is told.
#[test]
fn i2_reload_adopts_and_reports() {
    let mut target = Target::new();
    let one = endpoint("one", &target.url("/one"), "");
    let two = endpoint("two", &target.url("/two"), "");
    let daemon = Daemon::start(&one);
    let hash = |daemon: &Daemon| daemon.get("/v1/status").1["config_hash"].clone();
    let first = hash(&daemon);

    daemon.write_config(&(one.clone() + &two));
    let (code, report) = daemon.post("/v1/reload", &json!({}));
    assert_eq!(
        (code, &report["added"], &report["removed"], &report["changed"]),
        (200, &json!(["two"]), &json!([]), &json!([]))
    );
    assert_eq!(
        (&report["previous_hash"], &report["hash"]),
        (&first, &hash(&daemon))
    );
    assert_ne!(first, hash(&daemon));
    assert_eq!(daemon.accept(&event("a", "e1"))["deliveries"], 2);
    target.take(2);

    daemon.write_config(&endpoint("two", &target.url("/changed"), ""));
    let second = hash(&daemon);
    daemon.signal(Signal::HUP);
    eventually("another hash", || (hash(&daemon) != second).then_some(()));
    assert_eq!(daemon.accept(&event("a", "e2"))["deliveries"], 1);
    assert_eq!(target.next().path, "/changed");

    daemon.write_config(&format!("[limits]\nin_flight = 7\n{one}"));
    let ran = daemon.cli(&["reload"]).exits(0);
    for part in [
        "added: one",
        "removed (what they are owed stays, as orphaned): two",
        "next restart: [limits]",
    ] {
        assert!(ran.out.contains(part), "{part:?} is not in {ran:?}");
    }
    assert!(
        daemon
            .cli(&["reload"])
            .exits(0)
            .out
            .contains("nothing has changed")
    );
}

/// I2: an endpoint comes back while what it is owed moves to another, again and again: every event is delivered, and
/// once.
#[test]
fn i2_an_endpoint_that_comes_back_while_its_orphans_move() {
    const EVENTS: usize = 3000;
    let judge = Judge::new(|_| 200);
    let with_old = |rest: &str| endpoint("old", &judge.url(), &format!("events = [\"a\"]\n{rest}"));
    let new = endpoint("new", &judge.url(), "events = [\"none\"]");
    let daemon = Daemon::start(&(with_old("enabled = false") + &new));
    daemon.accept_many("a", "e", EVENTS);
    let is_over = AtomicBool::new(false);
    let mut refused = 0;
    thread::scope(|scope| {
        scope.spawn(|| {
            // Its rate leaves something to move each time it goes again.
            for config in [new.clone(), with_old("rate = \"2000/s\"") + &new].iter().cycle() {
                if is_over.load(Ordering::SeqCst) {
                    break;
                }
                daemon.write_config(config);
                assert_eq!(daemon.post("/v1/reload", &json!({})).0, 200);
            }
        });
        let pending = || daemon.get("/v1/status").1["totals"]["pending"].as_u64();
        while pending() != Some(0) {
            let (code, answer) = daemon.post("/v1/endpoints/old/move", &json!({ "to": "new" }));
            assert!(matches!(code, 200 | 409), "{answer}");
            refused += usize::from(code == 409);
        }
        is_over.store(true, Ordering::SeqCst);
    });
    let seen = judge.seen();
    let ids: HashSet<String> = seen
        .iter()
        .map(|judged| serde_json::from_str::<Value>(&judged.body).unwrap()["id"].to_string())
        .collect();
    assert_eq!(
        (ids.len(), seen.len()),
        (EVENTS, EVENTS),
        "{refused} moves were refused"
    );
}

/// I2: a configuration with a mistake changes nothing, and every problem is told with its place.
#[test]
fn i2_a_bad_configuration_changes_nothing() {
    let mut target = Target::new();
    let daemon = Daemon::start(&endpoint("one", &target.url("/one"), ""));
    let (_, before) = daemon.get("/v1/config");
    daemon.write_config("[[endpoint]]\nname = \"two\"\nurl = \"nowhere\"\n[[endpoint]]\nname = \"three\"\n");
    let (code, answer) = daemon.post("/v1/reload", &json!({}));
    assert_eq!(
        (code, &answer["error"]["code"]),
        (422, &json!("invalid_config")),
        "{answer}"
    );
    let problems = answer["error"]["problems"].as_array().unwrap();
    assert_eq!(problems.len(), 2, "{problems:?}");
    let text = std::fs::read_to_string(daemon.path("config.toml")).unwrap();
    let line = 1 + text.lines().position(|line| line.contains("nowhere")).unwrap();
    assert!(
        problems[0]
            .as_str()
            .unwrap()
            .contains(&format!("config.toml:{line}:7")),
        "{problems:?}"
    );
    let ran = daemon.cli(&["reload"]).exits(1);
    assert!(ran.err.contains(&format!("config.toml:{line}:7")), "{ran:?}");
    daemon.signal(Signal::HUP);
    daemon.logs("the old configuration stays in force");
    assert_eq!(daemon.get("/v1/config").1, before);
    assert_eq!(daemon.accept(&event("a", "e1"))["deliveries"], 1);
    assert_eq!(target.next().path, "/one");
}

/// I2: what is under way when the configuration changes ends by the rules it began with, and once.
#[test]
fn i2_requests_under_way_survive_a_reload() {
    let gate = Gate::new();
    let daemon = Daemon::start(&endpoint("slow", &gate.url(), ""));
    daemon.accept(&event("a", "e1"));
    eventually("a request", || (gate.requests() == 1).then_some(()));
    daemon.write_config(&endpoint("slow", &gate.url(), "timeout = \"7s\""));
    assert_eq!(
        daemon
            .cli(&["reload"])
            .exits(0)
            .out
            .matches("changed: slow")
            .count(),
        1
    );
    assert_eq!(daemon.row("slow")["in_flight"], 1);
    gate.open();
    daemon.until_row("slow", "delivered", |row| {
        row["attempts"]["delivered"] == 1 && row["pending"] == 0
    });
    assert_eq!(gate.requests(), 1);
}

/// I2: endpoints that come while producers write get every event from some moment on, and nobody else misses one.
#[test]
fn i2_an_endpoint_added_under_load_loses_nothing() {
    let (mut old, mut new) = (Target::new(), Target::new());
    let one = endpoint("old", &old.url("/ok"), "");
    let daemon = Daemon::start(&one);
    let done = AtomicBool::new(false);
    let owed: Vec<(String, u64)> = thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut producer = daemon.producer();
            let mut owed = Vec::new();
            // A few hundred more after the reload, however long it takes.
            let mut after = 0;
            while after < 300 {
                after += usize::from(done.load(Ordering::SeqCst));
                let answer = producer.send(r#"{"type":"a"}"#);
                assert_eq!(answer["status"], "accepted", "{answer}");
                owed.push((
                    answer["id"].as_str().unwrap().to_owned(),
                    answer["deliveries"].as_u64().unwrap(),
                ));
            }
            owed
        });
        eventually("some events", || (old.requests() > 100).then_some(()));
        daemon.write_config(&(one.clone() + &endpoint("new", &new.url("/ok"), "")));
        daemon.cli(&["reload"]).exits(0);
        done.store(true, Ordering::SeqCst);
        writer.join().expect("the writer's own checks hold")
    });
    let ids = |target: &mut Target, count: usize| -> HashSet<String> {
        target
            .take(count)
            .iter()
            .map(|got| header(got, "webhook-id").to_owned())
            .collect()
    };
    let all: HashSet<String> = owed.iter().map(|(id, _)| id.clone()).collect();
    let twice: HashSet<String> = owed
        .iter()
        .filter(|(_, n)| *n == 2)
        .map(|(id, _)| id.clone())
        .collect();
    assert!(
        twice.len() >= 299 && twice.len() < all.len(),
        "{} of {}",
        twice.len(),
        all.len()
    );
    assert_eq!(ids(&mut old, all.len()), all);
    assert_eq!(ids(&mut new, twice.len()), twice);
}

/// A daemon whose endpoint `gone` was removed with four deliveries owed (paused) and one dead letter.
fn with_orphan(target: &Target) -> Daemon {
    let gone =
        |path: &str, more: &str| endpoint("gone", &target.url(path), &format!("events = [\"a\"]\n{more}"));
    let kept = endpoint("kept", &target.url("/kept"), "events = [\"b\"]");
    let daemon = Daemon::start(&(gone("/status/404", "") + &kept));
    daemon.accept(&event("a", "dead"));
    daemon.until_dead("gone", 1);
    daemon.cli(&["endpoints", "pause", "gone"]).exits(0);
    daemon.accept_many("a", "e", 4);
    daemon.write_config(&kept);
    daemon.cli(&["reload"]).exits(0);
    daemon
}

/// What was accepted for an endpoint that is removed stays, is seen, and can be handed to another one.
#[test]
fn i2_orphans_are_seen_and_can_be_moved() {
    let mut target = Target::new();
    let mut daemon = with_orphan(&target);
    assert_eq!(target.take(1)[0].path, "/status/404");
    for _ in 0..2 {
        let row = daemon.row("gone");
        assert_eq!(
            (&row["state"], &row["pending"], &row["dead"]),
            (&json!("orphaned"), &json!(4), &json!(1))
        );
        let screen = daemon.cli(&["status"]).exits(0).out;
        assert!(screen.contains("posthaste endpoints move gone --to"), "{screen}");
        daemon.kill();
        daemon.restart();
    }
    daemon
        .cli(&["endpoints", "move", "gone", "--to", "nobody"])
        .exits(2);
    daemon
        .cli(&["endpoints", "move", "kept", "--to", "gone"])
        .exits(1);
    let moved = daemon
        .cli(&["endpoints", "move", "gone", "--to", "kept"])
        .exits(0);
    assert!(moved.out.starts_with("4 deliveries moved"), "{moved:?}");
    let got = target.take(4);
    assert!(got.iter().all(|got| got.path == "/kept"));
    let ids: HashSet<_> = got.iter().map(|got| header(got, "webhook-id")).collect();
    assert_eq!(ids, HashSet::from(["e-0", "e-1", "e-2", "e-3"]));
    let row = daemon.row("gone");
    assert_eq!((&row["pending"], &row["dead"]), (&json!(0), &json!(1)));
}

/// The other way out: what is owed becomes dead letters, which can be exported and purged.
#[test]
fn i2_orphans_can_be_buried() {
    let target = Target::new();
    let daemon = with_orphan(&target);
    let buried = daemon
        .cli(&["endpoints", "bury", "gone", "--reason", "shut down"])
        .exits(0);
    assert!(
        buried.out.starts_with("4 deliveries among the dead letters"),
        "{buried:?}"
    );
    let letters = daemon.until_dead("gone", 5);
    let orphaned = letters
        .iter()
        .filter(|letter| letter["reason"] == "orphaned")
        .count();
    assert_eq!(orphaned, 4);
    let refused = daemon.cli(&["dead", "replay", "--endpoint", "gone"]).exits(1);
    assert!(
        refused.err.contains("not in the configuration any more"),
        "{refused:?}"
    );
    assert_eq!(
        daemon
            .cli(&["dead", "export", "--endpoint", "gone"])
            .exits(0)
            .lines()
            .len(),
        5
    );
    daemon
        .cli(&["dead", "purge", "--endpoint", "gone", "--yes"])
        .exits(0);
    assert_eq!(daemon.row("gone"), Value::Null, "nothing is left of it");
}

/// B6: an endpoint that was removed while it was paused is still paused when it comes back.
#[test]
fn b6_a_pause_survives_removal_and_return() {
    let mut target = Target::new();
    let text = endpoint("crm", &target.url("/ok"), "");
    let daemon = Daemon::start(&text);
    daemon.cli(&["endpoints", "pause", "crm"]).exits(0);
    daemon.accept_many("a", "e", 3);
    for text in ["", &text] {
        daemon.write_config(text);
        daemon.cli(&["reload"]).exits(0);
    }
    daemon.accept(&event("a", "last"));
    let (_, views) = daemon.get("/v1/status");
    assert_eq!(
        (&views["endpoints"][0]["state"], &views["totals"]["pending"]),
        (&json!("paused"), &json!(4))
    );
    // A round through the daemon: what wanted to leave has left by now.
    daemon.cli(&["endpoints", "list"]).exits(0);
    assert_eq!(target.requests(), 0);
    daemon.cli(&["endpoints", "resume", "crm"]).exits(0);
    assert_eq!(target.take(4).len(), 4);
}
