//! SIGKILL at each named point: around every write of a commit, in opening a store, in merging and rewriting it.

use posthaste::store::sled::crash::CRASH_POINTS;
use rustix::process::Signal;

use crate::daemon::{Daemon, Site};
use crate::dice::Dice;
use crate::load::{Load, Repeatable, seed};

/// Points that only another load than the usual one passes; they have tests of their own.
pub const REWRITING: [&str; 3] = ["rewrite-copied", "rewrite-current", "rewrite-done"];
/// Passed once a start, if at all.
const ONCE: [&str; 5] = [
    "after-floors",
    "after-ring",
    "queue-made",
    "queue-current",
    "repairs-written",
];

/// Starts the daemon so that it kills itself at `point`, and waits until it has.
pub fn die_at(site: &mut Site, point: &str) {
    let daemon = site.spawn(&[("POSTHASTE_CRASH_AT", point)]);
    assert_killed(daemon, point, site);
}

/// Waits until a daemon has killed itself at `point`.
pub fn assert_killed(mut daemon: Daemon, point: &str, site: &Site) {
    use std::os::unix::process::ExitStatusExt;
    let status = daemon.wait(&format!("the daemon passes {point}"));
    let killed = status.signal() == Some(Signal::KILL.as_raw());
    assert!(
        killed,
        "{point}: the daemon ended by itself: {status}\n{}",
        site.log()
    );
}

/// Under load, on one store, one point after the other: nothing acknowledged is lost.
#[test]
fn nothing_acknowledged_is_lost_at_any_point() {
    let seed = seed();
    let _repeatable = Repeatable(format!("POSTHASTE_SEED={seed}"));
    let mut dice = Dice::new(seed);
    let mut load = Load::start(3, seed);
    // An empty store passes these first, and only once.
    for point in ["queue-made", "queue-current"] {
        die_at(&mut load.site, point);
    }
    let rest = CRASH_POINTS
        .iter()
        .filter(|point| !REWRITING.contains(point) && !point.starts_with("queue-"));
    for &point in rest {
        if point == "repairs-written" {
            // There has to be something to repair.
            die_at(&mut load.site, "after-intent");
        }
        let nth = if ONCE.contains(&point) {
            1
        } else {
            1 + dice.below(4)
        };
        die_at(&mut load.site, &format!("{point}:{nth}"));
    }
    let daemon = load.site.start();
    println!("{}", load.judge(daemon));
}
