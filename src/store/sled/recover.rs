//! From what is on disk to what is in memory, and what a crash left half done put right. Accepts the
//! beginning of any commit; see [`super::plan`] for why each is safe.

use std::collections::{BTreeSet, HashMap};
use std::sync::Mutex;

use super::bits::{LaneBits, Mark};
use super::draft::{Draft, accepted};
use super::engine::Engine;
use super::ids::{IdHash, IdHasher, Ids};
use super::index::{Index, Slot};
use super::pages::Pages;
use super::plan::{Plan, Step};
use super::ring::Ring;
use super::space::Space;
use super::writer::{Parts, Writer};
use super::{keys, lock};
use crate::domain::event::Seq;
use crate::domain::time::Timestamp;
use crate::store::record::{
    self, DeferralRecord, Floors, IdPage, Identity, Intent, LaneRecord, OwedRecord, Record, RecordError,
    SlotRecord,
};
use crate::store::{DeadEvidence, DeliveryId, LaneId, Quarantined, StoreError};

/// Bytes of a record that are set aside at most.
const ASIDE_BYTES_MAX: usize = 64 << 10;
/// Stands in a slot's record when the real one was set aside: its chunk is kept, the slot is not used.
const BLOCKED: &[u8] = &[0];

/// A store as found, and what has to be written to put it right.
#[derive(Debug)]
pub struct Recovered {
    /// What readers know.
    pub index: Index,
    /// What the writing thread knows.
    pub writer: Writer,
    /// Repairs, to be written before anything else.
    pub repairs: Plan,
    /// Records set aside earlier and now.
    pub quarantined: u64,
    /// Those of them that are set aside now, by the repairs.
    pub broken: Vec<Quarantined>,
    /// What was put right, in words.
    pub notes: Vec<String>,
}

/// How ids are remembered.
#[derive(Clone, Copy, Debug)]
pub struct IdBounds {
    /// For so long, in milliseconds.
    pub window_ms: u64,
    /// At most so many.
    pub len_max: usize,
}

/// The hash of an id, behind the time of its acceptance.
type AgedId = (Timestamp, IdHash);

struct Recovery<'a> {
    engine: &'a Engine,
    now: Timestamp,
    index: Index,
    plan: Plan,
    broken: Vec<Quarantined>,
    notes: Vec<String>,
    /// Every slot with a record.
    slots: HashMap<u32, SlotRecord>,
    /// Slots that may not be used.
    blocked: BTreeSet<u32>,
    ring_len: u32,
    next: Floors,
}

/// Reads the store.
///
/// # Errors
/// [`StoreError::Failed`].
pub fn recover(
    engine: &Engine,
    identity: &Identity,
    bounds: IdBounds,
    space: Space,
    now: Timestamp,
) -> Result<Recovered, StoreError> {
    let mut recovery = Recovery::new(engine, now)?;
    recovery.lanes()?;
    recovery.slots()?;
    let losers = recovery.resolve_overlaps();
    recovery.owed()?;
    let (pages, mut ids) = recovery.pages()?;
    let finished = recovery.insert(&losers);
    recovery.deferrals()?;
    recovery.dead()?;
    let (quarantine_next, quarantined) = recovery.quarantine()?;
    ids.extend(recovery.ids());
    let mut remembered = Ids::new(bounds.window_ms, bounds.len_max);
    // An id that was accepted again after its window counts from the later time.
    ids.sort_unstable_by_key(|(at, hash)| (*hash, std::cmp::Reverse(*at)));
    ids.dedup_by_key(|(_, hash)| *hash);
    ids.sort_unstable_by_key(|(at, _)| *at);
    for (at, hash) in ids
        .into_iter()
        .filter(|(at, _)| now.0.saturating_sub(at.0) < bounds.window_ms)
    {
        remembered.insert(hash, at);
    }
    let used = recovery.slots_in_use();
    let parts = Parts {
        ring: Ring::new(recovery.ring_len, &used),
        pages,
        ids: remembered,
        hasher: IdHasher::new(&identity.hash_key),
        next: recovery.next,
        chunk_bytes: recovery.slots.values().map(|slot| slot.chunk_bytes).collect(),
        quarantine_next,
        blocked_slots: !recovery.blocked.is_empty(),
        now,
    };
    recovery.finish(Writer::new(parts, space), finished, quarantined)
}

