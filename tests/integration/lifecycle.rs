//! Starting and stopping: signals, crashes, a second daemon, systemd's ways of starting and watching.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::servers::{Gate, Target, header};
use crate::harness::{BOUND, Daemon, Producer, Setup, endpoint, event, eventually, files, installed};
use crate::required;

/// I3: SIGTERM lets the request under way end, begins no more, and the outcome is on disk: nothing is repeated.
#[test]
fn i3_sigterm_drains_and_nothing_is_repeated() {
    const OWED: usize = 300;
    let gate = Gate::new();
    let mut daemon = Daemon::start(&endpoint("slow", &gate.url(), "concurrency = 1"));
    daemon.accept_many("a", "e", OWED);
    eventually("a request", || (gate.requests() == 1).then_some(()));
    daemon.signal(Signal::TERM);
    eventually("the ingest socket closes", || {
        (!daemon.ingest().exists()).then_some(())
    });
    gate.open();
    let status = daemon.wait();
    assert!(status.success(), "{status}");
    let made = gate.requests();
    assert!(made < OWED, "it went on until all was delivered");
    daemon.restart();
    let left = OWED - made;
    daemon.until_row("slow", "delivered", |row| {
        row["attempts"]["delivered"] == left && row["pending"] == 0
    });
    assert_eq!(gate.requests(), OWED, "none was repeated");
}

/// I3, A8: a producer that writes on while the daemon stops hears what became of each line that was read: first
/// accepted ones, then refusals; and what was accepted is neither lost nor delivered twice.
#[test]
fn i3_a_producer_at_the_stop_knows_where_it_is() {
    let mut target = Target::new();
    let mut daemon = Daemon::start(&endpoint("crm", &target.url("/ok"), ""));
    let stream = UnixStream::connect(daemon.ingest()).unwrap();
    stream.set_read_timeout(Some(BOUND)).unwrap();
    let (answers, written) = thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut written = 0;
            // Until the daemon closes.
            while writeln!(&stream, "{}", event("a", &format!("e{written}"))).is_ok() {
                written += 1;
            }
            written
        });
        let mut answers = Vec::new();
        for line in BufReader::new(&stream).lines().map_while(Result::ok) {
            let answer: Value = serde_json::from_str(&line).unwrap();
            answers.push(answer);
            if answers.len() == 100 {
                daemon.signal(Signal::TERM);
            }
        }
        (answers, writer.join().unwrap())
    });
    assert!(daemon.wait().success());
    let accepted = answers
        .iter()
        .take_while(|answer| answer["status"] == "accepted")
        .count();
    assert!(
        accepted >= 100 && answers.len() <= written,
        "{accepted} of {} answers to {written}",
        answers.len()
    );
    for refused in &answers[accepted..] {
        assert_eq!(refused["code"], "shutting_down", "{refused}");
        assert!(refused["retry_after_ms"].is_u64(), "{refused}");
    }
    daemon.restart();
    let ids: HashSet<_> = target
        .take(accepted)
        .iter()
        .map(|got| header(got, "webhook-id").to_owned())
        .collect();
    assert_eq!(ids.len(), accepted);
    daemon.until_settled("crm");
    assert_eq!(target.requests(), accepted as u64);
}

/// I5: memory is bounded whatever the backlog: tens of megabytes owed twice over, and a 10 GB answer besides.
#[test]
fn i5_memory_is_bounded() {
    let target = Target::new();
    let text = endpoint("held", &target.url("/ok"), "events = [\"load\"]")
        + &endpoint("held-too", &target.url("/ok"), "events = [\"load\"]")
        + &endpoint(
            "huge",
            &target.url("/big/10000000000"),
            "max_response = \"1KiB\"\nevents = [\"huge\"]",
        );
    let mut daemon = Daemon::start(&text);
    for name in ["held", "held-too"] {
        daemon.cli(&["endpoints", "pause", name]).exits(0);
    }
    let mut producer = daemon.producer();
    producer.write(b"{\"ack\":\"errors\"}\n");
    let line = json!({ "type": "load", "data": "x".repeat(4000) }).to_string() + "\n";
    for _ in 0..150 {
        producer.write(line.repeat(100).as_bytes());
    }
    assert_eq!(producer.end().len(), 1, "nothing is refused");
    daemon.accept(&event("huge", "e1"));
    daemon.until_row("huge", "delivered", |row| row["attempts"]["delivered"] == 1);
    for _ in 0..2 {
        assert_eq!(daemon.row("held")["pending"], 15_000);
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", daemon.pid().as_raw_nonzero())).unwrap();
        let peak = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .unwrap();
        let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
        assert!(peak < 256 << 10, "{peak} KiB at most were in use");
        daemon.kill();
        daemon.restart();
    }
}

