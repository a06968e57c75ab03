//! Answers read by the endpoint's own rules: what they mean, what is kept of them, and what is born from them.

use serde_json::{Value, json};

use crate::harness::servers::{Judge, Scripted, Target};
use crate::harness::{Daemon, endpoint, event};

/// An answer with this status and body.
fn answer(status: u16, content_type: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status} As Asked\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

/// A server that gives the same answer always.
fn always(status: u16, content_type: &str, body: &str) -> Scripted {
    let answer = answer(status, content_type, body);
    Scripted::new(move |_| answer.clone())
}

/// E2: the body says whether it worked, whatever the status says; what it says no to is tried again.
#[test]
fn e2_success_by_a_field_of_the_body() {
    let server = Scripted::new(|n| {
        let body = if n == 0 {
            r#"{"created":false}"#
        } else {
            r#"{"created":true}"#
        };
        answer(200, "application/json", body)
    });
    let rules = "retry = { delay = \"10ms\" }\n\
                 response = { success = \"response.status_code == 200 and response.created\" }";
    let daemon = Daemon::start(&endpoint("crm", &server.url(), rules));
    daemon.accept(&event("a", "e"));
    daemon.until_settled("crm");
    assert_eq!(server.requests(), 2);
    let row = daemon.row("crm");
    assert_eq!(
        (&row["attempts"]["delivered"], &row["dead"]),
        (&json!(1), &json!(0)),
        "{row}"
    );
}

