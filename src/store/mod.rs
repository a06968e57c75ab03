//! What survives a crash: the seam between posthaste and the disk.
//!
//! [`Store`] speaks domain verbs, small and safe to repeat; no key, no page and no flush crosses it.
//! Everything that writes is called by one thread at a time, the committer's as a rule; everything that reads may be
//! called from any thread, but blocks, so never from async code. When a writing verb returns `Ok`, its effect
//! survives a power cut. When it returns [`StoreError::Failed`] the store is finished: the caller stops
//! answering, stops delivering, says so and exits.

pub mod attempts;
mod bounds;
pub mod committer;
mod dead;
mod due;
pub mod files;
pub mod memory;
pub mod record;
mod report;
pub mod sled;
#[cfg(test)]
mod suite;

use std::ops::ControlFlow;
use std::sync::Arc;

pub use due::{Due, DueAnswer, DueQuery};
use serde::{Deserialize, Serialize};

use crate::domain::age::Ages;
pub use attempts::{AttemptEntry, AttemptFilter, AttemptPage, LoggedAttempt, NewAttempt};
pub use dead::{DeadFilter, DeadPage};

use crate::domain::delivery::DeadReason;
use crate::domain::event::{Event, Seq};
use crate::domain::outcome::{Attempt, ErrorClass};
use crate::domain::time::Timestamp;

pub use self::report::{CheckReport, Quarantined, StoreStats};

/// The store's number for an endpoint's queue, given once per name and kept for ever, so that a renamed or
/// removed endpoint's deliveries stay where they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LaneId(pub u32);

/// One delivery: one event owed to one endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DeliveryId {
    /// To whom.
    pub lane: LaneId,
    /// Which event.
    pub seq: Seq,
}

/// An event to accept, with the lanes it is owed to (never empty, no lane twice).
#[derive(Clone, Debug)]
pub struct NewEvent {
    /// The event.
    pub event: Event,
    /// The deliveries it owes.
    pub lanes: Arc<[LaneId]>,
}

/// Events that are accepted together or not at all: a line of a producer.
#[derive(Clone, Debug, Default)]
pub struct AcceptGroup {
    /// In the order of the line.
    pub events: Vec<NewEvent>,
}

/// What became of one event of an accepted group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// New: this is its place, on disk once the commit is durable.
    New(Seq),
    /// Its (source, id) was accepted before, inside the dedup window; nothing was written.
    Duplicate,
}

/// Why a group was refused. Nothing of it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The store has reached `max_size`.
    #[error("the queue is full (store.max_size); events are taken again once deliveries have made room")]
    QueueFull,
    /// The file system has less than `min_free` left.
    #[error(
        "the disk is nearly full (store.min_free); deliveries go on, new events wait until there is room"
    )]
    DiskFull,
}

/// A failed try's memory: when to try again, and what is known so far.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deferral {
    /// Not before this instant.
    pub due: Timestamp,
    /// Tries used so far.
    pub tries: u32,
    /// When the first try began.
    pub first_attempt: Timestamp,
    /// When the latest try began.
    pub last_attempt: Timestamp,
    /// The latest answer's status, if one came.
    pub last_status: Option<u16>,
    /// The latest error's class.
    pub last_class: Option<ErrorClass>,
    /// The latest error in one sentence, at most 200 bytes.
    pub last_message: Box<str>,
}

/// What a dead letter keeps beside its event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadEvidence {
    /// Why it is dead.
    pub reason: DeadReason,
    /// Since when.
    pub since: Timestamp,
    /// Tries used.
    pub tries: u32,
    /// When the first try began; `None` if there never was one.
    pub first_attempt: Option<Timestamp>,
    /// The last try with request and answer; `None` if there never was one.
    pub last: Option<Attempt>,
    /// The event's id, so that lists need not read the event.
    pub event_id: Box<str>,
    /// The event's source.
    pub event_source: Box<str>,
    /// The event's type.
    pub event_kind: Box<str>,
    /// When the event was accepted.
    pub accepted: Timestamp,
}

/// A dead letter as listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Which delivery.
    pub id: DeliveryId,
    /// Why and since when.
    pub evidence: DeadEvidence,
}

/// Where one delivery goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettleTo {
    /// Nothing more is owed: delivered, skipped, expired, or best effort and failed.
    Settled,
    /// To be tried again later.
    Later(Deferral),
    /// Kept among the dead letters.
    Dead(Box<DeadEvidence>),
}

/// One durable move of one delivery. Settling what is no longer owed is no error and does nothing, so a
/// move may be repeated. Texts that are longer than those who write them ever make them are cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settle {
    /// Which delivery.
    pub id: DeliveryId,
    /// The due time of its deferral as [`Store::due`] gave it; `None` if it had none.
    pub was_due: Option<Timestamp>,
    /// Where it goes.
    pub to: SettleTo,
}

/// Everything that one commit writes and makes durable at once.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// New events, in the order of their sequence numbers.
    pub accepts: Vec<AcceptGroup>,
    /// Moves of deliveries.
    pub settles: Vec<Settle>,
}