/// G4: a store that will not open is set aside and not deleted: the daemon says so and exits, as often as it is
/// started, until it is told to start empty.
#[test]
fn g4_a_broken_store_is_set_aside() {
    let mut daemon = Daemon::start("");
    daemon.stop();
    let stored = |daemon: &Daemon, name: &str| {
        let all = files(&daemon.path("queue")).into_iter();
        all.filter(|file| file.ends_with(name)).collect::<Vec<_>>()
    };
    let db = stored(&daemon, "db").remove(0);
    let length = std::fs::metadata(&db).unwrap().len();
    std::fs::write(db, vec![0x5a; usize::try_from(length).unwrap()]).unwrap();
    for _ in 0..2 {
        daemon.spawn();
        assert_eq!(daemon.wait().code(), Some(1));
        daemon.logs("--start-empty");
    }
    let mut command = daemon.command();
    command.stderr(Stdio::null());
    let config = daemon.path("config.toml");
    let mut child = command
        .args(["run", "--start-empty", "--config"])
        .arg(config)
        .spawn()
        .unwrap();
    eventually("somebody answers", || UnixStream::connect(daemon.ingest()).ok());
    assert_eq!(daemon.accept(&event("a", "e1"))["deliveries"], 0);
    child.kill().unwrap();
    child.wait().unwrap();
    let aside = stored(&daemon, "db")
        .into_iter()
        .filter(|file| file.to_string_lossy().contains("corrupt"));
    assert_eq!(aside.count(), 1, "the old store is beside the new one");
    // From here on it starts as usual.
    daemon.restart();
}

/// I3: the drain has a bound; what is still under way then is repeated later.
#[test]
fn i3_the_drain_is_bounded() {
    let gate = Gate::new();
    let text = format!(
        "[limits]\nshutdown = \"300ms\"\n{}",
        endpoint("hanging", &gate.url(), "timeout = \"1h\"")
    );
    let mut daemon = Daemon::start(&text);
    daemon.accept(&event("a", "e1"));
    eventually("a request", || (gate.requests() == 1).then_some(()));
    daemon.stop();
    daemon.logs("they will be repeated");
    gate.open();
    daemon.restart();
    daemon.until_row("hanging", "delivered", |row| {
        row["attempts"]["delivered"] == 1 && row["pending"] == 0
    });
    assert_eq!(gate.requests(), 2);
}

/// I3: whoever can't wait says so with a second SIGTERM; what was accepted is kept.
#[test]
fn i3_a_second_sigterm_quits_at_once() {
    let gate = Gate::new();
    let mut daemon = Daemon::start(&endpoint("hanging", &gate.url(), "timeout = \"1h\""));
    daemon.accept_many("a", "e", 3);
    eventually("a request", || (gate.requests() >= 1).then_some(()));
    daemon.signal(Signal::TERM);
    daemon.logs("stopping");
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait().code(), Some(143));
    gate.open();
    daemon.restart();
    daemon.until_row("hanging", "delivered", |row| {
        row["attempts"]["delivered"] == 3 && row["pending"] == 0
    });
}

/// I3: SIGKILL in the middle of writing and delivering, again and again: whatever was answered is delivered.
#[test]
fn i3_sigkill_loses_nothing_acknowledged() {
    let mut target = Target::new();
    let mut daemon = Daemon::start(&endpoint("crm", &target.url("/ok"), ""));
    let mut acknowledged = HashSet::new();
    for round in 0..5 {
        let mut producer = daemon.producer();
        let lines: String = (0..200)
            .map(|n| event("a", &format!("{round}-{n}")) + "\n")
            .collect();
        producer.write(lines.as_bytes());
        for _ in 0..20 + round * 30 {
            acknowledged.insert(producer.answer()["id"].as_str().unwrap().to_owned());
        }
        daemon.kill();
        daemon.restart();
    }
    let mut delivered = HashSet::new();
    while !acknowledged.is_subset(&delivered) {
        delivered.insert(header(&target.next(), "webhook-id").to_owned());
    }
    daemon.until_settled("crm");
    assert_eq!(daemon.row("crm")["dead"], 0);
}

/// I3: a second daemon on the same store is refused, and the first one's process is named.
#[test]
fn i3_a_second_daemon_on_the_same_store_is_refused() {
    let first = Daemon::start("");
    let mut second = Setup::new("").store_path(&first.path("queue")).stopped();
    second.spawn();
    assert_eq!(second.wait().code(), Some(1));
    assert!(
        second
            .log()
            .contains(&format!("pid {}", first.pid().as_raw_nonzero())),
        "{}",
        second.log()
    );
    assert_eq!(first.accept(&event("a", "e1"))["deliveries"], 0);
}

