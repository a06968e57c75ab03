//! What the checks work with: a store on its harness, verbs that verify as they go, and made-up values.

use std::sync::Arc;

use bytes::Bytes;

use super::snapshot::Snapshot;
use super::{End, Factory, Harness, Settings};
use crate::domain::delivery::DeadReason;
use crate::domain::event::{Event, EventHead, Seq};
use crate::domain::outcome::{Attempt, ErrorClass, Exchange, Outcome};
use crate::domain::time::Timestamp;
use crate::store::{
    AcceptGroup, Accepted, AttemptEntry, Batch, Committed, DeadEvidence, Deferral, DeliveryId, Due,
    DueAnswer, DueQuery, LaneId, NewEvent, Settle, SettleTo, Store, StoreError,
};

/// When every check begins.
pub(super) const T0: Timestamp = Timestamp(1_800_000_000_000);

/// So many milliseconds after [`T0`].
pub(super) const fn at(ms: u64) -> Timestamp {
    Timestamp(T0.0 + ms)
}

/// A store under check.
pub(super) struct Rig {
    factory: Factory,
    harness: Box<dyn Harness>,
    /// Whether to end and reopen the store after every write.
    restless: bool,
    /// How it ended the last time.
    last_end: End,
}

impl Rig {
    /// Runs `check` on a store that stays open, and on one that is reopened after every write.
    pub(super) fn run(factory: Factory, check: fn(&mut Self)) {
        for restless in [false, true] {
            let harness = factory(Settings::default());
            let mut rig = Self {
                factory,
                harness,
                restless,
                last_end: End::Closed,
            };
            check(&mut rig);
            rig.reopen(End::Dropped);
            rig.reopen(End::Closed);
        }
    }

    /// Starts again over empty data with other settings.
    pub(super) fn begin(&mut self, settings: Settings) {
        self.harness = (self.factory)(settings);
    }

    pub(super) fn store(&self) -> Arc<dyn Store> {
        self.harness.store()
    }

    /// Ends the store and opens it again; everything that could be listed must still be there.
    pub(super) fn reopen(&mut self, end: End) {
        let before = Snapshot::of(&*self.store());
        self.harness.reopen(end);
        self.last_end = end;
        assert_eq!(
            Snapshot::of(&*self.store()),
            before,
            "after the store was {end:?} and opened again"
        );
    }

    /// Calls a verb that writes, and sees to it that its effect is whole and stays.
    pub(super) fn write<T>(&mut self, verb: impl FnOnce(&dyn Store) -> Result<T, StoreError>) -> T {
        let answer = verb(&*self.store()).unwrap();
        if self.restless {
            self.reopen(if self.last_end == End::Closed {
                End::Dropped
            } else {
                End::Closed
            });
        } else {
            Snapshot::of(&*self.store());
        }
        answer
    }

    pub(super) fn lane(&mut self, name: &str) -> LaneId {
        self.write(|store| store.lane(name))
    }

    pub(super) fn commit(&mut self, batch: Batch, now: Timestamp) -> Committed {
        self.write(|store| store.commit(batch, now))
    }

    /// Commits one group at [`T0`]; says what became of each event.
    pub(super) fn accept_group(&mut self, events: Vec<NewEvent>, now: Timestamp) -> Vec<Accepted> {
        let batch = Batch {
            accepts: vec![AcceptGroup { events }],
            settles: Vec::new(),
        };
        self.commit(batch, now).accepts.remove(0).unwrap()
    }

    /// Accepts one event for each id at [`T0`], all owed to `lanes`; says where they are.
    pub(super) fn accept(&mut self, ids: &[&str], lanes: &[LaneId]) -> Vec<Seq> {
        let events = ids.iter().map(|id| owed(event(id), lanes)).collect();
        places(&self.accept_group(events, T0))
    }

    pub(super) fn settle(&mut self, settles: Vec<Settle>) {
        self.commit(
            Batch {
                accepts: Vec::new(),
                settles,
            },
            T0,
        );
    }

    /// Flushes a lane, `limit` deliveries at a time; returns how many it moved.
    pub(super) fn flush_lane(&mut self, lane: LaneId, now: Timestamp, limit: usize) -> u64 {
        let (mut moved, mut from) = (0, None);
        loop {
            let page = self.write(|store| store.flush_lane(lane, now, from, limit));
            assert!(page.moved <= limit as u64);
            moved += page.moved;
            from = page.next;
            if from.is_none() {
                return moved;
            }
        }
    }

    /// Everything fresh and everything deferred that is due at `now`.
    pub(super) fn due(&self, lane: LaneId, now: Timestamp) -> DueAnswer {
        self.store().due(lane, &DueQuery { now, ..ask_all() }).unwrap()
    }

    /// The lane's fresh deliveries.
    pub(super) fn fresh(&self, lane: LaneId) -> Vec<Seq> {
        self.due(lane, T0).fresh.iter().map(|due| due.seq).collect()
    }

