//! A store that was damaged while the daemon was stopped. It opens with everything, or says what is missing, or says
//! why it does not open: `store check` leaves it where it is, the daemon sets it aside whole. It never breaks off, and
//! nothing goes missing in silence.

use std::fs::{self, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::{Value, json};

use crate::daemon::{Site, copy_folder};
use crate::dice::Dice;
use crate::load::{Repeatable, Sink, seed};

/// Events in the store, each owed to one endpoint.
const EVENTS: usize = 120;

/// An endpoint that keeps everything, because nothing is sent to it.
fn parked(receiver: SocketAddr) -> String {
    format!("[[endpoint]]\nname = \"parked\"\nurl = \"http://{receiver}/ok\"\nenabled = false\n")
}

/// `POSTHASTE_DAMAGES=1000` is the long version.
fn damages() -> u32 {
    std::env::var("POSTHASTE_DAMAGES")
        .ok()
        .and_then(|damages| damages.parse().ok())
        .unwrap_or(40)
}

/// Sends the events, and stops well.
fn fill(site: &mut Site, dice: &mut Dice) {
    let daemon = site.start();
    let mut socket = UnixStream::connect(site.ingest()).expect("the daemon is ready");
    for n in 0..EVENTS {
        let filling = "x".repeat(if n % 40 == 39 { 300 << 10 } else { dice.below(3000) });
        let event = json!({ "type": "t", "id": n.to_string(), "data": { "filling": filling } });
        writeln!(socket, "{event}").expect("the daemon reads");
    }
    socket
        .shutdown(std::net::Shutdown::Write)
        .expect("a socket can be shut down");
    let mut answers = String::new();
    socket.read_to_string(&mut answers).expect("the daemon answers");
    assert_eq!(answers.matches("\"accepted\"").count(), EVENTS);
    daemon.stop();
}

/// The engine's files.
fn files_of(queue: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(queue).expect("a folder can be read");
    let mut files: Vec<_> = entries
        .map(|entry| entry.expect("a folder can be read").path())
        .collect();
    files.retain(|path| path.is_file() && fs::metadata(path).is_ok_and(|meta| meta.len() > 0));
    files.sort();
    files
}

/// Damages one file in one way; says how.
fn damage(queue: &Path, dice: &mut Dice) -> String {
    let files = files_of(queue);
    let file = &files[dice.below(files.len())];
    let name = file
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let length = fs::metadata(file).expect("the file is there").len() as usize;
    let at = dice.below(length);
    let open = OpenOptions::new().read(true).write(true).open(file);
    let mut open = open.expect("the file can be opened");
    match dice.below(4) {
        0 => {
            open.set_len(at as u64).expect("a file can be cut");
            format!("{name} cut from {length} to {at} bytes")
        }
        1 => {
            write_at(&mut open, at, &vec![0; dice.below(8192).min(length - at)]);
            format!("{name}: zeroes at {at}")
        }
        2 => {
            fs::remove_file(file).expect("a file can be removed");
            format!("{name} removed")
        }
        _ => {
            let flips = 1 + dice.below(8);
            for _ in 0..flips {
                let at = dice.below(length);
                let mut byte = [0];
                open.seek(SeekFrom::Start(at as u64)).expect("a file can be read");
                open.read_exact(&mut byte).expect("a file can be read");
                write_at(&mut open, at, &[byte[0] ^ (1 << dice.below(8))]);
            }
            format!("{name}: {flips} bits flipped")
        }
    }
}

fn write_at(file: &mut fs::File, at: usize, bytes: &[u8]) {
    file.seek(SeekFrom::Start(at as u64))
        .expect("a file can be written");
    file.write_all(bytes).expect("a file can be written");
}

/// What came of a damaged store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Everything is there.
    Whole,
    /// Something is missing, and it is said.
    Reported,
    /// It does not open; it stays where it is, for the daemon to set aside.
    Unreadable,
}

