//! `GET /v1/live`: what happens, as it happens; H8 is built on it.

use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::{Value, json};

use crate::harness::client::{At, open};
use crate::harness::servers::Target;
use crate::harness::{BOUND, Daemon, RUNTIME, endpoint, event, eventually};

/// A listener of `/v1/live`.
pub struct Listener {
    body: Incoming,
    text: String,
}

impl Listener {
    pub fn new(daemon: &Daemon) -> Self {
        let (status, body) = open(At::Socket(&daemon.control()), "/v1/live");
        assert_eq!(status, 200);
        let text = String::new();
        Self { body, text }
    }

    /// The next event: its kind and its data. `None`: the stream has ended.
    fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some((whole, rest)) = self.text.split_once("\n\n") {
                let field = |name: &str| {
                    let line = whole.lines().find_map(|line| line.strip_prefix(name));
                    line.unwrap_or_default().trim().to_owned()
                };
                let event = (field("event:"), field("data:"));
                self.text = rest.to_owned();
                if event.0.is_empty() {
                    continue;
                }
                return Some((event.0, serde_json::from_str(&event.1).unwrap()));
            }
            let frame = RUNTIME.block_on(async { tokio::time::timeout(BOUND, self.body.frame()).await });
            let frame = frame.expect("an event in time")?;
            let bytes = frame.ok()?.into_data().unwrap_or_default();
            self.text.push_str(std::str::from_utf8(&bytes).unwrap());
        }
    }

    /// The data of the next event of this kind that is as asked for.
    pub fn until(&mut self, kind: &str, is: impl Fn(&Value) -> bool) -> Value {
        let started = Instant::now();
        while started.elapsed() < BOUND {
            let (found, data) = self.next().expect("the stream goes on");
            if found == kind && is(&data) {
                return data;
            }
        }
        panic!("in vain: an event {kind}");
    }
}

/// H8: states and dead letters as they happen, rates at once and then every second.
#[test]
fn h8_what_happens_is_told() {
    let target = Target::new();
    let text = endpoint("bad", &target.url("/status/404"), "events = [\"a\"]")
        + &endpoint(
            "down",
            &target.url("/status/500"),
            "events = [\"b\"]\nretry = { delay = \"1h\" }\nbreaker = { failures = 1 }",
        );
    let daemon = Daemon::start(&text);
    let mut listener = Listener::new(&daemon);
    let (kind, first) = listener.next().unwrap();
    assert_eq!(
        (&*kind, &first["endpoints"][0]["endpoint"]),
        ("rates", &json!("bad"))
    );

    daemon.accept(&event("a", "e1"));
    let dead = listener.until("dead", |_| true);
    assert_eq!(
        json!([
            dead["endpoint"],
            dead["event_id"],
            dead["reason"],
            dead["last_status"]
        ]),
        json!(["bad", "e1", "not_retried", 404])
    );
    let (code, letter) = daemon.get(&format!("/v1/dead/{}", dead["id"].as_str().unwrap()));
    assert_eq!(
        (code, &letter["event_id"]),
        (200, &json!("e1")),
        "it was on disk before it was told"
    );

    daemon.accept(&event("b", "e2"));
    let state = listener.until("state", |state| state["endpoint"] == "down");
    assert_eq!(
        (&state["state"], &state["failures"]),
        (&json!("tripped"), &json!(1))
    );
    daemon.post("/v1/endpoints/bad/pause", &json!({}));
    listener.until("state", |state| {
        state["endpoint"] == "bad" && state["state"] == "paused"
    });

    let first = listener.until("rates", |rates| rates["endpoints"][0]["dead"] == 1);
    let second = listener.until("rates", |_| true);
    let at = |rates: &Value| {
        let text = rates["now"].as_str().unwrap().to_owned();
        posthaste::domain::time::Timestamp::parse_rfc3339(&text).unwrap()
    };
    let between = at(&second).since(at(&first));
    assert!(
        between >= Duration::from_millis(500),
        "rates are told every second, not after {between:?}"
    );
}

/// I5: listeners are bounded, and a place is given back when one goes.
#[test]
fn i5_listeners_are_bounded() {
    let daemon = Daemon::start("");
    let mut listeners: Vec<_> = (0..32).map(|_| Listener::new(&daemon)).collect();
    for listener in &mut listeners {
        listener.next().unwrap();
    }
    let (status, answer) = daemon.get("/v1/live");
    assert_eq!((status, &answer["error"]["code"]), (503, &json!("too_many")));
    listeners.pop();
    eventually("a place", || {
        let (status, body) = open(At::Socket(&daemon.control()), "/v1/live");
        drop(body);
        (status == 200).then_some(())
    });
}

/// I5: a listener that does not read is dropped, and neither the daemon nor its other listeners wait for it.
#[test]
fn i5_a_slow_listener_is_dropped() {
    const LETTERS: usize = 4000;
    let target = Target::new();
    let daemon = Daemon::start(&endpoint("bad", &target.url("/status/404"), ""));
    let mut slow = Listener::new(&daemon);
    slow.next().unwrap();
    // What is told of them is far more than what waits for a listener and fits into buffers.
    let long = "x".repeat(230);
    for n in 0..4 {
        daemon.accept_many("a", &format!("{long}-{n}"), LETTERS / 4);
    }
    daemon.until_row("bad", "all dead", |row| row["dead"] == LETTERS);
    let mut told = 0;
    while told < LETTERS
        && let Some((kind, _)) = slow.next()
    {
        told += usize::from(kind == "dead");
    }
    assert!(told < LETTERS, "its stream ended, and before all was told");
    let mut other = Listener::new(&daemon);
    daemon.post("/v1/endpoints/bad/pause", &json!({}));
    other.until("state", |state| state["state"] == "paused");
}

/// I3: listeners do not hold up a stop.
#[test]
fn i3_a_stop_ends_the_streams() {
    let mut daemon = Daemon::start("");
    let mut listener = Listener::new(&daemon);
    listener.next().unwrap();
    let started = Instant::now();
    daemon.stop();
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "{:?}",
        started.elapsed()
    );
    while listener.next().is_some() {}
}
