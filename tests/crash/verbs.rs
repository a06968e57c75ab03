//! SIGKILL in the middle of what an operator asked for: it is done or not done, for each delivery, and asking again
//! finishes it.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;

use serde_json::json;

use crate::daemon::{Site, copy_folder, eventually, touch};
use crate::load::Sink;
use crate::points::assert_killed;

/// Deliveries each verb is about.
const DELIVERIES: u64 = 30;

/// `dead` rejects, `parked` waits, `old` is there at first only.
fn with_old(receiver: SocketAddr) -> String {
    format!("{}{}", without_old(receiver), parked("old", receiver))
}

fn without_old(receiver: SocketAddr) -> String {
    format!(
        "[[endpoint]]\nname = \"dead\"\nevents = [\"dead\"]\nurl = \"http://{receiver}/status/422\"\n{}",
        parked("parked", receiver)
    )
}

fn parked(name: &str, receiver: SocketAddr) -> String {
    format!(
        "[[endpoint]]\nname = \"{name}\"\nevents = [\"{name}\"]\nurl = \"http://{receiver}/ok\"\nenabled = false\n"
    )
}

/// What an endpoint is owed, and whether it is paused.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Row {
    pending: u64,
    dead: u64,
    paused: bool,
}

fn row(site: &Site, name: &str) -> Row {
    let status = site.json(&["status"]).remove(0);
    let rows = status["endpoints"].as_array().cloned().unwrap_or_default();
    let found = rows.iter().find(|row| row["name"] == name);
    let number = |key: &str| found.map_or(0, |row| row[key].as_u64().unwrap_or(0));
    Row {
        pending: number("pending"),
        dead: number("dead"),
        paused: found.is_some_and(|row| row["state"] == "paused"),
    }
}

/// A verb, the points it passes, what holds whenever it was cut off, and what holds when it is done.
struct Verb {
    words: &'static str,
    points: &'static str,
    holds: fn(&Site) -> bool,
    done: fn(&Site) -> bool,
}

const VERBS: [Verb; 6] = [
    Verb {
        words: "endpoints pause dead --reason test",
        points: "after-records before-flush after-flush",
        holds: |site| row(site, "dead").dead == DELIVERIES,
        done: |site| row(site, "dead").paused,
    },
    Verb {
        words: "endpoints resume dead",
        points: "after-records before-flush after-flush",
        holds: |site| row(site, "dead").dead == DELIVERIES,
        done: |site| !row(site, "dead").paused,
    },
    Verb {
        words: "dead replay --endpoint dead",
        points: "after-moves after-removals before-flush after-flush",
        holds: |site| row(site, "dead").dead == DELIVERIES,
        done: |site| row(site, "dead").dead == DELIVERIES,
    },
    Verb {
        words: "dead purge --endpoint dead --yes",
        points: "after-ids after-freed after-removals before-flush after-flush",
        holds: |site| row(site, "dead").pending == 0 && row(site, "parked").pending == DELIVERIES,
        done: |site| row(site, "dead").dead == 0,
    },
    Verb {
        words: "endpoints move old --to parked",
        points: "after-owed before-flush after-flush",
        holds: |site| row(site, "old").pending + row(site, "parked").pending == 2 * DELIVERIES,
        done: |site| row(site, "parked").pending == 2 * DELIVERIES,
    },
    Verb {
        words: "endpoints bury old --reason test",
        points: "after-moves before-flush after-flush",
        holds: |site| row(site, "old").pending + row(site, "old").dead == DELIVERIES,
        done: |site| row(site, "old").dead == DELIVERIES,
    },
];

/// Accepts the events of all three endpoints, and waits for the dead letters.
fn fill(site: &mut Site) {
    let daemon = site.start();
    let mut socket = UnixStream::connect(site.ingest()).expect("the daemon is ready");
    let mut answers = BufReader::new(socket.try_clone().expect("a socket can be cloned"));
    for n in 0..DELIVERIES {
        for kind in ["dead", "parked", "old"] {
            let event = json!({ "type": kind, "id": format!("{kind}-{n}"), "data": "x".repeat(1000) });
            writeln!(socket, "{event}").expect("the daemon reads");
            let mut answer = String::new();
            answers.read_line(&mut answer).expect("the daemon answers");
            assert!(answer.contains("accepted"), "{answer}");
        }
    }
    eventually("all are dead", || {
        (row(site, "dead").dead == DELIVERIES).then_some(())
    });
    daemon.stop();
}

/// Has the daemon killed at `point` of `verb`, looks at what is left with the next one, and asks again.
fn cut_off(site: &mut Site, verb: &Verb, point: &str) {
    let what = format!("{point} of {}", verb.words);
    let words: Vec<_> = verb.words.split(' ').collect();
    let now = site.file("now");
    let when = now
        .to_str()
        .expect("a temporary folder has a plain name")
        .to_owned();
    let mut daemon = site.spawn(&[("POSTHASTE_CRASH_AT", point), ("POSTHASTE_CRASH_WHEN", &when)]);
    daemon.wait_until_ready().expect("the daemon starts");
    touch(&now);
    // Nobody answers, so there is nothing to look at.
    let _ = site.cli(&words);
    assert_killed(daemon, &what, site);
    fs::remove_file(&now).expect("the file is there");

    let daemon = site.start();
    eventually(&format!("nothing is lost at {what}"), || {
        (verb.holds)(site).then_some(())
    });
    // An orphan that has nothing left is not there any more, which is as good as done.
    let _ = site.cli(&words);
    eventually(&format!("it can be finished after {what}"), || {
        (verb.done)(site).then_some(())
    });
    daemon.kill();
    let daemon = site.start();
    eventually(&format!("it stays done after {what}"), || {
        (verb.done)(site).then_some(())
    });
    daemon.stop();
    site.assert_sound();
}

/// Every verb, at every point that it passes, each time on the same store.
#[test]
fn what_an_operator_asked_for_is_done_or_not_done() {
    let sink = Sink::start();
    let mut site = Site::new(with_old, sink.addr);
    fill(&mut site);
    site.set_endpoints(without_old);
    let good = site.file("good");
    copy_folder(&site.store(), &good);
    for verb in &VERBS {
        for point in verb.points.split(' ') {
            fs::remove_dir_all(site.store()).expect("the store can be removed");
            copy_folder(&good, &site.store());
            cut_off(&mut site, verb, point);
        }
    }
}
