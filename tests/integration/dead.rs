//! The dead letters, as an operator works with them: by command line, by API, by a pipe from one to the other.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::servers::{Target, header};
use crate::harness::{Daemon, endpoint, event};

const ONCE: &str = "retry = { max_attempts = 1 }\nbreaker = { failures = 1000, min_requests = 1000 }";

/// A daemon with dead letters: three of `crm` (422, types a.x, a.y, a.y) and two of `erp` (500, type b).
fn with_five(target: &Target) -> Daemon {
    let text = endpoint(
        "crm",
        &target.url("/status/422"),
        &format!("events = [\"a.*\"]\n{ONCE}"),
    ) + &endpoint(
        "erp",
        &target.url("/status/500"),
        &format!("events = [\"b\"]\n{ONCE}"),
    );
    let daemon = Daemon::start(&text);
    for (kind, id) in [("a.x", "1"), ("a.y", "2"), ("a.y", "3"), ("b", "4"), ("b", "5")] {
        daemon.accept(&event(kind, id));
    }
    daemon.until_dead("crm", 3);
    daemon.until_dead("erp", 2);
    daemon
}

/// The events of the dead letters that `posthaste dead list` finds, in order of their ids.
fn listed(daemon: &Daemon, filter: &[&str]) -> Vec<String> {
    let ran = daemon
        .cli(&[&["dead", "list", "--json"], filter].concat())
        .exits(0);
    let mut ids: Vec<_> = ran
        .lines()
        .iter()
        .map(|line| line["event_id"].as_str().unwrap().to_owned())
        .collect();
    ids.sort();
    ids
}

/// G1, C6: a dead letter has the event, the reason, and the last request and answer.
#[test]
fn g1_a_dead_letter_has_its_evidence() {
    let target = Target::new();
    let daemon = with_five(&target);
    let letter = daemon
        .until_dead("crm", 3)
        .into_iter()
        .find(|letter| letter["event_id"] == "1")
        .unwrap();
    let id = letter["id"].as_str().unwrap();
    let (code, whole) = daemon.get(&format!("/v1/dead/{id}"));
    assert_eq!(code, 200);
    assert_eq!(
        (&whole["event"]["type"], &whole["event"]["data"]["n"]),
        (&json!("a.x"), &json!("1"))
    );
    assert_eq!(
        (&whole["reason"], &whole["tries"]),
        (&json!("not_retried"), &json!(1))
    );
    assert_eq!(
        whole["last"]["request_line"],
        format!("POST {}", target.url("/status/422"))
    );
    let headers = whole["last"]["request_headers"].as_array().unwrap();
    assert!(headers.contains(&json!(["webhook-id", "1"])), "{headers:?}");

    let shown = daemon.cli(&["dead", "show", id]).exits(0).out;
    for part in [
        "crm",
        "not_retried",
        "422 Unprocessable",
        "a.x",
        &target.url("/status/422"),
        "\"n\":\"1\"",
    ] {
        assert!(
            shown.replace(' ', "").contains(&part.replace(' ', "")),
            "{part:?} is not in\n{shown}"
        );
    }
    let missing = daemon.cli(&["dead", "show", "crm:999999"]).exits(1);
    assert!(missing.err.contains("crm:999999"), "{missing:?}");
}

/// G2: filters by endpoint, type, reason, status and time, in the command and in the API; pages.
#[test]
fn g2_filters_narrow_the_list() {
    let target = Target::new();
    let daemon = with_five(&target);
    for (filter, expected) in [
        (&["--endpoint", "erp"][..], &["4", "5"][..]),
        (&["--type", "a.y"], &["2", "3"]),
        (&["--type", "a.*"], &["1", "2", "3"]),
        (&["--reason", "max_attempts"], &["4", "5"]),
        (&["--status", "422"], &["1", "2", "3"]),
        (&["--status", "422", "--type", "a.x"], &["1"]),
        (&["--since", "1h"], &["1", "2", "3", "4", "5"]),
        (&["--until", "1h"], &[]),
        (&["--limit", "2", "--endpoint", "erp"], &["4", "5"]),
    ] {
        assert_eq!(listed(&daemon, filter), expected, "{filter:?}");
    }
    let (_, first) = daemon.get("/v1/dead?limit=3");
    let cursor = first["next"].as_str().expect("there is more");
    let (_, second) = daemon.get(&format!("/v1/dead?limit=3&cursor={cursor}"));
    assert_eq!(
        (
            first["items"].as_array().unwrap().len(),
            second["items"].as_array().unwrap().len()
        ),
        (3, 2)
    );
    assert_eq!(second.get("next"), None, "{second}");
    let table = daemon.cli(&["dlq", "list"]).exits(0).out;
    assert!(table.contains("not_retried") && table.contains("crm:"), "{table}");
    daemon.cli(&["dead", "list", "--reason", "nonsense"]).exits(2);
}

