//! The tasks that carry out jobs, one at a time each. A task stays for the next job: making one, with its memory, its
//! handles to everything and its place in the runtime, costs about as much as making a request and signing it.

use std::sync::Arc;

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
        let RunnerId(at) = self.free.pop().unwrap_or(RunnerId(self.all.len()));
        let work = match self.all.get(at) {
            Some(runner) => match runner.send(work) {
                Ok(()) => return,
                // It is gone, though none goes before this end of its channel does.
                Err(mpsc::error::SendError(work)) => work,
            },
            None => work,
        };
        let runner = self.hire(RunnerId(at));
        // It has just begun to listen.
        let _ = runner.send(work);
        match self.all.get_mut(at) {
            Some(place) => *place = runner,
            None => self.all.push(runner),
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

    fn hire(&self, id: RunnerId) -> mpsc::UnboundedSender<Work> {
        // Bounded by one job.
        let (jobs, mut inbox) = mpsc::unbounded_channel::<Work>();
        let (queue, clock, tell) = (self.queue.clone(), self.clock, Arc::clone(&self.tell));
        self.tasks.spawn(async move {
            let tell = |news| tell(id, news);
            while let Some(Work { job, to }) = inbox.recv().await {
                job::carry_out(job, &to, &queue, clock, &tell).await;
            }
        });
        jobs
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::daemon::job::tests::{Scene, scene};
    use crate::domain::endpoint::OrderPolicy;

    /// A runner takes one job after the other; those that are too many go once all are free, and all go at the end.
    #[tokio::test]
    async fn runners_are_used_again() {
        let Scene {
            job,
            to,
            queue,
            committer,
            ..
        } = scene(OrderPolicy::None);
        let (tasks, to) = (TaskTracker::new(), Arc::new(to));
        let ended: Arc<Mutex<Vec<RunnerId>>> = Arc::default();
        let (heard, notify) = (Arc::clone(&ended), Arc::new(tokio::sync::Notify::new()));
        let told = Arc::clone(&notify);
        let tell: Listener = Arc::new(move |runner, news| {
            if matches!(news, News::Ended(_)) {
                heard.lock().unwrap().push(runner);
                told.notify_one();
            }
        });
        let mut runners = Runners::new(queue, Clock::start(), tasks.clone(), tell);
        for at_once in [1, 1, IDLE_MAX + 10, 2] {
            (0..at_once).for_each(|_| runners.start(job.clone(), Arc::clone(&to)));
            while ended.lock().unwrap().len() < at_once {
                notify.notified().await;
            }
            std::mem::take(&mut *ended.lock().unwrap())
                .into_iter()
                .for_each(|runner| runners.is_free(runner));
            assert_eq!(runners.all.len(), runners.free.len());
        }
        assert_eq!(runners.all.len(), IDLE_MAX);
        runners.close();
        tasks.close();
        tasks.wait().await;
        committer.stop();
    }
}
