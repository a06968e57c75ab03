//! Trying again: when, how often, and what an endpoint's answers and the breaker do to its whole queue.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::harness::servers::{Scripted, Target, answer, header};
use crate::harness::{Daemon, endpoint, event, eventually, now};

/// F1: a list of delays, kept on the wall clock; each try has the same id and says which it is; at the end the
/// dead letter has the evidence.
#[test]
fn f1_the_schedule_is_kept_and_the_last_try_is_the_last() {
    let mut target = Target::new();
    let retry = "retry = { schedule = [\"200ms\", \"500ms\"], jitter = 0.0, max_attempts = 4 }";
    let daemon = Daemon::start(&endpoint("down", &target.url("/status/500"), retry));
    daemon.accept(&event("a", "e1"));
    let tries = target.take(4);
    for (n, got) in tries.iter().enumerate() {
        assert_eq!(header(got, "webhook-id"), "e1");
        assert_eq!(header(got, "x-posthaste-attempt"), (n + 1).to_string());
    }
    for (pair, delay) in tries.windows(2).zip([200, 500, 500]) {
        let waited = pair[1].at.since(pair[0].at);
        assert!(
            waited >= Duration::from_millis(delay - 20),
            "{waited:?} instead of {delay} ms"
        );
    }
    let letter = daemon.until_dead("down", 1).remove(0);
    assert_eq!(
        (&letter["reason"], &letter["tries"]),
        (&json!("max_attempts"), &json!(4))
    );
    assert!(
        letter["first_attempt"].as_str() < letter["last"]["started"].as_str(),
        "{letter}"
    );
    assert_eq!(letter["last"]["number"], 4);
    assert_eq!(target.requests(), 4);
}

/// F1: an exponential schedule grows by its factor up to its cap.
#[test]
fn f1_an_exponential_schedule_grows_to_its_cap() {
    let mut target = Target::new();
    let retry =
        "retry = { initial = \"100ms\", factor = 3.0, max = \"400ms\", jitter = 0.0, max_attempts = 4 }";
    let _daemon = {
        let daemon = Daemon::start(&endpoint("down", &target.url("/status/500"), retry));
        daemon.accept(&event("a", "e1"));
        daemon
    };
    let tries = target.take(4);
    for (pair, delay) in tries.windows(2).zip([100, 300, 400]) {
        let waited = pair[1].at.since(pair[0].at);
        assert!(
            waited >= Duration::from_millis(delay - 20),
            "{waited:?} instead of {delay} ms"
        );
    }
}

/// F1: a delivery whose next try would come after `max_age` is given up at once.
#[test]
fn f1_max_age_ends_a_delivery() {
    let mut target = Target::new();
    let retry = "retry = { delay = \"300ms\", jitter = 0.0, max_age = \"450ms\", max_attempts = 100 }";
    let daemon = Daemon::start(&endpoint("down", &target.url("/status/500"), retry));
    daemon.accept(&event("a", "e1"));
    let letter = daemon.until_dead("down", 1).remove(0);
    assert_eq!(letter["reason"], "max_age");
    let tries = letter["tries"].as_u64().unwrap();
    assert!((1..=2).contains(&tries), "{letter}");
    assert_eq!(target.take(tries as usize).len() as u64, target.requests());
}

/// F1: fails at first, then works: delivered, with nothing left behind.
#[test]
fn f1_fails_first_then_is_delivered() {
    let mut target = Target::new();
    let more =
        "retry = { delay = \"100ms\", max_attempts = 5 }\nbreaker = { failures = 1000, min_requests = 1000 }";
    let daemon = Daemon::start(&endpoint("shaky", &target.url("/fail-first/2/503"), more));
    daemon.accept_many("a", "e", 20);
    let mut tries = target.take(60);
    tries.sort_by_key(|got| {
        (
            header(got, "webhook-id").to_owned(),
            header(got, "x-posthaste-attempt").to_owned(),
        )
    });
    for of_one in tries.chunks(3) {
        let numbers: Vec<_> = of_one
            .iter()
            .map(|got| header(got, "x-posthaste-attempt"))
            .collect();
        assert_eq!(numbers, ["1", "2", "3"], "{}", header(&of_one[0], "webhook-id"));
    }
    let row = daemon.until_row("shaky", "delivered", |row| {
        row["attempts"]["delivered"] == 20 && row["pending"] == 0
    });
    assert_eq!(
        (&row["dead"], &row["attempts"]["failed"]),
        (&json!(0), &json!(40))
    );
    assert_eq!(target.requests(), 60);
}

