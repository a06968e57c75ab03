//! Reading, from any thread, beside the writer: events, what is due, what a person looks for.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;

use super::bits::Mark;
use super::engine::Engine;
use super::index::EventPlace;
use super::recover::quarantined;
use super::{SledStore, chunk, keys, lock};
use crate::domain::event::{Event, Seq};
use crate::domain::time::Timestamp;
use crate::store::record::{self, DeferralRecord, RecordError};
use crate::store::{
    DeadEvidence, DeadFilter, DeadLetter, DeadPage, Deferral, DeliveryId, DeliveryState, Due, DueAnswer,
    DueQuery, FoundEvent, LaneId, LoadError, StoreError,
};

/// How many deferrals are read between two looks at the index.
const DEFERRALS_AT_ONCE: usize = 256;

/// How many slots are gone through under one lock of the index.
const SLOTS_AT_ONCE: usize = 64;

/// A slot may be freed, used again or copied while it is being read; then its place is looked up anew.
const READ_TRIES: usize = 8;

/// Where an event was when somebody looked. A place says nothing about another engine than its own.
struct Found {
    place: EventPlace,
    engine: Arc<Engine>,
}

impl Found {
    /// Whether both are the same place.
    fn is(&self, other: &Self) -> bool {
        self.place == other.place && Arc::ptr_eq(&self.engine, &other.engine)
    }
}

impl SledStore {
    pub(super) fn load_one(&self, seq: Seq) -> Result<Event, LoadError> {
        let mut seen_damaged = false;
        for _ in 0..READ_TRIES {
            let Some(found) = self.look(seq) else {
                return Err(LoadError::Missing(seq));
            };
            let (error, chunk) = match self.read_at(&found)? {
                Ok(event) => return Ok(event),
                Err(damage) => damage,
            };
            let still_there = self.look(seq).is_some_and(|now| now.is(&found));
            if still_there && seen_damaged {
                return Err(self.damaged(seq, &error, &chunk));
            }
            // Read once more, and from the disk, before a healthy event is called damaged.
            seen_damaged = still_there;
            lock(&self.cache).forget(found.place.generation);
        }
        Err(LoadError::Store(StoreError::Failed(format!(
            "event {} moves faster than it can be read",
            seq.0
        ))))
    }

    /// Where an event is, and in which engine.
    fn look(&self, seq: Seq) -> Option<Found> {
        let index = lock(&self.index);
        Some(Found {
            place: index.place(seq)?,
            engine: self.engine.load_full(),
        })
    }

    /// The event at a place, or what is wrong there with the bytes that are.
    fn read_at(&self, found: &Found) -> Result<Result<Event, (RecordError, Bytes)>, LoadError> {
        let chunk = self
            .chunk(&found.engine, &found.place)
            .map_err(LoadError::Store)?;
        let Some(chunk) = chunk else {
            let error = RecordError("its slot holds something else".to_owned());
            return Ok(Err((error, Bytes::new())));
        };
        Ok(chunk::event_at(chunk.clone(), found.place.index).map_err(|error| (error, chunk)))
    }

    /// The event, if its chunk is in memory.
    pub(super) fn load_from_cache(&self, seq: Seq) -> Option<Event> {
        let place = lock(&self.index).place(seq)?;
        let chunk = lock(&self.cache).get(place.generation)?;
        chunk::event_at(chunk, place.index).ok()
    }

    /// A chunk, from memory or from the engine that the place was looked up with; `None`: it is not there
    /// (any more).
    pub(super) fn chunk(&self, engine: &Engine, place: &EventPlace) -> Result<Option<Bytes>, StoreError> {
        if let Some(chunk) = lock(&self.cache).get(place.generation) {
            return Ok(Some(chunk));
        }
        let mut bytes = Vec::new();
        for (number, slot) in [&place.slot].into_iter().chain(&place.parts).enumerate() {
            let value = engine.get(&keys::chunk(*slot, 0))?.unwrap_or_default();
            let Some(part) = chunk::part(&value, place.generation, number) else {
                return Ok(None);
            };
            bytes.extend_from_slice(part);
        }
        let chunk = Bytes::from(bytes);
        lock(&self.cache).insert(place.generation, chunk.clone());
        Ok(Some(chunk))
    }

