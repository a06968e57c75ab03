//! Taking events in: the ingest socket as a producer sees it.

use std::collections::HashSet;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::thread;
use std::time::Duration;

use posthaste::domain::time::Timestamp;
use serde_json::{Value, json};

use crate::harness::servers::{Target, header};
use crate::harness::{Daemon, Setup, endpoint, event, eventually, now};

/// An endpoint that asks for everything, and the daemon that has it.
fn daemon_with(target: &Target) -> Daemon {
    Daemon::start(&endpoint("all", &target.url("/ok"), ""))
}

/// A1: lines written without waiting are answered one by one, in their order, whatever becomes of each; the writing
/// side may be closed, and the last line needs no end.
#[test]
fn a1_pipelined_lines_are_answered_in_order_also_after_half_close() {
    let mut target = Target::new();
    let daemon = daemon_with(&target);
    let mut producer = daemon.producer();
    let mut text = String::new();
    for n in 0..200 {
        text += &event("a.b", &format!("e{n}"));
        text += if n % 2 == 0 { "\n" } else { "\r\n\n" };
    }
    text += "not json\n{\"type\":\"a.b\",\"id\":\"last\"}";
    producer.write(text.as_bytes());
    let answers = producer.end();
    assert_eq!(answers.len(), 202);
    for (n, answer) in answers[..200].iter().enumerate() {
        assert_eq!(
            *answer,
            json!({ "status": "accepted", "id": format!("e{n}"), "deliveries": 1 })
        );
    }
    assert_eq!(
        (&answers[200]["code"], &answers[200]["line"]),
        (&json!("invalid_json"), &json!(301))
    );
    assert_eq!(answers[201]["id"], "last");
    let ids: HashSet<String> = target
        .take(201)
        .iter()
        .map(|request| header(request, "webhook-id").to_owned())
        .collect();
    assert_eq!(ids.len(), 201, "each is delivered once");
}