/// The answers to [`Batch::accepts`], in the same order.
#[derive(Clone, Debug, Default)]
pub struct Committed {
    /// Per group: per event what became of it, or why the group was refused.
    pub accepts: Vec<Result<Vec<Accepted>, Refusal>>,
}

/// A lane's pause, durable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// Who: `operator`, or what the daemon itself saw, such as `410 Gone`.
    pub by: Box<str>,
    /// Why, in the words of whoever paused it.
    pub reason: Box<str>,
    /// Since when.
    pub since: Timestamp,
    /// Until when; `None`: until someone resumes it.
    pub until: Option<Timestamp>,
}

/// The numbers of one lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneTotals {
    /// Which lane.
    pub lane: LaneId,
    /// The endpoint's name.
    pub name: Box<str>,
    /// Deliveries owed, deferred ones too.
    pub pending: u64,
    /// Of these, those that wait for a later try.
    pub deferred: u64,
    /// Dead letters.
    pub dead: u64,
    /// When the oldest event still pending was accepted; may be earlier by the length of a commit.
    pub oldest_pending: Option<Timestamp>,
    /// The earliest due time among the deferred.
    pub deferred_next: Option<Timestamp>,
    /// Set while paused.
    pub paused: Option<Pause>,
}

/// Where [`Store::flush_lane`] goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlushCursor {
    /// When the delivery looked at last is due.
    pub due: Timestamp,
    /// Its event.
    pub seq: Seq,
    /// How many more are looked at: as many as were deferred when the flush began. So it comes to an end, though
    /// what it has moved may be tried and deferred again meanwhile.
    pub left: u64,
}

/// What one call of [`Store::flush_lane`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flushed {
    /// Deliveries that are due now and were not before.
    pub moved: u64,
    /// Pass on to go on; `None`: that was all.
    pub next: Option<FlushCursor>,
}

/// The state of one delivery of an event, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeliveryState {
    /// Owed, never tried.
    Fresh,
    /// Owed, tried before.
    Deferred(Deferral),
    /// Among the dead letters.
    Dead(Box<DeadEvidence>),
}

/// An event found by its id, with every delivery it still has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundEvent {
    /// Its place.
    pub seq: Seq,
    /// The event.
    pub event: Event,
    /// Deliveries that are not settled.
    pub deliveries: Vec<(LaneId, DeliveryState)>,
}

/// What [`Store::maintain`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Maintained {
    /// Whether it would find more to do at once.
    pub more: bool,
}

/// Why a store verb failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The disk or the engine failed. Nothing more may be accepted or delivered.
    #[error("the store failed: {0}")]
    Failed(String),
}

/// Why one event could not be loaded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// Nothing is kept at this place (any more).
    #[error("no event is kept at {0:?}")]
    Missing(Seq),
    /// Its bytes are damaged; they are in quarantine.
    #[error("the event at {0:?} is damaged: {1}")]
    Damaged(Seq, String),
    /// The store failed.
    #[error("{0}")]
    Store(StoreError),
}

/// What [`Store::walk`] calls for every event.
pub type Walker<'a> = dyn FnMut(Result<FoundEvent, LoadError>) -> ControlFlow<()> + 'a;