    /// Sees to it that a damaged event is set aside by the next commit, once.
    fn damaged(&self, seq: Seq, error: &RecordError, chunk: &[u8]) -> LoadError {
        let mut damage = lock(&self.damage);
        if damage.seen.len() < super::DAMAGE_SEEN_MAX && damage.seen.insert(seq) {
            let what = format!("event {}", seq.0);
            tracing::error!(what, why = %error, "a damaged event is set aside");
            damage
                .waiting
                .push(quarantined(&what, error, chunk, Timestamp::default()));
        }
        LoadError::Damaged(seq, error.to_string())
    }

    pub(super) fn due_now(&self, lane: LaneId, query: &DueQuery) -> Result<DueAnswer, StoreError> {
        let mut answer = lock(&self.index).fresh(lane, query);
        let deferred = lock(&self.index)
            .lane(lane)
            .map_or(0, |lane| lane.counts.deferred);
        if deferred == 0 {
            return Ok(answer);
        }
        let engine = self.engine.load();
        if query.tried_max > 0 {
            answer.tried = self.tried(&engine, lane, query)?;
        }
        let mut given = HashSet::new();
        let mut range = engine.range(keys::deferrals_of(lane));
        loop {
            let some: Vec<_> = range.by_ref().take(DEFERRALS_AT_ONCE).collect::<Result<_, _>>()?;
            if some.is_empty() {
                return Ok(answer);
            }
            let index = lock(&self.index);
            for (key, value) in some {
                let Some((id, due)) = keys::parse_deferral(&key) else {
                    continue;
                };
                let known = query.held.contains(&id.seq) || given.contains(&id.seq);
                if known || id.seq >= index.durable_next || !index.is(Mark::Deferred, id) {
                    continue;
                }
                if due > query.now || answer.deferred.len() == query.deferred_max {
                    answer.deferred_next = Some(due);
                    return Ok(answer);
                }
                given.insert(id.seq);
                let tries = record::decode::<DeferralRecord>(&value).map_or(0, |record| record.tries());
                answer.deferred.push(Due::deferred(id.seq, due, tries));
            }
        }
    }

    /// Deliveries of a lane that were deferred after a try, those due first first.
    fn tried(&self, engine: &Engine, lane: LaneId, query: &DueQuery) -> Result<Vec<Due>, StoreError> {
        let mut tried = Vec::new();
        for pair in engine.range(keys::deferrals_of(lane)) {
            let (key, value) = pair?;
            let Some((id, due)) = keys::parse_deferral(&key) else {
                continue;
            };
            let known = query.held.contains(&id.seq) || !lock(&self.index).is(Mark::Deferred, id);
            let record = record::decode::<DeferralRecord>(&value).ok();
            let Some(before) = record.and_then(|record| record.tried).filter(|_| !known) else {
                continue;
            };
            tried.push(Due::deferred(id.seq, due, before.tries));
            if tried.len() == query.tried_max {
                break;
            }
        }
        Ok(tried)
    }

    /// The earliest due time among a lane's deferrals.
    pub(super) fn deferred_next(&self, lane: LaneId) -> Option<Timestamp> {
        let engine = self.engine.load();
        engine
            .range(keys::deferrals_of(lane))
            .filter_map(Result::ok)
            .find_map(|(key, _)| {
                let (id, due) = keys::parse_deferral(&key)?;
                lock(&self.index).is(Mark::Deferred, id).then_some(due)
            })
    }

    pub(super) fn deferral_at(&self, id: DeliveryId, due: Timestamp) -> Result<Option<Deferral>, StoreError> {
        if !lock(&self.index).is(Mark::Deferred, id) {
            return Ok(None);
        }
        let value = self.engine.load().get(&keys::deferral(id, due))?;
        Ok(value.and_then(|bytes| record::decode::<DeferralRecord>(&bytes).ok()?.tried))
    }

    pub(super) fn dead_page(
        &self,
        filter: &DeadFilter,
        after: Option<DeliveryId>,
        limit: usize,
    ) -> Result<DeadPage, StoreError> {
        let from = match (after, filter.lane) {
            (Some(after), Some(lane)) if after.lane >= lane => after,
            (Some(after), None) => after,
            (_, lane) => DeliveryId {
                lane: lane.unwrap_or_default(),
                seq: Seq(0),
            },
        };
        let mut page = DeadPage::default();
        for pair in self.engine.load().range(keys::dead(from)..vec![keys::DEAD + 1]) {
            let (key, value) = pair?;
            let Some(id) = keys::parse_dead(&key).filter(|id| Some(*id) != after) else {
                continue;
            };
            if filter.lane.is_some_and(|lane| id.lane > lane) {
                break;
            }
            if !lock(&self.index).is(Mark::Dead, id) {
                continue;
            }
            let Ok(evidence) = record::decode::<DeadEvidence>(&value) else {
                continue;
            };
            let letter = DeadLetter { id, evidence };
            if !filter.matches(&letter) {
                continue;
            }
            if page.letters.len() == limit {
                page.next = page.letters.last().map(|letter| letter.id).or(after);
                break;
            }
            page.letters.push(letter);
        }
        Ok(page)
    }

