//! Who holds the pen writes: the committer's thread as a rule, and the thread of a producer who is alone when the committer
//! has nothing to do, so that its event goes to the disk and back without passing through other hands. It refuses to
//! know what is asked for when, and by whom.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::answers;
use super::flusher::{Flusher, Written};
use super::gathered::Gathered;
use super::idle::{Idle, MAINTAIN_ON, Upkeep};
use super::settles::{Settled, Settles};
use super::{AcceptAnswer, Clock, Notice, SMALL, Verb};
use crate::domain::time::Timestamp;
use crate::store::{AcceptGroup, Batch, Settle, SettleTo, Store, StoreError};

/// Housekeeping comes round at least this often while there is traffic.
const MAINTAIN_EVERY: Duration = Duration::from_secs(1);

/// Everything that writing takes.
pub(super) struct Pen {
    store: Arc<dyn Store>,
    clock: Clock,
    upkeep: Upkeep,
    flusher: Flusher,
    settles: Arc<Settles>,
    maintained: Instant,
    /// Whether housekeeping stopped in the middle.
    unfinished: bool,
    /// Whether something was written for a producer since the committer last looked, so that it is not idle.
    stirred: bool,
    /// Whether the committer sleeps for so long that it has to be told of that.
    is_asleep: bool,
}

impl Pen {
    /// A pen that has written nothing yet.
    pub(super) fn new(
        store: Arc<dyn Store>,
        clock: Clock,
        upkeep: Upkeep,
        flusher: Flusher,
        settles: Arc<Settles>,
    ) -> Self {
        Self {
            store,
            clock,
            upkeep,
            flusher,
            settles,
            maintained: Instant::now(),
            unfinished: false,
            stirred: false,
            is_asleep: false,
        }
    }

    /// Writes what has been gathered and sees to it that it is flushed.
    ///
    /// # Errors
    /// When the store has failed; those who wait have heard it.
    pub(super) fn commit(
        &mut self,
        gathered: Gathered,
        is_anybody_waiting: impl FnOnce() -> bool,
    ) -> Result<(), StoreError> {
        let Settled { settles, attempts } = self.settles.take();
        let now = (self.clock)();
        // Few are logged first, so that whoever sees what the commit changes finds them. Many would keep those waiting who
        // wait for the commit, and are logged while it is flushed.
        let (first, meanwhile) = match attempts.len() {
            ..=SMALL => (attempts, Vec::new()),
            _ => (Vec::new(), attempts),
        };
        self.store.log_attempts(first, now);
        let store = Arc::clone(&self.store);
        let log = move || store.log_attempts(meanwhile, now);
        match self.stage(gathered, settles, now) {
            Ok(Some(written)) => self.hand_over(written, is_anybody_waiting, log)?,
            Ok(None) => log(),
            Err(error) => {
                // These tries have been made, whatever becomes of the commit.
                log();
                return Err(error);
            }
        }
        self.maintain_in_time()
    }

    /// Makes events durable before it returns, unless something else is under way; then it gives them back.
    ///
    /// # Errors
    /// The events.
    pub(super) fn commit_here(&mut self, groups: Vec<AcceptGroup>) -> Result<AcceptAnswer, Vec<AcceptGroup>> {
        match self.flusher.is_idle() {
            Err(error) => return Ok(Err(error)),
            Ok(false) => return Err(groups),
            Ok(true) => {}
        }
        let notices = self.flusher.notices();
        // Asked before anything is written: here nobody may wait until the dispatcher has read.
        let Ok(room) = notices.try_reserve() else {
            return Err(groups);
        };
        let (answer, mut wait) = oneshot::channel();
        let mut gathered = Gathered::default();
        gathered.take_groups(groups, answer);
        let Settled { settles, attempts } = self.settles.take();
        let now = (self.clock)();
        self.store.log_attempts(attempts, now);
        let result = self
            .stage(gathered, settles, now)
            .and_then(|written| match written {
                Some(written) => self.flusher.flush_at_once(written, |told| room.send(told)),
                None => Ok(()),
            });
        self.stirred = true;
        Ok(match (result, wait.try_recv()) {
            (Err(error), _) => Err(error),
            (Ok(()), Ok(answer)) => answer,
            (Ok(()), Err(_)) => Err(StoreError::Failed("a commit answered nobody".to_owned())),
        })
    }

