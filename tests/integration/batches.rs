//! Several events in one request: when it leaves, how it looks, and what becomes of it when one event in it is bad.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::servers::{Judge, Judged, Target, header};
use crate::harness::{Daemon, Setup, endpoint, event};

fn ids(array: &Value) -> Vec<String> {
    let events = array.as_array().expect("an array");
    events
        .iter()
        .map(|e| e["id"].as_str().unwrap().to_owned())
        .collect()
}

fn ids_of(judged: &Judged) -> Vec<String> {
    ids(&serde_json::from_str(&judged.body).unwrap())
}

/// C8: by count, without waiting; the last ones by age, with nothing else happening.
#[test]
fn c8_a_batch_leaves_by_count_or_by_age() {
    let mut target = Target::new();
    let batch = "concurrency = 1\nbatch = { max_events = 10, max_wait = \"700ms\" }";
    let daemon = Daemon::start(&endpoint("crm", &target.url("/"), batch));
    let started = Instant::now();
    daemon.accept_many("a", "e", 23);
    let requests = target.take(3);
    assert!(started.elapsed() >= Duration::from_millis(700));
    let all: Vec<Vec<String>> = requests
        .iter()
        .map(|got| ids(&serde_json::from_slice(&got.body).unwrap()))
        .collect();
    assert_eq!(all.iter().map(Vec::len).collect::<Vec<_>>(), [10, 10, 3]);
    let expected: Vec<String> = (0..23).map(|n| format!("e-{n}")).collect();
    assert_eq!(all.concat(), expected);
    let ids: BTreeSet<&str> = requests.iter().map(|got| header(got, "webhook-id")).collect();
    assert!(ids.len() == 3 && ids.iter().all(|id| id.len() == 26), "{ids:?}");
    daemon.until_settled("crm");
    assert_eq!(daemon.row("crm")["attempts"]["delivered"], 23);
}

/// C8: by bytes; an event larger than a batch goes alone.
#[test]
fn c8_a_batch_leaves_by_bytes() {
    let mut target = Target::new();
    let batch = "concurrency = 1\nbatch = { max_events = 1000, max_bytes = \"10KiB\", max_wait = \"1h\" }";
    let daemon = Daemon::start(&endpoint("crm", &target.url("/"), batch));
    let sized =
        |id: &str, bytes: usize| json!({"type": "a", "id": id, "data": "x".repeat(bytes)}).to_string();
    for n in 0..4 {
        daemon.accept(&sized(&format!("e{n}"), 3000));
    }
    daemon.accept(&sized("large", 50_000));
    let requests = target.take(3);
    for (got, expected) in requests
        .iter()
        .zip([&["e0", "e1", "e2"][..], &["e3"], &["large"]])
    {
        assert_eq!(ids(&serde_json::from_slice(&got.body).unwrap()), expected);
    }
    daemon.until_settled("crm");
}

/// C8: the shapes of the body, each with its media type.
#[test]
fn c8_every_shape() {
    for (shape, content_type) in [
        ("shape = \"array\"", "application/json"),
        ("shape = \"ndjson\"", "application/x-ndjson"),
        ("shape = \"wrapped\"", "application/json"),
    ] {
        let mut target = Target::new();
        let batch = format!("batch = {{ max_events = 3, max_wait = \"1h\", {shape} }}");
        let daemon = Daemon::start(&endpoint("crm", &target.url("/"), &batch));
        daemon.accept_many("a", "e", 3);
        let got = target.next();
        assert_eq!(header(&got, "content-type"), content_type, "{shape}");
        let text = String::from_utf8(got.body.to_vec()).unwrap();
        let events = match shape {
            "shape = \"ndjson\"" => text
                .lines()
                .map(|line| serde_json::from_str::<Value>(line).unwrap())
                .collect(),
            "shape = \"array\"" => serde_json::from_str(&text).unwrap(),
            _ => serde_json::from_str::<Value>(&text).unwrap()["events"].take(),
        };
        assert_eq!(ids(&events), ["e-0", "e-1", "e-2"], "{shape}");
    }
}

/// C8: a batch with one poisonous event parts until that one is alone: it becomes a dead letter, all others arrive.
#[test]
fn c8_one_poisonous_event_does_not_sink_its_batch() {
    let judge = Judge::new(|body| if body.contains("\"e-5\"") { 400 } else { 200 });
    let batch = "concurrency = 4\nbatch = { max_events = 16, max_wait = \"1h\" }";
    let daemon = Daemon::start(&endpoint("crm", &judge.url(), batch));
    daemon.accept_many("a", "e", 16);
    let letter = daemon.until_dead("crm", 1).remove(0);
    assert_eq!(
        (&letter["event_id"], &letter["reason"]),
        (&json!("e-5"), &json!("not_retried")),
        "{letter}"
    );
    daemon.until_settled("crm");
    let seen = judge.seen();
    assert_eq!(seen.len(), 9, "halves down to one: {seen:?}");
    let mut delivered: Vec<String> = seen.iter().filter(|r| r.status == 200).flat_map(ids_of).collect();
    delivered.sort();
    delivered.dedup();
    assert_eq!(delivered.len(), 15);
    assert_eq!(
        seen.iter()
            .filter(|r| r.status == 200)
            .map(|r| ids_of(r).len())
            .sum::<usize>(),
        15,
        "each once"
    );
}

/// C8, F1: a batch that fails for a while is the same set under the same id on every try, also after a crash.
#[test]
fn c8_a_batch_keeps_its_id() {
    let judge = Judge::new(|_| 503);
    let batch =
        "retry = { delay = \"300ms\", jitter = 0.0 }\nbatch = { max_events = 5, max_wait = \"10ms\" }";
    let mut daemon = Daemon::start(&endpoint("crm", &judge.url(), batch));
    daemon.accept_many("a", "e", 5);
    judge.until(1);
    daemon.until_row("crm", "deferred", |row| row["deferred"] == 5);
    daemon.kill();
    daemon.restart();
    let seen = judge.until(2);
    assert_eq!(seen[0].id, seen[1].id);
    assert_eq!(ids_of(&seen[0]), ids_of(&seen[1]));
}

/// F8: best effort is one try for a batch too, and leaves nothing behind.
#[test]
fn f8_a_best_effort_batch_is_tried_once() {
    let judge = Judge::new(|_| 400);
    let batch = "best_effort = true\nbatch = { max_events = 5, max_wait = \"1h\" }";
    let daemon = Daemon::start(&endpoint("crm", &judge.url(), batch));
    daemon.accept_many("a", "e", 5);
    daemon.until_settled("crm");
    assert_eq!((judge.seen().len(), &daemon.row("crm")["dead"]), (1, &json!(0)));
}

/// A batch that waits is seen in the status, and kept when the daemon is killed.
#[test]
fn c8_a_waiting_batch_is_shown_and_survives() {
    let mut target = Target::new();
    let batch = |wait: &str| {
        endpoint(
            "crm",
            &target.url("/"),
            &format!("batch = {{ max_events = 100, max_wait = \"{wait}\" }}"),
        )
    };
    let (slow, fast) = (batch("1h"), batch("10ms"));
    let mut daemon = Setup::new(&slow).start();
    daemon.accept(&event("a", "e1"));
    daemon.until_row("crm", "gathering", |row| row["batch_until"].is_string());
    daemon.kill();
    daemon.write_config(&fast);
    daemon.restart();
    assert_eq!(ids(&serde_json::from_slice(&target.next().body).unwrap()), ["e1"]);
}