/// F2: what is retried is a list; what is not is a dead letter after one try.
#[test]
fn f2_retry_rules_by_status_and_class() {
    let target = Target::new();
    let retry = |rule: &str| format!("retry = {{ delay = \"50ms\", max_attempts = 3, {rule} }}");
    let text = endpoint(
        "asked",
        &target.url("/status/404"),
        &retry("retry_on = [404, \"5xx\"]"),
    ) + &endpoint("not", &target.url("/status/501"), &retry("dont_retry_on = [501]"))
        + &endpoint("class", &target.url("/reset"), &retry("retry_on = [\"connect\"]"));
    let daemon = Daemon::start(&text);
    daemon.accept(&event("a", "e1"));
    for (name, reason, tries) in [
        ("asked", "max_attempts", 3),
        ("not", "not_retried", 1),
        ("class", "not_retried", 1),
    ] {
        let letter = daemon.until_dead(name, 1).remove(0);
        assert_eq!(
            (&letter["reason"], &letter["tries"]),
            (&json!(reason), &json!(tries)),
            "{name}"
        );
    }
}

/// F3: `Retry-After` holds the whole endpoint back and burns no tries: with a budget of one try everything is still
/// delivered afterwards.
#[test]
fn f3_retry_after_suspends_the_endpoint_and_burns_nothing() {
    let suspended = now();
    let target = Scripted::new(|n| {
        if n == 0 {
            answer(429, "retry-after: 2\r\n")
        } else {
            answer(200, "")
        }
    });
    let more = "concurrency = 1\nretry = { max_attempts = 1 }";
    let daemon = Daemon::start(&endpoint("busy", &target.url(), more));
    daemon.accept(&event("a", "first"));
    let row = daemon.until_state("busy", "suspended");
    assert!(
        row["why"].as_str().unwrap().contains("asked to be left alone"),
        "{row}"
    );
    daemon.accept_many("a", "later", 5);
    assert_eq!(
        (target.requests(), daemon.row("busy")["pending"].as_u64()),
        (1, Some(6)),
        "nothing goes out meanwhile"
    );
    daemon.until_row("busy", "delivered", |row| {
        row["attempts"]["delivered"] == 6 && row["pending"] == 0
    });
    assert!(now().since(suspended) >= Duration::from_secs(2));
    assert_eq!((target.requests(), &daemon.row("busy")["dead"]), (7, &json!(0)));
    let firsts: Vec<_> = target
        .heads()
        .into_iter()
        .filter(|head| head.contains("webhook-id: first\r"))
        .collect();
    assert!(
        firsts
            .iter()
            .all(|head| head.contains("x-posthaste-attempt: 1\r")),
        "{firsts:?}"
    );
}

/// F3: an endpoint that asked to be left alone is left alone over a restart too.
#[test]
fn f3_a_restart_does_not_wake_whoever_asked_for_rest() {
    let target = Scripted::new(|_| answer(429, "retry-after: 3000\r\n"));
    let mut daemon = Daemon::start(&endpoint("busy", &target.url(), "concurrency = 1"));
    daemon.accept(&event("a", "first"));
    let before = daemon.until_state("busy", "suspended")["until"].clone();
    eventually("the wish is on disk", || {
        let (_, event) = daemon.get("/v1/events/first");
        (event["deliveries"][0]["state"] == "deferred").then_some(())
    });
    daemon.kill();
    daemon.restart();
    daemon.accept_many("a", "later", 5);
    let row = daemon.row("busy");
    assert_eq!(
        (&row["state"], row["pending"].as_u64()),
        (&json!("suspended"), Some(6)),
        "{row}"
    );
    let minute = |until: &serde_json::Value| until.as_str().unwrap()[..16].to_owned();
    assert!(minute(&row["until"]) >= minute(&before), "{row} {before}");
    assert_eq!(target.requests(), 1);
}

