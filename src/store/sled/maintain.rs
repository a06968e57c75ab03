//! Housekeeping, a bounded piece at a time: old ids, old dead letters and old attempts go, slots that were freed and not
//! used again are cleared, sparse ones are merged, a mostly empty file is rewritten.

use super::{SledStore, keys, lock, rewrite};
use crate::domain::time::Timestamp;
use crate::store::record;
use crate::store::{DeadEvidence, DeliveryId, Maintained, Refusal, StoreError};

/// Dead letters looked at by one call.
const DEAD_AT_ONCE: usize = 1000;
/// Pages of ids let go by one call.
const PAGES_AT_ONCE: usize = 256;
/// With more dead letters than one call looks at, a new sweep begins when the bound on their age has moved by
/// this.
const SWEEP_EVERY_MS: u64 = 60_000;

/// How far the sweep over dead letters has come, and whether a new one would find anything.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sweep {
    /// The next one to look at; `None`: no sweep is under way.
    next: Option<DeliveryId>,
    /// The bound of the last sweep.
    before: Timestamp,
    /// Whether the last sweep took several calls.
    long: bool,
    /// None that was left over by this sweep is dead since before this.
    oldest: Timestamp,
}

impl Sweep {
    /// A delivery died at `since`.
    pub fn died(&mut self, since: Timestamp) {
        self.oldest = self.oldest.min(since);
    }

    /// Where to go on, or to begin; `None`: there is nothing to find.
    fn start(&mut self, dead_before: Timestamp) -> Option<DeliveryId> {
        let moved_ms = if self.long { SWEEP_EVERY_MS } else { 0 };
        match self.next.take() {
            Some(next) => Some(next),
            None if self.oldest < dead_before && dead_before.0 >= self.before.0.saturating_add(moved_ms) => {
                *self = Self {
                    before: dead_before,
                    oldest: Timestamp::MAX,
                    ..Self::default()
                };
                Some(DeliveryId::default())
            }
            None => None,
        }
    }
}

impl SledStore {
    pub(super) fn keep_house(
        &self,
        now: Timestamp,
        dead_before: Timestamp,
    ) -> Result<Maintained, StoreError> {
        let disk_low = lock(&self.numbers).refusing == Some(Refusal::DiskFull);
        lock(&self.attempts).maintain(now, disk_low);
        self.let_go(now)?;
        let mut more = self.sweep_dead(now, dead_before)?;
        more |= self.compact(now)?;
        if !more {
            self.rewrite(rewrite::AT_WORK, now)?;
        }
        Ok(Maintained { more })
    }

    /// Old ids, and chunks whose slots are not used again at once.
    fn let_go(&self, now: Timestamp) -> Result<(), StoreError> {
        let window_ms = u64::try_from(self.config.dedup_window.as_millis()).unwrap_or(u64::MAX);
        let before = Timestamp(now.0.saturating_sub(window_ms));
        self.transact(now, |draft| {
            draft.writer.ids.expire(now);
            draft.writer.pages.expire(&mut draft.plan, before, PAGES_AT_ONCE);
            draft.scrub(0);
            Ok(())
        })
    }

    /// Discards dead letters that are too old; returns whether there are more to look at.
    fn sweep_dead(&self, now: Timestamp, dead_before: Timestamp) -> Result<bool, StoreError> {
        let Some(from) = lock(&self.sweep).start(dead_before) else {
            return Ok(false);
        };
        let engine = self.engine.load_full();
        let mut letters = engine.range(keys::dead(from)..vec![keys::DEAD + 1]);
        let (mut expired, mut oldest) = (Vec::new(), Timestamp::MAX);
        for pair in letters.by_ref().take(DEAD_AT_ONCE) {
            let (key, value) = pair?;
            match record::decode::<DeadEvidence>(&value) {
                Ok(evidence) if evidence.since < dead_before => expired.extend(keys::parse_dead(&key)),
                Ok(evidence) => oldest = oldest.min(evidence.since),
                Err(_) => {}
            }
        }
        let next = match letters.next() {
            Some(pair) => keys::parse_dead(&pair?.0),
            None => None,
        };
        if !expired.is_empty() {
            self.transact(now, |draft| draft.discard(&expired))?;
        }
        let mut sweep = lock(&self.sweep);
        sweep.died(oldest);
        sweep.next = next;
        sweep.long |= next.is_some();
        Ok(next.is_some())
    }
}
