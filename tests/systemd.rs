//! The shipped units, read by systemd's own tools: every directive is known and complete, the sandbox is as tight
//! as promised, and the sockets carry the names the daemon looks for. Where `systemd-analyze` is missing, these tests
//! say so and pass, except under `CI=true`.

#![allow(clippy::expect_used, reason = "a helper of a test may fail it")]

#[path = "support/required.rs"]
mod required;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Highest exposure `systemd-analyze security` may find, in tenths.
const EXPOSURE_TENTHS_MAX: &str = "15";

fn units() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd")
}

/// What `systemd-analyze` says; `None` where it is not installed and need not be.
fn analyze(prepare: impl FnOnce(&mut Command)) -> Option<Output> {
    let mut command = Command::new("systemd-analyze");
    prepare(&mut command);
    let missing = |error| required::missing("systemd-analyze", "install the package `systemd`", error);
    command.output().map_err(missing).ok()
}

fn assert_clean(output: &Output) {
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{}: {said}", output.status);
}

/// I1: hardened default unit.
#[test]
fn i1_the_service_is_exposed_no_more_than_promised() {
    let Some(output) = analyze(|command| {
        command.args([
            "security",
            "--offline=true",
            "--no-pager",
            "--threshold",
            EXPOSURE_TENTHS_MAX,
        ]);
        command.arg(units().join("posthaste.service"));
    }) else {
        return;
    };
    assert_clean(&output);
}

/// I1: the units load without a complaint. `verify` wants the program to be there, so copies of the units name the
/// one just built instead of /usr/bin/posthaste.
#[test]
fn i1_systemd_loads_every_unit_without_a_complaint() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut copies = Vec::new();
    for name in [
        "posthaste.service",
        "posthaste-ingest.socket",
        "posthaste-control.socket",
    ] {
        let unit = fs::read_to_string(units().join(name)).expect("the unit is in systemd/");
        let copy = folder.path().join(name);
        fs::write(
            &copy,
            unit.replace("/usr/bin/posthaste", env!("CARGO_BIN_EXE_posthaste")),
        )
        .expect("a copy");
        copies.push(copy);
    }
    let Some(output) = analyze(|command| {
        // The colon at the end keeps systemd's own units, sysinit.target and the like, in reach.
        command.env("SYSTEMD_UNIT_PATH", format!("{}:", folder.path().display()));
        command
            .args(["verify", "--man=no", "--recursive-errors=no"])
            .args(&copies);
    }) else {
        return;
    };
    assert_clean(&output);
    assert!(
        output.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The values of `key` in a unit, in order.
fn values(unit: &str, key: &str) -> Vec<String> {
    let text = fs::read_to_string(units().join(unit)).expect("the unit is in systemd/");
    let assignments = text.lines().filter_map(|line| line.split_once('='));
    assignments
        .filter(|(name, _)| *name == key)
        .map(|(_, value)| value.to_owned())
        .collect()
}

/// I1: what the daemon, the default configuration and the units must agree on.
#[test]
fn i1_the_sockets_have_the_names_paths_and_modes_of_the_contract() {
    for (name, group) in [("ingest", "posthaste"), ("control", "posthaste-admin")] {
        let unit = format!("posthaste-{name}.socket");
        assert_eq!(values(&unit, "FileDescriptorName"), [name]);
        assert_eq!(
            values(&unit, "ListenStream"),
            [format!("/run/posthaste/{name}.sock")]
        );
        assert_eq!(values(&unit, "SocketMode"), ["0660"]);
        assert_eq!(values(&unit, "SocketGroup"), [group]);
        assert!(values("posthaste.service", "Sockets")[0].contains(&unit));
    }
}

/// I1: sockets outlive the service. A RuntimeDirectory= over their folder would delete them when it stops.
#[test]
fn i1_stopping_the_service_leaves_the_sockets() {
    assert!(values("posthaste.service", "RuntimeDirectory").is_empty());
}

/// I3: systemd waits longer for the end than the daemon does for requests under way (limits.shutdown, 30 s).
#[test]
fn i3_a_drain_within_its_bound_is_not_killed() {
    let stop: u64 = values("posthaste.service", "TimeoutStopSec")[0]
        .parse()
        .expect("seconds");
    assert!(stop > 30, "TimeoutStopSec={stop}");
}
