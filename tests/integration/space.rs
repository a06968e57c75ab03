//! I4: when there is no room, producers hear of it early, and deliveries go on.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::harness::servers::{Scripted, answer};
use crate::harness::{Daemon, Setup, endpoint, eventually, run};
use crate::required;

/// An event of about this many kilobytes that does not compress to nothing.
fn large(id: usize, kilobytes: usize) -> String {
    let mut state = id as u64 + 1;
    let mut noise = String::with_capacity(kilobytes * 1024);
    while noise.len() < kilobytes * 1024 {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        noise += &format!("{:016x}", state ^ (state >> 29));
    }
    json!({ "type": "a", "id": format!("big-{id}"), "data": noise }).to_string()
}

/// Sends events, first large ones and then ever smaller ones, until each size is refused: how many were accepted, and
/// the last refusal.
fn fill(daemon: &Daemon) -> (usize, Value) {
    let mut producer = daemon.producer();
    let (mut sent, mut accepted) = (0, 0);
    let mut refusal = Value::Null;
    for kilobytes in [200, 20, 2, 0] {
        loop {
            let answer = producer.send(&large(sent, kilobytes));
            sent += 1;
            if answer["status"] != "accepted" {
                refusal = answer;
                break;
            }
            accepted += 1;
            assert!(accepted < 20_000, "all is accepted");
        }
    }
    (accepted, refusal)
}

/// An endpoint that fails until it is let go.
fn stuck() -> (Scripted, Arc<AtomicBool>) {
    let well = Arc::new(AtomicBool::new(false));
    let is_well = Arc::clone(&well);
    (
        Scripted::new(move |_| answer(if is_well.load(Ordering::SeqCst) { 200 } else { 503 }, "")),
        well,
    )
}

const PATIENT: &str =
    "retry = { delay = \"1h\", max_attempts = 1000 }\nbreaker = { failures = 1000, min_requests = 100000 }";

/// Lets everything go, and checks that all of it arrives and that there is room again.
fn drains(daemon: &Daemon, well: &AtomicBool, accepted: usize) {
    well.store(true, Ordering::SeqCst);
    eventually("all is delivered", || {
        daemon.cli(&["endpoints", "flush", "crm"]).exits(0);
        let row = daemon.row("crm");
        (row["pending"] == 0 && row["attempts"]["delivered"] == accepted).then_some(())
    });
    eventually("there is room again", || {
        (daemon.send(r#"{"type":"a","id":"after"}"#)["status"] != "rejected").then_some(())
    });
}

/// I4, A8: past `max_size` new events are refused with `queue_full`, and when to try again; deliveries go on, and make
/// room.
#[test]
fn i4_queue_full_by_max_size() {
    let (target, well) = stuck();
    let daemon = Setup::new(&endpoint("crm", &target.url(), PATIENT))
        .store("max_size = \"4MiB\"")
        .start();
    let (accepted, refusal) = fill(&daemon);
    assert_eq!(
        (&refusal["code"], &refusal["status"]),
        (&json!("queue_full"), &json!("rejected")),
        "{refusal}"
    );
    assert!(
        refusal["retry_after_ms"].as_u64().is_some_and(|ms| ms > 0),
        "{refusal}"
    );
    let live = daemon.get("/v1/status").1["store"]["live_bytes"]
        .as_u64()
        .unwrap();
    assert!(
        (2 << 20..=4 << 20).contains(&live),
        "{live} of 4 MiB hold {accepted} events"
    );
    let (_, status) = daemon.get("/v1/status");
    assert_eq!(status["store"]["refusing"], "queue_full", "{}", status["store"]);
    assert_eq!(status["ingest"]["rejected"]["queue_full"], 4, "each is counted");
    assert!(
        daemon
            .cli(&["status"])
            .exits(0)
            .out
            .contains("new events are refused: queue_full")
    );
    drains(&daemon, &well, accepted);
}

/// A small file system of its own; gone when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mounted(folder: &Path, size: &str) -> Result<Self, String> {
        std::fs::create_dir_all(folder).map_err(|error| error.to_string())?;
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(folder);
        let ran = run(&mut mount, "").map_err(|error| error.to_string())?;
        if ran.code == 0 {
            Ok(Self(folder.to_owned()))
        } else {
            Err(ran.err.trim().to_owned())
        }
    }

    /// Fills it to the last byte with something that is not ours.
    fn fill(&self) {
        let mut file = std::fs::File::create(self.0.join("somebody-elses")).unwrap();
        let block = vec![b'x'; 64 << 10];
        for size in [64 << 10, 4 << 10, 1] {
            while std::io::Write::write_all(&mut file, &block[..size]).is_ok() {}
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // At once or when the last user has gone.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// I4: below `min_free` new events get `disk_full` and what was accepted is delivered; also when the disk is filled to
/// the last byte by others, outcomes are still recorded.
#[test]
fn i4_disk_full() {
    let folder = tempfile::tempdir().unwrap();
    let disk = match SmallDisk::mounted(&folder.path().join("disk"), "64m") {
        Ok(disk) => disk,
        Err(error) => return required::missing("a mounted tmpfs", "run this as root", error),
    };
    let (target, well) = stuck();
    let mut daemon = Setup::new(&endpoint("crm", &target.url(), PATIENT))
        .store("min_free = \"16MiB\"")
        .store_path(&disk.0.join("queue"))
        .start();
    let (accepted, refusal) = fill(&daemon);
    assert_eq!(refusal["code"], "disk_full", "{refusal}");
    assert!(
        refusal["retry_after_ms"].as_u64().is_some_and(|ms| ms > 0),
        "{refusal}"
    );
    assert!(accepted > 10, "{accepted}");
    disk.fill();
    eventually("the status says so", || {
        assert_eq!(daemon.send(r#"{"type":"a"}"#)["code"], "disk_full");
        (daemon.get("/v1/status").1["store"]["refusing"] == "disk_full").then_some(())
    });
    well.store(true, Ordering::SeqCst);
    daemon.until_row("crm", "tried once", |row| row["in_flight"] == 0);
    eventually("all is delivered", || {
        daemon.cli(&["endpoints", "flush", "crm"]).exits(0);
        let row = daemon.row("crm");
        (row["pending"] == 0 && row["attempts"]["delivered"] == accepted).then_some(())
    });
    assert_eq!(daemon.send(r#"{"type":"a"}"#)["code"], "disk_full");
    daemon.stop();
    std::fs::remove_file(disk.0.join("somebody-elses")).unwrap();
    daemon.restart();
    assert_eq!(
        daemon.row("crm")["pending"],
        0,
        "the outcomes were recorded on the full disk"
    );
    drains(&daemon, &well, 0);
}
