//! Events in over the socket and out over HTTP at once, everything flushed, each event a request of its own, signed;
//! against what bare HTTP clients and the barest daemon reach with the same receiver.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Bench;
use super::bare;
use super::limits;
use super::machine;
use super::outlet::Outlet;
use super::producers::{Crew, Flow, Until, work};
use super::receiver::Counter;
use super::report::{Goal, Row};
use super::stage::{Folder, Stage};

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
    let stage = Stage::new(&bench.args.dir, "deliver", &[bench.live(address)])?;
    let (mut to_reqwest, mut to_raw, mut to_bare, mut cpu_us) = (vec![], vec![], vec![], vec![]);
    for round in 0..bench.args.rounds {
        let (mut ours, mut reqwest, mut raw, mut bare) = (Round::default(), Round::default(), 0.0, 0.0);
        // Whoever goes later has a warmer or a more tired machine, so they take turns at that too.
        for turn in 0..4 {
            match (round + turn) % 4 {
                0 => reqwest = by_reqwest(bench, address).await?,
                1 => raw = limits::raw(address, bench.args.connections, bench.span()).await?,
                2 => bare = by_bare(bench, &mut receiver).await?,
                _ => ours = deliver(&stage, "live", &mut receiver, bench.span()).await?,
            }
        }
        to_reqwest.push((ours.delivered_per_second, reqwest.delivered_per_second));
        to_raw.push((ours.delivered_per_second, raw));
        to_bare.push((ours.delivered_per_second, bare));
        cpu_us.push((ours.cpu_us, reqwest.cpu_us));
    }
    let report = &mut bench.report;
    let what = "accepted and delivered at once";
    report.add(Row::of_rounds(what, "/s", "reqwest", &to_reqwest).goal(Goal::RatioAtLeast(0.75)));
    report.add(Row::of_rounds(what, "/s", "raw", &to_raw).goal(Goal::RatioAtLeast(0.40)));
    report.add(Row::of_rounds(what, "/s", "bare", &to_bare));
    // The least disturbed of all by other programs.
    let what = "its processor time, per event";
    report.add(Row::of_rounds(what, "µs", "reqwest", &cpu_us));
    Ok(())
}

/// One round of the limit that delivers as most daemons do.
async fn by_reqwest(bench: &Bench, receiver: SocketAddr) -> io::Result<Round> {
    let before = machine::cpu_us(std::process::id())?;
    let delivered_per_second = limits::reqwest(receiver, bench.args.connections, bench.span()).await?;
    let cpu_us = (machine::cpu_us(std::process::id())? - before) as f64;
    Ok(Round {
        delivered_per_second,
        cpu_us: cpu_us / (delivered_per_second * bench.args.seconds),
    })
}

/// One round of the barest daemon; events delivered a second.
async fn by_bare(bench: &Bench, receiver: &mut Counter) -> io::Result<f64> {
    let folder = Folder::new(&bench.args.dir, "bare")?;
    let outlet = Outlet::line_by_line(receiver.address(), bench.args.connections);
    let flow = Arc::new(Flow::new(UNDELIVERED_MAX));
    let crew = crew(folder.path().to_owned(), "live");
    let until = Until::Closed(Arc::clone(&flow));
    let work = async {
        let answers = bare::answers(folder.path(), crew, until, Some(outlet)).await?;
        Ok(answers.accepted)
    };
    let round = in_step(receiver, &flow, bench.span(), std::process::id(), work).await?;
    Ok(round.delivered_per_second)
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
    let (crew, until) = (crew(stage.socket(), target), Until::Closed(Arc::clone(&flow)));
    let work = async {
        let answers = work(crew, until).await?;
        stage.drained().await?;
        Ok(answers.accepted)
    };
    in_step(receiver, &flow, span, stage.pid(), work).await
}

/// Those who produce what is delivered.
fn crew(socket: PathBuf, target: &'static str) -> Crew {
    Crew {
        socket,
        producers: 16,
        burst: 32,
        target,
    }
}

/// Lets `work` go on until `flow` is closed, and for `span` sees how much of it arrives and what process `pid` takes for
/// that. `work` ends when everything is delivered, and tells how many events were accepted.
async fn in_step(
    receiver: &mut Counter,
    flow: &Flow,
    span: Duration,
    pid: u32,
    work: impl Future<Output = io::Result<u64>>,
) -> io::Result<Round> {
    let start = receiver.count()?;
    let measuring = async {
        let round = measure(receiver, flow, start, span, pid).await;
        flow.close();
        round
    };
    let (round, accepted) = tokio::try_join!(measuring, work)?;
    let arrived = receiver.count()? - start;
    if arrived < accepted {
        return Err(io::Error::other(format!(
            "{accepted} events accepted, {arrived} delivered"
        )));
    }
    Ok(round)
}

/// What arrives in `span`, once all is warm.
async fn measure(
    receiver: &mut Counter,
    flow: &Flow,
    start: u64,
    span: Duration,
    pid: u32,
) -> io::Result<Round> {
    follow(receiver, flow, start, WARM_UP).await?;
    let (began, before, cpu_before) = (Instant::now(), receiver.count()?, machine::cpu_us(pid)?);
    follow(receiver, flow, start, span).await?;
    let (took, delivered) = (began.elapsed(), receiver.count()? - before);
    let cpu_us = machine::cpu_us(pid)? - cpu_before;
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