    /// Whether the committer sleeps and has to be told that there was traffic.
    pub(super) fn has_to_wake(&mut self) -> bool {
        std::mem::take(&mut self.is_asleep)
    }

    /// Runs a verb between two commits.
    ///
    /// # Errors
    /// When the store has failed.
    pub(super) fn write(&mut self, verb: Verb) -> Result<(), StoreError> {
        self.flusher.wait()?;
        verb(&*self.store)
    }

    /// Nothing was asked of the committer for as long as `idle` waits. What is next.
    ///
    /// # Errors
    /// When the store has failed.
    pub(super) fn while_idle(&mut self, idle: Idle) -> Result<Idle, StoreError> {
        if std::mem::take(&mut self.stirred) {
            self.maintain_in_time()?;
            return Ok(Idle::Maintain);
        }
        if matches!(idle, Idle::Rest) {
            self.flusher.wait()?;
            self.store.rest((self.clock)())?;
            (self.upkeep.at_rest)();
            self.is_asleep = true;
            return Ok(Idle::Sleep);
        }
        let more = self.maintain()?;
        Ok(match idle {
            _ if more => Idle::Maintain,
            Idle::Maintain => Idle::Rest,
            Idle::Rest | Idle::Sleep => Idle::Sleep,
        })
    }

    /// Waits for what is being flushed, and closes the store.
    ///
    /// # Errors
    /// When the store fails.
    pub(super) fn close(&mut self) -> Result<(), StoreError> {
        self.flusher.wait()?;
        self.store.close()
    }

    /// Writes what has been gathered and what has been settled; `None` if that is nothing.
    fn stage(
        &mut self,
        gathered: Gathered,
        settles: Vec<Settle>,
        now: Timestamp,
    ) -> Result<Option<Written>, StoreError> {
        let Gathered {
            groups,
            answers,
            owed,
            ..
        } = gathered;
        let batch = Batch {
            accepts: groups,
            settles,
        };
        if batch.accepts.is_empty() && batch.settles.is_empty() {
            return Ok(None);
        }
        let moves: Vec<Notice> = batch.settles.iter().map(moved).collect();
        let sizes: Vec<usize> = batch.accepts.iter().map(|group| group.events.len()).collect();
        let committed = match self.store.stage(batch, now) {
            Ok(committed) => committed,
            Err(error) => {
                answers::hand_out(Err(error.clone()), answers);
                return Err(error);
            }
        };
        Ok(Some(Written {
            committed,
            sizes,
            now,
            owed,
            moves,
            answers,
        }))
    }

    /// Has a commit flushed: by the flusher, once it has done with the last one, while `log` is run here; or here.
    fn hand_over(
        &mut self,
        written: Written,
        is_anybody_waiting: impl FnOnce() -> bool,
        log: impl FnOnce(),
    ) -> Result<(), StoreError> {
        match self.flusher.is_idle() {
            Err(error) => {
                log();
                answers::hand_out(Err(error.clone()), written.answers);
                Err(error)
            }
            Ok(true) if written.len() <= SMALL && !is_anybody_waiting() => {
                log();
                self.flusher.flush_here(written)
            }
            Ok(_) => self.flusher.begin(written, log),
        }
    }

    /// Housekeeping, when it is time.
    fn maintain_in_time(&mut self) -> Result<(), StoreError> {
        let pause = if self.unfinished {
            MAINTAIN_ON
        } else {
            MAINTAIN_EVERY
        };
        if self.maintained.elapsed() >= pause {
            self.maintain()?;
        }
        Ok(())
    }

    fn maintain(&mut self) -> Result<bool, StoreError> {
        self.flusher.wait()?;
        let now = (self.clock)();
        let dead_before = Timestamp(now.0.saturating_sub(self.upkeep.dead_keep.as_millis() as u64));
        let done = self.store.maintain(now, dead_before)?;
        self.maintained = Instant::now();
        self.unfinished = done.more;
        Ok(done.more)
    }
}

fn moved(settle: &Settle) -> Notice {
    let (deferred, tries) = match &settle.to {
        SettleTo::Later(deferral) => (Some(deferral.due), deferral.tries),
        SettleTo::Settled | SettleTo::Dead(_) => (None, 0),
    };
    Notice::Committed {
        lane: settle.id.lane,
        seq: settle.id.seq,
        deferred,
        tries,
    }
}
