//! Random verbs on the backend under test and on the memory store, compared after each. What fails is
//! shrunk to the shortest sequence that still does.
//!
//! Stores may number events differently, so both sides speak of "the n-th event accepted".

use std::collections::HashMap;
use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rustc_hash::FxHashSet;

use super::rig::{T0, ask_all, event, evidence, later, noise, owed, tried};
use super::snapshot::Snapshot;
use super::{End, Factory, Harness, Settings};
use crate::domain::delivery::DeadReason;
use crate::domain::event::Seq;
use crate::domain::time::Timestamp;
use crate::store::memory::MemoryStore;
use crate::store::{
    AcceptGroup, Accepted, Batch, DeliveryId, DueQuery, LaneId, NewAttempt, NewEvent, Pause, Settle,
    SettleTo, Store,
};

const LANES: [&str; 3] = ["one", "two", "three"];

/// How many sequences are tried: few enough for every run of the tests, more on demand.
pub(super) fn cases() -> u32 {
    std::env::var("POSTHASTE_PROPTEST_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok())
        .unwrap_or(16)
}

/// A delivery by its numbers: the n-th event accepted (modulo how many there are), and a lane.
type Pick = (prop::sample::Index, usize);

/// An event to accept: one of few ids, the lanes that are owed it (a bit each), body size, delay.
#[derive(Clone, Debug)]
struct NewSpec {
    id: u8,
    lanes: u8,
    bytes: usize,
    delay_ms: Option<u64>,
}

#[derive(Clone, Debug)]
enum To {
    Settled,
    Later { after_ms: u64, tries: u32 },
    Dead(DeadReason),
}

/// One step of a sequence.
#[derive(Clone, Debug)]
enum Step {
    Commit {
        groups: Vec<Vec<NewSpec>>,
        settles: Vec<(Pick, To)>,
    },
    Pause(usize, bool),
    Flush(usize, usize),
    Revive(Vec<(Pick, u64)>),
    Discard(Vec<Pick>),
    Reassign {
        from: usize,
        to: usize,
        limit: usize,
    },
    Maintain {
        dead_for_ms: u64,
    },
    Reopen(End),
    Wait(u64),
    Ask {
        lane: usize,
        from: prop::sample::Index,
        fresh_max: usize,
        deferred_max: usize,
        held: Vec<Pick>,
    },
}

fn pick() -> impl Strategy<Value = Pick> {
    (any::<prop::sample::Index>(), 0..LANES.len())
}

fn new_spec() -> impl Strategy<Value = NewSpec> {
    let bytes = prop_oneof![8 => 10usize..2000, 1 => 90_000usize..200_000, 1 => Just(600_000)];
    let delay = prop_oneof![5 => Just(None), 1 => (1u64..5000).prop_map(Some)];
    (0u8..64, 1u8..8, bytes, delay).prop_map(|(id, lanes, bytes, delay_ms)| NewSpec {
        id,
        lanes,
        bytes,
        delay_ms,
    })
}

fn to() -> impl Strategy<Value = To> {
    prop_oneof![
        3 => Just(To::Settled),
        2 => (0u64..3000, 0u32..5).prop_map(|(after_ms, tries)| To::Later { after_ms, tries }),
        1 => prop::sample::select(DeadReason::NAMES).prop_map(|(_, reason)| To::Dead(reason)),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let lane = 0..LANES.len();
    let commit = (vec(vec(new_spec(), 0..6), 0..4), vec((pick(), to()), 0..12));
    let ask = (
        lane.clone(),
        any::<prop::sample::Index>(),
        0usize..6,
        0usize..6,
        vec(pick(), 0..5),
    );
    prop_oneof![
        10 => commit.prop_map(|(groups, settles)| Step::Commit { groups, settles }),
        1 => (lane.clone(), any::<bool>()).prop_map(|(lane, on)| Step::Pause(lane, on)),
        1 => (lane.clone(), 1usize..8).prop_map(|(lane, limit)| Step::Flush(lane, limit)),
        2 => vec((pick(), 0u64..3000), 1..8).prop_map(Step::Revive),
        1 => vec(pick(), 1..8).prop_map(Step::Discard),
        1 => (lane.clone(), lane, 1usize..8).prop_map(|(from, to, limit)| Step::Reassign { from, to, limit }),
        2 => (0u64..20_000).prop_map(|dead_for_ms| Step::Maintain { dead_for_ms }),
        2 => prop::sample::select(vec![End::Closed, End::Dropped]).prop_map(Step::Reopen),
        2 => (1u64..4000).prop_map(Step::Wait),
        3 => ask.prop_map(|(lane, from, fresh_max, deferred_max, held)| Step::Ask {
            lane, from, fresh_max, deferred_max, held,
        }),
    ]
}

/// One of the two stores, with what is needed to speak to it in numbers common to both.
struct Side {
    store: Arc<dyn Store>,
    lanes: Vec<LaneId>,
    /// The place of the n-th event accepted.
    places: Vec<Seq>,
    /// The latest due time seen of each delivery, for [`Settle::was_due`].
    dues: HashMap<DeliveryId, Timestamp>,
}

impl Side {
    fn new(store: Arc<dyn Store>) -> Self {
        let lanes = LANES.iter().map(|name| store.lane(name).unwrap()).collect();
        Self {
            store,
            lanes,
            places: Vec::new(),
            dues: HashMap::new(),
        }
    }

    fn number(&self, seq: Seq) -> u64 {
        self.places
            .binary_search(&seq)
            .expect("a place that was never given") as u64
    }

    /// The delivery picked; picks of what was settled long ago are wanted too.
    fn delivery(&self, (index, lane): &Pick) -> Option<DeliveryId> {
        let seq = (!self.places.is_empty()).then(|| *index.get(&self.places))?;
        Some(DeliveryId {
            lane: self.lanes[*lane],
            seq,
        })
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot::named(&*self.store, &|seq| self.number(seq))
    }

    /// Does what `step` says; the answer speaks in numbers common to both sides.
    fn apply(&mut self, step: &Step, now: Timestamp) -> String {
        self.note_dues();
        match step {
            Step::Commit { groups, settles } => self.commit(groups, settles, now),
            Step::Pause(lane, on) => {
                let pause = Pause {
                    by: "operator".into(),
                    reason: "random".into(),
                    since: now,
                    until: None,
                };
                format!("{:?}", self.store.pause(self.lanes[*lane], on.then_some(pause)))
            }
            Step::Flush(lane, limit) => self.flush(self.lanes[*lane], *limit, now),
            Step::Revive(picks) => {
                let due = |after: &u64| Timestamp(now.0 + after);
                let ids = picks
                    .iter()
                    .filter_map(|(pick, after)| Some((self.delivery(pick)?, due(after))));
                let revived = self.store.revive(&ids.collect::<Vec<_>>()).unwrap();
                let named = revived
                    .iter()
                    .map(|id| (self.lane_name(id.lane), self.number(id.seq)));
                format!("{:?}", named.collect::<Vec<_>>())
            }
            Step::Discard(picks) => {
                let ids: Vec<DeliveryId> = picks.iter().filter_map(|pick| self.delivery(pick)).collect();
                format!("{:?}", self.store.discard(&ids))
            }
            Step::Reassign { from, to, limit } => {
                format!(
                    "{:?}",
                    self.store
                        .reassign(self.lanes[*from], self.lanes[*to], *limit, now)
                )
            }
            Step::Maintain { dead_for_ms } => {
                let before = Timestamp(now.0.saturating_sub(*dead_for_ms));
                while self.store.maintain(now, before).unwrap().more {}
                String::new()
            }
            Step::Ask {
                lane,
                from,
                fresh_max,
                deferred_max,
                held,
            } => self.ask(*lane, *from, (*fresh_max, *deferred_max), held, now),
            Step::Reopen(_) | Step::Wait(_) => String::new(),
        }
    }

    /// Flushes a lane page by page; says how many deliveries each page moved.
    fn flush(&self, lane: LaneId, limit: usize, now: Timestamp) -> String {
        let (mut pages, mut from) = (Vec::new(), None);
        loop {
            let page = self.store.flush_lane(lane, now, from, limit).unwrap();
            pages.push(page.moved);
            from = page.next;
            if from.is_none() {
                return format!("{pages:?}");
            }
        }
    }

    fn lane_name(&self, lane: LaneId) -> Option<&str> {
        self.lanes
            .iter()
            .position(|known| *known == lane)
            .map(|index| LANES[index])
    }

    fn note_dues(&mut self) {
        for lane in &self.lanes {
            let query = DueQuery {
                now: Timestamp::MAX,
                ..ask_all()
            };
            for due in self.store.due(*lane, &query).unwrap().deferred {
                self.dues.extend(due.was_due.map(|was| {
                    (
                        DeliveryId {
                            lane: *lane,
                            seq: due.seq,
                        },
                        was,
                    )
                }));
            }
        }
    }

    fn commit(&mut self, groups: &[Vec<NewSpec>], settles: &[(Pick, To)], now: Timestamp) -> String {
        let group = |specs: &Vec<NewSpec>| AcceptGroup {
            events: specs.iter().map(|spec| self.new_event(spec, now)).collect(),
        };
        let accepts = groups.iter().map(group).collect();
        let settles = settles.iter().filter_map(|(pick, to)| {
            let id = self.delivery(pick)?;
            Some(Settle {
                id,
                was_due: self.dues.get(&id).copied(),
                to: settle_to(to, now),
            })
        });
        let settles: Vec<Settle> = settles.collect();
        let tries = settles.iter().map(|settle| NewAttempt {
            lane: settle.id.lane,
            entry: Box::new(tried("e", settle.id.seq, now)),
        });
        self.store.log_attempts(tries.collect(), now);
        let batch = Batch { accepts, settles };
        let answers = self.store.commit(batch, now).unwrap().accepts;
        let mut named = Vec::new();
        for answer in answers.into_iter().flat_map(|group| group.unwrap()) {
            if let Accepted::New(seq) = answer {
                assert!(self.places.last().is_none_or(|last| *last < seq), "places rise");
                self.places.push(seq);
            }
            named.push(matches!(answer, Accepted::New(_)));
        }
        format!("{named:?}")
    }

    fn new_event(&self, spec: &NewSpec, now: Timestamp) -> NewEvent {
        let mut event = event(&format!("id-{}", spec.id));
        event.head.accepted = now;
        event.head.deliver_at = spec.delay_ms.map(|ms| Timestamp(now.0 + ms));
        event.json = noise(spec.id.into(), spec.bytes);
        let bits = self
            .lanes
            .iter()
            .enumerate()
            .filter(|(bit, _)| spec.lanes >> bit & 1 == 1);
        owed(event, &bits.map(|(_, lane)| *lane).collect::<Vec<_>>())
    }

    /// Fresh deliveries may come in shorter pages than asked for, so what is compared is the walk to the
    /// end; [`Snapshot`] does that from the beginning, this from anywhere and past what is held.
    fn ask(
        &self,
        lane: usize,
        from: prop::sample::Index,
        (fresh_max, deferred_max): (usize, usize),
        held: &[Pick],
        now: Timestamp,
    ) -> String {
        let fresh_from = if self.places.is_empty() {
            Seq(0)
        } else {
            *from.get(&self.places)
        };
        let held: FxHashSet<Seq> = held
            .iter()
            .filter_map(|pick| Some(self.delivery(pick)?.seq))
            .collect();
        let mut query = DueQuery {
            fresh_from,
            fresh_max: fresh_max + 1,
            now,
            deferred_max,
            held,
            tried_max: 0,
        };
        let first = self.store.due(self.lanes[lane], &query).unwrap();
        let mut fresh = first.fresh.clone();
        let (mut next, mut more) = (first.fresh_next, first.fresh_more);
        while more {
            assert!(next > query.fresh_from, "asking on must lead on");
            query.fresh_from = next;
            let answer = self.store.due(self.lanes[lane], &query).unwrap();
            fresh.extend(answer.fresh);
            (next, more) = (answer.fresh_next, answer.fresh_more);
        }
        let fresh: Vec<u64> = fresh.iter().map(|due| self.number(due.seq)).collect();
        let deferred = first
            .deferred
            .iter()
            .map(|due| (self.number(due.seq), due.was_due, due.tries));
        format!(
            "{fresh:?} {:?} {:?}",
            deferred.collect::<Vec<_>>(),
            first.deferred_next
        )
    }
}

fn settle_to(to: &To, now: Timestamp) -> SettleTo {
    match *to {
        To::Settled => SettleTo::Settled,
        To::Later { after_ms, tries } => SettleTo::Later(later(Timestamp(now.0 + after_ms), tries)),
        To::Dead(reason) => SettleTo::Dead(evidence(&event("any"), reason, now, 500)),
    }
}

/// Runs `steps` on both stores.
fn run(harness: &mut dyn Harness, settings: Settings, steps: &[Step]) {
    let mut model = Side::new(Arc::new(MemoryStore::new(
        settings.dedup_window,
        settings.dedup_ids_max,
    )));
    let mut tested = Side::new(harness.store());
    let mut now = T0;
    for (n, step) in steps.iter().enumerate() {
        match step {
            Step::Wait(ms) => now = Timestamp(now.0 + ms),
            Step::Reopen(end) => {
                // The harness can only end a store that nobody else holds.
                tested.store = Arc::clone(&model.store);
                harness.reopen(*end);
                tested.store = harness.store();
            }
            _ => {}
        }
        let expected = model.apply(step, now);
        assert_eq!(
            tested.apply(step, now),
            expected,
            "the answer to step {n}, {step:?}"
        );
        assert_eq!(
            tested.snapshot(),
            model.snapshot(),
            "what is shown after step {n}, {step:?}"
        );
    }
}

/// Tries `cases` random sequences; the error holds the shortest one on which the stores disagree.
pub(super) fn agrees_with_the_model(factory: Factory, cases: u32) -> Result<(), String> {
    // Ids are never forgotten here: a backend may remember them somewhat longer than the window.
    let settings = Settings::default();
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 2000,
        ..Config::default()
    };
    TestRunner::new(config)
        .run(&vec(step(), 1..40), |steps| {
            run(&mut *factory(settings), settings, &steps);
            Ok(())
        })
        .map_err(|failure| failure.to_string())
}

/// A store that loses everything since it was opened when it is dropped must not pass: a comparison that
/// can't fail proves nothing.
#[cfg(test)]
mod tests {
    use super::*;

    struct Forgetful(Arc<MemoryStore>, Arc<MemoryStore>);

    impl Harness for Forgetful {
        fn store(&self) -> Arc<dyn Store> {
            Arc::clone(&self.0) as Arc<dyn Store>
        }

        fn reopen(&mut self, end: End) {
            self.0 = Arc::new(if end == End::Dropped {
                self.1.crash()
            } else {
                self.0.crash()
            });
            self.1 = Arc::new(self.0.crash());
        }
    }

    fn forgetful(settings: Settings) -> Box<dyn Harness> {
        let store = MemoryStore::new(settings.dedup_window, settings.dedup_ids_max);
        LANES.iter().for_each(|name| _ = store.lane(name).unwrap());
        Box::new(Forgetful(Arc::new(store.crash()), Arc::new(store)))
    }

    #[test]
    fn a_store_that_forgets_when_dropped_is_caught() {
        let failure = agrees_with_the_model(forgetful, 50).unwrap_err();
        assert!(failure.contains("Reopen(Dropped)"), "{failure}");
    }
}
