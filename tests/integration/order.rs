//! Order of acceptance: for a whole endpoint, for each key, over retries, crashes and dead heads. And the rate.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::servers::{Judge, Judged, Target};
use crate::harness::{Daemon, endpoint, eventually};

fn keyed(id: &str, key: &str) -> String {
    json!({ "type": "a", "id": id, "partitionkey": key }).to_string()
}

fn id_of(judged: &Judged) -> String {
    let event: Value = serde_json::from_str(&judged.body).unwrap();
    event["id"].as_str().unwrap().to_owned()
}

/// Ids in the order of their first successful delivery.
fn delivered(seen: &[Judged]) -> Vec<String> {
    let mut ids = Vec::new();
    for judged in seen.iter().filter(|judged| judged.status == 200) {
        let id = id_of(judged);
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    ids
}

/// F7: everything in order, one request at a time, although the first one fails three times.
#[test]
fn f7_an_endpoint_gets_its_events_in_order() {
    let failures = Arc::new(AtomicUsize::new(0));
    let left = Arc::clone(&failures);
    let judge = Judge::new(move |body| {
        let fails = body.contains("\"e-3\"") && left.fetch_add(1, Ordering::SeqCst) < 3;
        if fails { 500 } else { 200 }
    });
    let order = "order = \"endpoint\"\nretry = { delay = \"100ms\", jitter = 0.0 }";
    let daemon = Daemon::start(&endpoint("crm", &judge.url(), order));
    daemon.accept_many("a", "e", 30);
    daemon.until_settled("crm");
    let expected: Vec<String> = (0..30).map(|n| format!("e-{n}")).collect();
    assert_eq!(delivered(&judge.seen()), expected);
    assert_eq!(judge.seen().len(), 33);
}

/// F7: a key whose head fails holds up itself alone, is shown, and goes on when its head is a dead letter.
#[test]
fn f7_keys_go_on_beside_a_held_up_one_and_behind_a_dead_head() {
    let judge = Judge::new(|body| if body.contains("\"bad-0\"") { 500 } else { 200 });
    let order = "order = \"key\"\nretry = { delay = \"1s\", jitter = 0.0, max_attempts = 3 }";
    let daemon = Daemon::start(&endpoint("crm", &judge.url(), order));
    for n in 0..10 {
        daemon.accept(&keyed(&format!("bad-{n}"), "bad"));
        daemon.accept(&keyed(&format!("good-{n}"), "good"));
    }
    let row = daemon.until_row("crm", "held up", |row| {
        row["held_up"] == 1 && row["pending"] == 10
    });
    assert!(row["why"].as_str().unwrap().contains("held up"), "{row}");
    let good: Vec<String> = (0..10).map(|n| format!("good-{n}")).collect();
    assert_eq!(delivered(&judge.seen()), good);
    let letter = daemon.until_dead("crm", 1).remove(0);
    assert_eq!(letter["reason"], "max_attempts");
    daemon.until_settled("crm");
    let rest: Vec<String> = (1..10).map(|n| format!("bad-{n}")).collect();
    assert_eq!(delivered(&judge.seen())[10..], rest);
}

/// An event of a customer, in a region.
fn of(id: &str, customer: &str, region: &str) -> String {
    json!({ "type": "a", "id": id, "data": { "customer": customer, "region": region } }).to_string()
}

/// F7: `order_key` gives the lines, also after a restart, and another one after a reload gives others. An event for which
/// it can't be worked out is in order with nobody, and counted.
#[test]
fn f7_order_key_gives_the_lines() {
    let open = Arc::new(AtomicBool::new(false));
    let is_open = Arc::clone(&open);
    let judge = Judge::new(move |body| {
        let fails = body.contains("\"held\"") && !is_open.load(Ordering::SeqCst);
        if fails { 500 } else { 200 }
    });
    let by = |key: &str| {
        let order = format!(
            "order = \"key\"\norder_key = \"{key}\"\nretry = {{ delay = \"300ms\", jitter = 0.0 }}\n\
             breaker = {{ failures = 1000, min_requests = 1000 }}"
        );
        endpoint("crm", &judge.url(), &order)
    };
    let mut daemon = Daemon::start(&by("data.customer"));
    daemon.accept(&of("held", "ada", "north"));
    daemon.accept(&of("ada-1", "ada", "south"));
    daemon.accept(&of("bob-1", "bob", "north"));
    daemon.accept(&json!({ "type": "a", "id": "none", "data": {} }).to_string());
    let delivered_are = |ids: &[&str]| {
        eventually("these and no others are delivered", || {
            let mut seen = delivered(&judge.seen());
            seen.sort_unstable();
            (seen == ids).then_some(())
        });
    };
    delivered_are(&["bob-1", "none"]);
    daemon.kill();
    daemon.restart();
    daemon.accept(&of("bob-2", "bob", "north"));
    delivered_are(&["bob-1", "bob-2", "none"]);
    assert_eq!(daemon.row("crm")["held_up"], 1);

    daemon.write_config(&by("data.region.name or data.region"));
    assert_eq!(daemon.post("/v1/reload", &json!({})).0, 200);
    daemon.accept(&of("bob-3", "bob", "north"));
    daemon.accept(&of("eve-1", "eve", "south"));
    delivered_are(&["ada-1", "bob-1", "bob-2", "eve-1", "none"]);

    daemon.write_config(&by("data.customer.name.first or ''"));
    assert_eq!(daemon.post("/v1/reload", &json!({})).0, 200);
    delivered_are(&["ada-1", "bob-1", "bob-2", "bob-3", "eve-1", "none"]);
    assert!(daemon.row("crm")["attempts"]["unkeyed"].as_u64() >= Some(1));
    daemon.logs("order_key can't be worked out");
    open.store(true, Ordering::SeqCst);
    daemon.until_settled("crm");
}

/// F7: killed again and again in the middle, each key still gets its events in order.
#[test]
fn f7_order_survives_kills() {
    let count = AtomicUsize::new(0);
    let judge = Judge::new(move |_| {
        if count.fetch_add(1, Ordering::SeqCst) % 7 == 3 {
            500
        } else {
            200
        }
    });
    // After a restart one request asks whether the endpoint works; when that is one that fails, the next one is soon.
    let order = "order = \"key\"\nretry = { delay = \"50ms\", jitter = 0.0, max_attempts = 1000 }\n\
                 breaker = { open = \"50ms\", max_open = \"50ms\" }";
    let mut daemon = Daemon::start(&endpoint("crm", &judge.url(), order));
    for round in 0..3 {
        for n in 0..40 {
            daemon.accept(&keyed(
                &format!("k{}-{}", n % 4, round * 10 + n / 4),
                &format!("k{}", n % 4),
            ));
        }
        judge.until(round * 40 + 20);
        daemon.kill();
        daemon.restart();
    }
    daemon.until_settled("crm");
    let mut by_key: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for id in delivered(&judge.seen()) {
        let (key, n) = id.split_once('-').unwrap();
        by_key.entry(key.to_owned()).or_default().push(n.parse().unwrap());
    }
    assert_eq!(by_key.len(), 4);
    for (key, numbers) in by_key {
        assert!(numbers.iter().copied().eq(0..30), "{key}: {numbers:?}");
    }
}

/// F6: the rate is kept whatever waits.
#[test]
fn f6_a_rate_is_kept() {
    let mut target = Target::new();
    let daemon = Daemon::start(&endpoint(
        "crm",
        &target.url("/"),
        "rate = \"50/s\"\nconcurrency = 20",
    ));
    daemon.accept_many("a", "e", 60);
    let started = Instant::now();
    let requests = target.take(60);
    assert!(
        started.elapsed() >= Duration::from_millis(900),
        "{:?}",
        started.elapsed()
    );
    for pair in requests.windows(27) {
        let span = pair[26].at.since(pair[0].at);
        assert!(span >= Duration::from_millis(350), "27 requests in {span:?}");
    }
    daemon.until_settled("crm");
}

/// F5: an endpoint that was failing when the daemon was killed is asked by one request at a time after the restart,
/// as often as it takes to trip the breaker.
#[test]
fn f5_a_restart_does_not_stampede() {
    let judge = Judge::new(|_| 500);
    let rest = "concurrency = 8\nretry = { delay = \"1h\" }\nbreaker = { failures = 3, open = \"1h\", max_open = \"1h\" }";
    let mut daemon = Daemon::start(&endpoint("crm", &judge.url(), rest));
    daemon.accept_many("a", "e", 50);
    daemon.until_state("crm", "tripped");
    daemon.until_row("crm", "quiet", |row| row["in_flight"] == 0);
    // What is not on disk yet is not known after the kill.
    let is_deferred = |n: &usize| {
        let (_, event) = daemon.get(&format!("/v1/events/e-{n}"));
        event["deliveries"][0]["state"] == "deferred"
    };
    eventually("every failure on disk", || {
        ((0..50).filter(is_deferred).count() == judge.seen().len()).then_some(())
    });
    daemon.kill();
    let before = judge.seen().len();
    daemon.restart();
    daemon.until_state("crm", "tripped");
    assert_eq!(judge.seen().len(), before + 3);
}
