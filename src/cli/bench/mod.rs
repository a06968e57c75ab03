//! `posthaste bench`: what this machine gives, and how much of it posthaste takes. Every number stands beside the
//! machine's own limit, measured in turns with it in the same run, because a number alone says more about the
//! machine and its other work than about posthaste.
//!
//! [`stage`] (a real daemon in a folder of its own), [`receiver`] (in a process of its own, as in life) and
//! [`producers`] are what it works with; [`limits`], [`bare`] (with its [`outlet`]) and [`lone`] are what it compares to;
//! [`machine`] tells who else used the processors. Each scenario has a file: [`deliver`], [`templated`], [`accept`], [`delay`], [`backlog`], [`isolation`],
//! [`alone`], [`idle`], [`history`]. [`report`] is what a person reads.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::failure::{Done, Failure};

pub mod accept;
pub mod alone;
pub mod backlog;
mod bare;
pub mod delay;
pub mod deliver;
pub mod history;
pub mod idle;
pub mod isolation;
pub mod limits;
mod lone;
pub mod machine;
mod outlet;
pub mod producers;
pub mod receiver;
pub mod report;
pub mod stage;
pub mod templated;

use machine::Watch;
use report::Report;
use stage::Target;

/// Measure posthaste against the limits of this machine.
///
/// Every ratio is to a limit that was measured in turns with it: `flush` is append plus fdatasync of the same bytes in
/// the same batches on the same file system, `reqwest` and `raw` are loops of that library and of bare hyper over as
/// many connections to the same receiver, `bare` is the barest daemon that flushes before it answers, `sled` is the store's
/// engine alone with the same bytes, behind a socket for one producer. Rows measured while other programs used more than
/// 15 % of the processors are marked; repeat those on a quiet machine.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:
  posthaste bench
  posthaste bench --only deliver,store --json
  posthaste bench --only deliver --connections 128")]
pub struct BenchArgs {
    /// Only these scenarios; all without it
    #[arg(long, value_enum, value_name = "NAME", value_delimiter = ',')]
    pub only: Vec<Scenario>,
    /// Length of one measurement
    #[arg(long, value_name = "SECONDS", default_value_t = 3.0, value_parser = seconds)]
    pub seconds: f64,
    /// Measurements of each kind, in turns; the median counts
    #[arg(long, value_name = "COUNT", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=99))]
    pub rounds: u32,
    /// Requests at once, of posthaste and of what it is compared with
    #[arg(long, value_name = "COUNT", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=512))]
    pub connections: u16,
    /// Events owed in `backlog` and `isolation`
    #[arg(long, value_name = "EVENTS", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub backlog: u64,
    /// Folder for the stores, on the file system to be measured
    #[arg(long, value_name = "FOLDER", default_value = "/var/tmp")]
    pub dir: PathBuf,
    /// One JSON object a row
    #[arg(long)]
    pub json: bool,
    /// Be the receiver of another bench: counts requests and tells the count for each line of input
    #[arg(long, hide = true)]
    pub be_receiver: bool,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.1..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err("a number of seconds from 0.1 to 3600".to_owned()),
    }
}

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// Events in over the socket and out over HTTP at once
    Deliver,
    /// The same where templates make the requests and the answers are read
    Templated,
    /// Producers that wait for their answers
    Accept,
    /// From an accepted event to its request, on an idle machine
    Delay,
    /// A killed daemon starts again with a backlog, and delivers it
    Backlog,
    /// One endpoint hangs with a backlog, another must not notice
    Isolation,
    /// The store without the rest
    Store,
    /// A daemon with nothing to do
    Idle,
    /// What the log of attempts costs
    History,
}

/// What every scenario is given.
#[derive(Debug)]
pub struct Bench {
    /// What was asked for.
    pub args: BenchArgs,
    /// What has been measured so far.
    pub report: Report,
}

impl Bench {
    /// Length of one measurement.
    #[must_use]
    pub fn span(&self) -> Duration {
        Duration::from_secs_f64(self.args.seconds)
    }

    /// The endpoint `live` at `address`, which sends what it gets as it is.
    #[must_use]
    pub fn live(&self, address: SocketAddr) -> Target<'static> {
        Target {
            name: "live",
            address,
            path: "/",
            connections: self.args.connections,
            enabled: true,
            keys: "",
        }
    }

    async fn run(&mut self, scenario: Scenario) -> io::Result<()> {
        let watch = Watch::start()?;
        match scenario {
            Scenario::Deliver => deliver::run(self).await,
            Scenario::Templated => templated::run(self).await,
            Scenario::Accept => accept::run(self).await,
            Scenario::Delay => delay::run(self).await,
            Scenario::Backlog => backlog::run(self).await,
            Scenario::Isolation => isolation::run(self).await,
            Scenario::Store => alone::run(self).await,
            Scenario::Idle => idle::run(self).await,
            Scenario::History => history::run(self).await,
        }?;
        self.report.mark(watch.others()?);
        Ok(())
    }
}

/// Runs it.
///
/// # Errors
/// [`Failure::Wrong`] when something can't be measured here.
pub fn run(args: BenchArgs) -> Done {
    let wrong = |error: io::Error| Failure::Wrong(format!("bench: {error}"));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(wrong)?;
    if args.be_receiver {
        return runtime.block_on(receiver::be()).map_err(wrong);
    }
    machine::warn_of_memory_disk(&args.dir);
    let json = args.json;
    let chosen = match args.only.as_slice() {
        [] => Scenario::value_variants().to_vec(),
        only => only.to_vec(),
    };
    let mut bench = Bench {
        args,
        report: Report::default(),
    };
    for scenario in chosen {
        eprintln!("measuring {scenario:?} …");
        runtime.block_on(bench.run(scenario)).map_err(wrong)?;
    }
    bench.report.print(json)
}