/// F3: `Retry-After` may be a date.
#[test]
fn f3_retry_after_may_be_a_date() {
    let target = Scripted::new(|n| {
        let date = httpdate::fmt_http_date(std::time::SystemTime::now() + Duration::from_secs(600));
        if n == 0 {
            answer(503, &format!("retry-after: {date}\r\n"))
        } else {
            answer(200, "")
        }
    });
    let daemon = Daemon::start(&endpoint("busy", &target.url(), ""));
    daemon.accept(&event("a", "first"));
    daemon.until_state("busy", "suspended");
    let message = daemon.row("busy")["attempts"]["last_error"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        message.contains("wants to be left alone for 6") || message.contains("for 59"),
        "{message}"
    );
    let flushed = daemon.cli(&["endpoints", "flush", "busy"]).exits(0);
    assert!(flushed.out.starts_with("1 delivery"), "{flushed:?}");
    daemon.until_row("busy", "delivered", |row| row["attempts"]["delivered"] == 1);
}

/// F4: an endpoint that says it is gone is paused, also over a restart; what it is owed waits, unspent, and goes out
/// when it is resumed.
#[test]
fn f4_gone_pauses_the_endpoint_until_it_is_resumed() {
    for gone in [
        "HTTP/1.1 410 Gone\r\n",
        "HTTP/1.1 200 OK\r\nwebhook-delivery: disable\r\n",
    ] {
        let delivered_too = usize::from(gone.contains("200"));
        let back = Arc::new(AtomicBool::new(false));
        let is_back = Arc::clone(&back);
        let target = Scripted::new(move |_| {
            let head = if is_back.load(Ordering::SeqCst) {
                "HTTP/1.1 200 OK\r\n"
            } else {
                gone
            };
            format!("{head}content-length: 0\r\nconnection: close\r\n\r\n")
        });
        let more = "concurrency = 1\nretry = { max_attempts = 1 }";
        let mut daemon = Daemon::start(&endpoint("left", &target.url(), more));
        daemon.accept(&event("a", "first"));
        // The lane stops at once, the reason is there as soon as it is durable.
        daemon.until_row("left", "paused by posthaste", |row| {
            row["state"] == "paused"
                && row["why"]
                    .as_str()
                    .is_some_and(|why| why.contains("by posthaste"))
        });
        daemon.accept_many("a", "later", 3);
        daemon.until_row("left", "parked", |row| row["pending"] == 4 - delivered_too);
        daemon.stop();
        back.store(true, Ordering::SeqCst);
        daemon.restart();
        assert_eq!(daemon.row("left")["state"], "paused", "it is durable");
        assert_eq!(target.requests(), 1);
        let resumed = daemon.cli(&["endpoints", "resume", "left"]).exits(0);
        assert!(resumed.out.contains("left is ready"), "{resumed:?}");
        daemon.until_row("left", "delivered", |row| {
            row["attempts"]["delivered"] == 4 - delivered_too
        });
        assert_eq!(
            (target.requests(), &daemon.row("left")["dead"]),
            (5 - delivered_too, &json!(0))
        );
    }
}