/// E1, E2: a business "no" is a dead letter at once, though the status says yes.
#[test]
fn e2_rejected_is_not_retried() {
    let server = always(200, "application/json", r#"{"outcome":"failure"}"#);
    let rules = "response = { rejected = \"response.outcome == 'failure'\" }";
    let daemon = Daemon::start(&endpoint("crm", &server.url(), rules));
    daemon.accept(&event("a", "e"));
    let letter = daemon.until_dead("crm", 1).remove(0);
    assert_eq!(letter["reason"], "rejected", "{letter}");
    assert_eq!(server.requests(), 1);
}

/// E4: the other side's code, words and field stand in the dead letter; what the request carried as a secret does not.
#[test]
fn e4_the_other_sides_words_stand_in_the_dead_letter() {
    let body =
        r#"{"error":{"code":"INVALID_PHONE","message":"not a number, said hunter2hunter2","field":"phone"}}"#;
    let server = always(400, "application/json", body);
    let rules = "headers = { X-Key = \"hunter2hunter2\" }\n[endpoint.response.error]\ncode = \"response.error.code\"\n\
                 message = \"response.error.message\"\nfield = \"response.error.field\"";
    let daemon = Daemon::start(&endpoint("crm", &server.url(), rules));
    daemon.accept(&event("a", "e"));
    let letter = daemon.until_dead("crm", 1).remove(0).to_string();
    for part in ["answered 400", "INVALID_PHONE not a number", "(field phone)"] {
        assert!(letter.contains(part), "{part}: {letter}");
    }
    assert!(!letter.contains("hunter2"), "{letter}");
}

/// E4: what was to be JSON and is not is an error of the class invalid_response.
#[test]
fn e4_an_answer_that_is_not_what_was_demanded() {
    let server = always(200, "text/html", "<h1>Welcome</h1>");
    let rules = "retry = { max_attempts = 1 }\nresponse = { parse = \"json\" }";
    let daemon = Daemon::start(&endpoint("crm", &server.url(), rules));
    daemon.accept(&event("a", "e"));
    let letter = daemon.until_dead("crm", 1).remove(0).to_string();
    assert!(
        letter.contains("invalid_response") && letter.contains("is not JSON"),
        "{letter}"
    );
}

/// What the event born from `answer` holds as data, when these are captured.
fn captured(answer: String, captures: &str) -> Value {
    let server = Scripted::new(move |_| answer.clone());
    let mut target = Target::new();
    let rules = format!(
        "events = [\"lead\"]\n[endpoint.response]\ncapture = {{ {captures} }}\nemit = {{ type = \"lead.known\" }}"
    );
    let daemon = Daemon::start(&format!(
        "{}{}",
        endpoint("crm", &server.url(), &rules),
        endpoint("next", &target.url("/"), "events = [\"lead.known\"]")
    ));
    daemon.accept(&event("lead", "e"));
    let got = target.next();
    daemon.until_settled("crm");
    serde_json::from_slice::<Value>(&got.body).unwrap()["data"].take()
}

/// E3: by path, XPath, split text and regular expression; numbers, objects and arrays stay what they are.
#[test]
fn e3_captures_of_every_kind() {
    let body = r#"{"lead":{"id":"12345","score":87},"tags":["a",{"b":1}]}"#;
    let captures = "id = \"response.lead.id\", score = \"response.lead.score\", tags = \"response.tags\", none = \"response.none\"";
    assert_eq!(
        captured(answer(201, "application/json", body), captures),
        json!({ "id": "12345", "score": 87, "tags": ["a", { "b": 1 }], "none": null })
    );
    let xml = "<response><status>success</status><leadId>12345</leadId></response>";
    assert_eq!(
        captured(
            answer(200, "text/xml", xml),
            "id = \"response.xpath('//leadId')\""
        ),
        json!({ "id": "12345" })
    );
    let captures = "id = \"response.split('|')[1]\", score = \"response.match('score=([0-9]+)')[1]|int\"";
    assert_eq!(
        captured(answer(200, "text/plain", "ok|12345|score=87"), captures),
        json!({ "id": "12345", "score": 87 })
    );
}

/// E5: each event of a batch has its own outcome, by the event's id or the one in its data.
#[test]
fn e5_each_event_of_a_batch_has_its_own_outcome() {
    let results =
        r#"{"results":[{"id":"L2","status":"success"},{"id":"b","status":"error","reason":"no phone"}]}"#;
    let again = r#"{"results":[{"id":"c","status":"success"}]}"#;
    let server =
        Scripted::new(move |n| answer(200, "application/json", if n == 0 { results } else { again }));
    let rules = "retry = { delay = \"10ms\" }\nbatch = { max_events = 3, max_wait = \"1s\", items = \"response.results\" }\n\
                 response.error = { message = \"item.reason\" }";
    let daemon = Daemon::start(&endpoint("crm", &server.url(), rules));
    for line in [
        json!({"type": "a", "id": "a", "data": {"id": "L2"}}),
        json!({"type": "a", "id": "b", "data": {}}),
        json!({"type": "a", "id": "c", "data": {}}),
    ] {
        daemon.accept(&line.to_string());
    }
    let letter = daemon.until_dead("crm", 1).remove(0);
    assert_eq!(
        (&letter["event_id"], &letter["reason"]),
        (&json!("b"), &json!("rejected")),
        "{letter}"
    );
    assert!(letter.to_string().contains("no phone"), "{letter}");
    daemon.until_row("crm", "the two others", |row| {
        row["attempts"]["delivered"] == 2 && row["pending"] == 0
    });
    assert_eq!(
        server.requests(),
        2,
        "the one that the first answer leaves out goes again"
    );
}

/// E7: the result goes on as a new event, with a source of its own, durable before the first one is settled.
#[test]
fn e7_the_answer_becomes_an_event() {
    let server = always(200, "application/json", r#"{"score":87}"#);
    let mut target = Target::new();
    let rules = "events = [\"lead\"]\nbind = \"lead\"\nresponse.emit = { type = \"lead.{{ lead.kind }}\", \
                 data = { email = \"lead.email\", score = \"response.score\" } }";
    let daemon = Daemon::start(&format!(
        "{}{}",
        endpoint("crm", &server.url(), rules),
        endpoint("next", &target.url("/"), "events = [\"lead.hot\"]")
    ));
    let line =
        json!({"type": "lead", "id": "e", "tenant": "acme", "data": {"kind": "hot", "email": "a@b.c"}});
    daemon.accept(&line.to_string());
    let born: Value = serde_json::from_slice(&target.next().body).unwrap();
    assert_eq!(born["data"], json!({ "email": "a@b.c", "score": 87 }), "{born}");
    assert_eq!(
        (
            &born["source"],
            &born["tenant"],
            &born["causeid"],
            &born["emitdepth"]
        ),
        (&json!("posthaste/crm"), &json!("acme"), &json!("e"), &json!(1)),
        "{born}"
    );
    daemon.until_settled("crm");
    daemon.until_settled("next");
    assert_eq!(server.requests(), 1);
}

/// E7: an endpoint that feeds itself comes to an end, and the log says so.
#[test]
fn e7_circles_end() {
    let judge = Judge::new(|_| 200);
    let daemon = Daemon::start(&endpoint(
        "crm",
        &judge.url(),
        "response.emit = { type = \"again\" }",
    ));
    daemon.accept(&event("a", "e"));
    daemon.logs("no event is born from the answer");
    daemon.until_settled("crm");
    assert_eq!(judge.seen().len(), 9, "the first one and 8 births");
}
