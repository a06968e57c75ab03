//! Producers that wait for their answers: how many events a second, and how long each waits; against append plus
//! fdatasync of the same bytes in the batches that the daemon's commits turned out to have, and against a daemon that
//! does nothing but that, and delivers where the daemon does.

use std::io;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::Bench;
use super::bare;
use super::limits::{self, Flushes};
use super::lone;
use super::outlet::Outlet;
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
}

const ONE_EACH: Load = Load {
    how: "256 producers",
    producers: 256,
    burst: 1,
};
const MANY_EACH: Load = Load {
    how: "256 producers, 32 lines each",
    burst: 32,
    ..ONE_EACH
};
/// How the endpoint that is delivered to meanwhile takes its events.
const BATCH: &str = "batch = { max_events = 100, max_wait = \"50ms\" }\n";
/// The same for the barest daemon.
const BATCH_LINES_MAX: u64 = 100;
/// How often it is asked how much is not delivered yet.
const LOOK_EVERY: Duration = Duration::from_millis(5);
const DELIVERING: Load = Load {
    how: "256 producers, and delivered in batches of 100",
    ..ONE_EACH
};
const DELIVERING_TWO: Load = Load {
    how: "256 producers, 2 lines each, and delivered in batches of 100",
    burst: 2,
    ..ONE_EACH
};
const DELIVERING_MANY: Load = Load {
    how: "256 producers, 32 lines each, and delivered in batches of 100",
    ..MANY_EACH
};
const ALONE: Load = Load {
    how: "one producer",
    producers: 1,
    ..ONE_EACH
};

/// What one round gave.
struct Round {
    answers: Answers,
    /// Measured right after it.
    flushes: Flushes,
    /// What the same producers get from the barest of daemons.
    bare: Answers,
    /// What one producer gets from sled alone.
    sled: Option<Answers>,
}

/// Measures it.
///
/// # Errors
/// When something does not work at all.
pub async fn run(bench: &mut Bench) -> io::Result<()> {
    let receiver = Counter::start()?;
    let target = Target {
        enabled: false,
        ..bench.live(receiver.address())
    };
    let parking = Stage::new(&bench.args.dir, "accept", std::slice::from_ref(&target))?;
    for load in [ONE_EACH, MANY_EACH] {
        let rounds = rounds(bench, &parking, &load, None).await?;
        bench
            .report
            .add(per_second(&rounds, &load).goal(Goal::RatioAtLeast(0.5)));
        bench.report.add(against_bare(&rounds, &load));
        bench.report.add(waits(&rounds, &load, 0.5));
        bench
            .report
            .add(waits(&rounds, &load, 0.99).goal(Goal::RatioAtMost(25.0)));
    }
    let alone = rounds(bench, &parking, &ALONE, None).await?;
    bench
        .report
        .add(waits(&alone, &ALONE, 0.5).goal(Goal::RatioAtMost(1.5)));
    bench.report.add(waits_against_bare(&alone, &ALONE, 0.5));
    waits_of_sled(&alone)
        .into_iter()
        .for_each(|row| bench.report.add(row));
    drop(parking);
    let enabled = Target {
        enabled: true,
        keys: BATCH,
        ..target
    };
    let delivering = Stage::new(&bench.args.dir, "accept", &[enabled])?;
    let outlet = Outlet::in_batches(receiver.address(), BATCH_LINES_MAX);
    for load in [DELIVERING, DELIVERING_TWO, DELIVERING_MANY] {
        let rounds = rounds(bench, &delivering, &load, Some(outlet)).await?;
        // Delivering takes the processors from accepting, so here the ratio promises nothing.
        bench
            .report
            .add(per_second(&rounds, &load).goal(Goal::AtLeast(100_000.0)));
        bench.report.add(against_bare(&rounds, &load));
        bench
            .report
            .add(waits(&rounds, &load, 0.99).goal(Goal::RatioAtMost(25.0)));
    }
    Ok(())
}

fn per_second(rounds: &[Round], load: &Load) -> Row {
    per_second_against("flush", |round| round.flushes.per_second, rounds, load)
}

fn against_bare(rounds: &[Round], load: &Load) -> Row {
    per_second_against("bare", |round| round.bare.per_second(), rounds, load)
}

fn per_second_against(
    limit: &'static str,
    limit_per_second: impl Fn(&Round) -> f64,
    rounds: &[Round],
    load: &Load,
) -> Row {
    let pair = |round: &Round| (round.answers.per_second(), limit_per_second(round));
    let pairs: Vec<_> = rounds.iter().map(pair).collect();
    Row::of_rounds(format!("accepted, {}", load.how), "/s", limit, &pairs)
}

