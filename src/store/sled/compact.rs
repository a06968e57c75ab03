//! Merging slots of which little is left: a few old events must not pin chunks for ever, and many tiny
//! chunks must not fill memory with their index. A run of neighbours, in the order of their events, becomes
//! one new chunk; should a crash come in between, the newer one counts (see [`super::recover`]).

use std::collections::{BTreeSet, HashSet};

use super::accept::{EVENTS_MAX, OWED_BITS_MAX};
use super::bits::Mark;
use super::chunk::{self, PART_BYTES_MAX};
use super::draft::Draft;
use super::index::{EventPlace, Index, Slot};
use super::keys;
use super::{SledStore, lock};
use crate::domain::time::Timestamp;
use crate::store::record::{self, SlotEvent, SlotRecord};
use crate::store::{LaneId, StoreError};

/// A slot is worth merging when at most one in so many of its events is left.
const SPARSE_SHARE: usize = 8;
/// A slot that is being worked off is sparse for a moment; only what stays so is merged.
const SPARSE_AGE_MS: u64 = 10_000;
/// Chunks smaller than this are tiny.
const TINY_BYTES: u64 = 8 << 10;
/// So many tiny chunks are left alone.
const TINY_SLOTS_MAX: usize = 50_000;
/// Alone, a sparse slot is only worth it if it pins so many bytes.
const ALONE_BYTES_MIN: u64 = 16 << 10;

/// Neighbouring slots that fit into one.
#[derive(Debug, Default)]
struct Run {
    slots: Vec<(u32, Vec<usize>)>,
    events: usize,
    bytes: u64,
    pinned_bytes: u64,
    lanes: BTreeSet<LaneId>,
    first: Option<(u64, Timestamp)>,
}

impl Run {
    /// Adds a slot if what is left of it fits.
    fn add(&mut self, number: u32, slot: &Slot, live: &[usize]) -> bool {
        let bytes = slot.chunk_bytes * live.len() as u64 / slot.events.max(1) as u64;
        let mut lanes = self.lanes.clone();
        lanes.extend(slot.lanes.iter().map(|bits| bits.lane));
        let (first_seq, first_accepted) = *self.first.get_or_insert((slot.first_seq, slot.accepted));
        let events = self.events + live.len();
        let fits = events <= EVENTS_MAX
            && events * lanes.len() <= OWED_BITS_MAX
            && self.bytes + bytes <= PART_BYTES_MAX as u64
            && slot.last_seq() - first_seq < u64::from(u32::MAX)
            && slot.accepted.0.saturating_sub(first_accepted.0) < u64::from(u32::MAX / 2);
        if fits {
            self.slots.push((number, live.to_vec()));
            self.events = events;
            self.bytes += bytes;
            self.pinned_bytes += slot.chunk_bytes;
            self.lanes = lanes;
        }
        fits
    }

    fn is_worth_it(&self) -> bool {
        self.slots.len() > 1 || (self.slots.len() == 1 && self.pinned_bytes >= ALONE_BYTES_MIN)
    }
}

/// The first run worth merging. Slots whose generation is in `spared` are left alone.
fn find_run(index: &Index, spared: &HashSet<u64>, now: Timestamp) -> Option<Run> {
    let tiny_slots = index
        .slots_from(0)
        .filter(|(_, slot)| slot.chunk_bytes < TINY_BYTES)
        .count();
    let mut run = Run::default();
    for (number, slot) in index.slots_from(0) {
        let live = slot.live();
        let old = now.0.saturating_sub(slot.accepted.0) >= SPARSE_AGE_MS;
        let sparse = old && live.len() * SPARSE_SHARE <= slot.events;
        let tiny = tiny_slots > TINY_SLOTS_MAX && slot.chunk_bytes < TINY_BYTES;
        if (sparse || tiny) && !spared.contains(&slot.generation) && run.add(number, slot, &live) {
            continue;
        }
        if run.is_worth_it() {
            return Some(run);
        }
        run = Run::default();
    }
    run.is_worth_it().then_some(run)
}

impl SledStore {
    /// Merges one run of slots, if there is one worth it; returns whether there was.
    pub(super) fn compact(&self, now: Timestamp) -> Result<bool, StoreError> {
        let spared = lock(&self.damage).spared.clone();
        if find_run(&lock(&self.index), &spared, now).is_none() {
            return Ok(false);
        }
        self.transact(now, |draft| {
            let Some(run) = find_run(&lock(&self.index), &spared, now) else {
                return Ok(false);
            };
            self.merge(draft, &run)?;
            Ok(true)
        })
    }

