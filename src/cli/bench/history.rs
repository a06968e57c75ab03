//! What it costs to keep every attempt in the log: the same as [`super::deliver`], by a daemon that keeps them, one that
//! keeps requests and answers of them all, and one that keeps none, in turns.

use std::io;

use super::Bench;
use super::deliver::{Round, deliver};
use super::receiver::Counter;
use super::report::{Goal, Row};
use super::stage::Stage;

/// A daemon at work, and who counts what it delivers.
struct Side {
    stage: Stage,
    receiver: Counter,
    rounds: Vec<Round>,
}

impl Side {
    fn new(bench: &Bench, name: &str, store: &'static str) -> io::Result<Self> {
        let receiver = Counter::start()?;
        let target = bench.live(receiver.address());
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
    let mut sides = [
        Side::new(bench, "history-none", "attempts_max_size = \"0B\"")?,
        Side::new(bench, "history-kept", "")?,
        Side::new(bench, "history-all", "attempts_detail = \"all\"")?,
    ];
    for round in 0..bench.args.rounds {
        // Whoever goes later has a warmer machine, so they take turns at that too.
        for turn in 0..sides.len() {
            let next = (round as usize + turn) % sides.len();
            sides[next].round(bench).await?;
        }
    }
    let [none, kept, all] = &sides;
    let delivered: fn(&Round) -> f64 = |round| round.delivered_per_second;
    let cpu_us: fn(&Round) -> f64 = |round| round.cpu_us;
    let what = "delivered, every attempt kept";
    let row = Row::of_rounds(what, "/s", "none kept", &pairs(kept, none, delivered));
    bench.report.add(row.goal(Goal::RatioAtLeast(0.90)));
    let what = "its processor time, per event";
    let row = Row::of_rounds(what, "µs", "none kept", &pairs(kept, none, cpu_us));
    bench.report.add(row);
    let what = "the same, request and answer of each too";
    let row = Row::of_rounds(what, "/s", "none kept", &pairs(all, none, delivered));
    bench.report.add(row);
    let what = "its processor time then, per event";
    let row = Row::of_rounds(what, "µs", "none kept", &pairs(all, none, cpu_us));
    bench.report.add(row);
    Ok(())
}

/// A value of each round of one side, beside that of another.
fn pairs(side: &Side, other: &Side, value: fn(&Round) -> f64) -> Vec<(f64, f64)> {
    let rounds = side.rounds.iter().zip(&other.rounds);
    rounds.map(|(one, other)| (value(one), value(other))).collect()
}
