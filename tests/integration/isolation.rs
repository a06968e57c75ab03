//! F6: one endpoint, dead, hanging, slow or flooded, never delays another.

use std::collections::HashSet;
use std::time::Duration;

use crate::harness::servers::{Gate, Target, header, nobody};
use crate::harness::{Daemon, endpoint, event, eventually, now};

const BACKLOG: usize = 3_000;
const EVENTS: usize = 200;

/// Beside a dead, a hanging and a slow endpoint, each with a large backlog, all events of a healthy one arrive before
/// the hanging one has answered a single time and the slow one a few times; and none of them waits long.
#[test]
fn f6_neighbours_with_backlogs_do_not_delay_a_healthy_endpoint() {
    let (mut healthy, slow, hanging) = (Target::new(), Target::new(), Gate::new());
    let dead = format!("http://{}/", nobody());
    let text = endpoint("dead", &dead, "events = [\"flood\"]\nretry = { delay = \"1ms\" }")
        + &endpoint(
            "hanging",
            &hanging.url(),
            "events = [\"flood\"]\ntimeout = \"10m\"\nconcurrency = 64",
        )
        + &endpoint(
            "slow",
            &slow.url("/slow/1000"),
            "events = [\"flood\"]\nconcurrency = 4",
        )
        + &endpoint("healthy", &healthy.url("/ok"), "events = [\"one\"]");
    // Few slots for all together: the neighbours could take every one of them.
    let daemon = Daemon::start(&format!("[limits]\nin_flight = 16\n{text}"));
    daemon.accept_many("flood", "f", BACKLOG);
    eventually("the hanging one has requests", || {
        (hanging.requests() > 3).then_some(())
    });
    daemon.until_row("slow", "busy", |row| row["in_flight"] == 4);

    let mut slowest = Duration::ZERO;
    for n in 0..EVENTS {
        let sent = now();
        daemon.accept(&event("one", &format!("one-{n}")));
        let got = healthy.next();
        assert_eq!(header(&got, "webhook-id"), format!("one-{n}"));
        slowest = slowest.max(got.at.since(sent));
    }
    // Two orders of magnitude above what it takes alone; far below what any of the neighbours takes.
    assert!(slowest < Duration::from_secs(3), "one waited {slowest:?}");
    assert_eq!(daemon.row("hanging")["attempts"]["delivered"], 0);

    daemon.accept_many("one", "burst", EVENTS);
    let burst: HashSet<_> = healthy
        .take(EVENTS)
        .iter()
        .map(|got| header(got, "webhook-id").to_owned())
        .collect();
    assert_eq!(burst.len(), EVENTS);
    let row = daemon.row("hanging");
    assert_eq!(
        (row["attempts"]["delivered"].as_u64(), row["pending"].as_u64()),
        (Some(0), Some(BACKLOG as u64))
    );
    hanging.open();
    daemon.until_settled("hanging");
}

/// A flooded endpoint (much more owed than fits into memory's window) and one with a trickle share fairly.
#[test]
fn f6_a_flooded_endpoint_leaves_room_for_a_trickle() {
    let (mut trickle, flooded) = (Target::new(), Target::new());
    let text = endpoint(
        "flooded",
        &flooded.url("/slow/20"),
        "events = [\"flood\"]\nconcurrency = 64",
    ) + &endpoint("trickle", &trickle.url("/ok"), "events = [\"one\"]");
    let daemon = Daemon::start(&format!("[limits]\nin_flight = 8\n{text}"));
    daemon.accept_many("flood", "f", BACKLOG);
    for n in 0..20 {
        daemon.accept(&event("one", &format!("one-{n}")));
        trickle.next();
    }
    assert!(
        flooded.requests() < BACKLOG as u64,
        "the flood was over before the trickle had its turn"
    );
}
