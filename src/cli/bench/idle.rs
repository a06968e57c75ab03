//! A daemon that has delivered something and has nothing more to do: its memory, and how often it wakes up.

use std::io;
use std::time::Duration;

use super::Bench;
use super::machine;
use super::producers::{Crew, Until, work};
use super::receiver::Counter;
use super::report::{Goal, Row};
use super::stage::Stage;

/// Until pools have closed their idle connections' bookkeeping and housekeeping is done.
const SETTLE_DOWN: Duration = Duration::from_secs(8);

/// Measures it.
///
/// # Errors
/// When something does not work at all.
pub async fn run(bench: &mut Bench) -> io::Result<()> {
    let receiver = Counter::start()?;
    let target = bench.live(receiver.address());
    let stage = Stage::new(&bench.args.dir, "idle", &[target])?;
    let rss = machine::rss_bytes(stage.pid())? as f64 / 1_048_576.0;
    bench
        .report
        .add(Row::new("memory after the start", rss, "MiB").goal(Goal::AtMost(30.0)));
    let crew = Crew {
        socket: stage.socket(),
        producers: 4,
        burst: 10,
        target: "live",
    };
    work(crew, Until::Accepted(1000)).await?;
    stage.drained().await?;
    tokio::time::sleep(SETTLE_DOWN).await;
    let before = machine::wake_ups(stage.pid())?;
    let cpu_before = machine::cpu_us(stage.pid())?;
    tokio::time::sleep(bench.span()).await;
    let wake_ups = (machine::wake_ups(stage.pid())? - before) as f64 / bench.args.seconds;
    let cpu_us = machine::cpu_us(stage.pid())? - cpu_before;
    let rss = machine::rss_bytes(stage.pid())? as f64 / 1_048_576.0;
    let report = &mut bench.report;
    report.add(Row::new("memory after 1000 events", rss, "MiB").goal(Goal::AtMost(30.0)));
    report.add(Row::new("wake-ups while idle", wake_ups, "/s").goal(Goal::AtMost(1.0)));
    let per_second = cpu_us as f64 / 1000.0 / bench.args.seconds;
    report.add(Row::new("processor time while idle, a second", per_second, "ms"));
    Ok(())
}
