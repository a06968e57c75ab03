//! Merging slots of which little is left: a few old events must not pin chunks for ever, and many tiny
//! chunks must not fill memory with their index. A run of neighbours, in the order of their events, becomes
//! one new chunk; should a crash come in between, the newer one counts (see [`super::recover`]).
//!
//! Nothing else is written meanwhile, so a run is bounded in slots and in bytes: one merge holds the committer
//! for some milliseconds. The search for runs goes on where it ended the last time, and takes the index's
//! lock for a few slots at a time.

use std::collections::{BTreeSet, HashSet};

use super::accept::{EVENTS_MAX, LANES_NAMED_MAX, OWED_BITS_MAX};
use super::bits::Mark;
use super::chunk::{self, Entry, PART_BYTES_MAX};
use super::draft::Draft;
use super::engine::Engine;
use super::index::{EventPlace, Index, Slot, TINY_CHUNK_BYTES};
use super::keys;
use super::{SledStore, lock};
use crate::domain::time::Timestamp;
use crate::store::record::{self, SlotEvent, SlotRecord};
use crate::store::{LaneId, StoreError};

/// A slot is worth merging when at most one in so many of its events is left.
const SPARSE_SHARE: usize = 8;
/// A slot that is being worked off is sparse for a moment; only what stays so is merged.
const SPARSE_AGE_MS: u64 = 10_000;
/// So many tiny chunks are left alone.
const TINY_SLOTS_MAX: usize = 50_000;
/// Alone, a sparse slot is only worth it if it pins so many bytes.
const ALONE_BYTES_MIN: u64 = 16 << 10;
/// Slots merged at once.
const RUN_SLOTS_MAX: usize = 32;
/// Bytes of the chunks read for one merge.
const RUN_BYTES_MAX: u64 = 1 << 20;
/// Slots looked at under one lock of the index.
const LOOK_SLOTS: usize = 64;
/// Slots looked at by one call.
const SEARCH_SLOTS_MAX: usize = 4096;

/// Where the search for runs goes on.
#[derive(Debug, Default)]
pub struct Search {
    /// The first sequence number that a slot not looked at may begin with.
    next: u64,
}

/// What one look at a few slots has brought.
enum Looked {
    /// The run is not over yet.
    On,
    /// The run is over, and worth it.
    Found,
    /// There are no more slots.
    End,
}

/// Neighbouring slots that fit into one.
#[derive(Debug, Default)]
struct Run {
    slots: Vec<(u32, Vec<usize>)>,
    events: usize,
    bytes: u64,
    pinned_bytes: u64,
    lanes: BTreeSet<LaneId>,
    lane_sets: BTreeSet<Vec<LaneId>>,
    first: Option<(u64, Timestamp)>,
}

impl Run {
    /// Adds a slot if what is left of it fits.
    fn add(&mut self, number: u32, slot: &Slot, live: &[usize]) -> bool {
        let bytes = slot.chunk_bytes * live.len() as u64 / slot.events.max(1) as u64;
        let mut lanes = self.lanes.clone();
        lanes.extend(slot.lanes.iter().map(|bits| bits.lane));
        let mut lane_sets = self.lane_sets.clone();
        lane_sets.extend(live.iter().map(|at| lanes_owed(slot, *at)));
        let (first_seq, first_accepted) = *self.first.get_or_insert((slot.first_seq, slot.accepted));
        let events = self.events + live.len();
        let fits = events <= EVENTS_MAX
            && events * lanes.len() <= OWED_BITS_MAX
            && lane_sets.iter().map(Vec::len).sum::<usize>() <= LANES_NAMED_MAX
            && self.slots.len() < RUN_SLOTS_MAX
            && self.pinned_bytes + slot.chunk_bytes <= RUN_BYTES_MAX
            && self.bytes + bytes <= PART_BYTES_MAX as u64
            && slot.last_seq() - first_seq < u64::from(u32::MAX)
            && slot.accepted.0.saturating_sub(first_accepted.0) < u64::from(u32::MAX / 2);
        if fits {
            self.slots.push((number, live.to_vec()));
            self.events = events;
            self.bytes += bytes;
            self.pinned_bytes += slot.chunk_bytes;
            self.lanes = lanes;
            self.lane_sets = lane_sets;
        }
        fits
    }

    fn is_worth_it(&self) -> bool {
        self.slots.len() > 1 || (self.slots.len() == 1 && self.pinned_bytes >= ALONE_BYTES_MIN)
    }
}

/// Whether so much is gone from a slot, or it was so small from the beginning, that it is to be merged.
fn is_to_merge(index: &Index, slot: &Slot, live: &[usize], now: Timestamp) -> bool {
    let old = now.0.saturating_sub(slot.accepted.0) >= SPARSE_AGE_MS;
    let sparse = old && live.len() * SPARSE_SHARE <= slot.events;
    let tiny = index.tiny_chunks() > TINY_SLOTS_MAX && slot.chunk_bytes < TINY_CHUNK_BYTES;
    sparse || tiny
}

