//! The thread that writes events and moves. Everybody who waits shares its flush: it takes what has come in, makes one
//! commit of it, and all of them are answered. While a second thread, the [`flusher`], waits for the disk, it makes the
//! next commit. Async code talks to the store through [`Queue`] and does not block, but for [`Queue::accept_here`]: there
//! a producer's own thread takes the [`pen`] while this one has nothing to do.

#[cfg(test)]
mod alone;
pub mod answers;
#[cfg(test)]
mod fairness;
mod flusher;
mod gathered;
mod idle;
mod pen;
mod readers;
mod settles;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use tokio::runtime::Handle;
use tokio::sync::{mpsc as async_mpsc, oneshot, watch};

use self::answers::Waiting;
use self::flusher::Flusher;
use self::gathered::Gathered;
use self::idle::Idle;
pub use self::idle::Upkeep;
use self::pen::Pen;
use self::readers::Readers;
use self::settles::Settles;
use super::{AcceptGroup, Accepted, LaneId, NewAttempt, Refusal, Settle, Store, StoreError};
use crate::domain::event::Seq;
use crate::domain::time::Timestamp;

/// A commit of so few moves and events, with nobody waiting behind it, is flushed by the committer itself: the way to
/// another thread and back would be longer than what it saves.
pub const SMALL: usize = 16;

/// Tells the time; handed in, so that this room knows no clock.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// What has become durable, for the dispatcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A delivery is owed; `due`: not before, `None` for at once.
    Accepted {
        /// To whom.
        lane: LaneId,
        /// Which event.
        seq: Seq,
        /// Not before.
        due: Option<Timestamp>,
        /// Bytes of the event's JSON.
        bytes: u32,
    },
    /// A delivery has moved; `deferred`: when it is due again, `None` if it is settled or dead.
    Committed {
        /// Whose.
        lane: LaneId,
        /// Which event.
        seq: Seq,
        /// When it is due again.
        deferred: Option<Timestamp>,
        /// If it is, the tries used by then.
        tries: u32,
    },
}

/// The answer to [`Queue::accept`]: per group what became of it.
pub type AcceptAnswer = Result<Vec<Result<Vec<Accepted>, Refusal>>, StoreError>;

/// A writing verb with its arguments; says whether the store failed.
type Verb = Box<dyn FnOnce(&dyn Store) -> Result<(), StoreError> + Send>;

enum Request {
    Accept {
        groups: Vec<AcceptGroup>,
        answer: Waiting,
    },
    /// There are settles waiting.
    Settles,
    /// Something was written without the committer.
    Stirred,
    Write(Verb),
    Stop,
}

/// The way to the store for async code. Cheap to clone.
#[derive(Clone)]
pub struct Queue {
    requests: Sender<Request>,
    settles: Arc<Settles>,
    pen: Arc<Mutex<Option<Pen>>>,
    /// Whether the committer waits for the pen, so that nobody takes it again before.
    is_wanted: Arc<AtomicBool>,
    store: Arc<dyn Store>,
    failed: Arc<Failed>,
    failure: watch::Receiver<Option<StoreError>>,
    readers: Handle,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue")
            .field("failure", &*self.failure.borrow())
            .finish_non_exhaustive()
    }
}

/// The committer's thread, joined when the daemon stops, and those that read.
#[derive(Debug)]
pub struct Committer {
    thread: JoinHandle<()>,
    _readers: Readers,
    requests: Sender<Request>,
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Accept { .. } => "Accept",
            Self::Settles => "Settles",
            Self::Stirred => "Stirred",
            Self::Write(_) => "Write",
            Self::Stop => "Stop",
        })
    }
}

impl Queue {
    /// Makes groups of events durable; they are on their way when this returns. The answer comes after the flush, so
    /// it may be passed on as the promise that it is.
    ///
    /// # Errors
    /// [`StoreError::Failed`]: nothing is known of these events, and nothing more will be accepted.
    pub fn accept(&self, groups: Vec<AcceptGroup>) -> impl Future<Output = AcceptAnswer> + Send + use<> {
        let (answer, wait) = oneshot::channel();
        let sent = self.send(Request::Accept { groups, answer });
        let failure = self.failure();
        async move {
            sent?;
            wait.await.unwrap_or_else(|_| Err(why(&failure)))
        }
    }