/// F5: a breaker that trips holds the whole backlog back without attempts, probes with one request at a time, and lets
/// everything go once a probe succeeds.
#[test]
fn f5_the_breaker_trips_probes_with_one_and_closes() {
    let well = Arc::new(AtomicBool::new(false));
    let is_well = Arc::clone(&well);
    let target = Scripted::new(move |_| answer(if is_well.load(Ordering::SeqCst) { 200 } else { 500 }, ""));
    let more = "concurrency = 1\nbreaker = { failures = 3, open = \"400ms\", max_open = \"400ms\" }\n\
                retry = { delay = \"1ms\", jitter = 0.0, max_attempts = 1000 }";
    let daemon = Daemon::start(&endpoint("ill", &target.url(), more));
    daemon.accept_many("a", "e", 50);
    let row = daemon.until_state("ill", "tripped");
    assert!(row["why"].as_str().unwrap().contains("answered 500"), "{row}");
    let tripped = now();
    let before = target.requests();
    assert!((3..=5).contains(&before), "{before} requests");
    eventually("a few probes", || (target.requests() >= before + 3).then_some(()));
    let (probes, opened) = (target.requests() - before, now().since(tripped));
    let most = opened.as_millis() as usize / 400 + 1;
    assert!(
        probes <= most,
        "{probes} requests in {opened:?}, one each 400 ms is right"
    );
    assert_eq!(daemon.row("ill")["dead"], 0);
    well.store(true, Ordering::SeqCst);
    daemon.until_row("ill", "delivered", |row| {
        row["attempts"]["delivered"] == 50 && row["pending"] == 0
    });
    daemon.until_state("ill", "ready");
}

/// F5: an operator who knows better ends the wait.
#[test]
fn f5_flush_ends_an_open_breaker() {
    let target = Scripted::new(|n| answer(if n == 0 { 500 } else { 200 }, ""));
    let more = "breaker = { failures = 1, open = \"1h\", max_open = \"1h\" }\nretry = { delay = \"1h\" }";
    let daemon = Daemon::start(&endpoint("ill", &target.url(), more));
    daemon.accept(&event("a", "e1"));
    daemon.until_state("ill", "tripped");
    daemon.accept(&event("a", "e2"));
    daemon.until_row("ill", "deferred", |row| row["deferred"] == 1);
    let (code, moved) = daemon.post("/v1/endpoints/ill/flush", &json!({}));
    assert_eq!((code, &moved["deliveries"]), (200, &json!(1)), "{moved}");
    daemon.until_row("ill", "delivered", |row| {
        row["attempts"]["delivered"] == 2 && row["state"] == "ready"
    });
}

/// F8: best effort: one try, no dead letter, counted.
#[test]
fn f8_best_effort_is_one_try() {
    let mut target = Target::new();
    let daemon = Daemon::start(&endpoint(
        "logs",
        &target.url("/status/500"),
        "best_effort = true",
    ));
    daemon.accept(&event("a", "e1"));
    target.next();
    let row = daemon.until_row("logs", "settled", |row| {
        row["pending"] == 0 && row["attempts"]["failed"] == 1
    });
    assert_eq!((&row["dead"], target.requests()), (&json!(0), 1));
}

/// F1, I3: tries used are on disk: after SIGKILL a delivery goes on where it was.
#[test]
fn f1_tries_are_kept_over_sigkill() {
    let mut target = Target::new();
    let retry = "retry = { schedule = [\"50ms\", \"2s\"], jitter = 0.0, max_attempts = 3 }";
    let text = endpoint("down", &target.url("/status/500"), retry)
        + &endpoint("other", &target.url("/ok"), "events = [\"b\"]");
    let mut daemon = Daemon::start(&text);
    daemon.accept(&event("a", "e1"));
    target.take(2);
    let shown = eventually("the second try's outcome", || {
        let (_, shown) = daemon.get("/v1/events/e1");
        (shown["deliveries"][0]["tries"] == 2).then_some(shown)
    });
    // A commit after the one that brought it: that one is on disk when this is answered.
    assert_eq!(daemon.post("/v1/endpoints/other/pause", &json!({})).0, 200);
    daemon.kill();
    daemon.restart();
    let (_, again) = daemon.get("/v1/events/e1");
    assert_eq!(
        again["deliveries"], shown["deliveries"],
        "tries, due time and last error are as they were"
    );
    assert_eq!(
        (
            &again["deliveries"][0]["tries"],
            &again["deliveries"][0]["last_status"]
        ),
        (&json!(2), &json!(500))
    );
    assert_eq!(header(&target.next(), "x-posthaste-attempt"), "3");
    let letter = daemon.until_dead("down", 1).remove(0);
    assert_eq!(
        (&letter["tries"], &letter["reason"]),
        (&json!(3), &json!("max_attempts"))
    );
    assert_eq!(letter["first_attempt"], shown["deliveries"][0]["first_attempt"]);
}
