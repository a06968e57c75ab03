//! What sled itself can do at most: the same bytes as a commit of events has, in the same slots, written and made
//! durable in the same way, and nothing else. Knows no events, no ids and no records, so nothing can be read back.

use std::path::Path;
use std::time::{Duration, Instant};

use super::chunk::PART_BYTES_MAX;
use super::engine::{Engine, PatientThreads};
use super::keys;
use super::plan::{Plan, Step};
use super::ring::Ring;
use crate::store::StoreError;

/// An engine that holds bytes and nothing else, for benches.
#[derive(Debug)]
pub struct SledLimit {
    engine: Engine,
    ring: Ring,
    /// Slots of the last commit. They are free again after the next, as those of events that were settled by it.
    used: Vec<u32>,
    commits: u64,
}

impl SledLimit {
    /// A new one in `folder`, its ring made.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        let _patient = PatientThreads::begin();
        let engine = Engine::open(folder).map_err(|error| StoreError::Failed(error.to_string()))?;
        engine.prove_durable()?;
        let mut limit = Self {
            engine,
            ring: Ring::default(),
            used: Vec::new(),
            commits: 0,
        };
        limit.commit(1)?;
        Ok(limit)
    }

    /// Writes `bytes` bytes and makes them durable; returns how long that took. Making the bytes does not count.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    pub fn commit(&mut self, bytes: usize) -> Result<Duration, StoreError> {
        self.commits += 1;
        let mut plan = Plan::default();
        let mut slots = Vec::new();
        for at in (0..bytes).step_by(PART_BYTES_MAX) {
            let slot = self.ring.take(&mut plan);
            let piece = piece(self.commits, PART_BYTES_MAX.min(bytes - at));
            plan.put(Step::Chunks, keys::chunk(slot, 0), piece);
            slots.push(slot);
        }
        let began = Instant::now();
        self.engine.write(plan)?;
        self.engine.flush()?;
        let took = began.elapsed();
        for slot in std::mem::replace(&mut self.used, slots) {
            self.ring.release(slot);
        }
        Ok(took)
    }
}

/// A piece of `bytes` bytes of commit `number`, unlike those of the others: sled passes over a change to the same value.
fn piece(number: u64, bytes: usize) -> Vec<u8> {
    let mut piece = number.to_le_bytes().to_vec();
    piece.resize(bytes, b'x');
    piece
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values of first keys that are not empty, in the order of their slots.
    fn pieces(limit: &SledLimit) -> Vec<Vec<u8>> {
        let all = limit.engine.range(keys::class(keys::CHUNK));
        let values = all.map(|pair| pair.unwrap().1.to_vec());
        values.filter(|value| !value.is_empty()).collect()
    }

    #[test]
    fn what_is_written_lies_in_pieces_and_the_slots_take_turns() {
        let folder = tempfile::tempdir().unwrap();
        let mut limit = SledLimit::open(folder.path()).unwrap();
        let bytes = 2 * PART_BYTES_MAX + 1024;
        for _ in 0..5 {
            let syncs = super::super::durable::syncs();
            limit.commit(bytes).unwrap();
            assert!(super::super::durable::syncs() > syncs);
        }
        let held = pieces(&limit);
        assert_eq!(held.len(), 6, "those of the last two commits");
        let of_last = |value: &&Vec<u8>| value.starts_with(&limit.commits.to_le_bytes());
        let last: Vec<_> = held.iter().filter(of_last).map(Vec::len).collect();
        assert_eq!(last, [PART_BYTES_MAX, PART_BYTES_MAX, 1024]);
    }
}
