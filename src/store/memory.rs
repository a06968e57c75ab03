//! The queue in memory: the model that every other store is compared to, and the store of simulations. It
//! survives what a test calls a crash, not the end of the process, so no daemon keeps its events here.
//!
//! The rules are in [`model`]; this file adds the lock, the counters and the [`faults`] a test asks for.

mod faults;
mod model;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use self::faults::Faults;
pub use self::faults::Reached;
use self::model::Model;
use super::{
    AttemptFilter, AttemptPage, Batch, CheckReport, Committed, DeadFilter, DeadLetter, DeadPage, Deferral,
    DeliveryId, DueAnswer, DueQuery, FlushCursor, Flushed, FoundEvent, LaneId, LaneTotals, LoadError,
    Maintained, NewAttempt, Pause, Quarantined, Refusal, Store, StoreError, StoreStats, Walker,
};
use crate::domain::age::Ages;
use crate::domain::event::{Event, Seq};
use crate::domain::time::Timestamp;

/// A [`Store`] over ordinary maps, with faults on demand. Every verb runs alone, under one lock.
#[derive(Debug)]
pub struct MemoryStore {
    state: Mutex<State>,
    disk: Mutex<()>,
}

#[derive(Debug)]
struct State {
    model: Model,
    faults: Faults,
    commits: u64,
}

impl MemoryStore {
    /// An empty store that remembers (source, id) pairs for `dedup_window`, at most `dedup_ids_max` of them.
    #[must_use]
    pub fn new(dedup_window: Duration, dedup_ids_max: usize) -> Self {
        Self::with(Model::new(dedup_window, dedup_ids_max), Faults::default())
    }

    fn with(model: Model, faults: Faults) -> Self {
        Self {
            state: Mutex::new(State {
                model,
                faults,
                commits: 0,
            }),
            disk: Mutex::default(),
        }
    }

    /// While this is held, nothing that is staged becomes durable, as on a disk that hangs.
    pub fn hold_disk(&self) -> MutexGuard<'_, ()> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the next process would find: a store that holds what was staged in this one. Planned and
    /// past failures are gone, damaged events stay damaged.
    #[must_use]
    pub fn crash(&self) -> Self {
        let state = self.locked();
        Self::with(state.model.clone(), state.faults.after_crash())
    }

    /// Makes the `n`-th commit from now on fail (1 is the next), and everything after it.
    pub fn fail_commit(&self, n: u64, reached: Reached) {
        self.locked().faults.fail_commit(n, reached);
    }

    /// Nothing can be written or made durable from now on.
    pub fn break_disk(&self) {
        self.locked().faults.break_now();
    }

    /// Refuses every group of events with `refusal` from now on, as a full store or disk does; `None`: takes
    /// them again. Moves of deliveries go on.
    pub fn refuse(&self, refusal: Option<Refusal>) {
        self.locked().faults.refusal = refusal;
    }

    /// Damages the bytes of an event: loading it fails with [`LoadError::Damaged`], and it shows up in
    /// quarantine once someone has tried.
    pub fn damage(&self, seq: Seq, why: &str) {
        self.locked().faults.damaged.insert(seq, why.to_owned());
    }

    /// A test that panicked while it held the lock has failed already; the maps are whole between verbs.
    fn locked(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, if the store has not failed.
    fn working(&self) -> Result<MutexGuard<'_, State>, StoreError> {
        let state = self.locked();
        state.faults.check()?;
        Ok(state)
    }
}

impl State {
    fn apply(&mut self, batch: Batch, now: Timestamp) -> Committed {
        let mut committed = Committed::default();
        for group in batch.accepts {
            committed.accepts.push(match self.faults.refusal {
                Some(refusal) => Err(refusal),
                None => Ok(self.model.accept(group, now)),
            });
        }
        for settle in batch.settles {
            self.model.settle(settle);
        }
        self.commits += 1;
        committed
    }

    fn load(&mut self, seq: Seq) -> Result<Event, LoadError> {
        self.faults.check().map_err(LoadError::Store)?;
        let event = self.model.event(seq).ok_or(LoadError::Missing(seq))?;
        match self.faults.damaged.get(&seq) {
            Some(why) => {
                self.faults.found.insert(seq);
                Err(LoadError::Damaged(seq, why.clone()))
            }
            None => Ok(event.clone()),
        }
    }
}

impl Store for MemoryStore {
    fn lane(&self, name: &str) -> Result<LaneId, StoreError> {
        Ok(self.working()?.model.lane(name))
    }