impl<'a> Recovery<'a> {
    fn new(engine: &'a Engine, now: Timestamp) -> Result<Self, StoreError> {
        let mut recovery = Self {
            engine,
            now,
            index: Index::default(),
            plan: Plan::default(),
            broken: Vec::new(),
            notes: Vec::new(),
            slots: HashMap::new(),
            blocked: BTreeSet::new(),
            ring_len: 0,
            next: Floors {
                seq: 1,
                generation: 1,
            },
        };
        if let Some(bytes) = engine.get(keys::FLOORS)?
            && let Some(floors) = recovery.read::<Floors>("the numbers given out", &bytes)
        {
            recovery.next = floors;
        }
        Ok(recovery)
    }

    /// Reads a record; one that will not decode is set aside.
    fn read<T: Record>(&mut self, what: &str, bytes: &[u8]) -> Option<T> {
        match record::decode(bytes) {
            Ok(value) => Some(value),
            Err(error) => {
                self.broken.push(quarantined(what, &error, bytes, self.now));
                None
            }
        }
    }

    fn lanes(&mut self) -> Result<(), StoreError> {
        for pair in self.engine.range(keys::class(keys::LANE)) {
            let (key, value) = pair?;
            let Some(number) = keys::number(&key) else {
                continue;
            };
            // A lane whose record is lost keeps its deliveries, under a name that shows it.
            let record = self
                .read(&format!("lane {number}"), &value)
                .unwrap_or_else(|| LaneRecord {
                    name: format!("damaged-{number}").into(),
                    pause: None,
                });
            self.index.set_lane(LaneId(number), record);
        }
        Ok(())
    }

    fn slots(&mut self) -> Result<(), StoreError> {
        let intent = match self.engine.get(keys::INTENT)? {
            Some(bytes) => self.read::<Intent>("the group being accepted", &bytes),
            None => None,
        };
        for pair in self.engine.range(keys::class(keys::SLOT)) {
            let (key, value) = pair?;
            let Some(number) = keys::number(&key) else {
                continue;
            };
            self.ring_len = self.ring_len.max(number + 1);
            if value.is_empty() {
                continue;
            }
            if &*value == BLOCKED {
                self.blocked.insert(number);
                continue;
            }
            let Some(slot) = self.read::<SlotRecord>(&format!("slot {number}"), &value) else {
                self.plan.put(Step::Freed, key.to_vec(), BLOCKED.to_vec());
                self.blocked.insert(number);
                continue;
            };
            self.next.generation = self.next.generation.max(slot.generation + 1);
            let last = slot.events.last().map_or(0, |event| u64::from(event.seq_delta));
            self.next.seq = self.next.seq.max(slot.first_seq + last + 1);
            if intent.is_some_and(|intent| (intent.from..intent.until).contains(&slot.generation)) {
                self.notes
                    .push(format!("slot {number}: taken back, its group was never complete"));
                self.plan.put(Step::Freed, key.to_vec(), Vec::new());
                continue;
            }
            self.slots.insert(number, slot);
        }
        if intent.is_some() {
            self.plan.remove(Step::Removals, keys::INTENT.to_vec());
        }
        Ok(())
    }

