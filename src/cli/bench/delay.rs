//! From an event's answer to its request, when nothing else is going on: what a person who waits for a webhook sees.
//! The request is counted when it has wholly arrived, so the numbers are a little too high rather than too low.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use super::Bench;
use super::producers::{Producer, line, microseconds};
use super::report::{Goal, Row};
use super::stage::Stage;
use crate::cli::receive::server::{Options, Receiver};

/// Events before those that count: connections are made.
const WARM_UP: u32 = 20;
/// How long a delivery may take before the measurement is given up.
const ARRIVAL_BOUND: Duration = Duration::from_secs(10);
/// Between two events, so that the daemon has come to rest.
const REST: Duration = Duration::from_millis(15);

/// Measures it.
///
/// # Errors
/// When something does not work at all.
pub async fn run(bench: &mut Bench) -> io::Result<()> {
    let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let mut receiver = Receiver::bind(any_port, Options::default()).await?;
    let target = bench.live(receiver.addr());
    let stage = Stage::new(&bench.args.dir, "delay", &[target])?;
    let mut producer = Producer::connect(&stage.socket()).await?;
    let line = line("live", "");
    let mut delays_us = microseconds()?;
    let events = (bench.args.seconds * f64::from(bench.args.rounds) * 40.0) as u32;
    for event in 0..WARM_UP + events {
        producer.send(&line, 1).await?;
        let answered = Instant::now();
        tokio::time::timeout(ARRIVAL_BOUND, receiver.recv())
            .await
            .map_err(|_| io::Error::other("a delivery did not arrive in time"))?;
        if event >= WARM_UP {
            delays_us.saturating_record(answered.elapsed().as_micros() as u64);
        }
        tokio::time::sleep(REST).await;
    }
    for (quantile, goal) in [(0.5, 1.0), (0.99, 5.0)] {
        let ms = delays_us.value_at_quantile(quantile) as f64 / 1000.0;
        let what = format!("from accepted to the request, idle, p{}", quantile * 100.0);
        bench
            .report
            .add(Row::new(what, ms, "ms").goal(Goal::AtMost(goal)));
    }
    Ok(())
}
