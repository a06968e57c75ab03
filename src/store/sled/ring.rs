//! The slots: which keys they have, and how what a free one held is cleared.

use std::ops::Range;

use super::keys;
use super::plan::{Plan, Step};
use super::pool::{Numbered, Pool};

/// A chunk smaller than this is left lying when its slot is freed.
const SCRUB_BYTES_MIN: u64 = 8 << 10;
/// sled rewrites a leaf as a whole at this change after the last time, and only then lets go of old values.
pub const CHANGES_TO_REWRITE: u8 = 10;

/// The slots of the ring.
pub type Ring = Pool<Slots>;

/// What a [`Ring`] numbers.
#[derive(Debug)]
pub struct Slots;

impl Numbered for Slots {
    const MADE_AT_ONCE: u32 = 256;
    const UNUSED_LAST: u32 = 2;

    /// A slot counts once its record's key is there.
    fn make(plan: &mut Plan, slots: Range<u32>) {
        for slot in slots.clone() {
            for j in 0..keys::KEYS_PER_SLOT {
                plan.put(Step::Ring, keys::chunk(slot, j), Vec::new());
            }
        }
        slots
            .clone()
            .for_each(|slot| plan.put(Step::Ring, keys::owed(slot), Vec::new()));
        slots.for_each(|slot| plan.put(Step::Ring, keys::slot(slot), Vec::new()));
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
    fn all_chunks_are_made_before_any_record_and_each_class_in_its_order() {
        let mut plan = Plan::default();
        Slots::make(&mut plan, 6..262);
        let (_, writes) = plan.into_steps().next().unwrap();
        let keys: Vec<_> = writes.into_iter().map(|write| write.key).collect();
        assert_eq!(keys.len(), 256 * 10);
        assert_eq!((&keys[0], &keys[2559]), (&keys::chunk(6, 0), &keys::slot(261)));
        for (class, keys) in [
            (keys::CHUNK, &keys[..2048]),
            (keys::OWED, &keys[2048..2304]),
            (keys::SLOT, &keys[2304..]),
        ] {
            assert!(keys.is_sorted() && keys.iter().all(|key| key[0] == class));
        }
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
