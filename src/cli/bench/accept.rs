//! Producers that wait for their answers: how many events a second, and how long each waits; against append plus
//! fdatasync of the same bytes in the batches that the daemon's commits turned out to have.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::Bench;
use super::limits::{self, Flushes};
use super::producers::{Answers, Crew, Until, work};
use super::receiver::Counter;
use super::report::{Goal, Row};
use super::stage::{Folder, Stage, Target};

/// Producers at once.
const PRODUCERS: usize = 256;

/// What one round gave, and the limit measured right after it.
struct Round {
    answers: Answers,
    flushes: Flushes,
}

/// Measures it.
///
/// # Errors
/// When something does not work at all.
pub async fn run(bench: &mut Bench) -> io::Result<()> {
    let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
    let receiver = Counter::start()?;
    for (enabled, address) in [(false, nowhere), (true, receiver.address())] {
        let target = Target {
            name: "live",
            address,
            path: "/",
            enabled,
        };
        let stage = Stage::new(&bench.args.dir, "accept", &[target])?;
        if enabled {
            many(bench, &stage, 1, "delivering meanwhile").await?;
            continue;
        }
        many(bench, &stage, 1, "one event each").await?;
        many(bench, &stage, 32, "32 events each").await?;
        one(bench, &stage).await?;
    }
    Ok(())
}

async fn many(bench: &mut Bench, stage: &Stage, burst: usize, how: &str) -> io::Result<()> {
    let rounds = rounds(bench, stage, PRODUCERS, burst).await?;
    let per_second: Vec<_> = rounds
        .iter()
        .map(|round| (round.answers.per_second(), round.flushes.per_second))
        .collect();
    let row = Row::of_rounds(
        format!("accepted, {PRODUCERS} producers, {how}"),
        "/s",
        "flush",
        &per_second,
    );
    // Delivering takes the processors from accepting, so there the ratio promises nothing.
    bench.report.add(if how.starts_with("delivering") {
        row
    } else {
        row.goal(Goal::RatioAtLeast(0.5))
    });
    for quantile in [0.5, 0.99] {
        let what = format!("their answers, {how}, p{}", quantile * 100.0);
        let row = waits(&rounds, quantile, &what);
        bench.report.add(if quantile > 0.5 && burst == 1 {
            row.goal(Goal::RatioAtMost(25.0))
        } else {
            row
        });
    }
    Ok(())
}

async fn one(bench: &mut Bench, stage: &Stage) -> io::Result<()> {
    let rounds = rounds(bench, stage, 1, 1).await?;
    let row = waits(&rounds, 0.5, "one producer, one event at a time, p50");
    bench.report.add(row.goal(Goal::RatioAtMost(1.5)));
    Ok(())
}

/// Answers' waits at `quantile` against the median flush.
fn waits(rounds: &[Round], quantile: f64, what: &str) -> Row {
    let ms = |us: u64| us as f64 / 1000.0;
    let pairs: Vec<_> = rounds
        .iter()
        .map(|round| {
            let answer = round.answers.waits_us.value_at_quantile(quantile);
            (ms(answer), ms(round.flushes.waits_us.value_at_quantile(0.5)))
        })
        .collect();
    Row::of_rounds(what, "ms", "one flush", &pairs)
}

async fn rounds(bench: &Bench, stage: &Stage, producers: usize, burst: usize) -> io::Result<Vec<Round>> {
    let folder = Folder::new(&bench.args.dir, "flush")?;
    let mut rounds = Vec::new();
    for _ in 0..bench.args.rounds {
        let commits_before = stage.status().await?.store.commits;
        let crew = Crew {
            socket: stage.socket(),
            producers,
            burst,
            target: "live",
        };
        let answers = work(crew, Until::Span(bench.span())).await?;
        let commits = stage.status().await?.store.commits - commits_before;
        let batch = (answers.accepted / commits.max(1)).max(1);
        // Whatever is still being delivered would take the disk and the processors from the limit.
        if stage.status().await?.endpoints.iter().any(|row| row.limit > 0) {
            stage.drained().await?;
        }
        let flushes = flush(&folder, batch as usize, bench.span() / 2)?;
        rounds.push(Round { answers, flushes });
    }
    Ok(rounds)
}

fn flush(folder: &Folder, batch: usize, span: Duration) -> io::Result<Flushes> {
    tokio::task::block_in_place(|| limits::flush(folder.path(), batch, span))
}
