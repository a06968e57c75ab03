//! Housekeeping, a bounded piece at a time: old ids and old dead letters go, sparse slots are merged, a
//! mostly empty file is rewritten.

use super::{SledStore, keys, lock};
use crate::domain::event::Seq;
use crate::domain::time::Timestamp;
use crate::store::record;
use crate::store::{DeadEvidence, DeliveryId, LaneId, Maintained, StoreError};

/// Dead letters looked at by one call.
const DEAD_AT_ONCE: usize = 1000;
/// Pages of ids let go by one call.
const PAGES_AT_ONCE: usize = 256;
/// Dead letters are swept again when the bound on their age has moved by this.
const SWEEP_EVERY_MS: u64 = 60_000;

/// How far the sweep over dead letters has come.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sweep {
    /// The next one to look at; `None`: no sweep is under way.
    next: Option<DeliveryId>,
    /// The bound of the last sweep.
    before: Timestamp,
}

impl SledStore {
    pub(super) fn keep_house(
        &self,
        now: Timestamp,
        dead_before: Timestamp,
    ) -> Result<Maintained, StoreError> {
        self.forget_ids(now)?;
        let mut more = self.sweep_dead(now, dead_before)?;
        more |= self.compact(now)?;
        if !more {
            self.rewrite(now)?;
        }
        Ok(Maintained { more })
    }

    fn forget_ids(&self, now: Timestamp) -> Result<(), StoreError> {
        let window_ms = u64::try_from(self.config.dedup_window.as_millis()).unwrap_or(u64::MAX);
        let before = Timestamp(now.0.saturating_sub(window_ms));
        self.transact(now, |draft| {
            draft.writer.ids.expire(now);
            draft.writer.pages.expire(&mut draft.plan, before, PAGES_AT_ONCE);
            Ok(())
        })
    }

    /// Discards dead letters that are too old; returns whether there are more to look at.
    fn sweep_dead(&self, now: Timestamp, dead_before: Timestamp) -> Result<bool, StoreError> {
        let mut sweep = *lock(&self.sweep);
        let from = match sweep.next {
            Some(next) => next,
            None if dead_before.0 >= sweep.before.0.saturating_add(SWEEP_EVERY_MS) => DeliveryId {
                lane: LaneId(0),
                seq: Seq(0),
            },
            None => return Ok(false),
        };
        let engine = self.engine.load_full();
        let mut expired = Vec::new();
        let mut letters = engine.range(keys::dead(from)..vec![keys::DEAD + 1]);
        for pair in letters.by_ref().take(DEAD_AT_ONCE) {
            let (key, value) = pair?;
            let evidence = record::decode::<DeadEvidence>(&value).ok();
            if evidence.is_some_and(|evidence| evidence.since < dead_before) {
                expired.extend(keys::parse_dead(&key));
            }
        }
        sweep.next = match letters.next() {
            Some(pair) => keys::parse_dead(&pair?.0),
            None => None,
        };
        sweep.before = dead_before;
        if !expired.is_empty() {
            self.transact(now, |draft| draft.discard(&expired))?;
        }
        *lock(&self.sweep) = sweep;
        Ok(sweep.next.is_some())
    }
}
