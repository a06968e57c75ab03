//! The writes of one commit, in an order of which every beginning is safe. Pure.
//!
//! sled's log comes back from a crash as a beginning of what was written, so nothing is ever undone by a
//! crash in the middle: it has to be right to stop after any single write. What each step relies on:
//!
//! - a chunk without a slot record is free space, so chunks go first;
//! - a slot record makes its events, their ids and their deliveries exist at once;
//! - a deferral or dead letter of a delivery that is not owed is swept at the next start, so it may come
//!   before what makes it true, and must go after what makes it untrue;
//! - an id may be remembered apart from its event only while the event exists, or else a repeated event
//!   would be answered `duplicate` and be lost: pages of ids are written when slots are about to be freed;
//! - a chunk is cleared when nothing points at it, neither on disk nor in memory: by a later commit than the
//!   one that freed its slot.

use super::engine::Value;

/// The steps of a commit, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Numbers that may be given out from here on.
    Floors,
    /// New slots, and new pages for ids.
    Ring,
    /// A group too large for one slot is about to be accepted.
    Intent,
    /// Chunks of new events, in free slots.
    Chunks,
    /// Deferrals of new events that are not to be delivered yet.
    Delays,
    /// Slot records of new events, lane records, records set aside.
    Records,
    /// The group is complete.
    IntentDone,
    /// New deferrals and dead letters.
    Moves,
    /// What is still owed.
    Owed,
    /// Ids of events that are about to go.
    Ids,
    /// Slots that owe nothing any more.
    Freed,
    /// Deferrals and dead letters that are no longer true.
    Removals,
    /// Large chunks in slots that an earlier commit freed.
    Cleared,
}

/// Every step with the crash point behind it.
pub const STEPS: [(Step, &str); 13] = [
    (Step::Floors, "after-floors"),
    (Step::Ring, "after-ring"),
    (Step::Intent, "after-intent"),
    (Step::Chunks, "after-chunks"),
    (Step::Delays, "after-delays"),
    (Step::Records, "after-records"),
    (Step::IntentDone, "after-intent-done"),
    (Step::Moves, "after-moves"),
    (Step::Owed, "after-owed"),
    (Step::Ids, "after-ids"),
    (Step::Freed, "after-freed"),
    (Step::Removals, "after-removals"),
    (Step::Cleared, "after-cleared"),
];

/// One write: a value, or `None` to remove the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Where.
    pub key: Vec<u8>,
    /// What.
    pub value: Option<Value>,
}

/// The writes of one commit, by step.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    steps: [Vec<Write>; STEPS.len()],
}

impl Plan {
    /// Adds a value.
    pub fn put(&mut self, step: Step, key: Vec<u8>, value: impl Into<Value>) {
        let value = Some(value.into());
        self.steps[step as usize].push(Write { key, value });
    }

    /// Adds a removal.
    pub fn remove(&mut self, step: Step, key: Vec<u8>) {
        self.steps[step as usize].push(Write { key, value: None });
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.steps.iter().all(Vec::is_empty)
    }

    /// The steps that have something to write, in order, each with the crash point behind it.
    pub fn into_steps(self) -> impl Iterator<Item = (&'static str, Vec<Write>)> {
        STEPS
            .iter()
            .map(|(_, name)| *name)
            .zip(self.steps)
            .filter(|(_, writes)| !writes.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sled::crash::CRASH_POINTS;

    #[test]
    fn every_step_has_its_place_and_its_crash_point() {
        for (at, (step, name)) in STEPS.iter().enumerate() {
            assert_eq!(*step as usize, at);
            assert_eq!(CRASH_POINTS[at], *name);
        }
    }

    #[test]
    fn writes_come_out_in_the_order_of_the_steps() {
        let mut plan = Plan::default();
        assert!(plan.is_empty());
        plan.remove(Step::Removals, vec![2]);
        plan.put(Step::Chunks, vec![1], vec![9]);
        let steps: Vec<_> = plan.into_steps().collect();
        assert_eq!(
            steps.iter().map(|(name, _)| *name).collect::<Vec<_>>(),
            ["after-chunks", "after-removals"]
        );
        assert_eq!(
            steps[1].1,
            [Write {
                key: vec![2],
                value: None
            }]
        );
    }
}