    /// Slots whose events were copied into a newer one before a crash: the newer one counts.
    fn resolve_overlaps(&mut self) -> Vec<u32> {
        let mut by_seq: Vec<(u64, u64, u64, u32)> = self
            .slots
            .iter()
            .map(|(number, slot)| {
                let last = slot.events.last().map_or(0, |event| u64::from(event.seq_delta));
                (slot.first_seq, slot.first_seq + last, slot.generation, *number)
            })
            .collect();
        by_seq.sort_unstable();
        let mut losers = Vec::new();
        let mut kept: Option<(u64, u64, u32)> = None;
        for (first, last, generation, number) in by_seq {
            match kept {
                Some((kept_last, kept_generation, kept_number)) if first <= kept_last => {
                    if generation > kept_generation {
                        losers.push(kept_number);
                        kept = Some((last.max(kept_last), generation, number));
                    } else {
                        losers.push(number);
                    }
                }
                _ => kept = Some((last, generation, number)),
            }
        }
        losers
    }

    /// What slots still owe.
    fn owed(&mut self) -> Result<(), StoreError> {
        for pair in self.engine.range(keys::class(keys::OWED)) {
            let (key, value) = pair?;
            let Some(number) = keys::number(&key).filter(|_| !value.is_empty()) else {
                continue;
            };
            let owed = self.read::<OwedRecord>(&format!("what slot {number} owes"), &value);
            let Some(record) = self.slots.get(&number) else {
                continue;
            };
            let mut slot = Slot::new(record);
            // A damaged record is worth a repetition: everything counts as owed, as accepted.
            if let Some(owed) = owed.filter(|owed| owed.generation == record.generation) {
                slot.lanes = owed
                    .lanes
                    .iter()
                    .map(|(lane, words)| {
                        let mut bits = LaneBits::new(LaneId(*lane), slot.events);
                        bits.set_words(Mark::Owed, words);
                        bits
                    })
                    .collect();
            }
            self.index.insert(number, slot);
        }
        Ok(())
    }

    /// Puts every slot into the index; returns those that are finished and only have to be freed.
    fn insert(&mut self, losers: &[u32]) -> Vec<u32> {
        for (number, record) in &self.slots {
            if self.index.slot(*number).is_none() {
                self.index.insert(*number, Slot::new(record));
            }
        }
        let done = |number: &u32| {
            let owes = |slot: &Slot| slot.lanes.iter().any(|bits| !bits.is_empty());
            !self.index.slot(*number).is_some_and(owes)
        };
        let mut finished: Vec<u32> = self.slots.keys().copied().filter(done).collect();
        finished.extend(losers);
        finished.sort_unstable();
        finished.dedup();
        for number in &finished {
            self.index.remove(*number);
        }
        // A loser that began where its successor begins has taken the successor's place in the order.
        let kept: Vec<u32> = self
            .slots
            .keys()
            .copied()
            .filter(|number| !finished.contains(number))
            .collect();
        if !losers.is_empty() {
            for number in kept {
                if let Some(slot) = self.index.remove(number) {
                    self.index.insert(number, *slot);
                }
            }
        }
        self.index.durable_next = Seq(self.next.seq);
        finished
    }

    fn deferrals(&mut self) -> Result<(), StoreError> {
        let engine = self.engine;
        let mut twice: HashMap<DeliveryId, Vec<(u32, Timestamp)>> = HashMap::new();
        let mut marks = Marks::default();
        for pair in engine.range(keys::class(keys::DEFERRAL)) {
            let (key, value) = pair?;
            let Some((id, _)) = keys::parse_deferral(&key) else {
                continue;
            };
            let Some((slot, at)) = self.owed_place(id) else {
                self.plan.remove(Step::Removals, key.to_vec());
                continue;
            };
            if self
                .read::<DeferralRecord>(&format!("a deferral of event {}", id.seq.0), &value)
                .is_none()
            {
                self.plan.put(
                    Step::Moves,
                    key.to_vec(),
                    record::encode(&DeferralRecord::default())?,
                );
            }
            if !marks.set(&self.index, slot, id.lane, Mark::Deferred, at) {
                twice.insert(id, Vec::new());
            }
        }
        marks.apply(&mut self.index);
        self.keep_one_each(twice)
    }