/// G2: a dry run counts and changes nothing; a replay delivers again with the whole retry budget and the same id.
#[test]
fn g2_replay_restores_the_whole_budget() {
    let mut target = Target::new();
    let more = "retry = { delay = \"20ms\", max_attempts = 3 }\nbreaker = { failures = 1000 }";
    let daemon = Daemon::start(&endpoint("crm", &target.url("/fail-first/5/500"), more));
    daemon.accept(&event("a", "e1"));
    let letter = daemon.until_dead("crm", 1).remove(0);
    target.take(3);
    let id = letter["id"].as_str().unwrap();
    let dry = daemon.cli(&["dead", "replay", id, "--dry-run"]).exits(0);
    assert!(dry.out.starts_with("1 dead letter would be replayed"), "{dry:?}");
    assert_eq!(listed(&daemon, &[]), ["e1"]);
    let done = daemon.cli(&["dead", "replay", id]).exits(0);
    assert!(done.out.starts_with("1 dead letter replayed"), "{done:?}");
    for attempt in ["1", "2", "3"] {
        let got = target.next();
        assert_eq!(
            (header(&got, "webhook-id"), header(&got, "x-posthaste-attempt")),
            ("e1", attempt)
        );
    }
    daemon.until_row("crm", "delivered", |row| {
        row["attempts"]["delivered"] == 1 && row["pending"] == 0
    });
    assert_eq!(listed(&daemon, &[]), [""; 0]);
    let gone = daemon.cli(&["dead", "replay", id]).exits(1);
    assert!(gone.err.contains(id), "{gone:?}");
}

/// G2: what one command lists, another takes on its standard input: JSON lines or bare ids.
#[test]
fn g2_ids_come_from_standard_input() {
    let mut target = Target::new();
    let daemon = with_five(&target);
    target.take(5);
    let list = daemon
        .cli(&["dead", "list", "--endpoint", "erp", "--json"])
        .exits(0)
        .out;
    let replayed = daemon
        .cli_with(&["dead", "replay", "-", "--json"], &list)
        .exits(0)
        .lines();
    assert_eq!(
        (&replayed[0]["matched"], &replayed[0]["changed"]),
        (&json!(2), &json!(2))
    );
    let mut again: Vec<_> = target
        .take(2)
        .iter()
        .map(|got| header(got, "webhook-id").to_owned())
        .collect();
    again.sort();
    assert_eq!(again, ["4", "5"]);
    let ids: Vec<_> = daemon
        .until_dead("crm", 3)
        .iter()
        .map(|letter| letter["id"].as_str().unwrap().to_owned())
        .collect();
    let purged = daemon
        .cli_with(&["dead", "purge", "--yes", "-"], &(ids.join("\n") + "\n"))
        .exits(0);
    assert!(purged.out.starts_with("3 dead letters purged"), "{purged:?}");
    daemon.until_dead("erp", 2);
    assert_eq!(listed(&daemon, &[]), ["4", "5"]);
}

/// G2: what destroys wants `--yes` where nobody can be asked, and never means all by accident.
#[test]
fn g2_purge_asks_first() {
    let target = Target::new();
    let daemon = with_five(&target);
    let refused = daemon.cli(&["dead", "purge", "--endpoint", "crm"]).exits(2);
    assert!(refused.err.contains("--yes"), "{refused:?}");
    daemon.cli(&["dead", "purge", "--yes"]).exits(2);
    daemon.cli(&["dead", "replay"]).exits(2);
    assert_eq!(listed(&daemon, &[]).len(), 5);
    daemon
        .cli(&["dead", "purge", "--endpoint", "crm", "--dry-run"])
        .exits(0);
    assert_eq!(listed(&daemon, &[]).len(), 5);
    daemon.cli(&["dead", "purge", "--type", "a.x", "--yes"]).exits(0);
    assert_eq!(listed(&daemon, &[]), ["2", "3", "4", "5"]);
    daemon.cli(&["dead", "purge", "--all", "--yes"]).exits(0);
    assert_eq!(listed(&daemon, &[]), [""; 0]);
    daemon.until_row("crm", "empty", |row| row["dead"] == 0);
}

