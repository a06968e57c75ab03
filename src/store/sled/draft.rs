//! A change in the making: what is to be written, and what memory learns once it is. Every writing
//! verb fills one of these; see [`super::accept`] for events coming in and [`super::moves`] for deliveries
//! moving on.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Mutex;

use bytes::Bytes;

use super::bits::{LaneBits, Mark};
use super::engine::Engine;
use super::ids::IdHash;
use super::index::{Index, Slot};
use super::plan::{Plan, Step};
use super::writer::Writer;
use super::{keys, lock, ring};
use crate::domain::event::Seq;
use crate::domain::time::Timestamp;
use crate::store::record::{self, LaneRecord, OwedRecord, Record, SlotRecord};
use crate::store::{DeliveryId, LaneId, Quarantined, StoreError};

/// So many slots that were freed wait for their next use; only what goes beyond them is cleared. Under load most never
/// need it, and clearing one costs ten changes of its leaf.
pub(super) const UNCLEARED_MAX: usize = 8;

/// What memory learns of a change.
#[derive(Debug, Default)]
pub struct Effects {
    /// Slots that came into use, with their chunks.
    pub inserted: Vec<(u32, Slot, Bytes)>,
    /// What slots owe now.
    pub replaced: Vec<(u32, Vec<LaneBits>)>,
    /// Slots that owe nothing any more.
    pub freed: Vec<u32>,
    /// Further slots that held parts of the freed ones.
    pub freed_parts: Vec<u32>,
    /// Of all these, those whose chunk is worth clearing.
    pub to_scrub: Vec<u32>,
    /// When those that died now are dead since.
    pub died: Vec<Timestamp>,
    /// Lanes named, paused or resumed.
    pub lanes: Vec<(LaneId, LaneRecord)>,
}

/// A slot whose deliveries are moving: a copy of what it owes.
#[derive(Debug)]
pub(super) struct Touched {
    generation: u64,
    pub(super) events: usize,
    pub(super) lanes: Vec<LaneBits>,
    /// Whether the bits that are on disk are other ones now.
    pub(super) owed_changed: bool,
}

/// A change in the making.
pub struct Draft<'a> {
    pub(super) engine: &'a Engine,
    pub(super) index: &'a Mutex<Index>,
    pub(super) writer: &'a mut Writer,
    pub(super) plan: Plan,
    pub(super) effects: Effects,
    pub(super) now: Timestamp,
    pub(super) touched: BTreeMap<u32, Touched>,
    /// Where the deferrals written here are due; stands over what is on disk.
    pub(super) dues: HashMap<DeliveryId, Timestamp>,
    /// Deferrals that are no longer true.
    pub(super) stale: BTreeSet<(DeliveryId, Timestamp)>,
}

impl<'a> Draft<'a> {
    /// An empty change.
    pub fn new(engine: &'a Engine, index: &'a Mutex<Index>, writer: &'a mut Writer, now: Timestamp) -> Self {
        Self {
            engine,
            index,
            writer,
            plan: Plan::default(),
            effects: Effects::default(),
            now,
            touched: BTreeMap::new(),
            dues: HashMap::new(),
            stale: BTreeSet::new(),
        }
    }

    /// Adds a record.
    pub(super) fn put<T: Record>(&mut self, step: Step, key: Vec<u8>, value: &T) -> Result<(), StoreError> {
        self.plan.put(step, key, record::encode(value)?);
        Ok(())
    }

    /// Finds each event's slot and place in it, and makes the copies that moves work on.
    pub(super) fn locate(&mut self, seqs: impl Iterator<Item = Seq>) -> Vec<Option<(u32, usize)>> {
        let index = lock(self.index);
        let mut latest: Option<(u32, &Slot)> = None;
        seqs.map(|seq| {
            // What settles together was mostly accepted together.
            if let Some((number, slot)) = latest
                && let Some(at) = slot.index_of(seq)
            {
                return Some((number, at));
            }
            let (number, slot, at) = index.find(seq)?;
            latest = Some((number, slot));
            self.touched.entry(number).or_insert_with(|| Touched {
                generation: slot.generation,
                events: slot.events,
                lanes: slot.lanes.clone(),
                owed_changed: false,
            });
            Some((number, at))
        })
        .collect()
    }