/// A daemon that can't start says why, with the place, and leaves no socket behind.
#[test]
fn i3_what_prevents_a_start_is_named() {
    let mut daemon = Setup::new("[[endpoint]]\nname = \"one\"\n").stopped();
    daemon.spawn();
    assert_eq!(daemon.wait().code(), Some(1));
    daemon.logs("url is missing");
    daemon.logs("config.toml:");
    assert!(!daemon.ingest().exists());
}

/// What a service manager is told, in order, until `until` is among it.
fn told(manager: &UnixDatagram, until: &str) -> Vec<String> {
    let mut messages = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let length = manager
            .recv(&mut buffer)
            .unwrap_or_else(|error| panic!("no {until} in {messages:?}: {error}"));
        let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
        let found = message.lines().any(|line| line.starts_with(until));
        messages.push(message);
        if found {
            return messages;
        }
    }
}

/// I1: systemd hears when the daemon is ready (not before its socket is), reloading, alive, and stopping.
#[test]
fn i1_systemd_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("notify.sock");
    let manager = UnixDatagram::bind(&socket).unwrap();
    manager.set_read_timeout(Some(BOUND)).unwrap();
    let mut daemon = Setup::new("")
        .env("NOTIFY_SOCKET", socket.to_str().unwrap())
        .env("WATCHDOG_USEC", "400000")
        .stopped();
    daemon.spawn();
    let ready = told(&manager, "READY=1");
    assert!(ready.last().unwrap().contains("STATUS=0 endpoints"), "{ready:?}");
    assert_eq!(
        daemon.accept(&event("a", "e1"))["deliveries"],
        0,
        "ready means ready"
    );
    told(&manager, "WATCHDOG=1");
    told(&manager, "WATCHDOG=1");
    daemon.signal(Signal::HUP);
    let reloading = told(&manager, "RELOADING=1");
    assert!(
        reloading.last().unwrap().contains("MONOTONIC_USEC="),
        "{reloading:?}"
    );
    told(&manager, "READY=1");
    daemon.write_config("nonsense");
    daemon.signal(Signal::HUP);
    told(&manager, "RELOADING=1");
    told(&manager, "READY=1");
    daemon.signal(Signal::TERM);
    told(&manager, "STOPPING=1");
    assert!(daemon.wait().success());
}

/// I1: a stopped (frozen) daemon does not feed the watchdog.
#[test]
fn i1_the_watchdog_is_tied_to_progress() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("notify.sock");
    let manager = UnixDatagram::bind(&socket).unwrap();
    manager.set_read_timeout(Some(BOUND)).unwrap();
    let daemon = Setup::new("")
        .env("NOTIFY_SOCKET", socket.to_str().unwrap())
        .env("WATCHDOG_USEC", "200000")
        .start();
    told(&manager, "WATCHDOG=1");
    daemon.signal(Signal::STOP);
    manager
        .set_read_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    let mut buffer = [0; 4096];
    // What had been sent before it froze is read first.
    while manager.recv(&mut buffer).is_ok() {}
    daemon.signal(Signal::CONT);
    manager.set_read_timeout(Some(BOUND)).unwrap();
    told(&manager, "WATCHDOG=1");
}

/// Makes the two sockets and becomes the daemon with them, as systemd does.
const ACTIVATE: &str = r#"
import os, socket, sys
fds = []
for name in ("activated-control.sock", "activated-ingest.sock"):
    s = socket.socket(socket.AF_UNIX); s.bind(name); s.listen(16); fds.append(os.dup(s.fileno()))
# To a place where nothing else is, then down to 3 and 4.
high = [os.dup2(fd, 100 + n) for n, fd in enumerate(fds)]
for n, fd in enumerate(high): os.dup2(fd, 3 + n, inheritable=True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="2", LISTEN_FDNAMES="control:ingest")
os.execv(sys.argv[1], sys.argv[1:])
"#;

/// I1: sockets that systemd has made are taken over by their names, and left for the next daemon.
#[test]
fn i1_sockets_are_taken_over_from_systemd() {
    if !installed("python3") {
        return required::missing("python3", "apt-get install python3", "not found");
    }
    let mut target = Target::new();
    let mut daemon = Setup::new(&endpoint("crm", &target.url("/ok"), ""))
        .wrapper(&["python3", "-c", ACTIVATE])
        .stopped();
    daemon.spawn();
    let [ingest, control] = ["activated-ingest.sock", "activated-control.sock"].map(|name| daemon.path(name));
    eventually("somebody answers", || UnixStream::connect(&ingest).ok());
    assert_eq!(
        Producer::connect(&ingest).send(&event("a", "e1")),
        json!({ "status": "accepted", "id": "e1", "deliveries": 1 })
    );
    target.next();
    assert!(
        !daemon.ingest().exists() && !daemon.control().exists(),
        "it makes none of its own"
    );
    daemon
        .cli(&["status", "--socket", control.to_str().unwrap()])
        .exits(0);
    daemon.stop();
    assert!(ingest.exists() && control.exists(), "they belong to systemd");
}