/// G2: a paced replay spreads the requests over time, so that a receiver that has just come back is not flooded.
#[test]
fn g2_a_paced_replay_keeps_its_rate() {
    let mut target = Target::new();
    let daemon = with_five(&target);
    target.take(5);
    daemon.cli(&["dead", "replay", "--all", "--rate", "5/s"]).exits(0);
    let again = target.take(5);
    let took = again[4].at.since(again[0].at);
    assert!(took >= Duration::from_millis(700), "five at 5/s in {took:?}");
    for name in [("crm", 3), ("erp", 2)] {
        daemon.until_dead(name.0, name.1);
    }
}

/// G2: an export has everything that is needed to send the events again by other means.
#[test]
fn g2_export_is_complete() {
    let target = Target::new();
    let daemon = with_five(&target);
    let lines = daemon
        .cli(&["dead", "export", "--endpoint", "crm"])
        .exits(0)
        .lines();
    let mut events: Vec<(String, Value)> = lines
        .iter()
        .map(|line| {
            (
                line["event"]["id"].as_str().unwrap().to_owned(),
                line["event"]["data"].clone(),
            )
        })
        .collect();
    events.sort_by(|a, b| a.0.cmp(&b.0));
    let expected = ["1", "2", "3"].map(|id| (id.to_owned(), json!({ "n": id })));
    assert_eq!(events, expected);
    assert!(
        lines.iter().all(|line| line["last"]["status"] == 422),
        "{lines:?}"
    );
    assert_eq!(listed(&daemon, &[]).len(), 5, "an export changes nothing");
}

/// G1: dead letters survive a crash and an orderly restart.
#[test]
fn g1_dead_letters_survive_restarts() {
    let target = Target::new();
    let mut daemon = with_five(&target);
    // The counts move when a commit is on disk; the list may be a moment earlier.
    for (name, count) in [("crm", 3), ("erp", 2)] {
        daemon.until_row(name, "dead on disk", |row| row["dead"] == count);
    }
    let (_, before) = daemon.get("/v1/dead");
    daemon.kill();
    daemon.restart();
    assert_eq!(daemon.get("/v1/dead").1, before);
    daemon.stop();
    daemon.restart();
    assert_eq!(daemon.get("/v1/dead").1, before);
    assert_eq!((&daemon.row("crm")["dead"], target.requests()), (&json!(3), 5));
}

/// G2: the API tells wrong questions from wrong ids.
#[test]
fn g2_the_api_refuses_with_reasons() {
    let target = Target::new();
    let daemon = with_five(&target);
    for (path, body, code) in [
        ("/v1/dead/replay", json!({}), "bad_request"),
        (
            "/v1/dead/replay",
            json!({ "ids": [], "filter": {} }),
            "bad_request",
        ),
        (
            "/v1/dead/replay",
            json!({ "filter": { "endpoint": "crm" }, "rate": "fast" }),
            "bad_request",
        ),
        (
            "/v1/dead/purge",
            json!({ "filter": { "endpont": "crm" } }),
            "bad_request",
        ),
        (
            "/v1/dead/purge",
            json!({ "ids": ["crm:1"], "rate": "5/s" }),
            "bad_request",
        ),
    ] {
        let (status, answer) = daemon.post(path, &body);
        assert_eq!(
            (status, &answer["error"]["code"]),
            (400, &json!(code)),
            "{path} {body}: {answer}"
        );
    }
    let (status, report) = daemon.post("/v1/dead/replay", &json!({ "ids": ["crm:99999", "nonsense"] }));
    assert_eq!(
        (status, &report["not_found"]),
        (200, &json!(["crm:99999", "nonsense"])),
        "{report}"
    );
    assert_eq!(daemon.get("/v1/dead/crm:99999").0, 404);
    assert_eq!(listed(&daemon, &[]).len(), 5);
}