/// Answers' waits at `quantile` against the median flush.
fn waits(rounds: &[Round], load: &Load, quantile: f64) -> Row {
    let flush = |round: &Round| ms(&round.flushes.waits_us, 0.5);
    waits_against("one flush", flush, rounds, load, quantile)
}

/// Answers' waits at `quantile` against those that the barest of daemons takes.
fn waits_against_bare(rounds: &[Round], load: &Load, quantile: f64) -> Row {
    let bare = |round: &Round| ms(&round.bare.waits_us, quantile);
    waits_against("bare", bare, rounds, load, quantile)
}

/// How long one producer waits against what it waits for sled alone, and that against the median flush.
fn waits_of_sled(rounds: &[Round]) -> [Row; 2] {
    let p50 = |answers: &Answers| ms(&answers.waits_us, 0.5);
    let alone = rounds.iter().filter_map(|round| {
        let sled = p50(round.sled.as_ref()?);
        Some((p50(&round.answers), sled, ms(&round.flushes.waits_us, 0.5)))
    });
    let (ours, sleds): (Vec<_>, Vec<_>) = alone
        .map(|(ours, sled, flush)| ((ours, sled), (sled, flush)))
        .unzip();
    [
        Row::of_rounds("answer, one producer, p50", "ms", "sled", &ours),
        Row::of_rounds(
            "answer by sled alone, one producer, p50",
            "ms",
            "one flush",
            &sleds,
        ),
    ]
}

fn waits_against(
    limit: &'static str,
    limit_ms: impl Fn(&Round) -> f64,
    rounds: &[Round],
    load: &Load,
    quantile: f64,
) -> Row {
    let what = format!("answer, {}, p{}", load.how, quantile * 100.0);
    let pair = |round: &Round| (ms(&round.answers.waits_us, quantile), limit_ms(round));
    let pairs: Vec<_> = rounds.iter().map(pair).collect();
    Row::of_rounds(what, "ms", limit, &pairs)
}

fn ms(waits_us: &Histogram<u64>, quantile: f64) -> f64 {
    waits_us.value_at_quantile(quantile) as f64 / 1000.0
}

/// With an `outlet` everything is delivered meanwhile: to it by the barest daemon, to its endpoint by that on `stage`.
async fn rounds(bench: &Bench, stage: &Stage, load: &Load, outlet: Option<Outlet>) -> io::Result<Vec<Round>> {
    let folder = Folder::new(&bench.args.dir, "flush")?;
    let crew = Crew {
        socket: stage.socket(),
        producers: load.producers,
        burst: load.burst,
        target: "live",
    };
    let bare = async || {
        let until = Until::Span(bench.span());
        bare::answers(folder.path(), crew.clone(), until, outlet).await
    };
    let ours = async || by_daemon(bench, &folder, stage, crew.clone(), outlet.is_some()).await;
    let mut rounds = Vec::new();
    for number in 0..bench.args.rounds {
        let sled = match load.producers {
            1 => Some(lone::answers(folder.path(), "live", Until::Span(bench.span())).await?),
            _ => None,
        };
        // Whoever goes later has a warmer or a more tired machine, so they take turns at that too.
        let ((answers, flushes), bare) = match number % 2 {
            0 => (ours().await?, bare().await?),
            _ => {
                let bare = bare().await?;
                (ours().await?, bare)
            }
        };
        rounds.push(Round {
            answers,
            flushes,
            bare,
            sled,
        });
    }
    Ok(rounds)
}

/// What the crew gets from the daemon on `stage`, and then what flushing gives in batches such as its commits.
async fn by_daemon(
    bench: &Bench,
    folder: &Folder,
    stage: &Stage,
    crew: Crew,
    delivers: bool,
) -> io::Result<(Answers, Flushes)> {
    let commits_before = stage.status().await?.store.commits;
    let mut answers = work(crew, Until::Span(bench.span())).await?;
    let answered = Instant::now();
    let commits = stage.status().await?.store.commits - commits_before;
    let batch = (answers.accepted / commits.max(1)).max(1) as usize;
    if delivers {
        // Not until all are: the last batch is not full, and waits for more that never come.
        answers.undelivered = stage.down_to(BATCH_LINES_MAX, LOOK_EVERY).await?;
        answers.behind = answered.elapsed();
        // Whatever is still being delivered would take the disk and the processors from the limit.
        stage.drained().await?;
    }
    let flush = || limits::flush(folder.path(), batch, bench.span() / 2);
    Ok((answers, tokio::task::block_in_place(flush)?))
}
