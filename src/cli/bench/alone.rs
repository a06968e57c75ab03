//! The store without sockets, scheduler and HTTP: each commit accepts a batch and settles the one before it, the next one
//! being written while the last is flushed, and then 64 producers share commits; against append plus fdatasync of the
//! same bytes in the same batches, and against sled alone with the same bytes, one batch after the other.

use std::io;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::mpsc::channel;
use tokio::task::JoinSet;

use super::Bench;
use super::limits;
use super::producers::{LINE_BYTES, line};
use super::report::{Goal, Row};
use super::stage::Folder;
use crate::config::{FreeMin, StoreConfig};
use crate::domain::event::{Event, EventHead};
use crate::domain::time::Timestamp;
use crate::store::committer::{Committer, Queue, SMALL};
use crate::store::sled::{OpenOptions, SledLimit, SledStore};
use crate::store::{
    AcceptGroup, Accepted, Batch, DeliveryId, LaneId, NewEvent, Settle, SettleTo, Store, StoreError,
};

/// Batch sizes, each with the ratio it should reach.
const BATCHES: [(usize, f64); 5] = [(1, 0.5), (16, 0.7), (64, 0.7), (256, 0.7), (2048, 0.7)];

/// The time in these stores, which stands still.
const NOW: Timestamp = Timestamp(1_736_937_000_000);
/// Nothing dies here.
const DEAD_KEEP: Duration = Duration::from_secs(3600);
/// Commits that follow each other at once, before time is taken out to make the events of the next ones.
const LAP: usize = 16;
/// Producers that share commits.
const PRODUCERS: u64 = 64;

/// Measures it. Blocks.
///
/// # Errors
/// When the store or the file fails.
pub async fn run(bench: &mut Bench) -> io::Result<()> {
    for (batch, goal) in BATCHES {
        commits(bench, batch, goal)?;
    }
    shared(bench).await
}

/// Batches of one size, one after the other.
fn commits(bench: &mut Bench, batch: usize, goal: f64) -> io::Result<()> {
    let folder = Folder::new(&bench.args.dir, "store")?;
    let store = open(&folder)?;
    let mut sled = SledLimit::open(&folder.path().join("sled")).map_err(io::Error::other)?;
    let (mut to_flush, mut to_sled) = (Vec::new(), Vec::new());
    let span = bench.span() / 2;
    thread::scope(|scope| {
        let mut work = Work::new(&store, scope)?;
        for round in 0..bench.args.rounds {
            let (mut ours, mut by_flush, mut by_sled) = (0.0, 0.0, 0.0);
            // Whoever goes later has a warmer or a more tired machine, so they take turns at that too.
            for turn in 0..3 {
                match (round + turn) % 3 {
                    0 => ours = per_second(LAP * batch, span, || work.lap(batch))?,
                    1 => by_flush = limits::flush(folder.path(), batch, span)?.per_second,
                    _ => by_sled = per_second(batch, span, || by_sled_alone(&mut sled, batch))?,
                }
            }
            to_flush.push((ours, by_flush));
            to_sled.push((ours, by_sled));
        }
        io::Result::Ok(())
    })?;
    store.close().map_err(io::Error::other)?;
    let what = format!("store alone, accepted and settled, {batch} a commit");
    let row = Row::of_rounds(&what, "/s", "flush", &to_flush);
    bench.report.add(row.goal(Goal::RatioAtLeast(goal)));
    bench.report.add(Row::of_rounds(what, "/s", "sled", &to_sled));
    Ok(())
}

/// Events a second of pieces of work that take in so many each and tell how long that took.
fn per_second(
    events_each: usize,
    span: Duration,
    mut work: impl FnMut() -> io::Result<Duration>,
) -> io::Result<f64> {
    let (mut took, mut events) = (Duration::ZERO, 0);
    while took < span {
        took += work()?;
        events += events_each;
    }
    Ok(events as f64 / took.as_secs_f64())
}

/// A commit of the bytes of `batch` events by sled and nothing else; how long it took.
fn by_sled_alone(sled: &mut SledLimit, batch: usize) -> io::Result<Duration> {
    sled.commit(batch * LINE_BYTES).map_err(io::Error::other)
}

