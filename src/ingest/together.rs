//! What the sessions of one thread hand in while it goes round them reaches the store as one request, and its answer
//! comes back as one: so the thread wakes the committer once a round and is woken once a commit, however many producers
//! it serves. It refuses to know what is handed in, and what the answers say.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use crate::store::committer::answers::{self, Waiting};
use crate::store::committer::{AcceptAnswer, Queue};
use crate::store::{AcceptGroup, StoreError};

/// So many events go to the store before the round is over, so that the disk works while the rest is read.
const EVENTS_MAX: usize = 512;

/// Where the sessions of one thread hand in their events.
#[derive(Debug)]
pub struct Together {
    queue: Queue,
    round: Mutex<Round>,
}

/// What has been handed in so far.
#[derive(Debug, Default)]
struct Round {
    groups: Vec<AcceptGroup>,
    events: usize,
    /// Each with the number of its groups.
    waiting: Vec<(usize, Waiting)>,
}

impl Round {
    /// Gives it to the store at once; what is returned passes the answers on.
    fn hand_in(self, queue: &Queue) -> impl Future<Output = ()> + Send + use<> {
        let Self { groups, waiting, .. } = self;
        let answer = queue.accept(groups);
        async move { answers::hand_out(answer.await, waiting) }
    }
}

impl Together {
    /// A way to `queue` for sessions whose tasks take turns on one thread.
    #[must_use]
    pub fn new(queue: Queue) -> Arc<Self> {
        let round = Mutex::default();
        Arc::new(Self { queue, round })
    }

    /// [`Queue::accept`], in company. To be called inside the runtime of the thread.
    ///
    /// # Errors
    /// The same.
    pub async fn accept(self: &Arc<Self>, groups: Vec<AcceptGroup>) -> AcceptAnswer {
        let (waiting, answer) = oneshot::channel();
        self.join(groups, waiting);
        let gone = |_| StoreError::Failed("the daemon has stopped".to_owned());
        answer.await.map_err(gone)?
    }

    fn join(self: &Arc<Self>, groups: Vec<AcceptGroup>, waiting: Waiting) {
        let mut round = self.round.lock().unwrap_or_else(PoisonError::into_inner);
        if round.waiting.is_empty() {
            // A new task comes last, so every session that is ready now takes its turn before it.
            let together = Arc::clone(self);
            tokio::spawn(async move { together.end().hand_in(&together.queue).await });
        }
        round.events += groups.iter().map(|group| group.events.len()).sum::<usize>();
        round.waiting.push((groups.len(), waiting));
        round.groups.extend(groups);
        if round.events >= EVENTS_MAX {
            let full = std::mem::take(&mut *round);
            tokio::spawn(full.hand_in(&self.queue));
        }
    }

    fn end(&self) -> Round {
        std::mem::take(&mut *self.round.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
