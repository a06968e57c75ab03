//! Deliveries moving on: settled, tried again later, dead, revived, discarded, moved to another lane.

use std::collections::{HashMap, HashSet};

use super::bits::{LaneBits, Mark};
use super::draft::Draft;
use super::index::bits_mut;
use super::plan::Step;
use super::{keys, lock};
use crate::domain::event::Seq;
use crate::domain::time::Timestamp;
use crate::store::record::{self, DeferralRecord};
use crate::store::{DeliveryId, LaneId, Settle, SettleTo, StoreError};

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
            _ => self
                .dues_of(id.lane, &HashSet::from([id.seq]))?
                .remove(&id.seq)
                .map(|(due, _)| due),
        };
        self.stale.extend(due.map(|due| (id, due)));
        Ok(())
    }

    /// The deferrals on disk of some deliveries of a lane. Reads all of the lane's.
    fn dues_of(
        &self,
        lane: LaneId,
        seqs: &HashSet<Seq>,
    ) -> Result<HashMap<Seq, (Timestamp, DeferralRecord)>, StoreError> {
        let mut dues = HashMap::with_capacity(seqs.len());
        for pair in self.engine.range(keys::deferrals_of(lane)) {
            let (key, value) = pair?;
            if let Some((id, due)) = keys::parse_deferral(&key)
                && seqs.contains(&id.seq)
            {
                dues.insert(id.seq, (due, record::decode(&value).unwrap_or_default()));
            }
        }
        Ok(dues)
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

    /// Makes deferred deliveries due at `now`, keeping their tries.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    pub fn advance(
        &mut self,
        waiting: Vec<(DeliveryId, Timestamp, DeferralRecord)>,
    ) -> Result<(), StoreError> {
        for (id, due, mut record) in waiting {
            if let Some(tried) = &mut record.tried {
                tried.due = self.now;
            }
            self.defer(id, self.now, &record)?;
            self.stale.insert((id, due));
        }
        Ok(())
    }

    /// Moves pending deliveries of `from` to `to`. `delayed` tells until when an event is not to be
    /// delivered to anyone.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    pub fn reassign(
        &mut self,
        from: LaneId,
        to: LaneId,
        seqs: &[Seq],
        delayed: impl Fn(Seq) -> Option<Timestamp>,
    ) -> Result<(), StoreError> {
        let places = self.locate(seqs.iter().copied());
        let dues = self.dues_of(from, &seqs.iter().copied().collect())?;
        for (seq, place) in seqs.iter().zip(places) {
            let Some(place) = place else { continue };
            if let Some(bits) = self.lane_bits(place, from) {
                bits.clear(place.1);
            }
            let waited = dues.get(seq);
            self.stale.extend(waited.map(|(due, _)| {
                (
                    DeliveryId {
                        lane: from,
                        seq: *seq,
                    },
                    *due,
                )
            }));
            let until = waited
                .filter(|(due, _)| *due > self.now)
                .and_then(|_| delayed(*seq));
            self.owe(place, DeliveryId { lane: to, seq: *seq }, until)?;
        }
        Ok(())
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

    /// The oldest deliveries pending for a lane, at most `limit`.
    pub fn oldest_pending(&self, lane: LaneId, limit: usize) -> Vec<Seq> {
        let index = lock(self.index);
        let pending = index.slots_from(0).filter_map(|(_, slot)| {
            let bits = slot.bits(lane)?;
            Some(bits.pending().map(|at| slot.seq(at)).collect::<Vec<_>>())
        });
        pending.flatten().take(limit).collect()
    }
}
