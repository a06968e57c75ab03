//! A9: events by HTTP on the control socket, in all modes of the CloudEvents HTTP binding.

use std::process::Command;

use serde_json::{Value, json};

use crate::harness::servers::Target;
use crate::harness::{Daemon, Setup, endpoint, installed, run};
use crate::{packages, required};

const JSON: (&str, &str) = ("content-type", "application/json");
const BATCH: (&str, &str) = ("content-type", "application/cloudevents-batch+json");

fn body(received: &posthaste::cli::receive::server::Received) -> Value {
    serde_json::from_slice(&received.body).unwrap()
}

/// A9: the official JavaScript library sends in every mode, and what it sent arrives whole.
#[test]
fn a9_the_npm_library_is_understood() {
    let Some(library) = packages::npm("cloudevents@10.0.0") else {
        return;
    };
    let mut target = Target::new();
    let daemon = Daemon::start(&endpoint("all", &target.url("/"), "concurrency = 1"));
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cloud_events/send.mjs");
    let mut node = Command::new("node");
    node.arg(script).arg(library).arg(daemon.control());
    let ran = run(&mut node, "").unwrap().exits(0);
    let said: Vec<_> = ran
        .lines()
        .iter()
        .map(|line| json!([line["mode"], line["status"], line["answer"]["status"]]))
        .collect();
    assert_eq!(
        said,
        [
            json!(["binary", 202, "accepted"]),
            json!(["binary again", 200, "duplicate"]),
            json!(["text", 202, "accepted"]),
            json!(["structured", 202, "accepted"]),
            json!(["batched", 202, "accepted"]),
        ]
    );
    let mut got: Vec<Value> = target.take(5).iter().map(body).collect();
    got.sort_by_key(|event| event["id"].to_string());
    let data: Vec<_> = got
        .iter()
        .map(|event| json!([event["id"], event["data"]]))
        .collect();
    assert_eq!(
        data,
        [
            json!(["b1", { "id": "b1" }]),
            json!(["b2", { "id": "b2" }]),
            json!(["binary", { "n": 1 }]),
            json!(["structured", { "n": 2 }]),
            json!(["text", "plain words"]),
        ]
    );
    for event in &got {
        assert_eq!(
            json!([
                event["type"],
                event["source"],
                event["subject"],
                event["ext"],
                event["specversion"]
            ]),
            json!(["contact.created", "/npm", "Zoë & \"co\" 100%", "a b", "1.0"]),
            "{event}"
        );
    }
}

