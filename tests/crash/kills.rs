//! SIGKILL at any instant, again and again.

use std::thread;
use std::time::{Duration, Instant};

use posthaste::scheduler::SchedulerConfig;

use crate::daemon::IN_FLIGHT_MAX;
use crate::dice::Dice;
use crate::load::{ENDPOINTS, Load, Repeatable, seed};

/// Requests that one kill can repeat: those under way, and those whose ends wait for a commit. Of the latter each lane
/// has as many as its window holds before it stops to send, however long the disk takes; how many it is at the moment
/// of a kill is a matter of the machine's load, not of the daemon.
fn repeats_max() -> usize {
    IN_FLIGHT_MAX as usize + ENDPOINTS * SchedulerConfig::default().window_max
}

/// `POSTHASTE_KILLS=200` is the long version.
fn kills() -> u32 {
    std::env::var("POSTHASTE_KILLS")
        .ok()
        .and_then(|kills| kills.parse().ok())
        .unwrap_or(6)
}

/// What was acknowledged is delivered or dead, once the daemon is left alone; what was not is there whole or
/// not at all; only what was under way at a kill is repeated; tries never go back.
#[test]
fn nothing_acknowledged_is_lost_whenever_the_daemon_is_killed() {
    let (seed, kills) = (seed(), kills());
    let _repeatable = Repeatable(format!("POSTHASTE_SEED={seed} POSTHASTE_KILLS={kills}"));
    let started = Instant::now();
    let mut dice = Dice::new(seed);
    let mut load = Load::start(4, seed);
    let mut while_opening = 0;
    for _ in 0..kills {
        let mut daemon = load.site.spawn(&[]);
        if dice.one_in(6) {
            while_opening += 1;
            thread::sleep(Duration::from_millis(dice.below(60) as u64));
        } else {
            let ready = daemon.wait_until_ready();
            assert!(
                ready.is_ok(),
                "the daemon ended by itself: {ready:?}\n{}",
                load.site.log()
            );
            thread::sleep(Duration::from_millis(20 + dice.below(280) as u64));
        }
        daemon.kill();
    }
    let daemon = load.site.start();
    load.settle();
    // What is settled stays so.
    daemon.kill();
    let settled = load.site.runs();
    let daemon = load.site.start();
    let summary = load.judge(daemon);
    assert_eq!(
        summary.repeats.get(&settled),
        None,
        "deliveries that run {settled} had settled were repeated: {summary}"
    );
    println!(
        "{kills} kills ({while_opening} while opening) in {:.1?}: {summary}",
        started.elapsed()
    );
    assert!(
        summary.promised > 0 && summary.dead > 0,
        "the load was no load: {summary}"
    );
    let bound = repeats_max();
    assert!(
        summary.repeats_max() <= bound,
        "more repeats than {bound} after one kill: {summary}"
    );
}
