//! A12: events that are sent while the daemon is down.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::harness::servers::Target;
use crate::harness::{Daemon, Setup, endpoint, event, eventually};

/// A daemon with a spool, not running yet.
fn stopped(target: &Target) -> Daemon {
    let daemon = Setup::new(&endpoint("crm", &target.url("/ok"), "events = [\"a\", \"b\"]"))
        .ingest("spool = \"spool\"")
        .stopped();
    fs::create_dir(daemon.path("spool")).unwrap();
    daemon
}

fn spooled(daemon: &Daemon) -> Vec<String> {
    let entries = fs::read_dir(daemon.path("spool")).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn emptied(daemon: &Daemon) {
    eventually("the spool is empty", || spooled(daemon).is_empty().then_some(()));
}

/// A12: `send` falls back to the spool, which is emptied at the start; what it said was accepted arrives once.
#[test]
fn a12_what_is_sent_while_the_daemon_is_down_arrives_once() {
    let mut target = Target::new();
    let mut daemon = stopped(&target);
    let spool = daemon.path("spool");
    let spool = spool.to_str().unwrap();
    let one = daemon
        .cli(&["send", "a", "--data", "{\"n\":1}", "--spool", spool])
        .exits(0);
    assert!(
        one.out.contains("spooled") && one.out.contains("once it is up"),
        "{one:?}"
    );
    let lines = format!(
        "{}\nnonsense\n[{},{}]\n",
        event("a", "x"),
        event("a", "y"),
        event("b", "z")
    );
    let many = daemon
        .cli_with(&["send", "--ndjson", "--spool", spool], &lines)
        .exits(1);
    assert!(many.err.contains("line 2: invalid_json"), "{many:?}");
    assert!(many.err.contains("3 events left in"), "{many:?}");
    let json = daemon
        .cli(&["send", "a", "--id", "j", "--json", "--spool", spool])
        .exits(0)
        .lines();
    assert_eq!(
        (&json[0]["status"], &json[0]["ids"][0]),
        (&"spooled".into(), &"j".into())
    );
    let names = spooled(&daemon);
    assert_eq!(names.len(), 3);
    for name in &names {
        let metadata = fs::metadata(daemon.path("spool").join(name)).unwrap();
        assert_eq!(
            metadata.permissions().mode() & 0o777,
            0o640,
            "the daemon's group reads it"
        );
    }
    let first = fs::read_to_string(daemon.path("spool").join(&names[0])).unwrap();
    let kept: Value = serde_json::from_str(&first).unwrap();
    for member in ["id", "source", "time"] {
        assert!(kept[member].is_string(), "{first}");
    }

    daemon.restart();
    emptied(&daemon);
    let ids: BTreeSet<String> = (0..5)
        .map(|_| {
            let got: Value = serde_json::from_slice(&target.next().body).unwrap();
            got["id"].as_str().unwrap().to_owned()
        })
        .collect();
    let expected = ["j", "x", "y", "z", kept["id"].as_str().unwrap()].map(str::to_owned);
    assert_eq!(ids, BTreeSet::from(expected));
    // A crash before a file was removed: it is read again, and nothing is sent twice.
    fs::write(daemon.path("spool/again.ndjson"), &first).unwrap();
    fs::rename(
        daemon.path("spool/again.ndjson"),
        daemon.path("spool/once-more.ndjson"),
    )
    .unwrap();
    emptied(&daemon);
    daemon.until_settled("crm");
    assert_eq!(daemon.row("crm")["attempts"]["delivered"], 5);
    // Now it can be reached.
    let direct = daemon.cli(&["send", "a", "--spool", spool]).exits(0);
    assert!(direct.out.contains("accepted"), "{direct:?}");
}

/// A12: a running daemon takes files as they come; lines it refuses are kept with the reason, and the status says so.
#[test]
fn a12_refused_lines_are_kept_and_shown() {
    let target = Target::new();
    let mut daemon = stopped(&target);
    daemon.restart();
    fs::write(
        daemon.path("draft"),
        format!(
            "{}\n{{\"type\":\"a\",\"endpoint\":\"nobody\"}}\n",
            event("a", "1")
        ),
    )
    .unwrap();
    fs::rename(daemon.path("draft"), daemon.path("spool/1.ndjson")).unwrap();
    eventually("the file is taken", || {
        (spooled(&daemon) == ["1.ndjson.rejected"]).then_some(())
    });
    let kept = fs::read_to_string(daemon.path("spool/1.ndjson.rejected")).unwrap();
    let kept: Value = serde_json::from_str(&kept).unwrap();
    assert_eq!(
        (&kept["line"], &kept["code"]),
        (&2.into(), &"invalid_event".into())
    );
    daemon.logs("1.ndjson.rejected");
    eventually("the status says so", || {
        let out = daemon.cli(&["status"]).exits(0).out;
        out.contains("1 file with refused lines in the spool")
            .then_some(())
    });
    fs::remove_file(daemon.path("spool/1.ndjson.rejected")).unwrap();
    eventually("the status is clean again", || {
        (daemon.get("/v1/status").1["ingest"]["spool_rejected"] == 0).then_some(())
    });
}

/// A12: without a spool, and when the socket is another daemon's, nothing is left anywhere.
#[test]
fn a12_no_spool_is_exit_code_3() {
    let daemon = stopped(&Target::new());
    for spool in ["", "/nonexistent"] {
        let ran = daemon.cli(&["send", "a", "--spool", spool]).exits(3);
        assert!(ran.err.contains("can't reach the daemon"), "{ran:?}");
    }
    daemon.cli(&["send", "a"]).exits(3);
}
