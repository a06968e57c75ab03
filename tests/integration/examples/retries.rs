//! When the examples of retries are to try again, and when not.

use serde_json::json;

use super::{Case, LEAD, Reply, Stage, by};
use crate::harness::desks::Asked;
use crate::harness::eventually;

pub(super) fn cases() -> Vec<Case> {
    vec![
        by("basic-retry", basic),
        by("listed-delays", |stage, endpoint| {
            grows(stage, endpoint, |retry| {
                retry["schedule"] == json!(["1s", "2s", "4s", "8s", "16s"]) && retry["max_attempts"] == 5
            });
        }),
        by("exponential", |stage, endpoint| {
            grows(stage, endpoint, |retry| {
                retry["initial"] == "1s" && retry["factor"] == 2.0 && retry["max"] == "16s"
            });
        }),
        by("conditional-retry", conditional),
        by("error-table", error_table),
        by("short-timeout", short_timeout),
        by("fire-and-forget", fire_and_forget),
    ]
}

fn reply(status: u16) -> Reply {
    (status, String::new(), String::new())
}

/// Milliseconds from the end of one try to the beginning of the next, as the log of attempts has them.
fn pause_ms(stage: &Stage, id: &str, first: usize) -> i64 {
    let [one, two] = [first, first + 1].map(|count| stage.attempt(id, count));
    let time = |attempt: &serde_json::Value| {
        let text = attempt["started"].as_str().expect("a time");
        let time = posthaste::domain::time::Timestamp::parse_rfc3339(text).expect("a time");
        i64::try_from(time.0).expect("these days")
    };
    time(&two) - time(&one) - one["duration_ms"].as_i64().expect("a duration")
}

fn basic(stage: &Stage, endpoint: &str) {
    stage.send(endpoint, endpoint, LEAD, &[reply(500)]);
    let letter = stage.daemon.until_dead(endpoint, 1).remove(0);
    assert_eq!(
        (&letter["reason"], &letter["tries"]),
        (&json!("max_attempts"), &json!(3)),
        "{letter}"
    );
    for first in [1, 2] {
        let pause = pause_ms(stage, endpoint, first);
        assert!((900..10_000).contains(&pause), "{pause} ms");
    }
    stage.carries_leads(endpoint);
}

/// The first pauses, and the rest as the daemon has understood it.
fn grows(stage: &Stage, endpoint: &str, is_such: fn(&serde_json::Value) -> bool) {
    let (_, shown) = stage.daemon.get(&format!("/v1/endpoints/{endpoint}"));
    assert!(is_such(&shown["config"]["retry"]), "{shown}");
    stage.send(endpoint, endpoint, LEAD, &[reply(500), reply(500), reply(200)]);
    let [one, two] = [1, 2].map(|first| pause_ms(stage, endpoint, first));
    assert!(
        (700..10_000).contains(&one) && (1500..20_000).contains(&two),
        "{one} ms and {two} ms"
    );
    assert_eq!(stage.attempt(endpoint, 3)["outcome"], "delivered");
    stage.carries_leads(endpoint);
}

fn conditional(stage: &Stage, endpoint: &str) {
    for status in [400, 401, 403] {
        stage.send(endpoint, &format!("{endpoint}-{status}"), LEAD, &[reply(status)]);
    }
    stage.daemon.until_dead(endpoint, 3);
    stage.send(endpoint, "once-more", LEAD, &[reply(502), reply(200)]);
    assert_eq!(stage.attempt("once-more", 2)["outcome"], "delivered");
    for status in [400, 401, 403] {
        let id = format!("{endpoint}-{status}");
        let asked = stage
            .desk
            .asked()
            .into_iter()
            .filter(|asked| asked.header("webhook-id") == id);
        assert_eq!(asked.count(), 1, "{id}");
    }
    stage.carries_leads(endpoint);
    stage.carries_leads("once-more");
}

fn error_table(stage: &Stage, endpoint: &str) {
    let ids = ["400", "401", "429", "500", "503"].map(|status| format!("{endpoint}-{status}"));
    let [bad, stale, often, broken, down] = ids.each_ref().map(String::as_str);
    let is_token = |asked: &Asked| asked.line.contains("/auth.example.com/token ");

    let says = r#"{"error":"email is missing"}"#;
    stage.send(
        endpoint,
        bad,
        LEAD,
        &[(
            400,
            "content-type: application/json\r\n".to_owned(),
            says.to_owned(),
        )],
    );
    let letter = stage.daemon.until_dead(endpoint, 1).remove(0);
    assert_eq!(
        (&letter["reason"], &letter["tries"]),
        (&json!("not_retried"), &json!(1)),
        "{letter}"
    );
    assert!(letter.to_string().contains("email is missing"), "{letter}");

    stage.send(endpoint, stale, LEAD, &[reply(401), reply(200)]);
    assert_eq!(stage.attempt(stale, 1)["outcome"], "delivered");
    stage.asked("for tokens", 2, is_token);
    assert_eq!(stage.request(stale, 2).header("x-posthaste-attempt"), "1");

    stage.send(endpoint, broken, LEAD, &[reply(500), reply(500), reply(200)]);
    assert_eq!(stage.attempt(broken, 3)["outcome"], "delivered");
    let (one, two) = (pause_ms(stage, broken, 1), pause_ms(stage, broken, 2));
    assert!(one >= 900 && two >= 1900, "{one} ms and {two} ms");

    stage.send(endpoint, down, LEAD, &[reply(503), reply(200)]);
    assert_eq!(
        stage.request(down, 2).line,
        "POST /backup.example.com/leads HTTP/1.1"
    );
    assert_eq!(stage.attempt(down, 1)["outcome"], "delivered");

    let later = (429, "retry-after: 1\r\n".to_owned(), String::new());
    stage.send(endpoint, often, LEAD, &[later, reply(200)]);
    let tries = [1, 2].map(|count| stage.request(often, count));
    assert_eq!(
        tries.map(|asked| asked.header("x-posthaste-attempt").to_owned()),
        ["1", "1"]
    );
    stage.daemon.until_settled(endpoint);
    stage.carries_leads(endpoint);
}

fn short_timeout(stage: &Stage, endpoint: &str) {
    // The receiver holds an answer back as long as this says.
    stage.send(
        endpoint,
        endpoint,
        LEAD,
        &[(200, "x-held-back-ms: 2000\r\n".to_owned(), String::new())],
    );
    let attempt = stage.attempt(endpoint, 1);
    assert_eq!(
        (&attempt["outcome"], &attempt["class"]),
        (&json!("error"), &json!("timeout")),
        "{attempt}"
    );
    assert!(
        attempt["duration_ms"].as_u64().is_some_and(|ms| ms < 1900),
        "{attempt}"
    );
    assert_eq!(stage.daemon.until_dead(endpoint, 1)[0]["reason"], "max_attempts");
    assert_eq!(stage.request(endpoint, 1).body, LEAD);
}

fn fire_and_forget(stage: &Stage, endpoint: &str) {
    stage.send(endpoint, endpoint, LEAD, &[reply(500)]);
    assert_eq!(stage.attempt(endpoint, 1)["class"], "http_5xx");
    eventually("nothing is owed", || {
        (stage.daemon.row(endpoint)["pending"] == 0).then_some(())
    });
    assert_eq!(stage.daemon.row(endpoint)["dead"], 0);
    let asked = stage
        .desk
        .asked()
        .into_iter()
        .filter(|asked| asked.header("webhook-id") == endpoint);
    assert_eq!(asked.count(), 1);
    stage.carries_leads(endpoint);
}
