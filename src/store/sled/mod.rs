//! The queue on sled: a static ring of slots that hold chunks of events, with a small record beside each for
//! what it still owes.
//!
//! ```text
//! batch ─► accept, moves (draft) ─► plan: writes in a safe order ─► engine: write ─► index, cache ─► engine: flush
//! start ─► open ─► recover: engine ─► index and writer                readers: index ─► cache or engine
//! ```
//! Files in the order of reading: [`keys`], [`chunk`] and [`bits`] (what is on disk and in memory), [`plan`]
//! (the order of writes), [`pool`] with [`ring`] and [`pages`] (numbers that are used again), [`draft`] with
//! [`accept`] and [`moves`] (a change in the making), [`recover`], [`read`], [`walk`], [`ages`], [`maintain`] with
//! [`compact`] and [`rewrite`] (giving space back), [`check`], [`repair`] and [`rescue`] (what is left of a damaged
//! queue). [`engine`], [`durable`] and [`witness`] are all that knows sled's ways; [`limit`] is what they give
//! without the rest.

mod accept;
mod ages;
mod bits;
mod cache;
mod check;
mod chunk;
mod compact;
pub mod crash;
mod draft;
mod durable;
mod engine;
mod ids;
mod index;
mod keys;
mod limit;
mod maintain;
mod moves;
mod open;
mod pages;
mod plan;
mod pool;
mod read;
mod recover;
mod repair;
mod rescue;
mod rewrite;
mod ring;
mod space;
#[cfg(test)]
mod tests;
mod walk;
mod witness;
mod writer;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use rustc_hash::FxHashMap;

use self::cache::ChunkCache;
use self::compact::Search;
use self::draft::{Draft, Effects};
use self::engine::Engine;
use self::index::Index;
pub use self::limit::SledLimit;
use self::maintain::Sweep;
pub use self::open::{OpenError, OpenOptions};
pub use self::repair::{Repair, RepairPlan, Repaired};
use self::writer::Writer;
use super::attempts::log::AttemptLog;
use super::bounds;
use super::files::Lock;
use super::record::{self, Identity, LaneRecord};
use super::{
    AttemptFilter, AttemptPage, Batch, CheckReport, Committed, DeadFilter, DeadLetter, DeadPage, Deferral,
    DeliveryId, DueAnswer, DueQuery, FlushCursor, Flushed, FoundEvent, LaneId, LaneTotals, LoadError,
    Maintained, NewAttempt, Pause, Quarantined, Refusal, Store, StoreError, StoreStats, Walker,
};
use crate::config::StoreConfig;
use crate::domain::age::Ages;
use crate::domain::event::{Event, Seq};
use crate::domain::time::Timestamp;

/// Bytes of chunks kept in memory.
const CACHE_BYTES: usize = 16 << 20;
/// Damaged events remembered, so that each is set aside once.
const DAMAGE_SEEN_MAX: usize = 10_000;
/// New events count as refused when there is no room for one of this size.
const EVENT_BYTES_USUAL: u64 = 1 << 10;

/// A [`Store`] on sled.
///
/// Writing verbs take the writer's lock while they work, and readers never wait for it. Readers take the index's lock for a
/// moment, and so does the writer.
///
/// Memory learns of a batch when it is staged, before it is durable, because the next one is drafted upon it. The
/// log is one, so what a crash leaves of it never holds a change without those before. Only events are kept back from
/// whoever delivers them until they are durable. Of all other changes memory learns when they are durable.
pub struct SledStore {
    engine: ArcSwap<Engine>,
    identity: Identity,
    config: StoreConfig,
    writer: Mutex<Writer>,
    index: Mutex<Index>,
    cache: Mutex<ChunkCache>,
    damage: Mutex<Damage>,
    numbers: Mutex<Numbers>,
    sweep: Mutex<Sweep>,
    search: Mutex<Search>,
    /// What is written and was not flushed yet.
    staged: Mutex<Staged>,
    /// Held while the disk is made to flush.
    flushing: Mutex<()>,
    /// Nothing is written: the store was opened to be looked at.
    read_only: bool,
    /// Beside the queue: nothing in it depends on this.
    attempts: Mutex<AttemptLog>,
    /// No file has to be larger than this to be rewritten; tests lower it.
    rewrite_bytes_min: u64,
    _owner: Lock,
}

impl std::fmt::Debug for SledStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SledStore({})", self.config.path.display())
    }
}

/// Damage that readers came upon.
#[derive(Debug, Default)]
struct Damage {
    seen: HashSet<Seq>,
    /// Generations of slots that can't be merged with others, because something in them is damaged.
    spared: HashSet<u64>,
    /// To be written by the next commit.
    waiting: Vec<Quarantined>,
    /// Records on disk that were set aside.
    quarantined: u64,
}

