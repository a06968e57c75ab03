//! One endpoint hangs and is owed a backlog; another one must not notice. Its delays are measured at a steady pace, in
//! turns with those of a daemon that has no such endpoint.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::Bench;
use super::machine;
use super::producers::{Crew, Producer, Until, line, microseconds, work};
use super::report::{Goal, Row};
use super::stage::{Stage, Target};
use crate::cli::receive::server::{Options, Receiver};

/// Between two events of the live endpoint: 200 a second.
const PACE: Duration = Duration::from_millis(5);
/// How long a delivery may take before the measurement is given up.
const ARRIVAL_BOUND: Duration = Duration::from_secs(30);

/// Measures it.
///
/// # Errors
/// When something does not work at all.
pub async fn run(bench: &mut Bench) -> io::Result<()> {
    let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let mut live = Receiver::bind(any_port, Options::default()).await?;
    let hanging = Receiver::bind(any_port, Options::default()).await?;
    let dead = Target {
        name: "dead",
        path: "/hang",
        ..bench.live(hanging.addr())
    };
    let targets = [bench.live(live.addr()), dead];
    let stage = Stage::new(&bench.args.dir, "isolation", &targets)?;
    let stage_alone = Stage::new(&bench.args.dir, "alone", &targets[..1])?;
    let crew = Crew {
        socket: stage.socket(),
        producers: 16,
        burst: 200,
        target: "dead",
    };
    let owed = work(crew, Until::Accepted(bench.args.backlog)).await?.accepted;
    let (mut alone, mut beside) = (microseconds()?, microseconds()?);
    for _ in 0..bench.args.rounds {
        alone += delays(&stage_alone, &mut live, bench.span()).await?;
        beside += delays(&stage, &mut live, bench.span()).await?;
    }
    for (quantile, goal) in [(0.5, 1.5), (0.99, 2.0)] {
        let ms = |delays: &Histogram<u64>| delays.value_at_quantile(quantile) as f64 / 1000.0;
        let what = format!(
            "delay beside a hanging endpoint owed {owed}, p{}",
            quantile * 100.0
        );
        let row = Row::of_rounds(what, "ms", "alone", &[(ms(&beside), ms(&alone))]);
        bench.report.add(row.goal(Goal::RatioAtMost(goal)));
    }
    let rss = machine::rss_bytes(stage.pid())? as f64 / 1_048_576.0;
    bench
        .report
        .add(Row::new("its memory then", rss, "MiB").goal(Goal::AtMost(256.0)));
    Ok(())
}

/// Delays of the live endpoint, from writing an event to its request, one event after the other.
async fn delays(stage: &Stage, live: &mut Receiver, span: Duration) -> io::Result<Histogram<u64>> {
    let mut producer = Producer::connect(&stage.socket()).await?;
    let line = line("live", "");
    let mut delays_us = microseconds()?;
    let began = Instant::now();
    while began.elapsed() < span {
        let written = Instant::now();
        producer.send(&line, 1).await?;
        tokio::time::timeout(ARRIVAL_BOUND, live.recv())
            .await
            .map_err(|_| io::Error::other("a delivery did not arrive in time"))?;
        delays_us.saturating_record(written.elapsed().as_micros() as u64);
        tokio::time::sleep(PACE).await;
    }
    Ok(delays_us)
}
