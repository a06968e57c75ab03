//! Tests of who hears of a commit, and when.

use std::collections::BTreeSet;
use std::time::Duration;

use super::settles::SETTLES_MAX;
use super::*;
use crate::domain::event::{Event, EventHead};
use crate::domain::outcome::{Attempt, Exchange, Outcome};
use crate::store::memory::MemoryStore;
use crate::store::{AttemptEntry, AttemptFilter, DeliveryId, NewEvent, SettleTo};

pub(super) const NOW: Timestamp = Timestamp(1_736_937_000_000);

pub(super) fn group(id: &str, deliver_at: Option<Timestamp>, lane: LaneId) -> AcceptGroup {
    let head = EventHead {
        deliver_at,
        ..EventHead::new(id, "/test", "test", NOW)
    };
    let json = bytes::Bytes::from_static(b"{}");
    let event = Event { head, json };
    let lanes = [lane].into();
    AcceptGroup {
        events: vec![NewEvent { event, lanes }],
    }
}

/// A committer of `store`, with room for so many lists of notices.
pub(super) fn start(
    store: &Arc<MemoryStore>,
    room: usize,
) -> (Committer, Queue, async_mpsc::Receiver<Vec<Notice>>) {
    let (tell, notices) = async_mpsc::channel(room);
    let store = Arc::clone(store) as Arc<dyn Store>;
    let (committer, queue) =
        Committer::start(store, Arc::new(|| NOW), Duration::from_secs(60), tell).unwrap();
    (committer, queue, notices)
}

/// A8: what the dispatcher hears of a delayed event is where the store keeps it, or else nobody would
/// ever find it there.
#[tokio::test]
async fn a8_a_delay_that_is_over_by_the_commit_is_told_as_none() {
    let store = Arc::new(MemoryStore::new(Duration::from_secs(60), 100));
    let lane = store.lane("one").unwrap();
    let (committer, queue, mut notices) = start(&store, 4096);
    let later = NOW.plus(Duration::from_millis(1));
    let groups = [Timestamp(NOW.0 - 1), NOW, later].map(|at| group(&at.0.to_string(), Some(at), lane));
    queue.accept(groups.to_vec()).await.unwrap();
    let told: Vec<_> = notices.recv().await.unwrap();
    let dues = told.iter().map(|notice| match notice {
        Notice::Accepted { due, .. } => *due,
        Notice::Committed { .. } => panic!("nothing was settled"),
    });
    assert_eq!(dues.collect::<Vec<_>>(), [None, None, Some(later)]);
    let deferred = queue.store().lanes()[0].deferred;
    assert_eq!(deferred, 1, "and so the store sees it");
    committer.stop();
}

/// H1: the tries that a commit settles are logged in their order, be they few, before it, or many, while it is flushed.
#[test]
fn h1_tries_are_logged_however_many_are_settled_together() {
    for count in [1, SMALL, SMALL + 1, 300] {
        let store = Arc::new(MemoryStore::new(Duration::from_secs(60), 1000));
        let lane = store.lane("one").unwrap();
        let (committer, queue, _notices) = start(&store, 4096);
        for n in 1..=count as u64 {
            let settle = Settle {
                id: DeliveryId { lane, seq: Seq(n) },
                was_due: None,
                to: SettleTo::Settled,
            };
            let entry = AttemptEntry {
                seq: Seq(n),
                event_id: n.to_string().into(),
                event_source: "/test".into(),
                event_kind: "test".into(),
                accepted: NOW,
                batch: None,
                attempt: Attempt::new(1, NOW, Outcome::Delivered),
                exchange: Exchange::default(),
            };
            let entry = Box::new(entry);
            queue.settle(settle, Some(NewAttempt { lane, entry }));
        }
        committer.stop();
        let logged = store.attempts(&AttemptFilter::default(), None, 1000).attempts;
        let seqs: Vec<u64> = logged.iter().rev().map(|logged| logged.entry.seq.0).collect();
        assert_eq!(seqs, (1..=count as u64).collect::<Vec<_>>());
    }
}

/// More than [`SMALL`] events.
pub(super) fn many(name: &str, lane: LaneId) -> Vec<AcceptGroup> {
    (0..=SMALL)
        .map(|n| group(&format!("{name}{n}"), None, lane))
        .collect()
}

pub(super) fn until_written(store: &MemoryStore, commits: u64) {
    let began = Instant::now();
    while store.stats().commits < commits {
        assert!(
            began.elapsed() < Duration::from_secs(30),
            "commit {commits} is not written"
        );
        thread::yield_now();
    }
}

/// A2: while the disk works on one commit the next one is written, and nobody hears of either before it is durable; if
/// it never is, both hear that.
#[test]
fn a2_the_next_commit_is_written_while_the_last_is_flushed() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for breaks in [false, true] {
        let store = Arc::new(MemoryStore::new(Duration::from_secs(60), 1000));
        let lane = store.lane("one").unwrap();
        let (committer, queue, mut notices) = start(&store, 4096);
        let held = store.hold_disk();
        let first = runtime.spawn(queue.accept(many("first", lane)));
        until_written(&store, 1);
        let second = runtime.spawn(queue.accept(many("second", lane)));
        until_written(&store, 2);
        assert!(!first.is_finished() && !second.is_finished() && notices.try_recv().is_err());
        if breaks {
            store.break_disk();
        }
        drop(held);
        for answer in [first, second] {
            let answer = runtime.block_on(answer).unwrap();
            if breaks {
                let error = answer.unwrap_err().to_string();
                assert!(error.contains("the disk broke"), "{error}");
                assert!(notices.try_recv().is_err());
            } else {
                assert_eq!(answer.unwrap().len(), SMALL + 1);
                assert_eq!(notices.blocking_recv().unwrap().len(), SMALL + 1);
            }
        }
        assert_eq!(queue.failure().borrow().is_some(), breaks);
        committer.stop();
    }
}

/// Only the first of the settles that wait wakes the committer, and all of them get their commit: a flood
/// between two commits, and then one by one when nothing else happens.
#[tokio::test]
async fn a2_every_settle_becomes_durable_without_other_traffic() {
    let store = Arc::new(MemoryStore::new(Duration::from_secs(60), 100_000));
    let lane = store.lane("one").unwrap();
    let (committer, queue, mut notices) = start(&store, 4096);
    let count = 2 * SETTLES_MAX + 7;
    let groups = (0..count).map(|id| group(&id.to_string(), None, lane)).collect();
    let answers = queue.accept(groups).await.unwrap();
    let seqs: Vec<Seq> = answers
        .into_iter()
        .flat_map(Result::unwrap)
        .map(|accepted| match accepted {
            Accepted::New(seq) => seq,
            Accepted::Duplicate => panic!("all ids differ"),
        })
        .collect();
    let (flood, single) = seqs.split_at(count - 3);
    for settled in [flood].into_iter().chain(single.chunks(1)) {
        for seq in settled.iter().copied() {
            let settle = Settle {
                id: DeliveryId { lane, seq },
                was_due: None,
                to: SettleTo::Settled,
            };
            queue.settle(settle, None);
        }
        let mut waiting: BTreeSet<Seq> = settled.iter().copied().collect();
        while !waiting.is_empty() {
            for notice in notices.recv().await.unwrap() {
                if let Notice::Committed { seq, .. } = notice {
                    assert!(waiting.remove(&seq), "told once");
                }
            }
        }
    }
    assert_eq!(store.lanes()[0].pending, 0);
    committer.stop();
}