/// A3: what a producer leaves out gets its default, what it adds is handed on.
#[test]
fn a3_only_the_type_is_required() {
    let mut target = Target::new();
    let daemon = daemon_with(&target);
    let answer = daemon.accept(r#"{"type":"a","color":"green","data":{"x":[1,2.5,"ü"]}}"#);
    let delivered: Value = serde_json::from_slice(&target.next().body).unwrap();
    assert_eq!(delivered["id"], answer["id"]);
    assert_eq!(answer["id"].as_str().unwrap().len(), 26, "a ULID: {answer}");
    assert_eq!(delivered["specversion"], "1.0");
    assert!(
        delivered["source"].as_str().unwrap().starts_with("/local/"),
        "{delivered}"
    );
    assert!(
        Timestamp::parse_rfc3339(delivered["time"].as_str().unwrap()).is_some(),
        "{delivered}"
    );
    assert_eq!(delivered["color"], "green");
    assert_eq!(delivered["data"], json!({ "x": [1, 2.5, "ü"] }));
}

/// A4: a batch is taken whole or not at all, and has one answer.
#[test]
fn a4_batches_are_atomic() {
    let mut target = Target::new();
    let daemon = daemon_with(&target);
    let mut producer = daemon.producer();
    let refused = producer.send(r#"[{"type":"a","id":"no"},{"id":"typeless"}]"#);
    assert_eq!(
        (&refused["status"], &refused["code"]),
        (&json!("rejected"), &json!("invalid_event"))
    );
    let taken = producer.send(r#"[{"type":"a","id":"1"},{"type":"a","id":"2"}]"#);
    assert_eq!(
        taken,
        json!({ "status": "accepted", "ids": ["1", "2"], "deliveries": 2 })
    );
    assert_eq!(
        producer.send(r#"{"type":"a","id":"no"}"#)["status"],
        "accepted",
        "it was not taken with the batch"
    );
    let mut ids: Vec<_> = target
        .take(3)
        .iter()
        .map(|request| header(request, "webhook-id").to_owned())
        .collect();
    ids.sort();
    assert_eq!(ids, ["1", "2", "no"]);
}

/// A1: the control line says which answers are wanted from there on.
#[test]
fn a1_control_lines_choose_the_answers() {
    let target = Target::new();
    let daemon = daemon_with(&target);
    let mut producer = daemon.producer();
    producer.write(
        b"{\"ack\":\"errors\"}\n{\"type\":\"a\"}\noops\n{\"ack\":\"each\"}\n{\"type\":\"a\",\"id\":\"x\"}\n",
    );
    producer.write(b"{\"ack\":\"none\"}\n{\"type\":\"a\",\"id\":\"y\"}\noops\n");
    let answers = producer.end();
    assert_eq!(answers[0]["ack"], "errors");
    assert_eq!(answers[1]["code"], "invalid_json");
    assert_eq!(answers[2]["ack"], "each");
    assert_eq!(answers[3]["id"], "x");
    assert_eq!(answers[4..].len(), 1, "the control line alone: {answers:?}");
    assert_eq!(answers[4]["ack"], "none");
    assert_eq!(
        daemon.send(r#"{"type":"a","id":"y"}"#)["status"],
        "duplicate",
        "it was taken in silence"
    );
}

/// A8: whatever is wrong with a line, its code says what, the line number says where, and the connection goes on.
#[test]
fn a8_every_line_that_is_not_an_event_is_refused_with_its_code() {
    let target = Target::new();
    let daemon = Setup::new(&endpoint("all", &target.url("/ok"), ""))
        .ingest("max_event = \"10KiB\"")
        .start();
    let mut producer = daemon.producer();
    let long = format!("{{\"type\":\"a\",\"data\":\"{}\"}}", "x".repeat(3_000_000));
    let binary: Vec<u8> = (0..=255).filter(|byte| *byte != b'\n').collect();
    let cases: [(&[u8], &str); 8] = [
        (b"GET / HTTP/1.1", "invalid_json"),
        (b"{\"type\":\"a\"", "invalid_json"),
        (&binary, "invalid_json"),
        (b"{\"type\":\"\xff\"}", "invalid_json"),
        (b"42", "invalid_event"),
        (b"{\"type\":\"a\",\"specversion\":\"0.3\"}", "invalid_event"),
        (long.as_bytes(), "too_large"),
        (b"{\"type\":\"a\",\"endpoint\":\"nobody\"}", "invalid_event"),
    ];
    for (index, (line, code)) in cases.iter().enumerate() {
        producer.write(line);
        producer.write(b"\n");
        let answer = producer.answer();
        assert_eq!(
            (&answer["status"], &answer["code"]),
            (&json!("rejected"), &json!(code)),
            "{answer}"
        );
        assert_eq!(answer["line"], index + 1);
        assert!(
            answer["message"]
                .as_str()
                .is_some_and(|message| message.len() > 10),
            "{answer}"
        );
    }
    assert_eq!(producer.send(r#"{"type":"a"}"#)["status"], "accepted");
    let (_, status) = daemon.get("/v1/status");
    assert_eq!(
        status["ingest"]["rejected"]["invalid_json"], 4,
        "each is counted: {}",
        status["ingest"]
    );
}

/// A5: the same source and id are taken once, also when the daemon was killed in between.
#[test]
fn a5_duplicates_are_known_also_after_sigkill() {
    let mut target = Target::new();
    let mut daemon = daemon_with(&target);
    let line = r#"{"type":"a","id":"e1","source":"/shop"}"#;
    daemon.accept(line);
    assert_eq!(daemon.send(line), json!({ "status": "duplicate", "id": "e1" }));
    daemon.accept(r#"{"type":"a","id":"e1","source":"/crm"}"#);
    target.take(2);
    daemon.kill();
    daemon.restart();
    assert_eq!(daemon.send(line)["status"], "duplicate");
    let batch = daemon.send(&format!("[{line},{}]", event("a", "e2")));
    assert_eq!(
        (&batch["status"], &batch["duplicates"], &batch["deliveries"]),
        (&json!("accepted"), &json!(1), &json!(1))
    );
    loop {
        // The kill may have come before the first two outcomes were on disk; then those requests are repeated.
        let id = header(&target.next(), "webhook-id").to_owned();
        assert!(["e1", "e2"].contains(&&*id));
        if id == "e2" {
            break;
        }
    }
}

/// A6: an event may name its endpoint; nobody else gets it. Nobody asks for it: accepted, and owed to none.
#[test]
fn a6_events_go_to_the_endpoint_they_name_or_to_nobody() {
    let mut target = Target::new();
    let text = endpoint("one", &target.url("/one"), "events = [\"x.*\"]")
        + &endpoint("two", &target.url("/two"), "");
    let daemon = Daemon::start(&text);
    assert_eq!(
        daemon.accept(r#"{"type":"other","endpoint":"one"}"#)["deliveries"],
        1
    );
    assert_eq!(target.next().path, "/one");
    assert_eq!(
        daemon.accept(r#"{"type":"x.y","endpoint":"two"}"#)["deliveries"],
        1
    );
    assert_eq!(target.next().path, "/two");

    let nobody = Daemon::start(&endpoint("one", &target.url("/one"), "events = [\"x.*\"]"));
    assert_eq!(nobody.accept(&event("y", "unasked"))["deliveries"], 0);
    assert_eq!(nobody.get("/v1/events/unasked").0, 404, "it is not kept");
}

/// A6: `delay` and `deliverat` hold an event back that long, and it leaves then without anything else happening.
#[test]
fn a6_delayed_events_wait_for_their_time() {
    let mut target = Target::new();
    let daemon = daemon_with(&target);
    let at = now().plus(Duration::from_millis(1200));
    daemon.accept(&json!({ "type": "a", "id": "at", "deliverat": at.to_string() }).to_string());
    let delayed_from = now();
    daemon.accept(r#"{"type":"a","id":"delay","delay":"600ms"}"#);
    daemon.accept(r#"{"type":"a","id":"now"}"#);
    let requests = target.take(3);
    let ids: Vec<_> = requests
        .iter()
        .map(|request| header(request, "webhook-id"))
        .collect();
    assert_eq!(ids, ["now", "delay", "at"]);
    assert!(requests[1].at >= delayed_from.plus(Duration::from_millis(600)));
    assert!(requests[2].at >= at, "{} is before {at}", requests[2].at);
}

/// A6: what expires before it can be delivered is not delivered any more, and counted; what has expired is refused.
#[test]
fn a6_expired_events_are_dropped_and_counted() {
    let mut target = Target::new();
    let daemon = daemon_with(&target);
    let refused = daemon.send(r#"{"type":"a","expirytime":"2020-01-01T00:00:00Z"}"#);
    assert_eq!(refused["code"], "invalid_event", "{refused}");
    assert_eq!(daemon.post("/v1/endpoints/all/pause", &json!({})).0, 200);
    let soon = now().plus(Duration::from_millis(400));
    daemon.accept(&json!({ "type": "a", "id": "late", "expirytime": soon.to_string() }).to_string());
    daemon.accept(r#"{"type":"a","id":"good","expirytime":"2120-01-01T00:00:00Z"}"#);
    eventually("its expiry", || (now() > soon).then_some(()));
    assert_eq!(daemon.post("/v1/endpoints/all/resume", &json!({})).0, 200);
    assert_eq!(header(&target.next(), "webhook-id"), "good");
    daemon.until_row("all", "1 expired", |row| {
        row["attempts"]["expired"] == 1 && row["pending"] == 0
    });
    assert_eq!(target.requests(), 1);
}

/// A2: producers that write at the same time are all answered and all served.
#[test]
fn a2_sixty_four_producers_at_once() {
    const PRODUCERS: usize = 64;
    const EACH: usize = 20;
    let mut target = Target::new();
    let daemon = daemon_with(&target);
    thread::scope(|scope| {
        for producer in 0..PRODUCERS {
            let daemon = &daemon;
            scope.spawn(move || daemon.accept_many("a", &format!("p{producer}"), EACH));
        }
    });
    let requests = target.take(PRODUCERS * EACH);
    let ids: HashSet<_> = requests
        .iter()
        .map(|request| header(request, "webhook-id"))
        .collect();
    assert_eq!(ids.len(), PRODUCERS * EACH);
    let (_, status) = daemon.get("/v1/status");
    assert_eq!(status["ingest"]["accepted"], PRODUCERS * EACH);
    let commits = status["store"]["commits"].as_u64().unwrap();
    assert!(
        commits < (2 * PRODUCERS * EACH) as u64,
        "flushes are shared: {commits} commits"
    );
}

/// A1: mode and group of the socket are as configured from the first moment it can be seen.
#[test]
fn a1_the_socket_has_its_mode_and_group_from_the_start() {
    let groups = std::fs::read_to_string("/etc/group").unwrap();
    let own = rustix::process::getegid().as_raw();
    let may_give_any = rustix::process::geteuid().is_root();
    // Another group than the one it would get anyway, where this user may give it one.
    let (name, gid) = groups
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(':');
            Some((fields.next()?, fields.nth(1)?.parse::<u32>().ok()?))
        })
        .find(|(_, gid)| if may_give_any { *gid != own } else { *gid == own })
        .expect("there is a group");
    let mut daemon = Setup::new("")
        .ingest(&format!("mode = \"0620\"\ngroup = \"{name}\""))
        .stopped();
    daemon.spawn();
    let first = eventually("the socket", || std::fs::metadata(daemon.ingest()).ok());
    assert_eq!(
        first.permissions().mode() & 0o777 & !0o620,
        0,
        "wider than it may be: {first:?}"
    );
    daemon.wait_until_ready();
    let ready = std::fs::metadata(daemon.ingest()).unwrap();
    assert_eq!((ready.permissions().mode() & 0o777, ready.gid()), (0o620, gid));
}

/// I3: a socket left behind by a crash is taken over; one that somebody answers on is not.
#[test]
fn i3_a_stale_socket_is_taken_over_and_a_live_one_is_not() {
    let mut daemon = Setup::new("").stopped();
    drop(UnixListener::bind(daemon.ingest()).unwrap());
    daemon.restart();
    assert_eq!(daemon.accept(&event("a", "1"))["deliveries"], 0);
    daemon.stop();
    assert!(
        !daemon.ingest().exists() && !daemon.control().exists(),
        "both are gone after a clean stop"
    );

    let _somebody = UnixListener::bind(daemon.ingest()).unwrap();
    daemon.spawn();
    assert_eq!(daemon.wait().code(), Some(1));
    daemon.logs("another process answers on this socket");
    assert!(daemon.ingest().exists(), "it is left alone");
}

/// I5: past `max_connections` a producer waits until another one leaves.
#[test]
fn i5_connections_are_bounded() {
    let target = Target::new();
    let daemon = Setup::new(&endpoint("all", &target.url("/ok"), ""))
        .ingest("max_connections = 2")
        .start();
    let mut first = daemon.producer();
    let mut second = daemon.producer();
    assert_eq!(first.send(&event("a", "1"))["status"], "accepted");
    assert_eq!(second.send(&event("a", "2"))["status"], "accepted");
    let mut third = daemon.producer();
    third.write(format!("{}\n", event("a", "3")).as_bytes());
    assert!(third.is_silent_for(Duration::from_millis(300)));
    drop(first);
    assert_eq!(third.answer()["id"], "3");
    assert_eq!(second.send(&event("a", "4"))["status"], "accepted");
}

/// I5: a producer that floods and never reads its answers is held up; others don't notice.
#[test]
fn i5_a_producer_that_never_reads_is_held_up_alone() {
    let target = Target::new();
    let daemon = daemon_with(&target);
    let flooding = std::os::unix::net::UnixStream::connect(daemon.ingest()).unwrap();
    flooding
        .set_write_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    let lines = "not an event\n".repeat(5_000);
    let mut written = 0;
    let stuck = loop {
        match std::io::Write::write(&mut &flooding, lines.as_bytes()) {
            Ok(bytes) => written += bytes,
            Err(error) => break error,
        }
        assert!(written < 100_000_000, "it reads on without bound");
    };
    assert_eq!(stuck.kind(), std::io::ErrorKind::WouldBlock);
    assert_eq!(daemon.accept(&event("a", "1"))["deliveries"], 1);
}