    fn lanes(&self) -> Vec<LaneTotals> {
        self.locked().model.lanes()
    }

    fn stage(&self, batch: Batch, now: Timestamp) -> Result<Committed, StoreError> {
        let mut state = self.working()?;
        match state.faults.next_commit() {
            None => Ok(state.apply(batch, now)),
            Some(reached) => {
                if reached == Reached::Disk {
                    state.apply(batch, now);
                }
                state.faults.check().map(|()| Committed::default())
            }
        }
    }

    /// What is staged here has no further to go, and is given at once, but whoever asks may have to wait.
    fn sync(&self) -> Result<(), StoreError> {
        drop(self.hold_disk());
        self.working().map(drop)
    }

    fn log_attempts(&self, attempts: Vec<NewAttempt>, _now: Timestamp) {
        let mut state = self.locked();
        for new in attempts {
            state.model.log_attempt(new);
        }
    }

    fn attempts(&self, filter: &AttemptFilter, before: Option<u64>, limit: usize) -> AttemptPage {
        self.locked().model.attempts(filter, before, limit)
    }

    fn due(&self, lane: LaneId, query: &DueQuery) -> Result<DueAnswer, StoreError> {
        Ok(self.working()?.model.due(lane, query))
    }

    fn load(&self, seqs: &[Seq]) -> Vec<Result<Event, LoadError>> {
        let mut state = self.locked();
        seqs.iter().map(|seq| state.load(*seq)).collect()
    }

    fn load_cached(&self, seq: Seq) -> Option<Event> {
        self.locked().load(seq).ok()
    }

    fn deferral(&self, id: DeliveryId, was_due: Timestamp) -> Result<Option<Deferral>, StoreError> {
        Ok(self.working()?.model.deferral(id, was_due))
    }

    fn pause(&self, lane: LaneId, pause: Option<Pause>) -> Result<(), StoreError> {
        self.working()?.model.pause(lane, pause);
        Ok(())
    }

    fn pauses(&self) -> Vec<(LaneId, Pause)> {
        self.locked().model.pauses()
    }

    fn flush_lane(
        &self,
        lane: LaneId,
        now: Timestamp,
        from: Option<FlushCursor>,
        limit: usize,
    ) -> Result<Flushed, StoreError> {
        Ok(self.working()?.model.flush_lane(lane, now, from, limit))
    }

    fn dead(
        &self,
        filter: &DeadFilter,
        after: Option<DeliveryId>,
        limit: usize,
    ) -> Result<DeadPage, StoreError> {
        Ok(self.working()?.model.dead(filter, after, limit))
    }

    fn dead_letter(&self, id: DeliveryId) -> Result<Option<DeadLetter>, StoreError> {
        Ok(self.working()?.model.dead_letter(id))
    }

    fn revive(&self, ids: &[(DeliveryId, Timestamp)]) -> Result<Vec<DeliveryId>, StoreError> {
        Ok(self.working()?.model.revive(ids))
    }

    fn discard(&self, ids: &[DeliveryId]) -> Result<u64, StoreError> {
        Ok(self.working()?.model.discard(ids))
    }

    fn reassign(&self, from: LaneId, to: LaneId, limit: usize, now: Timestamp) -> Result<u64, StoreError> {
        Ok(self.working()?.model.reassign(from, to, limit, now))
    }

    fn find(&self, event_id: &str, limit: usize) -> Result<Vec<FoundEvent>, StoreError> {
        Ok(self.working()?.model.find(event_id, limit))
    }

