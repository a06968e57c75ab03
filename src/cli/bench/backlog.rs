//! A daemon with a backlog is killed with SIGKILL and started again: how soon it takes events, how much memory it
//! needs, how soon it delivers, and what is left on disk when all of it has gone.

use std::io;
use std::time::{Duration, Instant};

use super::Bench;
use super::machine;
use super::producers::{Crew, Until, work};
use super::receiver::Counter;
use super::report::{Goal, Row};
use super::stage::{Stage, Target};

const MIB: f64 = 1_048_576.0;
/// Housekeeping gives space back after the drain; it has this long to do it.
const TIDY_UP_BOUND: Duration = Duration::from_secs(60);
/// Longer than the daemon waits before it gives back what only a daemon at rest gives back.
const TIDY_UP_PAUSE: Duration = Duration::from_secs(10);
/// The hash of an id on disk.
const ID_BYTES: u64 = 16;

/// Measures it.
///
/// # Errors
/// When something does not work at all.
pub async fn run(bench: &mut Bench) -> io::Result<()> {
    let mut receiver = Counter::start()?;
    let parking = Target {
        enabled: false,
        ..bench.live(receiver.address())
    };
    let mut stage = Stage::new(&bench.args.dir, "backlog", std::slice::from_ref(&parking))?;
    let fresh_bytes = stage.disk_bytes().max(1) as f64;
    let owed = fill(bench, &stage).await?;
    let sending = Target {
        enabled: true,
        ..parking
    };
    let ready = stage.crash(&[sending])?;
    let started = Instant::now();
    let what = format!("killed with {owed} owed: until it takes events again");
    bench
        .report
        .add(Row::new(what, ready.as_secs_f64(), "s").goal(Goal::AtMost(5.0)));
    while receiver.count()? == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let first = started.elapsed().as_secs_f64();
    bench
        .report
        .add(Row::new("and from then to its first delivery", first, "s"));
    memory(bench, &stage, "its memory then")?;

    stage.drained().await?;
    let per_second = owed as f64 / started.elapsed().as_secs_f64();
    bench
        .report
        .add(Row::new("delivered from the backlog", per_second, "/s"));
    memory(bench, &stage, "its memory when all is delivered")?;
    let left = rested_disk(&stage).await;
    memory(bench, &stage, "its memory at rest")?;
    bench
        .report
        .add(Row::new("disk when all is delivered", left / MIB, "MiB"));
    let kept = kept_bytes(&stage).await?;
    let what = format!("without the {:.0} MiB that retention keeps", kept / MIB);
    let row = Row::of_rounds(what, "MiB", "fresh", &[((left - kept) / MIB, fresh_bytes / MIB)]);
    bench.report.add(row.goal(Goal::RatioAtMost(2.0)));
    Ok(())
}

/// Lets events pile up; returns how many.
async fn fill(bench: &mut Bench, stage: &Stage) -> io::Result<u64> {
    let crew = Crew {
        socket: stage.socket(),
        producers: 16,
        burst: 200,
        target: "live",
    };
    let filled = work(crew, Until::Accepted(bench.args.backlog)).await?;
    let owed = filled.accepted;
    let what = format!("accepted while {owed} pile up");
    bench.report.add(Row::new(what, filled.per_second(), "/s"));
    memory(bench, stage, &format!("memory with {owed} owed"))?;
    let disk = stage.disk_bytes() as f64 / MIB;
    bench
        .report
        .add(Row::new(format!("disk with {owed} owed"), disk, "MiB"));
    Ok(owed)
}

fn memory(bench: &mut Bench, stage: &Stage, what: &str) -> io::Result<()> {
    let rss = machine::rss_bytes(stage.pid())? as f64 / MIB;
    bench
        .report
        .add(Row::new(what, rss, "MiB").goal(Goal::AtMost(256.0)));
    Ok(())
}

/// What the configuration wants kept of events that are over: ids for `dedup_window`, and the attempt log.
async fn kept_bytes(stage: &Stage) -> io::Result<f64> {
    let store = stage.status().await?.store;
    Ok((store.dedup_ids * ID_BYTES + store.attempts_bytes) as f64)
}

/// The size of the store once it has not become smaller for a while.
async fn rested_disk(stage: &Stage) -> f64 {
    let mut smallest = stage.disk_bytes();
    let mut since = Instant::now();
    let bound = Instant::now() + TIDY_UP_BOUND;
    while since.elapsed() < TIDY_UP_PAUSE && Instant::now() < bound {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let now = stage.disk_bytes();
        if now < smallest {
            (smallest, since) = (now, Instant::now());
        }
    }
    // It may have grown again by then, and that counts.
    stage.disk_bytes() as f64
}