impl Search {
    /// Goes on along the next few slots. Those whose generation is in `spared` are left alone.
    fn look(&mut self, index: &Index, spared: &HashSet<u64>, now: Timestamp, run: &mut Run) -> Looked {
        let mut slots = index.slots_beginning_at(self.next);
        for (number, slot) in slots.by_ref().take(LOOK_SLOTS) {
            let live = slot.live();
            let wanted = !spared.contains(&slot.generation) && is_to_merge(index, slot, &live, now);
            if !(wanted && run.add(number, slot, &live)) {
                if run.is_worth_it() {
                    return Looked::Found;
                }
                *run = Run::default();
                if wanted {
                    run.add(number, slot, &live);
                }
            }
            self.next = slot.first_seq + 1;
        }
        match slots.next() {
            Some(_) => Looked::On,
            None => Looked::End,
        }
    }
}

impl SledStore {
    /// Merges one run of slots, if the next part of the search finds one; returns whether there is more to
    /// search.
    pub(super) fn compact(&self, now: Timestamp) -> Result<bool, StoreError> {
        self.transact(now, |draft| self.merge_a_run(draft))
    }

    /// Drafts the merge of the next run; returns whether there is more to search.
    pub(super) fn merge_a_run(&self, draft: &mut Draft<'_>) -> Result<bool, StoreError> {
        let mut search = lock(&self.search);
        let spared = lock(&self.damage).spared.clone();
        let mut run = Run::default();
        for _ in 0..SEARCH_SLOTS_MAX / LOOK_SLOTS {
            let looked = search.look(&lock(&self.index), &spared, draft.now, &mut run);
            match looked {
                Looked::On => {}
                Looked::Found => break,
                Looked::End => {
                    search.next = 0;
                    break;
                }
            }
        }
        if run.is_worth_it() {
            self.merge(draft, &run)?;
            return Ok(true);
        }
        Ok(search.next > 0)
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
            let read = self.live_entries(draft.engine, *number, &slot, live)?;
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
        engine: &Engine,
        number: u32,
        slot: &Slot,
        live: &[usize],
    ) -> Result<Option<Vec<Entry>>, StoreError> {
        let place = EventPlace {
            slot: number,
            generation: slot.generation,
            parts: slot.parts.clone(),
            index: 0,
        };
        let Some(chunk) = self.chunk(engine, &place)? else {
            return Ok(None);
        };
        let entries = live
            .iter()
            .map(|at| chunk::entry_at(&chunk, *at).map(Entry::again));
        Ok(entries.collect::<Result<_, _>>().ok())
    }
}

/// A slot's record as it is on disk.
fn stored_record(draft: &Draft<'_>, number: u32) -> Result<Option<SlotRecord>, StoreError> {
    let bytes = draft.engine.get(&keys::slot(number))?.unwrap_or_default();
    Ok(record::decode(&bytes).ok())
}

/// To whom an event is owed.
fn lanes_owed(slot: &Slot, at: usize) -> Vec<LaneId> {
    let owed = slot.lanes.iter().filter(|bits| bits.get(Mark::Owed, at));
    owed.map(|bits| bits.lane).collect()
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
    let lanes: Vec<u32> = lanes_owed(slot, at).iter().map(|lane| lane.0).collect();
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A slot with one event, owed to `lanes`.
    fn slot(n: u64, chunk_bytes: u64, lanes: impl Iterator<Item = u32>) -> Slot {
        Slot::new(&SlotRecord {
            generation: n,
            first_seq: n,
            chunk_bytes,
            lane_sets: vec![lanes.collect()],
            events: vec![SlotEvent::default()],
            ..SlotRecord::default()
        })
    }

    /// How many such slots fit into one run.
    fn fit(slot: impl Fn(u64) -> Slot) -> usize {
        let mut run = Run::default();
        (0..1000)
            .take_while(|n| run.add(*n as u32, &slot(*n), &[0]))
            .count()
    }

    /// A merge is short and its record small, whatever the slots are like.
    #[test]
    fn a_run_is_bounded_in_every_way() {
        assert_eq!(fit(|n| slot(n, 100, 0..1)), RUN_SLOTS_MAX);
        assert_eq!(fit(|n| slot(n, 8 << 10, 0..1)), PART_BYTES_MAX / (8 << 10));
        let half_full = |n| {
            let mut slot = slot(n, 90 << 10, 0..1);
            slot.events = 1000;
            slot
        };
        assert_eq!(fit(half_full) as u64, RUN_BYTES_MAX / (90 << 10));
        let different = |n: u64| {
            slot(
                n,
                100,
                (0..100).map(move |lane| lane * 3 + n as u32 % 3 + n as u32),
            )
        };
        assert_eq!(fit(different), LANES_NAMED_MAX / 100);
    }

    /// The search comes past every slot once, a few at a time, and finds the run at the very end too.
    #[test]
    fn the_search_ends_and_begins_anew() {
        let mut index = Index::default();
        for n in 0..200 {
            let mut slot = slot(10 * n, 100, 0..1);
            // Only the last two are sparse.
            slot.events = if n < 198 { 1 } else { 100 };
            index.insert(n as u32, slot);
        }
        let (mut search, mut run) = (Search::default(), Run::default());
        let later = Timestamp(SPARSE_AGE_MS);
        let mut looks = 1;
        while let Looked::On = search.look(&index, &HashSet::new(), later, &mut run) {
            looks += 1;
        }
        assert_eq!(looks, 200usize.div_ceil(LOOK_SLOTS));
        let slots: Vec<u32> = run.slots.iter().map(|(number, _)| *number).collect();
        assert_eq!(slots, [198, 199]);
    }
}
