//! Which slots are free. The keys of all slots are made beforehand and only ever overwritten, so that the
//! tree keeps its shape: no splits, no merges on the way of an event.

use std::collections::BTreeSet;

use super::keys;
use super::plan::{Plan, Step};

/// Slots made at a time.
const GROW_SLOTS: u32 = 256;
/// The last slots share a leaf with whatever follows them, and that leaf splits when the ring grows.
const UNUSED_LAST: u32 = 2;
/// A chunk smaller than this is left lying when its slot is freed.
const SCRUB_BYTES_MIN: u64 = 8 << 10;
/// sled rewrites a leaf as a whole at this change after the last time, and only then lets go of old values.
pub const CHANGES_TO_REWRITE: u8 = 10;

/// The slots of the ring.
#[derive(Debug, Default)]
pub struct Ring {
    len: u32,
    free: BTreeSet<u32>,
}

impl Ring {
    /// A ring of `len` slots, of which those in `used` are not free.
    pub fn new(len: u32, used: &BTreeSet<u32>) -> Self {
        Self {
            len,
            free: (0..len).filter(|slot| !used.contains(slot)).collect(),
        }
    }

    /// Takes the lowest free slot, making new ones if there is none.
    pub fn take(&mut self, plan: &mut Plan) -> u32 {
        let usable = |ring: &Self| {
            ring.free
                .first()
                .copied()
                .filter(|slot| slot + UNUSED_LAST < ring.len)
        };
        let slot = usable(self).unwrap_or_else(|| {
            self.grow(plan);
            usable(self).unwrap_or(self.len)
        });
        self.free.remove(&slot);
        slot
    }

    /// Gives a slot back. Only once it is durably free, and memory no longer leads readers to it.
    pub fn release(&mut self, slot: u32) {
        self.free.insert(slot);
    }

    /// Whether a slot is free.
    pub fn is_free(&self, slot: u32) -> bool {
        self.free.contains(&slot)
    }

    /// Makes the keys of further slots, in their order; a slot counts once its record's key is there.
    fn grow(&mut self, plan: &mut Plan) {
        let new = self.len..self.len + GROW_SLOTS;
        for slot in new.clone() {
            for j in 0..keys::KEYS_PER_SLOT {
                plan.put(Step::Ring, keys::chunk(slot, j), Vec::new());
            }
        }
        new.clone()
            .for_each(|slot| plan.put(Step::Ring, keys::owed(slot), Vec::new()));
        new.clone()
            .for_each(|slot| plan.put(Step::Ring, keys::slot(slot), Vec::new()));
        self.len = new.end;
        self.free.extend(new);
    }
}

/// Whether the slots of a chunk of `bytes` are worth a [`scrub`].
pub fn is_worth_scrubbing(bytes: u64) -> bool {
    bytes >= SCRUB_BYTES_MIN
}

/// Clears what a free slot held. The old value would stay on disk until its leaf is rewritten, so the leaf is
/// changed until it is; sled passes over a change to the same value.
pub fn scrub(plan: &mut Plan, slot: u32) {
    (0..CHANGES_TO_REWRITE).for_each(|n| plan.put(Step::Cleared, keys::chunk(slot, 0), vec![n]));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_free_slot_goes_first_and_the_last_two_wait() {
        let mut ring = Ring::new(6, &BTreeSet::from([0, 2]));
        let mut plan = Plan::default();
        assert_eq!((ring.take(&mut plan), ring.take(&mut plan)), (1, 3));
        ring.release(1);
        assert_eq!(ring.take(&mut plan), 1);
        assert!(plan.is_empty(), "no new slots yet");
        assert_eq!(ring.take(&mut plan), 4, "of the grown ring");
        let keys: Vec<_> = plan
            .into_steps()
            .flat_map(|(_, writes)| writes)
            .map(|write| write.key)
            .collect();
        assert_eq!(keys.len(), 256 * 10);
        assert_eq!(keys[0], keys::chunk(6, 0));
        assert!(keys[..2048].is_sorted());
    }

    #[test]
    fn scrubbing_never_writes_the_same_value_twice_in_a_row() {
        let mut plan = Plan::default();
        scrub(&mut plan, 1);
        let (_, writes) = plan.into_steps().next().unwrap();
        assert_eq!(writes.len(), 10);
        assert!(writes.windows(2).all(|pair| pair[0].value != pair[1].value));
    }
}