/// G3: to another endpoint, from one that was removed too: a new event with the old one's data, and the dead letter goes.
#[test]
fn g3_replay_to_another_endpoint() {
    let mut target = Target::new();
    let daemon = with_five(&target);
    target.take(5);
    let other = endpoint("other", &target.url("/other"), "events = [\"none\"]");
    let crm = endpoint(
        "crm",
        &target.url("/status/422"),
        &format!("events = [\"a.*\"]\n{ONCE}"),
    );
    daemon.write_config(&(crm + &other));
    daemon.cli(&["reload"]).exits(0);
    let refused = daemon.cli(&["dead", "replay", "--endpoint", "erp"]).exits(1);
    assert!(refused.err.contains("--to OTHER"), "{refused:?}");
    daemon
        .cli(&["dead", "replay", "--endpoint", "erp", "--to", "nobody"])
        .exits(2);
    let dry = [
        "dead",
        "replay",
        "--endpoint",
        "erp",
        "--to",
        "other",
        "--dry-run",
    ];
    let dry = daemon.cli(&dry).exits(0);
    assert!(dry.out.starts_with("2 dead letters would be replayed"), "{dry:?}");
    assert_eq!(
        (listed(&daemon, &["--endpoint", "erp"]).len(), target.requests()),
        (2, 5)
    );
    let done = [
        "dead",
        "replay",
        "--endpoint",
        "erp",
        "--to",
        "other",
        "--rate",
        "5/s",
    ];
    let done = daemon.cli(&done).exits(0);
    assert!(
        done.out.starts_with("2 dead letters replayed, the last one due"),
        "{done:?}"
    );
    let got = target.take(2);
    let took = got[1].at.since(got[0].at);
    assert!(took >= Duration::from_millis(150), "two at 5/s in {took:?}");
    let mut events: Vec<Value> = got
        .iter()
        .map(|got| {
            let event: Value = serde_json::from_slice(&got.body).unwrap();
            assert_eq!(
                (&*got.path, header(got, "webhook-id")),
                ("/other", event["id"].as_str().unwrap())
            );
            assert_ne!(event["id"], event["replayof"]);
            json!([event["type"], event["replayof"], event["data"], event["endpoint"]])
        })
        .collect();
    events.sort_by_key(Value::to_string);
    assert_eq!(
        events,
        [
            json!(["b", "4", { "n": "4" }, "other"]),
            json!(["b", "5", { "n": "5" }, "other"])
        ]
    );
    assert_eq!(listed(&daemon, &[]), ["1", "2", "3"]);
    daemon.until_settled("other");
}

/// G3: with another payload, from a file, from standard input, and by an editor; once each, also when asked twice.
#[test]
fn g3_replay_with_another_payload() {
    let mut target = Target::new();
    let more = format!("events = [\"a\"]\nconcurrency = 1\n{ONCE}");
    let daemon = Daemon::start(&endpoint("crm", &target.url("/status/422"), &more));
    for id in ["1", "2", "3"] {
        daemon.accept(&event("a", id));
    }
    let letters = daemon.until_dead("crm", 3);
    target.take(3);
    daemon.write_config(&endpoint("crm", &target.url("/ok"), &more));
    daemon.cli(&["reload"]).exits(0);
    let id = |n: usize| letters[n]["id"].as_str().unwrap();
    std::fs::write(daemon.path("fixed.json"), "{\"n\":\"fixed\"}").unwrap();
    daemon
        .cli(&["dead", "replay", "--all", "--data", "fixed.json"])
        .exits(2);
    daemon
        .cli(&["dead", "replay", id(0), id(1), "--data", "fixed.json"])
        .exits(2);
    daemon
        .cli_with(&["dead", "replay", id(0), "--data", "-"], "{")
        .exits(2);
    assert_eq!((listed(&daemon, &[]).len(), target.requests()), (3, 3));

    daemon
        .cli(&["dead", "replay", id(0), "--data", "fixed.json"])
        .exits(0);
    let got = target.next();
    let body: Value = serde_json::from_slice(&got.body).unwrap();
    assert_eq!(
        (&body["data"]["n"], &body["replayof"]),
        (&json!("fixed"), &letters[0]["event_id"])
    );
    daemon
        .cli_with(&["dead", "replay", id(1), "--data", "-"], "[1.50]")
        .exits(0);
    assert!(String::from_utf8_lossy(&target.next().body).contains("\"data\":[1.5]"));
    assert_eq!(listed(&daemon, &[]), [letters[2]["event_id"].as_str().unwrap()]);

    let edit = |script: &str| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_posthaste"));
        command
            .args(["dead", "replay", id(2), "--edit"])
            .env("POSTHASTE_SOCKET", daemon.control());
        command.env_remove("VISUAL").env("EDITOR", script);
        crate::harness::run(&mut command, "").unwrap()
    };
    let unchanged = edit("true").exits(2);
    assert!(unchanged.err.contains("nothing was changed"), "{unchanged:?}");
    edit("false").exits(1);
    edit("sed -i s/n/%/").exits(0);
    let body: Value = serde_json::from_slice(&target.next().body).unwrap();
    assert_eq!(body["data"], json!({ "%": letters[2]["event_id"] }));
    assert_eq!(listed(&daemon, &[]), [""; 0]);
    let again = daemon
        .cli(&["dead", "replay", id(0), "--data", "fixed.json"])
        .exits(1);
    assert!(again.err.contains(id(0)), "{again:?}");
    daemon.until_settled("crm");
    assert_eq!(target.requests(), 6);
}