    /// The lane's deferred deliveries, whenever they are due.
    pub(super) fn deferred(&self, lane: LaneId) -> Vec<Due> {
        self.due(lane, Timestamp::MAX).deferred
    }

    /// The dead letters of every lane.
    pub(super) fn dead(&self) -> Vec<DeliveryId> {
        let page = self
            .store()
            .dead(&crate::store::DeadFilter::default(), None, usize::MAX)
            .unwrap();
        page.letters.iter().map(|letter| letter.id).collect()
    }
}

/// A query for everything there is, as of [`T0`].
pub(super) fn ask_all() -> DueQuery {
    DueQuery {
        fresh_from: Seq(0),
        fresh_max: usize::MAX,
        now: T0,
        deferred_max: usize::MAX,
        held: Default::default(),
        tried_max: 0,
    }
}

/// An event called `id` with every optional attribute set, so that a lost one shows.
pub(super) fn event(id: &str) -> Event {
    Event {
        head: EventHead {
            id: id.into(),
            source: "/suite".into(),
            kind: "suite.made".into(),
            accepted: T0,
            deliver_at: None,
            expires: Some(at(1_000_000)),
            partition_key: Some("key".into()),
            tenant: Some("tenant".into()),
            traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into()),
            sender_uid: Some(1000),
        },
        json: Bytes::from(format!(
            r#"{{"specversion":"1.0","type":"suite.made","id":"{id}"}}"#
        )),
    }
}

/// `length` bytes that neither compress nor repeat between values of `seed`.
pub(super) fn noise(seed: u64, length: usize) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    Bytes::from(bytes)
}

pub(super) fn owed(event: Event, lanes: &[LaneId]) -> NewEvent {
    NewEvent {
        event,
        lanes: lanes.into(),
    }
}

/// The places of events that must all be new.
pub(super) fn places(accepted: &[Accepted]) -> Vec<Seq> {
    let place = |accepted: &Accepted| match accepted {
        Accepted::New(seq) => *seq,
        Accepted::Duplicate => panic!("a new event was taken for a duplicate: {accepted:?}"),
    };
    accepted.iter().map(place).collect()
}

pub(super) fn id(lane: LaneId, seq: Seq) -> DeliveryId {
    DeliveryId { lane, seq }
}

/// A move of a delivery that was fresh.
pub(super) fn settle(lane: LaneId, seq: Seq, to: SettleTo) -> Settle {
    Settle {
        id: id(lane, seq),
        was_due: None,
        to,
    }
}

/// A deferral to `due` after `tries` tries.
pub(super) fn later(due: Timestamp, tries: u32) -> Deferral {
    Deferral {
        due,
        tries,
        first_attempt: at(10),
        last_attempt: at(20),
        last_status: Some(503),
        last_class: Some(ErrorClass::Http5xx),
        last_message: format!("answered 503 to try {tries}").into(),
    }
}

/// Evidence of a delivery of `event` that died at `since` after an answer with `status`.
pub(super) fn evidence(
    event: &Event,
    reason: DeadReason,
    since: Timestamp,
    status: u16,
) -> Box<DeadEvidence> {
    Box::new(DeadEvidence {
        reason,
        since,
        tries: 3,
        first_attempt: Some(at(10)),
        last: Some(Attempt {
            number: 3,
            started: at(20),
            duration_ms: 15,
            outcome: Outcome::Error(ErrorClass::of_status(status)),
            status: Some(status),
            message: format!("answered {status}"),
            request_line: "POST https://example.com/hook".into(),
            request_headers: vec![("content-type".into(), "application/json".into())],
            response_headers: vec![("server".into(), "suite".into())],
            response_excerpt: "no".repeat(100),
            kept: None,
        }),
        event_id: event.head.id.clone(),
        event_source: event.head.source.clone(),
        event_kind: event.head.kind.clone(),
        accepted: event.head.accepted,
    })
}

/// A try at the event called `event_id` that began at `started` and delivered it.
pub(super) fn tried(event_id: &str, seq: Seq, started: Timestamp) -> AttemptEntry {
    let head = event(event_id).head;
    AttemptEntry {
        seq,
        event_id: head.id,
        event_source: head.source,
        event_kind: head.kind,
        accepted: head.accepted,
        batch: None,
        attempt: Attempt {
            duration_ms: 15,
            status: Some(204),
            ..Attempt::new(1, started, Outcome::Delivered)
        },
        exchange: Exchange {
            total_us: 15_400,
            reused: true,
            first_byte_us: Some(15_000),
            body_us: Some(300),
            sent_bytes: 900,
            received_bytes: 0,
            ..Exchange::default()
        },
    }
}

/// Where a delivery of the event called `event_id` goes when it dies.
pub(super) fn to_dead(event_id: &str) -> SettleTo {
    SettleTo::Dead(evidence(&event(event_id), DeadReason::MaxAttempts, at(30), 503))
}