    pub(super) fn letter(&self, id: DeliveryId) -> Result<Option<DeadLetter>, StoreError> {
        if !lock(&self.index).is(Mark::Dead, id) {
            return Ok(None);
        }
        let value = self.engine.load().get(&keys::dead(id))?;
        let evidence = value.and_then(|bytes| record::decode::<DeadEvidence>(&bytes).ok());
        Ok(evidence.map(|evidence| DeadLetter { id, evidence }))
    }

    pub(super) fn find_events(&self, event_id: &str, limit: usize) -> Result<Vec<FoundEvent>, StoreError> {
        let mut found = Vec::new();
        let mut below = u64::MAX;
        while found.len() < limit {
            let seqs = self.live_below(&mut below);
            if seqs.is_empty() {
                break;
            }
            self.find_among(&seqs, event_id, limit, &mut found)?;
        }
        Ok(found)
    }

    /// Live events of the next few slots that begin before `below`, newest first; `below` moves on. A slot in
    /// use has at least one.
    fn live_below(&self, below: &mut u64) -> Vec<Seq> {
        let index = lock(&self.index);
        let mut seqs = Vec::new();
        for slot in index.slots_below(*below).take(SLOTS_AT_ONCE) {
            seqs.extend(slot.live().into_iter().rev().map(|at| slot.seq(at)));
            *below = slot.first_seq;
        }
        seqs
    }

    fn find_among(
        &self,
        seqs: &[Seq],
        event_id: &str,
        limit: usize,
        found: &mut Vec<FoundEvent>,
    ) -> Result<(), StoreError> {
        for seq in seqs.iter().copied() {
            if found.len() == limit {
                break;
            }
            match self.load_one(seq) {
                Ok(event) if *event.head.id == *event_id => {
                    let deliveries = self.deliveries(seq, |id| self.find_deferral(id))?;
                    found.push(FoundEvent {
                        seq,
                        event,
                        deliveries,
                    });
                }
                Err(LoadError::Store(error)) => return Err(error),
                Ok(_) | Err(LoadError::Missing(_) | LoadError::Damaged(..)) => {}
            }
        }
        Ok(())
    }

    /// What an event still owes, and to whom; `deferral_of` finds what is known of a delivery that waits.
    pub(super) fn deliveries(
        &self,
        seq: Seq,
        deferral_of: impl Fn(DeliveryId) -> Result<Option<Deferral>, StoreError>,
    ) -> Result<Vec<(LaneId, DeliveryState)>, StoreError> {
        let marks: Vec<(LaneId, bool, bool)> = match lock(&self.index).find(seq) {
            None => Vec::new(),
            Some((_, slot, at)) => slot
                .lanes
                .iter()
                .filter(|bits| bits.get(Mark::Owed, at))
                .map(|bits| (bits.lane, bits.get(Mark::Deferred, at), bits.get(Mark::Dead, at)))
                .collect(),
        };
        let mut states = Vec::with_capacity(marks.len());
        for (lane, deferred, dead) in marks {
            let id = DeliveryId { lane, seq };
            let state = match (deferred, dead) {
                (_, true) => self
                    .letter(id)?
                    .map(|letter| DeliveryState::Dead(Box::new(letter.evidence))),
                (true, _) => deferral_of(id)?.map(DeliveryState::Deferred),
                _ => None,
            };
            states.push((lane, state.unwrap_or(DeliveryState::Fresh)));
        }
        states.sort_by_key(|(lane, _)| *lane);
        Ok(states)
    }

    fn find_deferral(&self, wanted: DeliveryId) -> Result<Option<Deferral>, StoreError> {
        for pair in self.engine.load().range(keys::deferrals_of(wanted.lane)) {
            let (key, value) = pair?;
            if keys::parse_deferral(&key).is_some_and(|(id, _)| id == wanted) {
                return Ok(record::decode::<DeferralRecord>(&value)
                    .ok()
                    .and_then(|record| record.tried));
            }
        }
        Ok(None)
    }
}