    fn walk(&self, each: &mut Walker<'_>) -> Result<(), StoreError> {
        let all = self.working()?.model.all();
        for found in all {
            let loaded = self.locked().load(found.seq);
            if each(loaded.map(|_| found)).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn ages(&self, now: Timestamp) -> Vec<(LaneId, Ages)> {
        self.locked().model.ages(now)
    }

    fn stats(&self) -> StoreStats {
        let state = self.locked();
        let (events, live_bytes) = state.model.size();
        let (dedup_ids, dedup_since) = state.model.remembered();
        let refusing = state.faults.refusal.map(|refusal| match refusal {
            Refusal::QueueFull => "queue_full".to_owned(),
            Refusal::DiskFull => "disk_full".to_owned(),
        });
        StoreStats {
            events,
            live_bytes,
            free_bytes: u64::MAX,
            quarantined: state.faults.found.len() as u64,
            commits: state.commits,
            dedup_ids,
            dedup_since,
            refusing,
            ..StoreStats::default()
        }
    }

    fn quarantine(&self, limit: usize) -> Vec<Quarantined> {
        let state = self.locked();
        let set_aside = |seq: &Seq| Quarantined {
            found: Timestamp::default(),
            what: format!("event {}", seq.0),
            why: state.faults.damaged.get(seq).cloned().unwrap_or_default(),
            bytes: Vec::new(),
        };
        state
            .faults
            .found
            .iter()
            .rev()
            .take(limit)
            .map(set_aside)
            .collect()
    }

    fn maintain(&self, now: Timestamp, dead_before: Timestamp) -> Result<Maintained, StoreError> {
        self.working()?.model.maintain(now, dead_before);
        Ok(Maintained { more: false })
    }

    fn rest(&self, _now: Timestamp) -> Result<(), StoreError> {
        self.working().map(drop)
    }

    fn verify(&self) -> Result<CheckReport, StoreError> {
        let stats = self.stats();
        let mut report = CheckReport {
            events: stats.events,
            quarantined: stats.quarantined,
            ..CheckReport::default()
        };
        for lane in self.lanes() {
            report.pending += lane.pending;
            report.deferred += lane.deferred;
            report.dead += lane.dead;
        }
        report.problems = self
            .quarantine(usize::MAX)
            .into_iter()
            .map(|found| found.what)
            .collect();
        report.damaged = report.problems.len() as u64;
        Ok(report)
    }

    fn close(&self) -> Result<(), StoreError> {
        self.working().map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::domain::event::EventHead;
    use crate::store::{AcceptGroup, Accepted, NewEvent};

    fn store() -> MemoryStore {
        let store = MemoryStore::new(Duration::from_secs(60), 100);
        store.lane("one").unwrap();
        store
    }

    fn accept(id: &str) -> Batch {
        let head = EventHead::new(id, "/test", "test", Timestamp(1));
        let event = Event {
            head,
            json: Bytes::from_static(b"{}"),
        };
        let group = AcceptGroup {
            events: vec![NewEvent {
                event,
                lanes: [LaneId(0)].into(),
            }],
        };
        Batch {
            accepts: vec![group],
            settles: Vec::new(),
        }
    }

    /// The n-th commit fails and everything after it; a crash finds what was on disk by then.
    #[test]
    fn a_failed_commit_is_the_last_and_may_have_reached_the_disk() {
        for (reached, kept) in [(Reached::Nothing, 1), (Reached::Disk, 2)] {
            let store = store();
            store.fail_commit(2, reached);
            store.commit(accept("a"), Timestamp(1)).unwrap();
            let failed = store.commit(accept("b"), Timestamp(1)).unwrap_err();
            assert_eq!(store.commit(Batch::default(), Timestamp(1)).unwrap_err(), failed);
            assert_eq!(store.lane("two").unwrap_err(), failed);
            assert_eq!(store.load(&[Seq(1)]), [Err(LoadError::Store(failed))]);
            let next = store.crash();
            assert_eq!(next.lanes()[0].pending, kept);
            next.commit(accept("c"), Timestamp(1)).unwrap();
        }
    }

    /// I4: refusing groups writes nothing of them, remembers no id, and lets settling go on.
    #[test]
    fn i4_refusals_last_until_they_are_lifted() {
        let store = store();
        for (refusal, name) in [
            (Refusal::QueueFull, "queue_full"),
            (Refusal::DiskFull, "disk_full"),
        ] {
            store.refuse(Some(refusal));
            assert_eq!(
                store.commit(accept("a"), Timestamp(1)).unwrap().accepts,
                [Err(refusal)]
            );
            assert_eq!(store.stats().refusing.as_deref(), Some(name));
        }
        store.refuse(None);
        let accepted = store.commit(accept("a"), Timestamp(1)).unwrap().accepts;
        assert_eq!(accepted, [Ok(vec![Accepted::New(Seq(1))])]);
    }

    /// G4: a damaged event is told from a missing one, is shown in quarantine, and stays damaged.
    #[test]
    fn g4_damage_shows_and_stays() {
        let store = store();
        store.commit(accept("a"), Timestamp(1)).unwrap();
        store.damage(Seq(1), "checksum");
        assert_eq!(store.quarantine(10), []);
        for store in [store.crash(), store] {
            assert_eq!(
                store.load(&[Seq(1)]),
                [Err(LoadError::Damaged(Seq(1), "checksum".to_owned()))]
            );
            assert_eq!((store.load_cached(Seq(1)), store.quarantine(10).len()), (None, 1));
            assert_eq!(store.stats().quarantined, 1);
        }
    }
}