    /// What [`Queue::accept`] does, by the thread of the caller, which waits for the disk; unless the committer has
    /// anything to do. That spares one producer two ways from thread to thread, a tenth of what it waits for its answer.
    ///
    /// # Errors
    /// The groups, when they have to go the other way.
    pub fn accept_here(&self, groups: Vec<AcceptGroup>) -> Result<AcceptAnswer, Vec<AcceptGroup>> {
        if self.is_wanted.load(Ordering::Relaxed) {
            return Err(groups);
        }
        let Ok(mut held) = self.pen.try_lock() else {
            return Err(groups);
        };
        let Some(pen) = held.as_mut() else {
            return Err(groups);
        };
        let _watch = Watch(&self.failed);
        let answer = pen.commit_here(groups)?;
        if let Err(error) = &answer {
            fail(&self.failed, error.clone());
            *held = None;
        } else if pen.has_to_wake() {
            let _ = self.send(Request::Stirred);
        }
        Ok(answer)
    }

    /// Hands in the end of a try, and the try itself for the log. It becomes durable with the next commit, which a
    /// [`Notice`] tells.
    pub fn settle(&self, settle: Settle, attempt: Option<NewAttempt>) {
        if self.settles.add(settle, attempt) {
            // A committer that has stopped took its failure with it; the delivery is pending and is repeated.
            let _ = self.send(Request::Settles);
        }
    }

    /// Runs a writing verb of the store on the committer's thread, between two commits.
    ///
    /// # Errors
    /// What the verb says, or [`StoreError::Failed`] when the store has failed before.
    pub async fn write<T: Send + 'static>(
        &self,
        verb: impl FnOnce(&dyn Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, wait) = oneshot::channel();
        self.send(Request::Write(Box::new(move |store| {
            let result = verb(store);
            let failed = result.as_ref().err().cloned();
            // Whoever asked may have gone away; the verb has run all the same.
            let _ = answer.send(result);
            failed.map_or(Ok(()), Err)
        })))?;
        wait.await.unwrap_or_else(|_| Err(why(&self.failure)))
    }

    /// Runs a reading verb of the store where blocking is allowed.
    ///
    /// # Errors
    /// [`StoreError::Failed`] when the verb panicked, which is a bug, or the committer has stopped.
    pub async fn read<T: Send + 'static>(
        &self,
        verb: impl FnOnce(&dyn Store) -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        let store = Arc::clone(&self.store);
        self.readers
            .spawn_blocking(move || verb(&*store))
            .await
            .map_err(|error| StoreError::Failed(format!("a read of the store broke off: {error}")))
    }

    /// The store, for reading verbs that need no disk.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Becomes `Some` when the store has failed, and stays so.
    #[must_use]
    pub fn failure(&self) -> watch::Receiver<Option<StoreError>> {
        self.failure.clone()
    }

    fn send(&self, request: Request) -> Result<(), StoreError> {
        self.requests.send(request).map_err(|_| why(&self.failure))
    }
}

/// Why the committer answers no more.
fn why(failure: &watch::Receiver<Option<StoreError>>) -> StoreError {
    let failed = failure.borrow().clone();
    failed.unwrap_or_else(|| StoreError::Failed("the store is closed".to_owned()))
}

impl Committer {
    /// Starts the thread that writes to `store`, and the one that flushes. What becomes durable is told on
    /// `notices`, one list per commit.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub fn start(
        store: Arc<dyn Store>,
        clock: Clock,
        upkeep: impl Into<Upkeep>,
        notices: async_mpsc::Sender<Vec<Notice>>,
    ) -> std::io::Result<(Self, Queue)> {
        // Unbounded, because what can wait in it is bounded already: one request per connection, one per
        // delivery under way, one per operator.
        let (requests, inbox) = mpsc::channel();
        let (failed, failure) = watch::channel(None);
        let settles = Arc::new(Settles::default());
        let failed = Arc::new(failed);
        let flusher = Flusher::start(Arc::clone(&store), notices, Arc::clone(&failed))?;
        let mine = Arc::clone(&settles);
        let pen = Pen::new(Arc::clone(&store), clock, upkeep.into(), flusher, mine);
        let pen = Arc::new(Mutex::new(Some(pen)));
        let is_wanted = Arc::new(AtomicBool::new(false));
        let worker = Worker {
            pen: Arc::clone(&pen),
            is_wanted: Arc::clone(&is_wanted),
            inbox,
            next: None,
            idle: Idle::Maintain,
            settles: Arc::clone(&settles),
            failed: Arc::clone(&failed),
        };
        let (readers, way_to_readers) = Readers::start()?;
        let queue = Queue {
            requests: requests.clone(),
            settles,
            pen,
            is_wanted,
            store,
            failed,
            failure,
            readers: way_to_readers,
        };
        let thread = thread::Builder::new()
            .name("committer".to_owned())
            .spawn(move || worker.run())?;
        let committer = Self {
            thread,
            _readers: readers,
            requests,
        };
        Ok((committer, queue))
    }

    /// Commits what has come in so far, closes the store and ends the thread.
    pub fn stop(self) {
        let _ = self.requests.send(Request::Stop);
        if self.thread.join().is_err() {
            tracing::error!("the committer broke off; what was answered before is on disk");
        }
    }
}