    /// Names a lane, or pauses or resumes it.
    pub(super) fn set_lane(&mut self, lane: LaneId, record: LaneRecord) -> Result<(), StoreError> {
        self.put(Step::Records, keys::lane(lane), &record)?;
        self.effects.lanes.push((lane, record));
        Ok(())
    }

    /// Sets a record aside with its bytes.
    pub(super) fn set_aside(&mut self, record: &Quarantined) -> Result<(), StoreError> {
        let number = self.writer.quarantine_next;
        self.writer.quarantine_next += 1;
        for j in 1..keys::KEYS_PER_SLOT {
            self.plan
                .put(Step::Records, keys::quarantine(number, j), Vec::new());
        }
        self.put(Step::Records, keys::quarantine(number, 0), record)
    }

    /// Clears slots that earlier changes freed, unless they are in use again; the last `kept` of them may wait. Not in the
    /// change that frees them: until memory knows of that, readers are still on their way to what the slots held.
    pub(super) fn scrub(&mut self, kept: usize) {
        let waiting = &mut self.writer.to_scrub;
        let due: Vec<u32> = waiting.drain(..waiting.len().saturating_sub(kept)).collect();
        for number in due {
            if self.writer.ring.is_free(number) {
                ring::scrub(&mut self.plan, number);
            }
        }
    }

    /// Closes the change: what touched slots owe now, which of them are free, what is no longer true.
    pub fn finish(mut self) -> Result<(Plan, Effects), StoreError> {
        let mut ids = Vec::new();
        for (number, slot) in std::mem::take(&mut self.touched) {
            if slot.lanes.iter().all(LaneBits::is_empty) {
                self.free(number, &mut ids)?;
                continue;
            }
            if slot.owed_changed {
                self.put(
                    Step::Owed,
                    keys::owed(number),
                    &owed_record(slot.generation, &slot.lanes),
                )?;
            }
            self.effects.replaced.push((number, slot.lanes));
        }
        self.keep_ids(ids)?;
        self.scrub(UNCLEARED_MAX);
        for (id, due) in std::mem::take(&mut self.stale) {
            self.plan.remove(Step::Removals, keys::deferral(id, due));
        }
        Ok((self.plan, self.effects))
    }

    /// Frees a slot; the ids of its events are added to `ids`.
    pub(super) fn free(&mut self, number: u32, ids: &mut Vec<(IdHash, Timestamp)>) -> Result<(), StoreError> {
        let bytes = self.engine.get(&keys::slot(number))?.unwrap_or_default();
        match record::decode::<SlotRecord>(&bytes) {
            Ok(slot) => {
                ids.extend(
                    slot.events
                        .iter()
                        .map(|event| (event.id_hash, accepted(&slot, event))),
                );
                self.effects.freed_parts.extend(&slot.parts);
                self.writer.vacate(slot.chunk_bytes);
                if ring::is_worth_scrubbing(slot.chunk_bytes) {
                    self.effects.to_scrub.extend(slot.parts.iter().chain([&number]));
                }
            }
            // Its events are done, so only their ids are lost, and that is said.
            Err(error) => tracing::error!(slot = number, %error, "the ids of a finished slot can't be read"),
        }
        self.plan.put(Step::Freed, keys::slot(number), Vec::new());
        self.effects.freed.push(number);
        Ok(())
    }

    /// Keeps ids whose events are about to go, as long as they are inside the window.
    pub(super) fn keep_ids(&mut self, mut ids: Vec<(IdHash, Timestamp)>) -> Result<(), StoreError> {
        ids.retain(|(_, at)| !self.writer.ids.expired(*at, self.now));
        let ids_max = self.writer.ids.len_max();
        self.writer.pages.add(&mut self.plan, &ids, ids_max)
    }
}

/// When an event of a slot was accepted.
pub fn accepted(slot: &SlotRecord, event: &record::SlotEvent) -> Timestamp {
    Timestamp(slot.accepted_ms + u64::from(event.accepted_delta_ms))
}

/// What is owed, as it stands on disk; lanes that are owed nothing are left out.
fn owed_record(generation: u64, lanes: &[LaneBits]) -> OwedRecord {
    let owing = lanes.iter().filter(|bits| !bits.is_empty());
    OwedRecord {
        generation,
        lanes: owing
            .map(|bits| (bits.lane.0, bits.words(Mark::Owed).to_vec()))
            .collect(),
    }
}
