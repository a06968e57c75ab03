//! Named places in a commit at which a test can have the process killed. Without the feature
//! `crash-points` nothing of this is in the program.

/// Every place, in the order in which a commit passes them. Those of a step that has nothing to write are
/// passed over.
pub const CRASH_POINTS: [&str; 15] = [
    "after-floors",
    "after-ring",
    "after-intent",
    "after-chunks",
    "after-delays",
    "after-records",
    "after-intent-done",
    "after-moves",
    "after-owed",
    "after-ids",
    "after-freed",
    "after-removals",
    "after-cleared",
    "before-flush",
    "after-flush",
];

/// Kills this process, as SIGKILL does, if `POSTHASTE_CRASH_AT` names this place: `after-chunks`, or
/// `after-chunks:3` for the third time it is passed.
#[cfg(feature = "crash-points")]
pub fn crash_point(name: &str) {
    use std::sync::atomic::{AtomicU64, Ordering};
    static PASSED: AtomicU64 = AtomicU64::new(0);

    let Ok(wanted) = std::env::var("POSTHASTE_CRASH_AT") else {
        return;
    };
    let (place, times) = wanted.split_once(':').unwrap_or((&wanted, "1"));
    if place != name || PASSED.fetch_add(1, Ordering::Relaxed) + 1 != times.parse().unwrap_or(1) {
        return;
    }
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
}

/// Does nothing in this build.
#[cfg(not(feature = "crash-points"))]
#[inline]
pub fn crash_point(_name: &str) {}
