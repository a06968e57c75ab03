//! Deliveries moving on: settled, tried again later, dead, revived, discarded, moved to another lane.

use std::ops::Range;

use super::bits::{LaneBits, Mark};
use super::draft::Draft;
use super::index::bits_mut;
use super::plan::Step;
use super::{keys, lock};
use crate::domain::event::Seq;
use crate::domain::time::Timestamp;
use crate::store::bounds;
use crate::store::record::{self, DeferralRecord};
use crate::store::{DeliveryId, FlushCursor, Flushed, LaneId, Settle, SettleTo, StoreError};

/// A deferred delivery as it is on disk.
struct Deferred {
    id: DeliveryId,
    due: Timestamp,
    record: DeferralRecord,
}

impl Draft<'_> {
    /// The bits of a delivery's lane in a slot that was located.
    fn lane_bits(&mut self, place: (u32, usize), lane: LaneId) -> Option<&mut LaneBits> {
        let touched = self.touched.get_mut(&place.0)?;
        touched.lanes.iter_mut().find(|bits| bits.lane == lane)
    }

    fn owed_changed(&mut self, place: (u32, usize)) {
        if let Some(touched) = self.touched.get_mut(&place.0) {
            touched.owed_changed = true;
        }
    }

    /// Moves deliveries that are owed and not dead; others are passed over.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    pub fn settle(&mut self, settles: Vec<Settle>) -> Result<(), StoreError> {
        let places = self.locate(settles.iter().map(|settle| settle.id.seq));
        for (settle, place) in settles.into_iter().zip(places) {
            if let Some(place) = place {
                self.settle_one(settle, place)?;
            }
        }
        Ok(())
    }

    fn settle_one(&mut self, settle: Settle, place: (u32, usize)) -> Result<(), StoreError> {
        let Settle { id, was_due, to } = settle;
        let to = bounds::settle_to(to);
        let Some(bits) = self.lane_bits(place, id.lane) else {
            return Ok(());
        };
        if !bits.get(Mark::Owed, place.1) || bits.get(Mark::Dead, place.1) {
            return Ok(());
        }
        let was_deferred = bits.get(Mark::Deferred, place.1);
        match &to {
            SettleTo::Settled => bits.clear(place.1),
            SettleTo::Later(_) => bits.set(Mark::Deferred, place.1, true),
            SettleTo::Dead(_) => {
                bits.set(Mark::Deferred, place.1, false);
                bits.set(Mark::Dead, place.1, true);
            }
        }
        if was_deferred {
            self.drop_deferral(id, was_due)?;
        }
        match to {
            SettleTo::Settled => self.owed_changed(place),
            SettleTo::Later(tried) => self.defer(id, tried.due, &DeferralRecord { tried: Some(tried) })?,
            SettleTo::Dead(evidence) => {
                self.effects.died.push(evidence.since);
                self.put(Step::Moves, keys::dead(id), &*evidence)?;
            }
        }
        Ok(())
    }

    /// Writes a deferral.
    fn defer(&mut self, id: DeliveryId, due: Timestamp, record: &DeferralRecord) -> Result<(), StoreError> {
        self.stale.remove(&(id, due));
        self.dues.insert(id, due);
        self.put(Step::Moves, keys::deferral(id, due), record)
    }

    /// Takes a delivery's deferral away, wherever it is: the caller's knowledge of its due time may be older
    /// than the last time the lane was flushed.
    fn drop_deferral(&mut self, id: DeliveryId, was_due: Option<Timestamp>) -> Result<(), StoreError> {
        let due = match (self.dues.remove(&id), was_due) {
            (Some(due), _) => Some(due),
            (None, Some(due)) if self.engine.get(&keys::deferral(id, due))?.is_some() => Some(due),
            _ => self.due_since_a_flush(id)?,
        };
        self.stale.extend(due.map(|due| (id, due)));
        Ok(())
    }

    /// When a delivery is due that is not due when its settler believes: since one of the lane's last flushes,
    /// or else only reading all of the lane's deferrals can tell.
    fn due_since_a_flush(&self, id: DeliveryId) -> Result<Option<Timestamp>, StoreError> {
        for due in self.writer.flushes.of(id.lane) {
            if self.engine.get(&keys::deferral(id, due))?.is_some() {
                return Ok(Some(due));
            }
        }
        for pair in self.engine.range(keys::deferrals_of(id.lane)) {
            let (key, _) = pair?;
            if let Some((found, due)) = keys::parse_deferral(&key)
                && found == id
            {
                return Ok(Some(due));
            }
        }
        Ok(None)
    }

    /// Deferred deliveries of a lane in order of due time, from the first behind `after` on.
    fn deferrals(
        &self,
        lane: LaneId,
        after: Option<(Timestamp, Seq)>,
        limit: usize,
    ) -> Result<Vec<Deferred>, StoreError> {
        let Range { mut start, end } = keys::deferrals_of(lane);
        if let Some((due, seq)) = after {
            start = keys::deferral(DeliveryId { lane, seq }, due);
            start.push(0);
        }
        let mut deferrals = Vec::new();
        let mut pairs = self.engine.range(start..end);
        while deferrals.len() < limit
            && let Some(pair) = pairs.next()
        {
            let (key, value) = pair?;
            if let Some((id, due)) = keys::parse_deferral(&key)
                && lock(self.index).is(Mark::Deferred, id)
            {
                let record = record::decode(&value).unwrap_or_default();
                deferrals.push(Deferred { id, due, record });
            }
        }
        Ok(deferrals)
    }

    /// Makes dead letters pending again; returns those that were dead.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    pub fn revive(&mut self, ids: &[(DeliveryId, Timestamp)]) -> Result<Vec<DeliveryId>, StoreError> {
        let places = self.locate(ids.iter().map(|(id, _)| id.seq));
        let mut revived = Vec::new();
        for ((id, due), place) in ids.iter().zip(places) {
            let Some(place) = place else { continue };
            let Some(bits) = self
                .lane_bits(place, id.lane)
                .filter(|bits| bits.get(Mark::Dead, place.1))
            else {
                continue;
            };
            bits.set(Mark::Dead, place.1, false);
            bits.set(Mark::Deferred, place.1, true);
            self.defer(*id, *due, &DeferralRecord::default())?;
            self.plan.remove(Step::Removals, keys::dead(*id));
            revived.push(*id);
        }
        Ok(revived)
    }

    /// Removes dead letters for good; returns how many there were.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    pub fn discard(&mut self, ids: &[DeliveryId]) -> Result<u64, StoreError> {
        let places = self.locate(ids.iter().map(|id| id.seq));
        let mut discarded = 0;
        for (id, place) in ids.iter().zip(places) {
            let Some(place) = place else { continue };
            let Some(bits) = self
                .lane_bits(place, id.lane)
                .filter(|bits| bits.get(Mark::Dead, place.1))
            else {
                continue;
            };
            bits.clear(place.1);
            self.owed_changed(place);
            self.plan.remove(Step::Removals, keys::dead(*id));
            discarded += 1;
        }
        Ok(discarded)
    }

    /// Makes deferred deliveries due now, keeping their tries; see [`crate::store::Store::flush_lane`].
    /// `delayed` tells until when an event is not to be delivered to anyone.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    pub fn flush(
        &mut self,
        lane: LaneId,
        from: Option<FlushCursor>,
        limit: usize,
        delayed: impl Fn(Seq) -> Option<Timestamp>,
    ) -> Result<Flushed, StoreError> {
        let from = from.unwrap_or_else(|| FlushCursor {
            due: self.now,
            seq: Seq(u64::MAX),
            left: lock(self.index).lane(lane).map_or(0, |lane| lane.counts.deferred),
        });
        let looked_at_max = limit.min(usize::try_from(from.left).unwrap_or(usize::MAX));
        let deferrals = self.deferrals(lane, Some((from.due, from.seq)), looked_at_max)?;
        let mut flushed = Flushed::default();
        let left = from.left - deferrals.len() as u64;
        if deferrals.len() == limit
            && left > 0
            && let Some(Deferred { id, due, .. }) = deferrals.last()
        {
            let (due, seq) = (*due, id.seq);
            flushed.next = Some(FlushCursor { due, seq, left });
        }
        for deferred in deferrals {
            // What was tried has been due before.
            if deferred.record.tried.is_some() || delayed(deferred.id.seq).is_none() {
                self.advance(deferred)?;
                flushed.moved += 1;
            }
        }
        if flushed.moved > 0 {
            self.writer.flushes.note(lane, self.now);
        }
        Ok(flushed)
    }

    /// Makes a deferred delivery due now.
    fn advance(&mut self, deferred: Deferred) -> Result<(), StoreError> {
        let Deferred { id, due, mut record } = deferred;
        if let Some(tried) = &mut record.tried {
            tried.due = self.now;
        }
        self.defer(id, self.now, &record)?;
        self.stale.insert((id, due));
        Ok(())
    }

    /// Moves up to `limit` pending deliveries of `from` to `to` and returns how many; see
    /// [`crate::store::Store::reassign`]. `delayed` tells until when an event is not to be delivered to anyone.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    pub fn reassign(
        &mut self,
        from: LaneId,
        to: LaneId,
        limit: usize,
        delayed: impl Fn(Seq) -> Option<Timestamp>,
    ) -> Result<u64, StoreError> {
        let fresh = lock(self.index).oldest_fresh(from, limit);
        let deferrals = self.deferrals(from, None, limit - fresh.len())?;
        let deferred = deferrals.iter().map(|found| (found.id.seq, Some(found.due)));
        let moving: Vec<_> = fresh.into_iter().map(|seq| (seq, None)).chain(deferred).collect();
        let places = self.locate(moving.iter().map(|(seq, _)| *seq));
        for ((seq, due), place) in moving.iter().zip(places) {
            let Some(place) = place else { continue };
            if let Some(bits) = self.lane_bits(place, from) {
                bits.clear(place.1);
            }
            let id = DeliveryId {
                lane: from,
                seq: *seq,
            };
            self.stale.extend(due.map(|due| (id, due)));
            let until = due.filter(|due| *due > self.now).and_then(|_| delayed(*seq));
            self.owe(place, DeliveryId { lane: to, ..id }, until)?;
        }
        Ok(moving.len() as u64)
    }

    /// Owes an event to a lane, unless it is already.
    fn owe(
        &mut self,
        place: (u32, usize),
        id: DeliveryId,
        until: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        self.owed_changed(place);
        let Some(touched) = self.touched.get_mut(&place.0) else {
            return Ok(());
        };
        let bits = bits_mut(&mut touched.lanes, id.lane, touched.events);
        if bits.get(Mark::Owed, place.1) {
            return Ok(());
        }
        bits.set(Mark::Owed, place.1, true);
        if let Some(until) = until {
            bits.set(Mark::Deferred, place.1, true);
            self.defer(id, until, &DeferralRecord::default())?;
        }
        Ok(())
    }
}