/// Reads a report of `store check`.
fn judge(output: &Output, store: &Path) -> Result<Fate, String> {
    let said = String::from_utf8_lossy(&output.stderr);
    let Some(code) = output.status.code() else {
        return Err(format!("it broke off: {}: {said}", output.status));
    };
    let report: Option<Value> = serde_json::from_slice(&output.stdout).ok();
    let Some(report) = report else {
        let told = said.contains("the daemon's next start will set it aside");
        return if code == 1 && told && store.join("queue-1").is_dir() {
            Ok(Fate::Unreadable)
        } else {
            Err(format!("exit {code}: {said}"))
        };
    };
    let pending = report["pending"].as_u64();
    let problems = report["damaged"] != 0 || report["quarantined"] != 0;
    match (problems, pending == Some(EVENTS as u64)) {
        (true, _) => Ok(Fate::Reported),
        (false, true) => Ok(Fate::Whole),
        (false, false) => Err(format!(
            "{pending:?} of {EVENTS} are left and nothing is said: {report} {said}"
        )),
    }
}

/// Every kind of damage to every file, at random places.
#[test]
fn damage_is_survived_or_told() {
    let (seed, damages) = (seed(), damages());
    let _repeatable = Repeatable(format!("POSTHASTE_SEED={seed} POSTHASTE_DAMAGES={damages}"));
    let mut dice = Dice::new(seed);
    let sink = Sink::start();
    let mut site = Site::new(parked, sink.addr);
    fill(&mut site, &mut dice);
    let good = site.file("good");
    copy_folder(&site.store(), &good);
    let mut fates = [0; 3];
    let mut wrong = Vec::new();
    for _ in 0..damages {
        fs::remove_dir_all(site.store()).expect("the store can be removed");
        copy_folder(&good, &site.store());
        let how = damage(&site.store().join("queue-1"), &mut dice);
        match judge(&site.cli(&["store", "check", "--json"]), &site.store()) {
            Ok(fate) => fates[fate as usize] += 1,
            Err(what) => wrong.push(format!("{how}: {what}")),
        }
    }
    println!(
        "{damages} damages: {} whole, {} reported, {} unreadable",
        fates[0], fates[1], fates[2]
    );
    assert!(
        wrong.is_empty(),
        "{} of {damages}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// What will not open is set aside by the daemon; told to, it starts empty, and the damaged one is kept.
#[test]
fn a_daemon_starts_empty_only_when_told_to() {
    let sink = Sink::start();
    let mut site = Site::new(parked, sink.addr);
    fill(&mut site, &mut Dice::new(1));
    let queue = site.store().join("queue-1");
    for file in files_of(&queue) {
        let length = fs::metadata(&file).expect("the file is there").len();
        fs::write(file, vec![0xa5; length as usize]).expect("the file can be written");
    }
    let mut daemon = site.spawn(&[]);
    assert_eq!(daemon.wait("the daemon gives up").code(), Some(1));
    let log = site.log();
    assert!(
        log.contains("kept whole in") && log.contains("--start-empty"),
        "{log}"
    );
    assert!(!queue.exists(), "it is still in its place");

    let mut daemon = site.spawn(&[]);
    assert_eq!(
        daemon
            .wait("it gives up again: nothing was put in its place")
            .code(),
        Some(1),
        "{}",
        site.log()
    );

    let mut daemon = site.spawn_with(&["--start-empty"]);
    daemon.wait_until_ready().expect("it starts");
    let status = &site.json(&["status"])[0];
    assert_eq!(status["totals"]["pending"], 0);
    daemon.stop();
    let kept = fs::read_dir(site.store()).expect("a folder can be read");
    let kept = kept.filter(|entry| {
        entry.as_ref().is_ok_and(|entry| {
            entry
                .file_name()
                .to_string_lossy()
                .starts_with("queue-1.corrupt-")
        })
    });
    assert_eq!(kept.count(), 1, "the damaged queue is gone");
}