    /// Of several deferrals of one delivery, the one with more tries counts, then the later one.
    fn keep_one_each(
        &mut self,
        mut twice: HashMap<DeliveryId, Vec<(u32, Timestamp)>>,
    ) -> Result<(), StoreError> {
        if twice.is_empty() {
            return Ok(());
        }
        for pair in self.engine.range(keys::class(keys::DEFERRAL)) {
            let (key, value) = pair?;
            let parsed = keys::parse_deferral(&key);
            if let Some((id, due)) = parsed
                && let Some(found) = twice.get_mut(&id)
            {
                let tries = record::decode::<DeferralRecord>(&value).map_or(0, |record| record.tries());
                found.push((tries, due));
            }
        }
        for (id, mut found) in twice {
            found.sort_unstable();
            found.pop();
            for (_, due) in found {
                self.plan.remove(Step::Removals, keys::deferral(id, due));
            }
        }
        Ok(())
    }

    fn dead(&mut self) -> Result<(), StoreError> {
        let engine = self.engine;
        let mut marks = Marks::default();
        let mut also_deferred = Vec::new();
        for pair in engine.range(keys::class(keys::DEAD)) {
            let (key, value) = pair?;
            let Some(id) = keys::parse_dead(&key) else {
                continue;
            };
            let Some((slot, at)) = self.owed_place(id) else {
                self.plan.remove(Step::Removals, key.to_vec());
                continue;
            };
            if self
                .read::<DeadEvidence>(&format!("the evidence of event {}", id.seq.0), &value)
                .is_none()
            {
                // Without evidence it is not known to be dead; it is tried again instead.
                self.plan.remove(Step::Removals, key.to_vec());
                continue;
            }
            marks.set(&self.index, slot, id.lane, Mark::Dead, at);
            if self.index.is(Mark::Deferred, id) {
                also_deferred.push(id);
            }
        }
        marks.apply(&mut self.index);
        self.drop_deferrals(&also_deferred)
    }

    /// A dead letter wins over a deferral of the same delivery.
    fn drop_deferrals(&mut self, ids: &[DeliveryId]) -> Result<(), StoreError> {
        if ids.is_empty() {
            return Ok(());
        }
        let ids: std::collections::HashSet<&DeliveryId> = ids.iter().collect();
        for pair in self.engine.range(keys::class(keys::DEFERRAL)) {
            let (key, _) = pair?;
            if keys::parse_deferral(&key).is_some_and(|(id, _)| ids.contains(&id)) {
                self.plan.remove(Step::Removals, key.to_vec());
            }
        }
        let mut marks = Marks::default();
        for id in ids {
            if let Some((slot, at)) = self.owed_place(*id) {
                marks.change(&self.index, slot, id.lane, Mark::Deferred, at, false);
            }
        }
        marks.apply(&mut self.index);
        Ok(())
    }

    fn owed_place(&self, id: DeliveryId) -> Option<(u32, usize)> {
        let (number, slot, at) = self.index.find(id.seq)?;
        slot.bits(id.lane)?.get(Mark::Owed, at).then_some((number, at))
    }

    /// Pages of ids in the order of time, and the ids in them.
    fn pages(&mut self) -> Result<(Pages, Vec<AgedId>), StoreError> {
        let mut found = Vec::new();
        let mut len = 0;
        for pair in self.engine.range(keys::class(keys::IDS)) {
            let (key, value) = pair?;
            let Some(number) = keys::number(&key) else {
                continue;
            };
            len = len.max(number + 1);
            if value.is_empty() {
                continue;
            }
            match self.read::<IdPage>(&format!("page {number} of ids"), &value) {
                Some(page) => found.push((number, page)),
                None => self.plan.put(Step::Ids, key.to_vec(), Vec::new()),
            }
        }
        found.sort_by_key(|(_, page)| page.newest_ms);
        let mut pages = Pages::default();
        let mut ids = Vec::new();
        for (number, page) in found {
            ids.extend(page.hashes.iter().map(|hash| (Timestamp(page.newest_ms), *hash)));
            pages.found(number, page);
        }
        pages.all_found(len);
        Ok((pages, ids))
    }

