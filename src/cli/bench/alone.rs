//! The store without sockets, scheduler and HTTP: each commit accepts a batch and settles the one before it; against
//! append plus fdatasync of the same bytes in the same batches.

use std::io;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::Bench;
use super::limits;
use super::producers::{LINE_BYTES, line};
use super::report::{Goal, Row};
use super::stage::Folder;
use crate::config::{FreeMin, StoreConfig};
use crate::domain::event::{Event, EventHead};
use crate::domain::time::Timestamp;
use crate::store::sled::{OpenOptions, SledStore};
use crate::store::{AcceptGroup, Accepted, Batch, DeliveryId, LaneId, NewEvent, Settle, SettleTo, Store};

/// Batch sizes, each with the ratio it should reach.
const BATCHES: [(usize, f64); 5] = [(1, 0.5), (16, 0.7), (64, 0.7), (256, 0.7), (2048, 0.7)];

/// Measures it. Blocks.
///
/// # Errors
/// When the store or the file fails.
pub fn run(bench: &mut Bench) -> io::Result<()> {
    for (batch, goal) in BATCHES {
        let folder = Folder::new(&bench.args.dir, "store")?;
        let store = open(&folder)?;
        let mut work = Work::new(&store)?;
        let mut rounds = Vec::new();
        for _ in 0..bench.args.rounds {
            let store_per_second = work.events_per_second(batch, bench.span() / 2)?;
            let flush = limits::flush(folder.path(), batch, bench.span() / 2)?;
            rounds.push((store_per_second, flush.per_second));
        }
        store.close().map_err(io::Error::other)?;
        let what = format!("store alone, accepted and settled, {batch} a commit");
        let row = Row::of_rounds(what, "/s", "flush", &rounds);
        bench.report.add(row.goal(Goal::RatioAtLeast(goal)));
    }
    Ok(())
}

fn open(folder: &Folder) -> io::Result<SledStore> {
    let config = StoreConfig {
        path: folder.path().join("queue"),
        free_min: FreeMin::Percent(0.0),
        ..StoreConfig::default()
    };
    SledStore::open(&config, OpenOptions::default()).map_err(io::Error::other)
}

/// Events going through a store.
struct Work<'a> {
    store: &'a SledStore,
    lane: LaneId,
    events: u64,
    /// Accepted and not yet settled.
    owed: Vec<DeliveryId>,
    json: Bytes,
}

impl<'a> Work<'a> {
    fn new(store: &'a SledStore) -> io::Result<Self> {
        Ok(Self {
            store,
            lane: store.lane("live").map_err(io::Error::other)?,
            events: 0,
            owed: Vec::new(),
            json: line("live", "").into(),
        })
    }

    fn events_per_second(&mut self, batch: usize, span: Duration) -> io::Result<f64> {
        let (began, before) = (Instant::now(), self.events);
        while began.elapsed() < span {
            self.commit(batch)?;
        }
        Ok((self.events - before) as f64 / began.elapsed().as_secs_f64())
    }

    fn commit(&mut self, batch: usize) -> io::Result<()> {
        let accepts = (0..batch).map(|_| self.next_event()).collect();
        let settles = self.owed.drain(..).map(|id| Settle {
            id,
            was_due: None,
            to: SettleTo::Settled,
        });
        let batch = Batch {
            settles: settles.collect(),
            accepts,
        };
        let committed = self
            .store
            .commit(batch, Timestamp(1_736_937_000_000))
            .map_err(io::Error::other)?;
        for accepted in committed.accepts.into_iter().flatten().flatten() {
            if let Accepted::New(seq) = accepted {
                self.owed.push(DeliveryId { lane: self.lane, seq });
            }
        }
        Ok(())
    }

    /// A line of its own, as most producers send them.
    fn next_event(&mut self) -> AcceptGroup {
        self.events += 1;
        let head = EventHead {
            id: format!("{:026}", self.events).into(),
            source: "/bench".into(),
            kind: "live.event".into(),
            accepted: Timestamp(1_736_937_000_000),
            deliver_at: None,
            expires: None,
            partition_key: None,
            tenant: None,
            traceparent: None,
            sender_uid: None,
        };
        debug_assert_eq!(self.json.len(), LINE_BYTES);
        AcceptGroup {
            events: vec![NewEvent {
                event: Event {
                    head,
                    json: self.json.clone(),
                },
                lanes: [self.lane].into(),
            }],
        }
    }
}
