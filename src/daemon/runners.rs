//! The tasks that carry out jobs, one at a time each. A task stays for the next job: making one, with its memory, its
//! handles to everything and its place in the runtime, costs about as much as making a request and signing it.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use crate::scheduler::Job;
use crate::store::committer::Queue;

use super::clock::Clock;
use super::job::{self, Destination, News};

/// So many stay when there is nothing to do.
const IDLE_MAX: usize = 64;

/// Names a runner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunnerId(usize);

/// Who listens to what the runners say of their jobs.
pub type Listener = Arc<dyn Fn(RunnerId, News) + Send + Sync>;

/// The runners; their owner says which have become free.
pub struct Runners {
    queue: Queue,
    clock: Clock,
    tell: Listener,
    tasks: TaskTracker,
    /// Where each takes its jobs from.
    all: Vec<mpsc::UnboundedSender<Work>>,
    /// Those without a job; the one that was busy last is the next.
    free: Vec<RunnerId>,
}

struct Work {
    job: Job,
    to: Arc<Destination>,
}

impl std::fmt::Debug for Runners {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runners")
            .field("all", &self.all.len())
            .field("free", &self.free.len())
            .finish_non_exhaustive()
    }
}

impl Runners {
    /// None yet. Each counts in `tasks` until [`Runners::close`], and tells `tell` of its jobs.
    pub fn new(queue: Queue, clock: Clock, tasks: TaskTracker, tell: Listener) -> Self {
        Self {
            queue,
            clock,
            tell,
            tasks,
            all: Vec::new(),
            free: Vec::new(),
        }
    }

    /// Has `job` carried out.
    pub fn start(&mut self, job: Job, to: Arc<Destination>) {
        let work = Work { job, to };
        let free = self.free.pop();
        match free.and_then(|RunnerId(at)| self.all.get(at)) {
            // Its runner is there: it ends when this end of the channel does.
            Some(runner) => drop(runner.send(work)),
            None => {
                let runner = self.hire();
                // As above.
                let _ = runner.send(work);
                self.all.push(runner);
            }
        }
    }

    /// The job of `runner` has ended. When all have, those beyond what is kept go.
    pub fn is_free(&mut self, runner: RunnerId) {
        if runner.0 >= self.all.len() {
            return;
        }
        self.free.push(runner);
        if self.free.len() == self.all.len() && self.all.len() > IDLE_MAX {
            self.all.truncate(IDLE_MAX);
            self.free.retain(|RunnerId(at)| *at < IDLE_MAX);
        }
    }

    /// Lets each go when its job has ended; no more jobs.
    pub fn close(&mut self) {
        self.all.clear();
        self.free.clear();
    }

    fn hire(&self) -> mpsc::UnboundedSender<Work> {
        // Bounded by one job.
        let (jobs, mut inbox) = mpsc::unbounded_channel::<Work>();
        let (queue, clock, tell) = (self.queue.clone(), self.clock, Arc::clone(&self.tell));
        let id = RunnerId(self.all.len());
        self.tasks.spawn(async move {
            let tell = |news| tell(id, news);
            while let Some(Work { job, to }) = inbox.recv().await {
                let job = job::carry_out(job, &to, &queue, clock, &tell);
                // A panic is a bug that the panic hook has told of. The job said that nothing came of it, and its runner
                // may hold the next one already.
                let _ = AssertUnwindSafe(job).catch_unwind().await;
            }
        });
        jobs
    }
}
