//! I4: when there is no room, producers hear of it early, and deliveries go on.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::servers::Target;
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

/// Sends events of each of these sizes until it is refused: how many were accepted, and the last refusal.
fn fill(daemon: &Daemon, kilobytes: &[usize]) -> (usize, Value) {
    let mut producer = daemon.producer();
    let (mut sent, mut accepted) = (0, 0);
    let mut refusal = Value::Null;
    for &kilobytes in kilobytes {
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

/// Lets everything go, and checks that all of it arrives.
fn drains(daemon: &Daemon, accepted: usize) {
    daemon.cli(&["endpoints", "resume", "crm"]).exits(0);
    daemon.until_row("crm", "delivered", |row| {
        row["pending"] == 0 && row["attempts"]["delivered"] == accepted
    });
}

/// Waits until events are taken again.
fn has_room(daemon: &Daemon) {
    eventually("there is room again", || {
        (daemon.send(r#"{"type":"a"}"#)["status"] == "accepted").then_some(())
    });
}

/// A daemon whose endpoint `crm` is paused.
fn holding(setup: Setup) -> Daemon {
    let daemon = setup.start();
    daemon.cli(&["endpoints", "pause", "crm"]).exits(0);
    daemon
}

/// I4, A8: past `max_size` new events are refused with `queue_full`, and when to try again; deliveries go on, and make
/// room.
#[test]
fn i4_queue_full_by_max_size() {
    let target = Target::new();
    let daemon = holding(Setup::new(&endpoint("crm", &target.url("/ok"), "")).store("max_size = \"4MiB\""));
    let (accepted, refusal) = fill(&daemon, &[200, 20, 2, 0]);
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
    drains(&daemon, accepted);
    has_room(&daemon);
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

    /// Fills it with something that is not ours until so many bytes are left.
    fn fill(&self, leave: u64) {
        let file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.0.join("somebody-elses"))
            .unwrap();
        let free = || {
            rustix::fs::statvfs(&self.0)
                .map(|numbers| numbers.f_bavail * numbers.f_frsize)
                .unwrap()
        };
        // The daemon may be using or giving back some of it at the same instant, so what is left is not looked at again.
        eventually("the disk is filled", || {
            let length = file.metadata().unwrap().len() + free().saturating_sub(leave);
            rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, length).ok()
        });
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
    let disk = match SmallDisk::mounted(&folder.path().join("disk"), "192m") {
        Ok(disk) => disk,
        Err(error) => return required::missing("a mounted tmpfs", "run this as root", error),
    };
    let target = Target::new();
    let setup = Setup::new(&endpoint("crm", &target.url("/ok"), "")).store("min_free = \"24MiB\"");
    let mut daemon = holding(setup.store_path(&disk.0.join("queue")));
    disk.fill(40 << 20);
    let (accepted, refusal) = fill(&daemon, &[5, 1, 0]);
    assert_eq!(refusal["code"], "disk_full", "{refusal}");
    assert!(
        refusal["retry_after_ms"].as_u64().is_some_and(|ms| ms > 0),
        "{refusal}"
    );
    assert!(accepted > 1000, "{accepted}");
    assert_eq!(daemon.get("/v1/status").1["store"]["refusing"], "disk_full");
    disk.fill(0);
    drains(&daemon, accepted);
    assert_eq!(daemon.send(r#"{"type":"a"}"#)["code"], "disk_full");
    daemon.stop();
    daemon.restart();
    assert_eq!(
        daemon.row("crm")["pending"],
        0,
        "the outcomes were recorded on the full disk"
    );
    std::fs::remove_file(disk.0.join("somebody-elses")).unwrap();
    has_room(&daemon);
}
