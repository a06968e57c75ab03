//! A disk that fails: nothing is accepted after it, the daemon says why and ends, and what was acknowledged
//! before is there when it comes back.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use crate::daemon::{BOUND, touch};
use crate::ledger::{Kind, Ledger, Sent};
use crate::load::{Load, Repeatable, seed};

/// A refused flush, as of a disk with an error: the call fails, and every later one.
#[test]
fn a_failed_flush_ends_it_closed() {
    let seed = seed();
    let _repeatable = Repeatable(format!("POSTHASTE_SEED={seed}"));
    let mut load = Load::start(2, seed);
    let broken = load.site.file("broken");
    let when = broken
        .to_str()
        .expect("a temporary folder has a plain name")
        .to_owned();
    let env = [
        ("POSTHASTE_FAIL_AT", "sync"),
        ("POSTHASTE_CRASH_WHEN", when.as_str()),
    ];
    let mut daemon = load.site.spawn(&env);
    daemon.wait_until_ready().expect("the disk works at first");
    load.wait_for_promises(50);
    // Then nothing else is written, and the first flush that fails is that of the event sent here.
    load.settle();

    let control = load.site.file("control");
    let mut own = Producer::connect(&load);
    assert!(own.send("before").contains("accepted"));
    assert_eq!(readiness(&control), Some(200));
    touch(&broken);
    // From here on no flush succeeds, so nothing that is sent from here on may be accepted.
    let watching = thread::spawn(move || watch(&control));
    let answer = own.send("after");
    assert!(
        !answer.contains("accepted"),
        "accepted after the disk had failed: {answer}"
    );
    let status = daemon.wait("the daemon ends when the disk fails");
    assert_eq!(status.code(), Some(1), "{}", load.site.log());
    assert!(
        load.site.log().contains("nothing more is accepted or delivered"),
        "{}",
        load.site.log()
    );
    assert!(
        load.site.log().contains("posthaste: the store failed"),
        "{}",
        load.site.log()
    );
    let seen = watching.join().expect("watching does not panic");
    // Between the failure and the end there may be no time to ask; but never is it ready again.
    assert!(
        seen.iter().all(|status| [200, 503].contains(status)) && seen.is_sorted(),
        "ready after it had failed: {seen:?}"
    );

    std::fs::remove_file(&broken).expect("the file is there");
    let daemon = load.site.start();
    println!("{}", load.judge(daemon));
}

/// A file that may not grow: writes fail for real, in the middle of a load.
#[test]
fn a_full_disk_that_comes_unannounced_ends_it_closed() {
    let seed = seed();
    let _repeatable = Repeatable(format!("POSTHASTE_SEED={seed}"));
    let mut load = Load::start(2, seed);
    let mut limited = Command::new("/bin/sh");
    // In blocks of 512 bytes. The signal that comes with such a failure would kill; ignored, the write fails.
    limited.args([
        "-c",
        "trap '' XFSZ; ulimit -f 12288; exec \"$@\"",
        "sh",
        env!("CARGO_BIN_EXE_posthaste"),
    ]);
    let mut daemon = load.site.spawn_as(limited, &[], &[]);
    let status = daemon.wait("the store outgrows what a file may have");
    assert_eq!(status.code(), Some(1), "{}", load.site.log());
    assert!(
        load.site.log().contains("posthaste: the store failed"),
        "{}",
        load.site.log()
    );
    let daemon = load.site.start();
    println!("{}", load.judge(daemon));
}

/// A producer that waits for each answer.
struct Producer {
    ledger: Arc<Mutex<Ledger>>,
    socket: UnixStream,
    answers: BufReader<UnixStream>,
}

impl Producer {
    fn connect(load: &Load) -> Self {
        let socket = UnixStream::connect(load.site.ingest()).expect("the daemon is ready");
        socket
            .set_read_timeout(Some(BOUND))
            .expect("a socket has a time limit");
        let answers = BufReader::new(socket.try_clone().expect("a socket can be cloned"));
        Self {
            ledger: Arc::clone(&load.sink.ledger),
            socket,
            answers,
        }
    }

    /// The answer to an event; empty if there is none.
    fn send(&mut self, id: &str) -> String {
        let sent = Sent {
            kind: Kind::Contact,
            filling_bytes: 0,
        };
        self.ledger
            .lock()
            .expect("nobody panics with the ledger")
            .sending(id, sent);
        let line = format!("{{\"type\":\"contact.created\",\"id\":\"{id}\",\"source\":\"/own\"}}\n");
        let mut answer = String::new();
        let sent = self
            .socket
            .write_all(line.as_bytes())
            .and_then(|()| self.answers.read_line(&mut answer));
        // No answer promises nothing, whatever ended the conversation.
        let _ = sent;
        answer
    }
}

/// What `GET /readyz` answers; `None`: nobody is there.
fn readiness(control: &Path) -> Option<u16> {
    let mut socket = UnixStream::connect(control).ok()?;
    socket
        .write_all(b"GET /readyz HTTP/1.1\r\nhost: posthaste\r\nconnection: close\r\n\r\n")
        .ok()?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).ok()?;
    answer.split(' ').nth(1)?.parse().ok()
}

/// Asks again and again until nobody is there; every answer.
fn watch(control: &Path) -> Vec<u16> {
    let started = Instant::now();
    let mut seen = Vec::new();
    while let Some(status) = readiness(control).filter(|_| started.elapsed() < BOUND) {
        seen.push(status);
    }
    seen
}
