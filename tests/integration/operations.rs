//! I6, I8: the commands of docs/OPERATIONS.md do what it says: each line of its `sh` blocks, in order, against a daemon
//! and folders with the names it uses.

use crate::harness::servers::Target;
use crate::harness::{Daemon, Ran, Setup, endpoint, event, run};

/// The lines of the blocks marked `sh`, comments cut off.
fn commands() -> Vec<String> {
    let text = include_str!("../../docs/OPERATIONS.md");
    let blocks = text.split("```sh\n").skip(1);
    let lines = blocks.flat_map(|block| block.split("```").next().unwrap_or_default().lines());
    let commands: Vec<_> = lines
        .map(|line| line.split("  #").next().unwrap_or_default().trim().to_owned())
        .filter(|line| !line.is_empty())
        .collect();
    assert!(commands.len() > 20, "{commands:?}");
    commands
}

fn shell(daemon: &Daemon, line: &str) -> Ran {
    run(&mut daemon.shell(line), "").unwrap()
}

#[test]
fn i8_the_commands_of_the_operations_manual_work() {
    let target = Target::new();
    let crm = endpoint("crm", &target.url("/status/404"), "events = [\"contact.*\"]");
    let old = endpoint(
        "old-crm",
        &target.url("/ok"),
        "events = [\"old.*\"]\nenabled = false",
    );
    let mut daemon = Setup::new(&format!("{crm}{old}")).start();
    for id in ["1", "2", "3"] {
        daemon.accept(&event("contact.created", id));
    }
    daemon.accept(&event("old.thing", "4"));
    daemon.until_dead("crm", 3);
    daemon.stop();
    std::fs::create_dir(daemon.path("backup")).unwrap();
    let copied = shell(&daemon, "cp --archive queue backup/queue");
    assert_eq!(copied.code, 0, "{copied:?}");
    // What has to run while the daemon is stopped comes first; the rest keeps its order.
    let (offline, online): (Vec<_>, Vec<_>) = commands()
        .into_iter()
        .partition(|line| line.contains(" store ") && line.contains("--config"));
    assert_eq!(offline.len(), 2);
    for line in &offline {
        shell(&daemon, line).exits(0);
    }
    daemon.restart();
    for line in &online {
        if line.starts_with("posthaste endpoints move") {
            daemon.write_config(&crm);
            daemon.cli(&["reload"]).exits(0);
        }
        let ran = shell(&daemon, line).exits(0);
        match line.as_str() {
            "posthaste status" => assert!(ran.out.contains("old-crm"), "{ran:?}"),
            // Both are still known to the daemon the backup is of.
            line if line.starts_with("posthaste send") => {
                assert!(ran.err.contains("1 duplicates"), "{ran:?}")
            }
            // The event that was moved may be among them by now.
            line if line.ends_with("--dry-run") => assert!(ran.out.starts_with(['3', '4']), "{ran:?}"),
            _ => {}
        }
    }
    // The moved event was tried there too, and nothing is left that nobody looks after.
    daemon.until_row("crm", "owes nothing", |row| row["pending"] == 0);
    assert_eq!(daemon.row("old-crm"), serde_json::Value::Null);
}
