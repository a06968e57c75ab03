//! Who may not overtake whom (F7): in an ordered lane nothing leaves while something accepted before it in its line is
//! owed, or anything of its line is in the daemon's hands. Knows lines by the keys of events, as the daemon does, and
//! nothing of how the scheduler keeps them.

use std::collections::{BTreeMap, BTreeSet};

use posthaste::domain::endpoint::{OrderKey, OrderPolicy};
use posthaste::domain::event::Seq;
use posthaste::domain::time::Timestamp;
use posthaste::scheduler::{Job, LaneView};
use posthaste::store::{DeliveryId, DueAnswer, LaneId};

use crate::world::World;

/// Ordering keys of events.
const KEYS: usize = 4;

impl World {
    /// The ordering key of a new event, if it has one.
    pub fn partition_key(&mut self) -> Option<Box<str>> {
        let with = !self.dice.one_in(3);
        with.then(|| format!("key-{}", self.dice.below(KEYS)).into())
    }

    fn order(&self, lane: LaneId) -> OrderPolicy {
        self.sites[lane.0 as usize].endpoint.order.policy
    }

    /// Whether a lane keeps any order.
    pub fn keeps_order(&self, lane: LaneId) -> bool {
        self.order(lane) != OrderPolicy::None
    }

    /// What an event is kept in order with; a damaged one has lost its key.
    fn order_key(&self, lane: LaneId, seq: Seq) -> OrderKey {
        let own = self.keys.get(&seq).map(|key| &**key);
        let key = match self.sites[lane.0 as usize].keyed % 2 {
            0 => own,
            // By the last digit, odd or even.
            _ => own.map(|own| if own.ends_with(['1', '3']) { "odd" } else { "even" }),
        };
        self.order(lane).key(seq, key)
    }

    /// What the dispatcher adds to the store's answer.
    pub fn order_keys(&self, lane: LaneId, answer: &DueAnswer) -> Vec<OrderKey> {
        if !self.keeps_order(lane) {
            return Vec::new();
        }
        let all = answer.fresh.iter().chain(&answer.deferred).chain(&answer.tried);
        all.map(|due| self.order_key(lane, due.seq)).collect()
    }

    /// A request is about to begin: of each line, nothing else is in the daemon's hands, and nothing earlier that holds
    /// it up is left out.
    pub fn check_order(&mut self, job: &Job) {
        let lane = job.lane;
        if !self.keeps_order(lane) {
            return;
        }
        let busy: Vec<Seq> = self.ledger.waiting(lane).busy.iter().copied().collect();
        let line = self.ledger.line(lane);
        let mut before = BTreeSet::new();
        for due in &job.batch {
            let key = self.order_key(lane, due.seq);
            let same = |seq: &Seq| self.order_key(lane, *seq) == key;
            if let Some(other) = busy.iter().copied().find(same) {
                self.fail(&format!(
                    "{lane:?} {due:?} goes while {other:?} of its line is not over"
                ));
            }
            let earlier = line
                .range(..due.seq)
                .filter(|(seq, (_, holds_up))| *holds_up && same(seq));
            let loose = self.ledger.is_loose(DeliveryId { lane, seq: due.seq });
            let other = earlier.map(|(seq, _)| *seq).find(|seq| !before.contains(seq));
            if let Some(other) = other.filter(|_| !loose) {
                self.fail(&format!("{lane:?} {due:?} overtakes {other:?}"));
            }
            self.check_replay(lane, due.seq, &before);
            before.insert(due.seq);
        }
        let waits = |seq: &Seq| {
            !before.contains(seq)
                && before
                    .iter()
                    .any(|b| self.order_key(lane, *b) == self.order_key(lane, *seq))
        };
        let waited_for = line.keys().any(waits);
        self.totals.waited_for += u64::from(waited_for);
    }

    /// Letters of one line that one replay brought back and that are due keep their order among themselves.
    fn check_replay(&self, lane: LaneId, seq: Seq, before: &BTreeSet<Seq>) {
        let Some(replay) = self.ledger.replay(DeliveryId { lane, seq }) else {
            return;
        };
        let (key, wall) = (self.order_key(lane, seq), self.wall());
        let line = self.ledger.line(lane);
        // A flush brings forward those whose events are not delayed, so that one may still have to wait.
        let due = line.range(..seq).filter(|(_, (due, _))| *due <= wall);
        let mut earlier = due.map(|(other, _)| *other).filter(|other| {
            let with_it = self.ledger.replay(DeliveryId { lane, seq: *other }) == Some(replay);
            with_it && self.order_key(lane, *other) == key && !before.contains(other)
        });
        if let Some(other) = earlier.next() {
            self.fail(&format!("{lane:?} {seq:?} overtakes {other:?}, replayed with it"));
        }
    }

    /// When an ordered lane with nothing under way can send something, as the heads of its lines wait for another try.
    /// `None`: not before something else happens, or that is for the scheduler to know: it keeps what failed a try in
    /// memory, and while that is full nothing new leaves.
    pub fn next_in_line(&mut self, view: &LaneView) -> Option<Timestamp> {
        let lane = view.lane;
        let is_full = view.window as usize >= 8 * self.scenario.scheduler.window_max;
        if view.in_flight > 0 || is_full || !self.ledger.waiting(lane).busy.is_empty() {
            return None;
        }
        let line = self.ledger.line(lane);
        let mut held_up: BTreeMap<OrderKey, Timestamp> = BTreeMap::new();
        // Each waits for what stands before it in its line, and for nothing behind it, also if it has come in late.
        let starts = line.iter().map(|(seq, (due, holds_up))| {
            let until = held_up.entry(self.order_key(lane, *seq)).or_default();
            let start = (*until).max(*due);
            if *holds_up {
                *until = start;
            }
            start
        });
        starts.min()
    }
}