/// A9: what stands in the README for curl works.
#[test]
fn a9_curl_sends_events() {
    if !installed("curl") {
        required::missing("curl", "install Debian's curl", "it is not in PATH");
        return;
    }
    let mut target = Target::new();
    let daemon = Daemon::start(&endpoint("all", &target.url("/"), ""));
    let curl = |words: &[&str]| {
        let mut curl = Command::new("curl");
        curl.args([
            "--silent",
            "--show-error",
            "--write-out",
            "\n%{http_code}",
            "--unix-socket",
        ]);
        curl.arg(daemon.control())
            .args(words)
            .arg("http://localhost/v1/events");
        let out = run(&mut curl, "").unwrap().exits(0).out;
        let (answer, status) = out.rsplit_once('\n').unwrap();
        (status.to_owned(), serde_json::from_str::<Value>(answer).unwrap())
    };
    let readme = include_str!("../../README.md");
    let line = readme
        .lines()
        .find(|line| line.starts_with("curl --unix-socket"))
        .expect("a line for curl");
    let line = line.replace("/run/posthaste/control.sock", daemon.control().to_str().unwrap());
    let ran = run(Command::new("sh").arg("-c").arg(format!("{line} --silent")), "")
        .unwrap()
        .exits(0);
    assert_eq!(ran.lines()[0]["deliveries"], 1, "{ran:?}");
    target.next();
    let (status, answer) = curl(&["--json", r#"{"type":"contact.created","id":"c1"}"#]);
    let accepted = json!({ "status": "accepted", "id": "c1", "deliveries": 1 });
    assert_eq!((&*status, answer), ("202", accepted));
    let (status, answer) = curl(&[
        "-H",
        "ce-type: contact.created",
        "-H",
        "ce-id: c2",
        "-H",
        "content-type: text/plain",
        "-d",
        "Hello",
    ]);
    assert_eq!((&*status, &answer["id"]), ("202", &json!("c2")), "{answer}");
    let mut got: Vec<Value> = target.take(2).iter().map(body).collect();
    got.sort_by_key(|event| event["id"].to_string());
    assert_eq!(got[1]["data"], "Hello");
    let source = got[0]["source"].as_str().unwrap();
    assert!(
        source.starts_with("/local/"),
        "the user at the other end: {source}"
    );
    // curl says x-www-form-urlencoded unless it is told otherwise, and hears what to say.
    let (status, answer) = curl(&["-d", r#"{"type":"contact.created"}"#]);
    assert_eq!(
        (&*status, &answer["status"]),
        ("415", &json!("rejected")),
        "{answer}"
    );
    assert!(
        answer["message"].as_str().unwrap().contains("application/json"),
        "{answer}"
    );
}

/// A9, A4, A5, A8: statuses follow the answers, which are those of the socket.
#[test]
fn a9_answers_and_statuses() {
    let target = Target::new();
    let text = endpoint("all", &target.url("/"), "events = [\"a.*\"]");
    let daemon = Setup::new(&text)
        .ingest("max_event = \"1KiB\"\nmax_batch = \"2KiB\"")
        .start();
    let long = format!(r#"{{"type":"a.b","data":"{}"}}"#, "x".repeat(1500));
    let longer = format!("[{}]", [long.replace("1500", ""), long.clone()].join(","));
    for (header, text, status, expected) in [
        (
            JSON,
            r#"{"type":"a.b","id":"1"}"#,
            202,
            json!({ "status": "accepted", "id": "1", "deliveries": 1 }),
        ),
        (
            JSON,
            r#"{"type":"a.b","id":"1"}"#,
            200,
            json!({ "status": "duplicate", "id": "1" }),
        ),
        (
            JSON,
            r#"{"type":"other","id":"2"}"#,
            202,
            json!({ "status": "accepted", "id": "2", "deliveries": 0 }),
        ),
        (
            BATCH,
            r#"[{"type":"a.b","id":"1"},{"type":"a.c","id":"3"}]"#,
            202,
            json!({ "status": "accepted", "ids": ["1", "3"], "deliveries": 1, "duplicates": 1 }),
        ),
        (
            JSON,
            r#"[{"type":"a.b","id":"3"}]"#,
            200,
            json!({ "status": "duplicate", "ids": ["3"] }),
        ),
        (
            BATCH,
            r#"[{"type":"a.b","id":"4"},{"id":"5"}]"#,
            400,
            json!("invalid_event"),
        ),
        (BATCH, "[]", 400, json!("invalid_event")),
        (BATCH, "{}", 400, json!("invalid_event")),
        (JSON, "nonsense", 400, json!("invalid_json")),
        (JSON, "", 400, json!("invalid_json")),
        (JSON, r#"{"ack":"none"}"#, 400, json!("invalid_event")),
        (JSON, &long, 413, json!("too_large")),
        (JSON, &longer, 413, json!("too_large")),
    ] {
        let answer = daemon.ask("POST", "/v1/events", &[header], text.to_owned());
        let told = answer.json();
        assert_eq!(answer.status, status, "{text:.80}: {told}");
        match &expected {
            Value::String(code) => {
                assert_eq!(
                    (&told["status"], &told["code"]),
                    (&json!("rejected"), &json!(code))
                );
                assert!(!told["message"].as_str().unwrap().is_empty());
            }
            whole => assert_eq!(&told, whole, "{text}"),
        }
    }
    // Nothing of the refused batch was taken, and the counters are those of the socket.
    assert_eq!(daemon.get("/v1/events/4").0, 404);
    let (_, status) = daemon.get("/v1/status");
    assert_eq!(
        (&status["ingest"]["accepted"], &status["ingest"]["duplicates"]),
        (&json!(3), &json!(3))
    );
    assert_eq!(
        status["ingest"]["rejected"]["too_large"], 2,
        "{}",
        status["ingest"]
    );
}

/// A9, A8: what can be taken later says when, in whole seconds.
#[test]
fn a9_refusals_that_pass_say_when() {
    let target = Target::new();
    let allow = "[[ingest.allow]]\nrate = \"2/h\"\n";
    let daemon = Daemon::start(&(allow.to_owned() + &endpoint("all", &target.url("/"), "")));
    for id in ["1", "2"] {
        let event = json!({ "type": "a", "id": id }).to_string();
        assert_eq!(daemon.ask("POST", "/v1/events", &[JSON], event).status, 202);
    }
    let answer = daemon.ask("POST", "/v1/events", &[JSON], r#"{"type":"a","id":"3"}"#);
    let told = answer.json();
    assert_eq!(
        (answer.status, &told["code"], &told["id"]),
        (429, &json!("rate_limited"), &json!("3"))
    );
    let wait_ms = told["retry_after_ms"].as_u64().unwrap();
    assert!((1_700_000..=1_800_000).contains(&wait_ms), "{told}");
    assert_eq!(answer.header("retry-after"), wait_ms.div_ceil(1000).to_string());
}
