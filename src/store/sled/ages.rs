//! How old what waits is, read from the index alone.

use std::collections::BTreeMap;

use super::index::Slot;
use super::{SledStore, lock};
use crate::domain::age::Ages;
use crate::domain::time::Timestamp;
use crate::store::LaneId;

/// How many slots are gone through under one lock of the index, so that nobody waits for long.
const SLOTS_AT_ONCE: usize = 1024;

impl SledStore {
    /// The ages of the pending deliveries of every lane that has some.
    pub(super) fn ages_at(&self, now: Timestamp) -> Vec<(LaneId, Ages)> {
        let mut ages: BTreeMap<LaneId, Ages> = BTreeMap::new();
        let mut from = 0;
        loop {
            let index = lock(&self.index);
            let mut seen = 0;
            for (_, slot) in index.slots_beginning_at(from).take(SLOTS_AT_ONCE) {
                count(slot, now, &mut ages);
                from = slot.first_seq + 1;
                seen += 1;
            }
            if seen < SLOTS_AT_ONCE {
                return ages.into_iter().collect();
            }
        }
    }
}

fn count(slot: &Slot, now: Timestamp, ages: &mut BTreeMap<LaneId, Ages>) {
    // Most were accepted by one commit; those of several stand together after their chunks were packed.
    let at_once = slot.accepted(slot.events.saturating_sub(1)) == slot.accepted;
    for bits in &slot.lanes {
        let pending = bits.counts().pending;
        if pending == 0 {
            continue;
        }
        let of_lane = ages.entry(bits.lane).or_default();
        if at_once {
            of_lane.add(now.since(slot.accepted), pending);
        } else {
            bits.pending()
                .for_each(|at| of_lane.add(now.since(slot.accepted(at)), 1));
        }
    }
}