/// Where it is told that the store has failed.
type Failed = watch::Sender<Option<StoreError>>;

/// Tells why the store has failed, unless that was told before.
fn fail(failed: &Failed, error: StoreError) {
    failed.send_if_modified(|told| {
        let first = told.is_none();
        if first {
            tracing::error!(%error, "nothing more is accepted or delivered");
            *told = Some(error);
        }
        first
    });
}

/// Tells that the store has failed if the thread panics while this lives. Whoever holds the pen then leaves a
/// daemon that can neither accept nor settle.
struct Watch<'a>(&'a Failed);

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            fail(self.0, StoreError::Failed("a commit ended in a panic".to_owned()));
        }
    }
}

enum Flow {
    Go,
    Stop,
}

/// The committer's thread, which holds the pen whenever it has something to do.
struct Worker {
    pen: Arc<Mutex<Option<Pen>>>,
    is_wanted: Arc<AtomicBool>,
    inbox: Receiver<Request>,
    /// Taken from the inbox to see whether anybody waits.
    next: Option<Request>,
    /// What is next when nothing happens.
    idle: Idle,
    settles: Arc<Settles>,
    failed: Arc<Failed>,
}

impl Worker {
    fn run(mut self) {
        let mut gathered = Gathered::default();
        let (pen, failed) = (Arc::clone(&self.pen), Arc::clone(&self.failed));
        let _watch = Watch(&failed);
        loop {
            let patience = gathered.patience(Instant::now());
            let wait = patience.unwrap_or_else(|| self.idle.wait());
            let request = self.next.take().map_or_else(|| self.inbox.recv_timeout(wait), Ok);
            self.is_wanted.store(true, Ordering::Relaxed);
            let held = pen.lock();
            self.is_wanted.store(false, Ordering::Relaxed);
            // Whoever failed with it, or panicked, has told.
            let Ok(mut held) = held else { return };
            let Some(pen) = held.as_mut() else { return };
            let step = match request {
                Ok(first) => self.gather(pen, first, &mut gathered),
                Err(RecvTimeoutError::Timeout) if patience.is_none() => {
                    pen.while_idle(self.idle).map(|next| {
                        self.idle = next;
                        Flow::Go
                    })
                }
                Err(RecvTimeoutError::Timeout) => Ok(Flow::Go),
                Err(RecvTimeoutError::Disconnected) => Ok(Flow::Stop),
            };
            let stops = matches!(step, Ok(Flow::Stop));
            let result = match step {
                Ok(Flow::Go) if gathered.is_ripe(&self.settles, Instant::now()) => {
                    self.idle = Idle::Maintain;
                    pen.commit(std::mem::take(&mut gathered), || self.is_anybody_waiting())
                }
                Ok(Flow::Go) => Ok(()),
                Ok(Flow::Stop) => pen
                    .commit(std::mem::take(&mut gathered), || false)
                    .and_then(|()| pen.close()),
                Err(error) => Err(error),
            };
            let is_over = stops || result.is_err();
            // Told first: without the pen the dispatcher hears nothing more, and ends.
            result.unwrap_or_else(|error| fail(&self.failed, error));
            if is_over {
                *held = None;
                return;
            }
        }
    }

    /// Takes `first` and whatever else has come in, up to the bounds of one commit or to the first verb, so
    /// that a row of verbs never keeps a producer waiting longer than one of them takes.
    fn gather(&mut self, pen: &mut Pen, first: Request, gathered: &mut Gathered) -> Result<Flow, StoreError> {
        let mut next = Some(first);
        while let Some(request) = next {
            match request {
                Request::Accept { groups, answer } => gathered.take_groups(groups, answer),
                Request::Settles => {
                    gathered.since.get_or_insert_with(Instant::now);
                }
                Request::Stirred => self.idle = Idle::Maintain,
                Request::Write(verb) => {
                    pen.write(verb)?;
                    return Ok(Flow::Go);
                }
                Request::Stop => return Ok(Flow::Stop),
            }
            next = if gathered.is_full() {
                None
            } else {
                self.inbox.try_recv().ok()
            };
        }
        Ok(Flow::Go)
    }

    fn is_anybody_waiting(&mut self) -> bool {
        self.next = self.next.take().or_else(|| self.inbox.try_recv().ok());
        self.next.is_some()
    }
}