    fn merge(&self, draft: &mut Draft<'_>, run: &Run) -> Result<(), StoreError> {
        let mut record = SlotRecord::default();
        let mut entries = Vec::with_capacity(run.events);
        let mut marks = Vec::new();
        let mut merged = Vec::new();
        for (number, live) in &run.slots {
            let Some(slot) = lock(&self.index).slot(*number).cloned() else {
                continue;
            };
            let read = self.live_entries(*number, &slot, live)?;
            let (Some(read), Some(old)) = (read, stored_record(draft, *number)?) else {
                // What can't be read stays where it is, for whoever can.
                lock(&self.damage).spared.insert(slot.generation);
                break;
            };
            for (at, entry) in live.iter().zip(read) {
                marks.push(owed_to(&slot, *at));
                add_event(&mut record, &slot, &old, *at);
                entries.push(entry);
            }
            merged.push(*number);
        }
        if merged.is_empty() {
            return Ok(());
        }
        let live_ids: HashSet<_> = record.events.iter().map(|event| event.id_hash).collect();
        let inserted = draft.place(record, &entries)?;
        for (at, lanes) in marks.into_iter().enumerate() {
            for (lane, deferred, dead) in lanes {
                let bits = draft.effects.inserted[inserted].1.bits_mut(lane);
                bits.set(Mark::Deferred, at, deferred);
                bits.set(Mark::Dead, at, dead);
            }
        }
        let mut ids = Vec::new();
        for number in merged {
            draft.free(number, &mut ids)?;
        }
        ids.retain(|(hash, _)| !live_ids.contains(hash));
        draft.keep_ids(ids)
    }

    /// The entries of a slot's live events; `None` if any of them is damaged.
    fn live_entries(
        &self,
        number: u32,
        slot: &Slot,
        live: &[usize],
    ) -> Result<Option<Vec<Vec<u8>>>, StoreError> {
        let place = EventPlace {
            slot: number,
            generation: slot.generation,
            parts: slot.parts.clone(),
            index: 0,
        };
        let Some(chunk) = self.chunk(&place)? else {
            return Ok(None);
        };
        let entries = live
            .iter()
            .map(|at| chunk::entry_at(&chunk, *at).map(|entry| entry.to_vec()));
        Ok(entries.collect::<Result<_, _>>().ok())
    }
}

/// A slot's record as it is on disk.
fn stored_record(draft: &Draft<'_>, number: u32) -> Result<Option<SlotRecord>, StoreError> {
    let bytes = draft.engine.get(&keys::slot(number))?.unwrap_or_default();
    Ok(record::decode(&bytes).ok())
}

/// To whom an event is owed, and whether it is deferred or dead there.
fn owed_to(slot: &Slot, at: usize) -> Vec<(LaneId, bool, bool)> {
    let owed = slot.lanes.iter().filter(|bits| bits.get(Mark::Owed, at));
    owed.map(|bits| (bits.lane, bits.get(Mark::Deferred, at), bits.get(Mark::Dead, at)))
        .collect()
}

/// Adds event `at` of `slot` to the record of the slot it moves to, with what it owes now.
fn add_event(record: &mut SlotRecord, slot: &Slot, old: &SlotRecord, at: usize) {
    let (seq, accepted) = (slot.seq(at).0, slot.accepted(at).0);
    if record.events.is_empty() {
        record.first_seq = seq;
        record.accepted_ms = accepted;
    }
    let lanes: Vec<u32> = owed_to(slot, at).iter().map(|(lane, ..)| lane.0).collect();
    let lane_set = record
        .lane_sets
        .iter()
        .position(|set| *set == lanes)
        .unwrap_or_else(|| {
            record.lane_sets.push(lanes);
            record.lane_sets.len() - 1
        });
    record.json_bytes += slot.json_bytes / slot.events.max(1) as u64;
    record.events.push(SlotEvent {
        id_hash: old.events.get(at).map_or([0; 16], |event| event.id_hash),
        seq_delta: (seq - record.first_seq) as u32,
        accepted_delta_ms: accepted.saturating_sub(record.accepted_ms) as u32,
        lane_set: lane_set as u16,
    });
}
