//! Producers that wait for their answers: how many events a second, and how long each waits; against append plus
//! fdatasync of the same bytes in the batches that the daemon's commits turned out to have, and against a daemon that
//! does nothing but that.

use std::io;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::Bench;
use super::bare;
use super::limits::{self, Flushes};
use super::producers::{Answers, Crew, Until, work};
use super::receiver::Counter;
use super::report::{Goal, Row};
use super::stage::{Folder, Stage, Target};

/// One way to produce.
struct Load {
    how: &'static str,
    producers: usize,
    /// Lines that each writes before it waits.
    burst: usize,
    /// Whether the events are delivered meanwhile, or parked.
    delivers: bool,
}

const ONE_EACH: Load = Load {
    how: "256 producers",
    producers: 256,
    burst: 1,
    delivers: false,
};
const MANY_EACH: Load = Load {
    how: "256 producers, 32 lines each",
    burst: 32,
    ..ONE_EACH
};
/// How the endpoint that is delivered to meanwhile takes its events.
const BATCH: &str = "batch = { max_events = 100, max_wait = \"50ms\" }\n";
const DELIVERING: Load = Load {
    how: "256 producers, and delivered in batches of 100",
    delivers: true,
    ..ONE_EACH
};
const DELIVERING_MANY: Load = Load {
    how: "256 producers, 32 lines each, and delivered in batches of 100",
    delivers: true,
    ..MANY_EACH
};
const ALONE: Load = Load {
    how: "one producer",
    producers: 1,
    ..ONE_EACH
};

/// What one round gave, and the limit measured right after it.
struct Round {
    answers: Answers,
    /// From the last answer until everything was delivered; nothing where events are parked.
    behind: Duration,
    flushes: Flushes,
    /// What the same producers get from the barest of daemons; `None`: where events are delivered, it has no counterpart.
    bare: Option<Answers>,
}

impl Round {
    /// Events a second that were accepted, and delivered too where they are.
    fn per_second(&self) -> f64 {
        self.answers.accepted as f64 / (self.answers.took + self.behind).as_secs_f64()
    }
}

/// Measures it.
///
/// # Errors
/// When something does not work at all.
pub async fn run(bench: &mut Bench) -> io::Result<()> {
    let receiver = Counter::start()?;
    let target = Target {
        name: "live",
        address: receiver.address(),
        path: "/",
        enabled: false,
        keys: "",
    };
    let parking = Stage::new(&bench.args.dir, "accept", std::slice::from_ref(&target))?;
    for load in [ONE_EACH, MANY_EACH] {
        let rounds = rounds(bench, &parking, &load).await?;
        bench
            .report
            .add(per_second(&rounds, &load).goal(Goal::RatioAtLeast(0.5)));
        bench.report.add(against_bare(&rounds, &load));
        bench.report.add(waits(&rounds, &load, 0.5));
        bench
            .report
            .add(waits(&rounds, &load, 0.99).goal(Goal::RatioAtMost(25.0)));
    }
    let alone = rounds(bench, &parking, &ALONE).await?;
    bench
        .report
        .add(waits(&alone, &ALONE, 0.5).goal(Goal::RatioAtMost(1.5)));
    bench.report.add(waits_against_bare(&alone, &ALONE, 0.5));
    drop(parking);
    let enabled = Target {
        enabled: true,
        keys: BATCH,
        ..target
    };
    let delivering = Stage::new(&bench.args.dir, "accept", &[enabled])?;
    for load in [DELIVERING, DELIVERING_MANY] {
        let rounds = rounds(bench, &delivering, &load).await?;
        // Delivering takes the processors from accepting, so here the ratio promises nothing.
        bench
            .report
            .add(per_second(&rounds, &load).goal(Goal::AtLeast(100_000.0)));
        bench
            .report
            .add(waits(&rounds, &load, 0.99).goal(Goal::RatioAtMost(25.0)));
    }
    Ok(())
}

fn per_second(rounds: &[Round], load: &Load) -> Row {
    let pairs: Vec<_> = rounds
        .iter()
        .map(|round| (round.per_second(), round.flushes.per_second))
        .collect();
    Row::of_rounds(format!("accepted, {}", load.how), "/s", "flush", &pairs)
}

fn against_bare(rounds: &[Round], load: &Load) -> Row {
    let bare = |round: &Round| Some((round.per_second(), round.bare.as_ref()?.per_second()));
    let pairs: Vec<_> = rounds.iter().filter_map(bare).collect();
    Row::of_rounds(format!("accepted, {}", load.how), "/s", "bare", &pairs)
}

/// Answers' waits at `quantile` against the median flush.
fn waits(rounds: &[Round], load: &Load, quantile: f64) -> Row {
    let flush = |round: &Round| Some(ms(&round.flushes.waits_us, 0.5));
    waits_against("one flush", flush, rounds, load, quantile)
}

/// Answers' waits at `quantile` against those that the barest of daemons takes.
fn waits_against_bare(rounds: &[Round], load: &Load, quantile: f64) -> Row {
    let bare = |round: &Round| Some(ms(&round.bare.as_ref()?.waits_us, quantile));
    waits_against("bare", bare, rounds, load, quantile)
}

fn waits_against(
    limit: &'static str,
    limit_ms: impl Fn(&Round) -> Option<f64>,
    rounds: &[Round],
    load: &Load,
    quantile: f64,
) -> Row {
    let what = format!("answer, {}, p{}", load.how, quantile * 100.0);
    let pair = |round: &Round| Some((ms(&round.answers.waits_us, quantile), limit_ms(round)?));
    let pairs: Vec<_> = rounds.iter().filter_map(pair).collect();
    Row::of_rounds(what, "ms", limit, &pairs)
}

fn ms(waits_us: &Histogram<u64>, quantile: f64) -> f64 {
    waits_us.value_at_quantile(quantile) as f64 / 1000.0
}

async fn rounds(bench: &Bench, stage: &Stage, load: &Load) -> io::Result<Vec<Round>> {
    let folder = Folder::new(&bench.args.dir, "flush")?;
    let mut rounds = Vec::new();
    for _ in 0..bench.args.rounds {
        let commits_before = stage.status().await?.store.commits;
        let crew = Crew {
            socket: stage.socket(),
            producers: load.producers,
            burst: load.burst,
            target: "live",
        };
        let until = Until::Span(bench.span());
        let answers = work(crew.clone(), until.clone()).await?;
        let commits = stage.status().await?.store.commits - commits_before;
        let batch = (answers.accepted / commits.max(1)).max(1);
        let answered = Instant::now();
        if load.delivers {
            // Whatever is still being delivered would take the disk and the processors from the limit.
            stage.drained().await?;
        }
        let behind = if load.delivers {
            answered.elapsed()
        } else {
            Duration::ZERO
        };
        let flushes = flush(&folder, batch as usize, bench.span() / 2)?;
        let bare = match load.delivers {
            true => None,
            false => Some(bare::answers(folder.path(), crew, until).await?),
        };
        rounds.push(Round {
            answers,
            behind,
            flushes,
            bare,
        });
    }
    Ok(rounds)
}

fn flush(folder: &Folder, batch: usize, span: Duration) -> io::Result<Flushes> {
    tokio::task::block_in_place(|| limits::flush(folder.path(), batch, span))
}
