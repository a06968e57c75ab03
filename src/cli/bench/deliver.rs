//! Events in over the socket and out over HTTP at once, everything flushed, each event a request of its own, signed;
//! against what bare HTTP clients reach with the same receiver.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Bench;
use super::limits;
use super::machine;
use super::producers::{Crew, Flow, Until, work};
use super::receiver::Counter;
use super::report::{Goal, Row};
use super::stage::{Stage, Target};

/// Accepted events that may wait for delivery: enough that delivery never starves, few enough that both go at one pace.
const UNDELIVERED_MAX: u64 = 4096;
/// Before measuring: connections are made and limits found.
const WARM_UP: Duration = Duration::from_millis(700);
/// How often the producers are told what has arrived.
const TICK: Duration = Duration::from_millis(4);

/// What one round gave.
#[derive(Debug, Default)]
pub(super) struct Round {
    /// Requests that arrived, a second.
    pub delivered_per_second: f64,
    /// Processor time of whoever delivered them, per event.
    pub cpu_us: f64,
}

/// Measures it.
///
/// # Errors
/// When something does not work at all.
pub async fn run(bench: &mut Bench) -> io::Result<()> {
    let mut receiver = Counter::start()?;
    let address = receiver.address();
    let target = Target {
        name: "live",
        address,
        path: "/",
        enabled: true,
        keys: "",
    };
    let stage = Stage::new(&bench.args.dir, "deliver", &[target])?;
    let (mut to_reqwest, mut to_raw, mut cpu_us) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..bench.args.rounds {
        let (mut ours, mut reqwest, mut raw) = (Round::default(), Round::default(), 0.0);
        // Whoever goes later has a warmer or a more tired machine, so they take turns at that too.
        for turn in 0..3 {
            match (round + turn) % 3 {
                0 => reqwest = by_reqwest(bench, address).await?,
                1 => raw = limits::raw(address, bench.span()).await?,
                _ => ours = deliver(&stage, "live", &mut receiver, bench.span()).await?,
            }
        }
        to_reqwest.push((ours.delivered_per_second, reqwest.delivered_per_second));
        to_raw.push((ours.delivered_per_second, raw));
        cpu_us.push((ours.cpu_us, reqwest.cpu_us));
    }
    let report = &mut bench.report;
    let what = "accepted and delivered at once";
    report.add(Row::of_rounds(what, "/s", "reqwest", &to_reqwest).goal(Goal::RatioAtLeast(0.75)));
    report.add(Row::of_rounds(what, "/s", "raw", &to_raw).goal(Goal::RatioAtLeast(0.40)));
    // The least disturbed of all by other programs.
    let what = "its processor time, per event";
    report.add(Row::of_rounds(what, "µs", "reqwest", &cpu_us));
    Ok(())
}

/// One round of the limit that delivers as most daemons do.
async fn by_reqwest(bench: &Bench, receiver: SocketAddr) -> io::Result<Round> {
    let before = machine::cpu_us(std::process::id())?;
    let delivered_per_second = limits::reqwest(receiver, bench.span()).await?;
    let cpu_us = (machine::cpu_us(std::process::id())? - before) as f64;
    Ok(Round {
        delivered_per_second,
        cpu_us: cpu_us / (delivered_per_second * bench.args.seconds),
    })
}

/// One round of events for the endpoint `target`, which is the receiver's.
///
/// # Errors
/// When something does not work at all.
pub(super) async fn deliver(
    stage: &Stage,
    target: &'static str,
    receiver: &mut Counter,
    span: Duration,
) -> io::Result<Round> {
    let flow = Arc::new(Flow::new(UNDELIVERED_MAX));
    let crew = Crew {
        socket: stage.socket(),
        producers: 16,
        burst: 32,
        target,
    };
    let start = receiver.count()?;
    let producers = tokio::spawn(work(crew, Until::Closed(Arc::clone(&flow))));
    follow(receiver, &flow, start, WARM_UP).await?;
    let (began, before) = (Instant::now(), receiver.count()?);
    let cpu_before = machine::cpu_us(stage.pid())?;
    follow(receiver, &flow, start, span).await?;
    let (took, delivered) = (began.elapsed(), receiver.count()? - before);
    let cpu_us = machine::cpu_us(stage.pid())? - cpu_before;
    flow.close();
    let accepted = producers.await.map_err(io::Error::other)??.accepted;
    stage.drained().await?;
    let arrived = receiver.count()? - start;
    if arrived < accepted {
        return Err(io::Error::other(format!(
            "{accepted} events accepted, {arrived} delivered"
        )));
    }
    Ok(Round {
        delivered_per_second: delivered as f64 / took.as_secs_f64(),
        cpu_us: cpu_us as f64 / delivered.max(1) as f64,
    })
}

/// Tells the producers for `span` how many have arrived since there were `start`.
async fn follow(receiver: &mut Counter, flow: &Flow, start: u64, span: Duration) -> io::Result<()> {
    let began = Instant::now();
    while began.elapsed() < span {
        flow.delivered(receiver.count()? - start);
        tokio::time::sleep(TICK).await;
    }
    Ok(())
}
