//! What is left of a damaged queue: which slots and records can be copied, and which can't. Changes nothing.

use bytes::Bytes;

use super::bits::Mark;
use super::engine::Engine;
use super::index::{EventPlace, Slot};
use super::plan::Step;
use super::recover::quarantined;
use super::rewrite::Copy;
use super::ring::Ring;
use super::{SledStore, chunk, keys, lock};
use crate::domain::event::Event;
use crate::domain::time::Timestamp;
use crate::store::record::{
    self, DeferralRecord, IdPage, LaneRecord, OwedRecord, Record, RecordError, SlotRecord,
};
use crate::store::{DeadEvidence, LaneId, Quarantined, Store, StoreError};

/// What a look at every slot and record has found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Slots in use whose events can be read, in the order of the events; with what they owe where some can't.
    slots: Vec<(u32, Option<OwedRecord>)>,
    /// Every lane; one whose record can't be read has a name that shows it.
    lanes: Vec<(LaneId, LaneRecord)>,
    /// Everything that can't be read, and what was set aside before.
    pub(super) broken: Vec<Quarantined>,
    /// Events among these, and the deliveries they owe.
    pub(super) events_lost: u64,
    /// Deliveries that these events owe.
    pub(super) deliveries_lost: u64,
    /// Events whose record is gone, so that nobody knows whether they are still owed.
    pub(super) strays: Vec<Event>,
}

impl SledStore {
    /// Looks at every slot and every record.
    pub(super) fn survey(&self, now: Timestamp) -> Result<Found, StoreError> {
        let mut found = Found {
            broken: self.quarantine(usize::MAX),
            lanes: self.lane_records(),
            ..Found::default()
        };
        let engine = self.engine.load_full();
        let slots: Vec<(u32, Slot)> = lock(&self.index)
            .slots_from(0)
            .map(|(number, slot)| (number, slot.clone()))
            .collect();
        for (number, slot) in &slots {
            self.look_at(&engine, *number, slot, now, &mut found)?;
        }
        self.look_for_strays(&engine, &mut found)?;
        Ok(found)
    }

    fn lane_records(&self) -> Vec<(LaneId, LaneRecord)> {
        let index = lock(&self.index);
        let named = index.lanes().filter_map(|(id, lane)| {
            let (name, pause) = (lane.name.clone()?, lane.pause.clone());
            Some((id, LaneRecord { name, pause }))
        });
        named.collect()
    }

    /// Reads the events of one slot.
    fn look_at(
        &self,
        engine: &Engine,
        number: u32,
        slot: &Slot,
        now: Timestamp,
        found: &mut Found,
    ) -> Result<(), StoreError> {
        let place = EventPlace {
            slot: number,
            generation: slot.generation,
            parts: slot.parts.clone(),
            index: 0,
        };
        let Some(chunk) = self.chunk(engine, &place)? else {
            let error = RecordError("it does not hold the chunk it should".to_owned());
            let bytes = engine.get(&keys::chunk(number, 0))?.unwrap_or_default();
            let what = format!("the {} events in slot {number}", slot.live().len());
            found.broken.push(quarantined(&what, &error, &bytes, now));
            slot.live().into_iter().for_each(|at| found.lose(slot, at));
            return Ok(());
        };
        let mut left = slot.clone();
        let mut is_whole = true;
        for at in slot.live() {
            if let Err(error) = chunk::event_at(chunk.clone(), at) {
                let what = format!("event {}", slot.seq(at).0);
                // The daemon may have come upon it before.
                if found.broken.iter().all(|known| known.what != what) {
                    found.broken.push(quarantined(&what, &error, &chunk, now));
                }
                found.lose(slot, at);
                left.lanes.iter_mut().for_each(|bits| bits.clear(at));
                is_whole = false;
            }
        }
        found.slots.push((number, (!is_whole).then(|| owed(&left))));
        Ok(())
    }

    /// Reads the chunks of slots whose record was set aside: their events are there, but not what they owe.
    fn look_for_strays(&self, engine: &Engine, found: &mut Found) -> Result<(), StoreError> {
        for pair in engine.range(keys::class(keys::SLOT)) {
            let (key, record) = pair?;
            let Some(number) = keys::number(&key).filter(|_| !record.is_empty()) else {
                continue;
            };
            if record::decode::<SlotRecord>(&record).is_err() {
                let value = engine.get(&keys::chunk(number, 0))?.unwrap_or_default();
                found.strays.extend(strays(&value));
            }
        }
        Ok(())
    }
}

impl Found {
    fn lose(&mut self, slot: &Slot, at: usize) {
        self.events_lost += 1;
        self.deliveries_lost += slot.lanes.iter().filter(|bits| bits.get(Mark::Owed, at)).count() as u64;
    }

    /// Copies everything that was found readable.
    pub(super) fn copy(&self, from: &Engine, to: &Engine) -> Result<(), StoreError> {
        let lanes = &self.lanes;
        let mut copy = Copy::new(from, to);
        copy.head()?;
        let mut ring = Ring::default();
        for (number, owed) in &self.slots {
            let number = copy.slot(&mut ring, *number)?;
            if let Some(owed) = owed {
                copy.put(Step::Owed, keys::owed(number), record::encode(owed)?)?;
            }
        }
        copy.class(keys::DEFERRAL, decodes::<DeferralRecord>)?;
        copy.class(keys::DEAD, decodes::<DeadEvidence>)?;
        copy.ids(decodes::<IdPage>)?;
        for (number, lane) in lanes {
            copy.put(Step::Records, keys::lane(*number), record::encode(lane)?)?;
        }
        copy.write()
    }
}

/// The events that can be read in the first part of a chunk, whichever chunk it is.
fn strays(value: &[u8]) -> Vec<Event> {
    let generation = value.get(1..9).and_then(|bytes| bytes.try_into().ok());
    let Some(part) = generation.and_then(|bytes| chunk::part(value, u64::from_be_bytes(bytes), 0)) else {
        return Vec::new();
    };
    let chunk = Bytes::copy_from_slice(part);
    (0..chunk::entries(&chunk))
        .filter_map(|at| chunk::event_at(chunk.clone(), at).ok())
        .collect()
}

/// What a slot owes, as a record.
fn owed(slot: &Slot) -> OwedRecord {
    let lanes = slot.lanes.iter();
    OwedRecord {
        generation: slot.generation,
        lanes: lanes
            .map(|bits| (bits.lane.0, bits.words(Mark::Owed).to_vec()))
            .collect(),
    }
}

/// Whether a record can be read.
fn decodes<T: Record>(value: &[u8]) -> bool {
    record::decode::<T>(value).is_ok()
}