/// Changes since the last flush.
#[derive(Debug, Default)]
struct Staged {
    /// If there are any, the first sequence number that none of them has.
    next_seq: Option<Seq>,
    /// Set for ever by the first flush that failed: another one would tell nothing of what that one has lost.
    failed: Option<StoreError>,
}

/// What the writer tells about itself after every commit, so that nobody has to wait for it.
#[derive(Clone, Copy, Debug, Default)]
struct Numbers {
    commits: u64,
    free_bytes: u64,
    dedup_ids: u64,
    dedup_since: Option<Timestamp>,
    refusing: Option<Refusal>,
}

/// Locks what readers share, also after a panic elsewhere: every change there is whole before anything can
/// panic. For the writing side see [`SledStore::working_writer`].
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SledStore {
    /// Drafts a change, makes it durable, and lets memory know. A change that is told no time takes that of the one before.
    fn transact<R>(
        &self,
        now: impl Into<Option<Timestamp>>,
        change: impl FnOnce(&mut Draft<'_>) -> Result<R, StoreError>,
    ) -> Result<R, StoreError> {
        self.change(now, change, || self.flush_staged())
    }

    /// Drafts and writes a change, does `before_memory`, and lets memory know. The first failure is the last change.
    fn change<R>(
        &self,
        now: impl Into<Option<Timestamp>>,
        change: impl FnOnce(&mut Draft<'_>) -> Result<R, StoreError>,
        before_memory: impl FnOnce() -> Result<(), StoreError>,
    ) -> Result<R, StoreError> {
        if self.read_only {
            return Err(StoreError::Failed(
                "it was opened to be looked at only".to_owned(),
            ));
        }
        let mut writer = self.working_writer()?;
        let now = now.into().unwrap_or(writer.latest);
        writer.latest = now;
        // Before each change, since others may fill the disk while nothing new is accepted: what stands by for
        // that has to be given up before a write fails.
        writer.space.refresh();
        let result = self.try_change(&mut writer, now, change, before_memory);
        if let Err(error) = &result {
            writer.fail(error);
        }
        result
    }

    fn try_change<R>(
        &self,
        writer: &mut Writer,
        now: Timestamp,
        change: impl FnOnce(&mut Draft<'_>) -> Result<R, StoreError>,
        before_memory: impl FnOnce() -> Result<(), StoreError>,
    ) -> Result<R, StoreError> {
        let engine = self.engine.load_full();
        let mut draft = Draft::new(&engine, &self.index, writer, now);
        let damaged = std::mem::take(&mut lock(&self.damage).waiting);
        for record in &damaged {
            draft.set_aside(&Quarantined {
                found: now,
                ..record.clone()
            })?;
        }
        let result = change(&mut draft)?;
        let (plan, effects) = draft.finish()?;
        if !plan.is_empty() {
            engine.write(plan)?;
            engine.tidy(writer.pages_to_tidy)?;
            lock(&self.staged).next_seq = Some(writer.next_seq());
        }
        before_memory()?;
        lock(&self.damage).quarantined += damaged.len() as u64;
        self.apply(writer, effects);
        self.publish(writer);
        Ok(result)
    }

    /// Makes durable what is staged; whoever else asks for that meanwhile waits for it.
    fn flush_staged(&self) -> Result<(), StoreError> {
        let Ok(_turn) = self.flushing.lock() else {
            return Err(StoreError::Failed("a flush ended in a panic".to_owned()));
        };
        let next_seq = {
            let mut staged = lock(&self.staged);
            staged.failed.clone().map_or(Ok(()), Err)?;
            staged.next_seq.take()
        };
        let Some(next_seq) = next_seq else {
            return Ok(());
        };
        crash::crash_point("before-flush");
        let flushed = self.engine.load_full().flush();
        crash::crash_point("after-flush");
        match &flushed {
            Ok(()) => {
                lock(&self.index).durable_next = next_seq;
                lock(&self.numbers).commits += 1;
            }
            Err(error) => lock(&self.staged).failed = Some(error.clone()),
        }
        flushed
    }

    /// The writing side, if it still works. Had a panic ended a change half way, memory and disk would not
    /// agree any more: that is a failure like any other.
    fn working_writer(&self) -> Result<MutexGuard<'_, Writer>, StoreError> {
        let Ok(writer) = self.writer.lock() else {
            return Err(StoreError::Failed("a change ended in a panic".to_owned()));
        };
        writer.failed.clone().map_or(Ok(writer), Err)
    }

    /// Lets memory know what was written.
    fn apply(&self, writer: &mut Writer, effects: Effects) {
        let mut cache = lock(&self.cache);
        let mut index = lock(&self.index);
        for number in effects.freed {
            if let Some(slot) = index.remove(number) {
                cache.forget(slot.generation);
            }
            writer.ring.release(number);
        }
        effects
            .freed_parts
            .into_iter()
            .for_each(|number| writer.ring.release(number));
        writer.to_scrub.extend(effects.to_scrub);
        for (number, slot, chunk) in effects.inserted {
            cache.insert(slot.generation, chunk);
            index.insert(number, slot);
        }
        effects
            .replaced
            .into_iter()
            .for_each(|(number, lanes)| index.replace(number, lanes));
        let mut sweep = lock(&self.sweep);
        effects.died.into_iter().for_each(|since| sweep.died(since));
        effects
            .lanes
            .into_iter()
            .for_each(|(lane, record)| index.set_lane(lane, record));
    }

    fn publish(&self, writer: &Writer) {
        let mut numbers = lock(&self.numbers);
        *numbers = Numbers {
            commits: numbers.commits,
            free_bytes: writer.space.free_bytes(),
            dedup_ids: writer.ids.len() as u64,
            dedup_since: writer.ids.since(),
            refusing: writer.space.refusal(writer.occupied(), EVENT_BYTES_USUAL),
        };
    }

    /// The numbers of a store that was just opened.
    fn with_numbers(self) -> Self {
        self.publish(&lock(&self.writer));
        self
    }

    /// Until when an event is not to be delivered to anyone, if that is after `now`.
    fn delayed(&self, seq: Seq, now: Timestamp) -> Option<Timestamp> {
        self.load_one(seq).ok()?.head.deliver_at.filter(|at| *at > now)
    }
}

impl Store for SledStore {
    fn lane(&self, name: &str) -> Result<LaneId, StoreError> {
        let known = |index: &Index| {
            index
                .lanes()
                .find(|(_, lane)| lane.name.as_deref() == Some(name))
                .map(|(id, _)| id)
        };
        if let Some(id) = known(&lock(&self.index)) {
            return Ok(id);
        }
        self.transact(None, |draft| {
            let id = lock(draft.index).next_lane();
            draft.set_lane(
                id,
                LaneRecord {
                    name: name.into(),
                    pause: None,
                },
            )?;
            Ok(id)
        })
    }

    fn lanes(&self) -> Vec<LaneTotals> {
        let mut totals: Vec<LaneTotals> = lock(&self.index)
            .lanes()
            .map(|(id, lane)| LaneTotals {
                lane: id,
                name: lane.name.clone().unwrap_or_default(),
                pending: lane.counts.pending,
                deferred: lane.counts.deferred,
                dead: lane.counts.dead,
                oldest_pending: None,
                deferred_next: None,
                paused: lane.pause.clone(),
            })
            .collect();
        for lane in &mut totals {
            lane.oldest_pending = lock(&self.index).oldest_pending(lane.lane);
            lane.deferred_next = if lane.deferred > 0 {
                self.deferred_next(lane.lane)
            } else {
                None
            };
        }
        totals
    }

    fn stage(&self, batch: Batch, now: Timestamp) -> Result<Committed, StoreError> {
        let change = |draft: &mut Draft<'_>| {
            draft.settle(batch.settles)?;
            Ok(Committed {
                accepts: draft.accept(batch.accepts)?,
            })
        };
        self.change(now, change, || Ok(()))
    }

    fn sync(&self) -> Result<(), StoreError> {
        let flushed = self.flush_staged();
        // The lock is broken after a panic, and then the store has failed already.
        if let Err(error) = &flushed
            && let Ok(mut writer) = self.writer.lock()
        {
            writer.fail(error);
        }
        flushed
    }

    fn nudge(&self) {
        // If it fails, that is what the flush is about to tell.
        let _ = self.engine.load().nudge();
    }

    fn log_attempts(&self, attempts: Vec<NewAttempt>, now: Timestamp) {
        let mut names: FxHashMap<LaneId, Arc<str>> = FxHashMap::default();
        let mut name = |lane| {
            let name = || lock(&self.index).lane(lane).and_then(|lane| lane.name.clone());
            let name = names
                .entry(lane)
                .or_insert_with(|| name().unwrap_or_default().into());
            Arc::clone(name)
        };
        let tries = attempts
            .into_iter()
            .map(|new| (name(new.lane), bounds::logged(new.entry)))
            .collect();
        lock(&self.attempts).append(tries, now);
    }

    fn attempts(&self, filter: &AttemptFilter, before: Option<u64>, limit: usize) -> AttemptPage {
        let window = lock(&self.attempts).window();
        window.search(filter, before, limit)
    }

    fn due(&self, lane: LaneId, query: &DueQuery) -> Result<DueAnswer, StoreError> {
        self.due_now(lane, query)
    }

    fn load(&self, seqs: &[Seq]) -> Vec<Result<Event, LoadError>> {
        seqs.iter().map(|seq| self.load_one(*seq)).collect()
    }

    fn load_cached(&self, seq: Seq) -> Option<Event> {
        self.load_from_cache(seq)
    }

    fn deferral(&self, id: DeliveryId, was_due: Timestamp) -> Result<Option<Deferral>, StoreError> {
        self.deferral_at(id, was_due)
    }

    fn pause(&self, lane: LaneId, pause: Option<Pause>) -> Result<(), StoreError> {
        let Some(name) = lock(&self.index).lane(lane).and_then(|lane| lane.name.clone()) else {
            return Ok(());
        };
        let pause = pause.map(bounds::pause);
        self.transact(None, |draft| draft.set_lane(lane, LaneRecord { name, pause }))
    }

    fn pauses(&self) -> Vec<(LaneId, Pause)> {
        let index = lock(&self.index);
        let paused = index
            .lanes()
            .filter_map(|(id, lane)| Some((id, lane.pause.clone()?)));
        paused.collect()
    }

    fn flush_lane(
        &self,
        lane: LaneId,
        now: Timestamp,
        from: Option<FlushCursor>,
        limit: usize,
    ) -> Result<Flushed, StoreError> {
        self.transact(now, |draft| {
            draft.flush(lane, from, limit, |seq| self.delayed(seq, now))
        })
    }

    fn dead(
        &self,
        filter: &DeadFilter,
        after: Option<DeliveryId>,
        limit: usize,
    ) -> Result<DeadPage, StoreError> {
        self.dead_page(filter, after, limit)
    }

    fn dead_letter(&self, id: DeliveryId) -> Result<Option<DeadLetter>, StoreError> {
        self.letter(id)
    }

    fn revive(&self, ids: &[(DeliveryId, Timestamp)]) -> Result<Vec<DeliveryId>, StoreError> {
        self.transact(None, |draft| draft.revive(ids))
    }

    fn discard(&self, ids: &[DeliveryId]) -> Result<u64, StoreError> {
        self.transact(None, |draft| draft.discard(ids))
    }

    fn reassign(&self, from: LaneId, to: LaneId, limit: usize, now: Timestamp) -> Result<u64, StoreError> {
        if from == to || lock(&self.index).lane(to).is_none() {
            return Ok(0);
        }
        self.transact(now, |draft| {
            draft.reassign(from, to, limit, |seq| self.delayed(seq, now))
        })
    }

    fn find(&self, event_id: &str, limit: usize) -> Result<Vec<FoundEvent>, StoreError> {
        self.find_events(event_id, limit)
    }

    fn walk(&self, each: &mut Walker<'_>) -> Result<(), StoreError> {
        self.walk_events(each)
    }

    fn ages(&self, now: Timestamp) -> Vec<(LaneId, Ages)> {
        self.ages_at(now)
    }

    fn stats(&self) -> StoreStats {
        let (events, live_bytes) = lock(&self.index).size();
        let numbers = *lock(&self.numbers);
        let engine = self.engine.load();
        let attempts = lock(&self.attempts).size();
        let damage = lock(&self.damage);
        StoreStats {
            events,
            live_bytes,
            disk_bytes: engine.disk_bytes(),
            free_bytes: numbers.free_bytes,
            blob_files: engine.blob_files(),
            quarantined: damage.quarantined + damage.waiting.len() as u64,
            commits: numbers.commits,
            dedup_ids: numbers.dedup_ids,
            dedup_since: numbers.dedup_since,
            attempts_bytes: attempts.bytes,
            attempts_dropped: attempts.dropped,
            refusing: numbers.refusing.map(|refusal| match refusal {
                Refusal::QueueFull => "queue_full".to_owned(),
                Refusal::DiskFull => "disk_full".to_owned(),
            }),
        }
    }

    fn quarantine(&self, limit: usize) -> Vec<Quarantined> {
        let engine = self.engine.load();
        let on_disk = engine
            .range(keys::class(keys::QUARANTINE))
            .rev()
            .filter_map(|pair| {
                let (_, value) = pair.ok()?;
                record::decode::<Quarantined>(&value).ok()
            });
        let waiting = lock(&self.damage).waiting.clone();
        waiting.into_iter().rev().chain(on_disk).take(limit).collect()
    }

    fn maintain(&self, now: Timestamp, dead_before: Timestamp) -> Result<Maintained, StoreError> {
        self.keep_house(now, dead_before)
    }

    fn rest(&self, now: Timestamp) -> Result<(), StoreError> {
        self.rewrite(rewrite::AT_REST, now).map(drop)
    }

    fn verify(&self) -> Result<CheckReport, StoreError> {
        self.read_everything()
    }

    fn close(&self) -> Result<(), StoreError> {
        if !self.read_only {
            self.transact(None, |draft| draft.writer.release_numbers(&mut draft.plan))?;
        }
        let closed = StoreError::Failed("the store is closed".to_owned());
        self.working_writer()?.failed = Some(closed);
        lock(&self.attempts).sync();
        Ok(())
    }
}