/// Through the committer, as the daemon does: each producer waits for its answer and settles its event.
async fn shared(bench: &mut Bench) -> io::Result<()> {
    let folder = Folder::new(&bench.args.dir, "store")?;
    let store: Arc<dyn Store> = Arc::new(open(&folder)?);
    let lane = store.lane("live").map_err(io::Error::other)?;
    let (tell, mut told) = channel(1024);
    let (committer, queue) = Committer::start(Arc::clone(&store), Arc::new(|| NOW), DEAD_KEEP, tell)?;
    let listening = tokio::spawn(async move { while told.recv().await.is_some() {} });
    let mut rounds = Vec::new();
    let mut names = 0;
    for _ in 0..bench.args.rounds {
        let (began, commits) = (Instant::now(), store.stats().commits);
        let until = began + bench.span() / 2;
        let mut producers = JoinSet::new();
        for producer in 0..PRODUCERS {
            producers.spawn(produce(queue.clone(), lane, names + (producer << 32), until));
        }
        let mut events = 0;
        for produced in producers.join_all().await {
            events += produced.map_err(io::Error::other)?;
        }
        names += PRODUCERS << 32;
        let per_second = events as f64 / began.elapsed().as_secs_f64();
        let batch = events / (store.stats().commits - commits).max(1);
        let span = bench.span() / 2;
        let limit = || limits::flush(folder.path(), batch as usize, span);
        rounds.push((per_second, tokio::task::block_in_place(limit)?.per_second));
    }
    drop(queue);
    committer.stop();
    listening.abort();
    let what = format!("store alone, accepted and settled, through {PRODUCERS} producers");
    let row = Row::of_rounds(what, "/s", "flush", &rounds);
    bench.report.add(row.goal(Goal::RatioAtLeast(0.7)));
    Ok(())
}

/// One event after the other, numbered from `first` on; how many.
async fn produce(queue: Queue, lane: LaneId, first: u64, until: Instant) -> Result<u64, StoreError> {
    let json: Bytes = line("live", "").into();
    let mut events = 0;
    while Instant::now() < until {
        let group = event(first + events, lane, json.clone());
        for accepted in queue.accept(vec![group]).await?.into_iter().flatten().flatten() {
            if let Accepted::New(seq) = accepted {
                queue.settle(settled(DeliveryId { lane, seq }), None);
            }
        }
        events += 1;
    }
    Ok(events)
}

/// A line of its own, as most producers send them.
fn event(number: u64, lane: LaneId, json: Bytes) -> AcceptGroup {
    debug_assert_eq!(json.len(), LINE_BYTES);
    let head = EventHead::new(format!("{number:026}"), "/bench", "live.event", NOW);
    AcceptGroup {
        events: vec![NewEvent {
            event: Event { head, json },
            lanes: [lane].into(),
        }],
    }
}

fn settled(id: DeliveryId) -> Settle {
    Settle {
        id,
        was_due: None,
        to: SettleTo::Settled,
    }
}

fn open(folder: &Folder) -> io::Result<SledStore> {
    let config = StoreConfig {
        path: folder.path().join("queue"),
        free_min: FreeMin::Percent(0.0),
        ..StoreConfig::default()
    };
    SledStore::open(&config, OpenOptions::default()).map_err(io::Error::other)
}

/// Events going through a store, as the committer has them go.
struct Work<'a> {
    store: &'a SledStore,
    lane: LaneId,
    events: u64,
    /// Accepted and not yet settled.
    owed: Vec<DeliveryId>,
    json: Bytes,
    /// Has another thread flush what is staged.
    to_flush: mpsc::SyncSender<()>,
    flushed: mpsc::Receiver<Result<(), StoreError>>,
}

impl<'a> Work<'a> {
    fn new<'scope>(store: &'a SledStore, scope: &'scope thread::Scope<'scope, 'a>) -> io::Result<Self> {
        let (to_flush, orders) = mpsc::sync_channel(0);
        let (tell, flushed) = mpsc::channel();
        scope.spawn(move || orders.iter().try_for_each(|()| tell.send(store.sync())));
        Ok(Self {
            store,
            lane: store.lane("live").map_err(io::Error::other)?,
            events: 0,
            owed: Vec::new(),
            json: line("live", "").into(),
            to_flush,
            flushed,
        })
    }

    /// So many commits; how long they took. Making the events is not the store's work, so it does not count.
    fn lap(&mut self, batch: usize) -> io::Result<Duration> {
        let accepts: Vec<Vec<AcceptGroup>> = (0..LAP)
            .map(|_| (0..batch).map(|_| self.next_event()).collect())
            .collect();
        let began = Instant::now();
        let mut under_way = 0;
        for accepts in accepts {
            self.stage(accepts).map_err(io::Error::other)?;
            if batch <= SMALL {
                self.store.sync().map_err(io::Error::other)?;
            } else {
                self.to_flush.send(()).map_err(io::Error::other)?;
                under_way += 1;
            }
        }
        for flushed in self.flushed.iter().take(under_way) {
            flushed.map_err(io::Error::other)?;
        }
        Ok(began.elapsed())
    }

    /// Writes new events, and that the last ones are settled.
    fn stage(&mut self, accepts: Vec<AcceptGroup>) -> Result<(), StoreError> {
        let settles = self.owed.drain(..).map(settled).collect();
        let committed = self.store.stage(Batch { settles, accepts }, NOW)?;
        for accepted in committed.accepts.into_iter().flatten().flatten() {
            if let Accepted::New(seq) = accepted {
                self.owed.push(DeliveryId { lane: self.lane, seq });
            }
        }
        Ok(())
    }

    fn next_event(&mut self) -> AcceptGroup {
        self.events += 1;
        event(self.events, self.lane, self.json.clone())
    }
}
