//! The thread that waits for the disk, so that the committer can make the next commit meanwhile: at most one is being
//! flushed and one written. What became durable is told, and whoever waits for it answered, in the order of the commits.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::mpsc as async_mpsc;

use super::answers::{self, Waiting};
use super::gathered::Owed;
use super::{Failed, Notice, fail};
use crate::domain::time::Timestamp;
use crate::store::{Accepted, Committed, Store, StoreError};

/// A flush that takes longer is looked after.
const LONG: Duration = Duration::from_secs(1);

/// A commit that was written and is not durable yet, and who is told of it.
pub(super) struct Written {
    pub(super) committed: Committed,
    /// How many events each group has.
    pub(super) sizes: Vec<usize>,
    /// When it was written.
    pub(super) now: Timestamp,
    /// One for each event.
    pub(super) owed: Vec<Owed>,
    /// What is told of deliveries that were there before.
    pub(super) moves: Vec<Notice>,
    /// Who waits, each with the number of its groups.
    pub(super) answers: Vec<(usize, Waiting)>,
}

impl Written {
    /// Events and moves in it.
    pub(super) fn len(&self) -> usize {
        self.owed.len() + self.moves.len()
    }

    /// What the dispatcher is told: what is owed now and what has moved.
    fn notices(&mut self) -> Vec<Notice> {
        let mut notices = std::mem::take(&mut self.moves);
        let mut owed = &self.owed[..];
        for (group, size) in self.committed.accepts.iter().zip(&self.sizes) {
            let (mine, rest) = owed.split_at(*size);
            owed = rest;
            for (accepted, (lanes, due, bytes)) in group.iter().flatten().zip(mine) {
                if let Accepted::New(seq) = *accepted {
                    // A delay that was over before the commit is none: to the store this delivery is a fresh
                    // one, and whoever looked for it among the deferred would not find it.
                    let due = due.filter(|due| *due > self.now);
                    let bytes = *bytes;
                    notices.extend(lanes.iter().map(|&lane| Notice::Accepted {
                        lane,
                        seq,
                        due,
                        bytes,
                    }));
                }
            }
        }
        notices
    }
}

/// What flushes: on its thread, or on that of whoever holds the pen.
struct Disk {
    store: Arc<dyn Store>,
    notices: async_mpsc::Sender<Vec<Notice>>,
    failed: Arc<Failed>,
}

impl Disk {
    /// The instant of the promise: when the store's flush has returned, everything that was written is on disk, and only
    /// then is anybody answered.
    fn flush(&self, mut written: Written, tell: impl FnOnce(Vec<Notice>)) -> Result<(), StoreError> {
        let synced = self.store.sync();
        match &synced {
            Ok(()) => {
                let notices = written.notices();
                if !notices.is_empty() {
                    tell(notices);
                }
            }
            // At once, since the committer may be asleep.
            Err(error) => fail(&self.failed, error.clone()),
        }
        let answer = synced.clone().map(|()| written.committed.accepts);
        answers::hand_out(answer, written.answers);
        synced
    }

    /// The same, where it may wait until there is room for the notices. The dispatcher may be gone, when the daemon stops.
    fn flush_and_wait(&self, written: Written) -> Result<(), StoreError> {
        self.flush(written, |notices| {
            let _ = self.notices.blocking_send(notices);
        })
    }
}

/// The committer's side of it.
pub(super) struct Flusher {
    disk: Arc<Disk>,
    /// The way to the thread; `None` once it is to end.
    commits: Option<Sender<Written>>,
    done: Receiver<Result<(), StoreError>>,
    /// Commits handed over that were not heard of.
    under_way: usize,
    thread: Option<JoinHandle<()>>,
}

impl Flusher {
    /// Starts the thread. What becomes durable is told on `notices`, one list per commit; that a flush has failed, in
    /// `failed`.
    pub(super) fn start(
        store: Arc<dyn Store>,
        notices: async_mpsc::Sender<Vec<Notice>>,
        failed: Arc<Failed>,
    ) -> std::io::Result<Self> {
        let disk = Arc::new(Disk {
            store,
            notices,
            failed,
        });
        let (hand_over, commits) = channel::<Written>();
        let (tell, done) = channel();
        let mine = Arc::clone(&disk);
        let work = move || {
            for written in commits {
                if tell.send(mine.flush_and_wait(written)).is_err() {
                    return;
                }
            }
        };
        let thread = thread::Builder::new().name("flusher".to_owned()).spawn(work)?;
        Ok(Self {
            disk,
            commits: Some(hand_over),
            done,
            under_way: 0,
            thread: Some(thread),
        })
    }

    /// Whether nothing is being flushed, by what it has told since.
    ///
    /// # Errors
    /// Those of the last flush.
    pub(super) fn is_idle(&mut self) -> Result<bool, StoreError> {
        while let Ok(flushed) = self.done.try_recv() {
            self.under_way -= 1;
            flushed?;
        }
        Ok(self.under_way == 0)
    }

    /// Waits until nothing is being flushed any more.
    ///
    /// # Errors
    /// Those of the last flush.
    pub(super) fn wait(&mut self) -> Result<(), StoreError> {
        self.wait_for(0)
    }

    /// Hands a commit over, does something else `meanwhile`, and waits until it is the only one: then the thread has gone on
    /// with it at once.
    ///
    /// # Errors
    /// Those of the flush before; [`StoreError::Failed`] when the thread is gone, which is a bug.
    pub(super) fn begin(&mut self, written: Written, meanwhile: impl FnOnce()) -> Result<(), StoreError> {
        let sent = self
            .commits
            .as_ref()
            .is_some_and(|commits| commits.send(written).is_ok());
        meanwhile();
        if !sent {
            return Err(broken());
        }
        self.under_way += 1;
        self.wait_for(1)
    }

    /// Waits until at most so many commits are under way.
    fn wait_for(&mut self, left: usize) -> Result<(), StoreError> {
        while self.under_way > left {
            match self.done.recv_timeout(LONG) {
                Ok(flushed) => {
                    self.under_way -= 1;
                    flushed?;
                }
                Err(RecvTimeoutError::Timeout) => self.disk.store.nudge(),
                Err(RecvTimeoutError::Disconnected) => return Err(broken()),
            }
        }
        Ok(())
    }

    /// Flushes on the thread of the caller; nothing may be under way.
    ///
    /// # Errors
    /// Those of the flush.
    pub(super) fn flush_here(&self, written: Written) -> Result<(), StoreError> {
        self.disk.flush_and_wait(written)
    }

    /// The same, in async code: what became durable goes to `tell`, which must not wait.
    ///
    /// # Errors
    /// Those of the flush.
    pub(super) fn flush_at_once(
        &self,
        written: Written,
        tell: impl FnOnce(Vec<Notice>),
    ) -> Result<(), StoreError> {
        self.disk.flush(written, tell)
    }

    /// Where it is told what became durable.
    pub(super) fn notices(&self) -> async_mpsc::Sender<Vec<Notice>> {
        self.disk.notices.clone()
    }
}

fn broken() -> StoreError {
    StoreError::Failed("the thread that flushes broke off".to_owned())
}

impl Drop for Flusher {
    /// Lets it end with what was handed over.
    fn drop(&mut self) {
        self.commits = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
