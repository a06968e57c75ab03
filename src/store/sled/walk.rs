//! Every event that is kept, one after the other, with what is known of its deliveries.

use std::collections::{HashMap, HashSet};

use super::bits::Mark;
use super::{SledStore, keys, lock};
use crate::domain::event::Seq;
use crate::domain::time::Timestamp;
use crate::store::{DeliveryId, FoundEvent, LoadError, StoreError, Walker};

/// Events whose deferrals are looked up together: deferrals are kept in the order of due times, so finding those of
/// some events means going through those of their lanes. It bounds memory (a few tens of bytes each).
const EVENTS_AT_ONCE: usize = 200_000;

impl SledStore {
    /// Calls `each` for every event in order of acceptance until it breaks.
    pub(super) fn walk_events(&self, each: &mut Walker<'_>) -> Result<(), StoreError> {
        let mut from = Seq(0);
        loop {
            let seqs = self.live_from(from);
            let Some(last) = seqs.last() else {
                return Ok(());
            };
            from = Seq(last.0 + 1);
            let dues = self.dues_of(&seqs)?;
            for seq in seqs {
                let shown = match self.load_one(seq) {
                    // Settled since it was listed.
                    Err(LoadError::Missing(_)) => continue,
                    Err(LoadError::Store(error)) => return Err(error),
                    Err(damaged) => Err(damaged),
                    Ok(event) => {
                        let deliveries = self.deliveries(seq, |id| match dues.get(&id) {
                            Some(due) => self.deferral_at(id, *due),
                            None => Ok(None),
                        })?;
                        Ok(FoundEvent {
                            seq,
                            event,
                            deliveries,
                        })
                    }
                };
                if each(shown).is_break() {
                    return Ok(());
                }
            }
        }
    }

    /// Live events from `from` on, in order: whole slots, until there are enough.
    fn live_from(&self, from: Seq) -> Vec<Seq> {
        let index = lock(&self.index);
        let mut seqs = Vec::new();
        for (_, slot) in index.slots_from(from.0) {
            seqs.extend(
                slot.live()
                    .into_iter()
                    .map(|at| slot.seq(at))
                    .filter(|seq| *seq >= from),
            );
            if seqs.len() >= EVENTS_AT_ONCE {
                break;
            }
        }
        seqs
    }

    /// When the deliveries of these events that wait are due.
    fn dues_of(&self, seqs: &[Seq]) -> Result<HashMap<DeliveryId, Timestamp>, StoreError> {
        let mut lanes = HashSet::new();
        let mut wanted: HashMap<DeliveryId, Timestamp> = HashMap::new();
        let index = lock(&self.index);
        for seq in seqs.iter().copied() {
            let Some((_, slot, at)) = index.find(seq) else {
                continue;
            };
            for bits in slot.lanes.iter().filter(|bits| bits.get(Mark::Deferred, at)) {
                let lane = bits.lane;
                lanes.insert(lane);
                wanted.insert(DeliveryId { lane, seq }, Timestamp::MAX);
            }
        }
        drop(index);
        for lane in lanes {
            for pair in self.engine.load().range(keys::deferrals_of(lane)) {
                let (key, _) = pair?;
                if let Some((id, due)) = keys::parse_deferral(&key)
                    && let Some(found) = wanted.get_mut(&id)
                {
                    *found = due;
                }
            }
        }
        Ok(wanted)
    }
}