/// The queue. One suite (`store::suite`) runs over every implementation.
pub trait Store: Send + Sync + 'static {
    /// The lane called `name`, made durable if it is new. Writes.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    fn lane(&self, name: &str) -> Result<LaneId, StoreError>;

    /// Every lane that was ever registered, with its numbers.
    fn lanes(&self) -> Vec<LaneTotals>;

    /// Makes a batch durable: each group of events with its dedup keys and everything it owes, and each
    /// move of a delivery. Returns when it would survive a power cut. Writes.
    ///
    /// # Errors
    /// [`StoreError::Failed`]: none of the batch may be answered.
    fn commit(&self, batch: Batch, now: Timestamp) -> Result<Committed, StoreError> {
        let committed = self.stage(batch, now)?;
        self.sync()?;
        Ok(committed)
    }

    /// The first half of [`Store::commit`]: writes a batch that is durable after the next [`Store::sync`], for whoever
    /// stages the next batch while the disk works on this one. Until then its events are not given by [`Store::due`],
    /// and a crash leaves all staged batches up to one of them, of that one perhaps a part that owes nothing wrong.
    /// Writes.
    ///
    /// # Errors
    /// [`StoreError::Failed`]: none of the batch may be answered.
    fn stage(&self, batch: Batch, now: Timestamp) -> Result<Committed, StoreError>;

    /// Makes everything durable that was staged before it was called; returns when that would survive a power cut. May
    /// be called on another thread than the one that writes.
    ///
    /// # Errors
    /// [`StoreError::Failed`]: nothing that was staged may be answered.
    fn sync(&self) -> Result<(), StoreError>;

    /// Called again and again while a [`Store::sync`] takes long, for stores that have to be reminded of it.
    fn nudge(&self) {}

    /// Adds tries to the attempt log, in the order in which they were settled; texts are cut. To be called right
    /// before the commit that settles them, or while it is flushed. It never fails: what can't be logged is dropped and
    /// counted. Writes.
    fn log_attempts(&self, attempts: Vec<NewAttempt>, now: Timestamp);

    /// A page of the attempt log: tries that `filter` asks for, newest first, of those numbered below `before`
    /// (`None`: of all), at most `limit`.
    fn attempts(&self, filter: &AttemptFilter, before: Option<u64>, limit: usize) -> AttemptPage;

    /// What a lane could send now.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    fn due(&self, lane: LaneId, query: &DueQuery) -> Result<DueAnswer, StoreError>;

    /// Reads events, in the order asked for.
    fn load(&self, seqs: &[Seq]) -> Vec<Result<Event, LoadError>>;

    /// Reads an event only if that needs no disk, so that async code may call it; `None`: ask [`Store::load`].
    fn load_cached(&self, seq: Seq) -> Option<Event>;

    /// The deferral of a delivery whose due time is known.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    fn deferral(&self, id: DeliveryId, was_due: Timestamp) -> Result<Option<Deferral>, StoreError>;

    /// Pauses a lane, or with `None` resumes it. Texts past 1 KiB are cut. Writes.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    fn pause(&self, lane: LaneId, pause: Option<Pause>) -> Result<(), StoreError>;

    /// Every lane that is paused. Needs no disk, so async code may call it.
    fn pauses(&self) -> Vec<(LaneId, Pause)>;

    /// Makes deferred deliveries of a lane due at `now`, keeping their tries: looks at up to `limit` of those
    /// that are due later, the earliest first, from `from` on (`None`: from the first). One that waits for its
    /// event's `deliver_at` goes on waiting. Called again with [`Flushed::next`] until there is none. Writes.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    fn flush_lane(
        &self,
        lane: LaneId,
        now: Timestamp,
        from: Option<FlushCursor>,
        limit: usize,
    ) -> Result<Flushed, StoreError>;

    /// A page of dead letters after `after`, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    fn dead(
        &self,
        filter: &DeadFilter,
        after: Option<DeliveryId>,
        limit: usize,
    ) -> Result<DeadPage, StoreError>;

    /// One dead letter.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    fn dead_letter(&self, id: DeliveryId) -> Result<Option<DeadLetter>, StoreError>;

    /// Dead letters become pending again with their whole retry budget, due at `due` each. Those that are
    /// not dead (any more) are passed over. Returns those revived. Writes.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    fn revive(&self, ids: &[(DeliveryId, Timestamp)]) -> Result<Vec<DeliveryId>, StoreError>;

    /// Removes dead letters for good; those that are not dead are passed over. Returns how many. Writes.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    fn discard(&self, ids: &[DeliveryId]) -> Result<u64, StoreError>;

    /// Moves up to `limit` pending deliveries of `from` to `to`: fresh ones in order of acceptance, then
    /// deferred ones in order of due time. They begin anew there, fresh unless their event's `deliver_at` is
    /// still waited for; an event already owed to `to` is not owed twice. Returns how many left `from`. Writes.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    fn reassign(&self, from: LaneId, to: LaneId, limit: usize, now: Timestamp) -> Result<u64, StoreError>;

    /// Events with this id that are still kept, newest first, at most `limit`. Reads the whole queue if it
    /// has to, so it is for people, not for programs.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    fn find(&self, event_id: &str, limit: usize) -> Result<Vec<FoundEvent>, StoreError>;

    /// Shows `each` every event that is kept, in order of acceptance, with the deliveries it still has; one that
    /// is damaged, as the error that loading it gives. Ends early when `each` breaks. Reads the whole queue, so it
    /// is for people, not for programs.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    fn walk(&self, each: &mut Walker<'_>) -> Result<(), StoreError>;

    /// How old the pending deliveries of each lane are at `now`; lanes that owe nothing may be left out. Needs no
    /// disk, but looks at everything in memory.
    fn ages(&self, now: Timestamp) -> Vec<(LaneId, Ages)>;

    /// The store as a whole.
    fn stats(&self) -> StoreStats;

    /// What has been set aside, newest first, at most `limit`.
    fn quarantine(&self, limit: usize) -> Vec<Quarantined>;

    /// A bounded piece of housekeeping: gives space back, forgets old ids, expired dead letters (dead since before
    /// `dead_before`) and tries that were logged too long ago. Called when there is time. Writes.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    fn maintain(&self, now: Timestamp, dead_before: Timestamp) -> Result<Maintained, StoreError>;

    /// Gives back what is held for more to come: nothing has happened for a while, and housekeeping is done. It may hold
    /// up others for longer than [`Store::maintain`] does. Writes.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    fn rest(&self, now: Timestamp) -> Result<(), StoreError>;

    /// Reads everything and changes nothing; takes as long as reading the disk takes.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    fn verify(&self) -> Result<CheckReport, StoreError>;

    /// Writes out what is still only in memory and lets go of the disk. Nothing may be called afterwards.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    fn close(&self) -> Result<(), StoreError>;
}
