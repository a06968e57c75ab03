//! Whole days of trouble in milliseconds: the real scheduler, the real delivery decisions and the store in memory,
//! among simulated endpoints, producers, operators, faults and crashes, all of it out of one seed. Time is a number.
//!
//! [`world`] is the loop of all that happens; [`daemon`] does what the dispatcher does, [`job`] what
//! its jobs do, [`commit`] what the committer does, [`operator`] what people do;
//! [`receiver`] answers requests; [`scenario`] makes a world out of a seed; [`ledger`] knows what became of each
//! delivery, [`checks`] what must hold at every step, [`order`] who may not overtake whom and [`batches`] what may go
//! together; [`shapes`] watches the adaptive limit alone.
//!
//! A failing seed is printed with the command that runs it again, then with every step shown. `POSTHASTE_SEEDS=100000`
//! tries more of them, `POSTHASTE_FIRST_SEED=5000` others, `POSTHASTE_SEED=7` only that one.

#![allow(clippy::expect_used, clippy::panic, reason = "a helper of a test may fail it")]

mod batches;
mod checks;
mod commit;
mod daemon;
#[path = "../support/dice.rs"]
mod dice;
mod job;
mod ledger;
mod operator;
mod order;
mod receiver;
mod scenario;
mod shapes;
mod world;

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use world::{Totals, World};

/// Seeds tried when nothing else is asked for.
const SEEDS: u64 = 800;

/// A number from the environment.
fn asked(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text} is not a number")),
    )
}

/// F1 to F7, G2: whatever endpoints, operators, clocks, disks and crashes do, nothing is lost, nothing is repeated that
/// was settled, nobody is overtaken in an ordered line, every limit is kept, nobody starves, and everything ends.
#[test]
fn every_seed_keeps_every_promise() {
    if let Some(seed) = asked("POSTHASTE_SEED") {
        println!("{:?}", World::new(seed, true).run());
        return;
    }
    let seeds = asked("POSTHASTE_SEEDS").unwrap_or(SEEDS);
    let first = asked("POSTHASTE_FIRST_SEED").unwrap_or(0);
    let next = AtomicU64::new(first);
    let work = || {
        let mut totals = Totals::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + seeds {
                return totals;
            }
            let _repeatable = Repeatable(seed);
            totals.add(&World::new(seed, false).run());
        }
    };
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let mut totals = Totals::default();
    thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        for thread in threads {
            match thread.join() {
                Ok(mine) => totals.add(&mine),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
    println!("{seeds} seeds: {totals:?}");
    totals.assert_no_part_is_idle(seeds);
}

/// Says how to repeat a seed whose world ended in a panic of the scheduler's own.
struct Repeatable(u64);

impl Drop for Repeatable {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!(
                "to repeat it: POSTHASTE_SEED={} cargo test --test simulation",
                self.0
            );
        }
    }
}