    fn ids(&self) -> impl Iterator<Item = AgedId> + '_ {
        let of_slot = |slot: &SlotRecord| -> Vec<AgedId> {
            slot.events
                .iter()
                .map(|event| (accepted(slot, event), event.id_hash))
                .collect()
        };
        self.slots.values().flat_map(of_slot)
    }

    fn slots_in_use(&self) -> BTreeSet<u32> {
        let heads_and_parts = self
            .slots
            .iter()
            .flat_map(|(number, slot)| slot.parts.iter().copied().chain([*number]));
        heads_and_parts.chain(self.blocked.iter().copied()).collect()
    }

    fn quarantine(&self) -> Result<(u32, u64), StoreError> {
        let (mut next, mut count) = (0, 0);
        for pair in self.engine.range(keys::class(keys::QUARANTINE)) {
            let (key, value) = pair?;
            next = next.max(keys::number(&key).map_or(0, |number| number + 1));
            count += u64::from(!value.is_empty());
        }
        Ok((next, count))
    }

    /// Frees what is finished, sets aside what is broken, and hands everything over.
    fn finish(
        mut self,
        mut writer: Writer,
        finished: Vec<u32>,
        quarantined: u64,
    ) -> Result<Recovered, StoreError> {
        let index = Mutex::new(std::mem::take(&mut self.index));
        let mut draft = Draft::new(self.engine, &index, &mut writer, self.now);
        draft.plan = std::mem::take(&mut self.plan);
        let mut ids = Vec::new();
        for number in &finished {
            draft.free(*number, &mut ids)?;
        }
        draft.keep_ids(ids)?;
        for record in &self.broken {
            tracing::error!(
                what = record.what,
                why = record.why,
                "a damaged record was set aside"
            );
            draft.set_aside(record)?;
        }
        let (repairs, effects) = draft.finish()?;
        effects
            .freed
            .into_iter()
            .chain(effects.freed_parts)
            .for_each(|slot| writer.ring.release(slot));
        writer.to_scrub.extend(effects.to_scrub);
        if !finished.is_empty() {
            self.notes.push(format!(
                "{} finished slots were still to be freed",
                finished.len()
            ));
        }
        Ok(Recovered {
            index: std::mem::take(&mut lock(&index)),
            writer,
            repairs,
            quarantined: quarantined + self.broken.len() as u64,
            broken: self.broken,
            notes: self.notes,
        })
    }
}

/// Marks gathered while the index is read, set when it is not.
#[derive(Default)]
struct Marks(HashMap<u32, Vec<LaneBits>>);

impl Marks {
    /// Sets a mark; false if it was set before.
    fn set(&mut self, index: &Index, slot: u32, lane: LaneId, mark: Mark, at: usize) -> bool {
        self.change(index, slot, lane, mark, at, true)
    }

    fn change(&mut self, index: &Index, slot: u32, lane: LaneId, mark: Mark, at: usize, on: bool) -> bool {
        let lanes = self
            .0
            .entry(slot)
            .or_insert_with(|| index.slot(slot).map_or_else(Vec::new, |slot| slot.lanes.clone()));
        let Some(bits) = lanes.iter_mut().find(|bits| bits.lane == lane) else {
            return false;
        };
        let before = bits.get(mark, at);
        bits.set(mark, at, on);
        before != on
    }

    fn apply(self, index: &mut Index) {
        for (slot, lanes) in self.0 {
            index.replace(slot, lanes);
        }
    }
}

/// A record that will not decode, as it is set aside.
pub fn quarantined(what: &str, error: &RecordError, bytes: &[u8], now: Timestamp) -> Quarantined {
    Quarantined {
        found: now,
        what: what.to_owned(),
        why: error.to_string(),
        bytes: bytes[..bytes.len().min(ASIDE_BYTES_MAX)].to_vec(),
    }
}
