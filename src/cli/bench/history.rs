//! What it costs to keep every attempt in the log: the same as [`super::deliver`], by a daemon that keeps them and one
//! that keeps none, in turns.

use std::io;

use super::Bench;
use super::deliver::{Round, deliver};
use super::receiver::Counter;
use super::report::{Goal, Row};
use super::stage::{Stage, Target};

/// A daemon at work, and who counts what it delivers.
struct Side {
    stage: Stage,
    receiver: Counter,
    rounds: Vec<Round>,
}

impl Side {
    fn new(bench: &Bench, name: &str, store: &'static str) -> io::Result<Self> {
        let receiver = Counter::start()?;
        let target = Target {
            name: "live",
            address: receiver.address(),
            path: "/",
            enabled: true,
            keys: "",
        };
        Ok(Self {
            stage: Stage::with_store(&bench.args.dir, name, store, &[target])?,
            receiver,
            rounds: Vec::new(),
        })
    }

    async fn round(&mut self, bench: &Bench) -> io::Result<()> {
        let round = deliver(&self.stage, "live", &mut self.receiver, bench.span()).await?;
        self.rounds.push(round);
        Ok(())
    }
}

/// Measures it.
///
/// # Errors
/// When something does not work at all.
pub async fn run(bench: &mut Bench) -> io::Result<()> {
    let mut kept = Side::new(bench, "history-kept", "")?;
    let mut none = Side::new(bench, "history-none", "attempts_max_size = \"0B\"")?;
    for round in 0..bench.args.rounds {
        // Whoever goes second has a warmer machine, so they take turns at that too.
        let order = if round % 2 == 0 {
            [&mut kept, &mut none]
        } else {
            [&mut none, &mut kept]
        };
        for side in order {
            side.round(bench).await?;
        }
    }
    let pairs = |value: fn(&Round) -> f64| -> Vec<(f64, f64)> {
        let rounds = kept.rounds.iter().zip(&none.rounds);
        rounds.map(|(kept, none)| (value(kept), value(none))).collect()
    };
    let delivered = pairs(|round| round.delivered_per_second);
    let cpu_us = pairs(|round| round.daemon_cpu_us);
    let what = "delivered, every attempt kept";
    let row = Row::of_rounds(what, "/s", "none kept", &delivered);
    bench.report.add(row.goal(Goal::RatioAtLeast(0.90)));
    let what = "its processor time, per event";
    bench.report.add(Row::of_rounds(what, "µs", "none kept", &cpu_us));
    Ok(())
}
