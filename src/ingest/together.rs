//! What the sessions of one thread hand in while it goes round them reaches the store as one request, and its answer
//! comes back as one: so the thread wakes the committer once a round and is woken once a commit, however many producers
//! it serves. It refuses to know what is handed in, and what the answers say.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use crate::store::committer::answers::{self, Waiting};
use crate::store::committer::{AcceptAnswer, Queue, SMALL};
use crate::store::{AcceptGroup, StoreError};

/// So many events go to the store before the round is over, so that the disk works while the rest is read.
const EVENTS_MAX: usize = 512;
/// Bytes of events that one who is alone has written while everybody on its thread waits.
const LONE_BYTES_MAX: usize = 64 << 10;

/// Where the sessions of one thread hand in their events.
#[derive(Debug)]
pub struct Together {
    queue: Queue,
    round: Mutex<Round>,
    /// Whether the last round was of one connection and few events.
    was_lone: AtomicBool,
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
    /// Whether it is of one connection and so little that it gains nothing from company.
    fn is_lone(&self) -> bool {
        let events = self.groups.iter().flat_map(|group| &group.events);
        self.waiting.len() == 1
            && self.events <= SMALL
            && events.map(|new| new.event.json.len()).sum::<usize>() <= LONE_BYTES_MAX
    }

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
        let was_lone = AtomicBool::new(false);
        Arc::new(Self {
            queue,
            round,
            was_lone,
        })
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
            tokio::spawn(Arc::clone(self).end());
        }
        round.events += groups.iter().map(|group| group.events.len()).sum::<usize>();
        round.waiting.push((groups.len(), waiting));
        round.groups.extend(groups);
        if round.events >= EVENTS_MAX {
            let full = std::mem::take(&mut *round);
            tokio::spawn(full.hand_in(&self.queue));
        }
    }

    /// Hands in what there is. When rounds are of one producer each, this thread waits for the disk itself: the answer comes
    /// sooner, and whoever comes meanwhile waits for one flush at most, as it would behind the committer.
    async fn end(self: Arc<Self>) {
        let mut round = std::mem::take(&mut *self.round.lock().unwrap_or_else(PoisonError::into_inner));
        let is_lone = round.is_lone();
        if self.was_lone.swap(is_lone, Ordering::Relaxed) && is_lone {
            match self.queue.accept_here(round.groups) {
                Ok(answer) => return answers::hand_out(answer, round.waiting),
                Err(groups) => round.groups = groups,
            }
        }
        round.hand_in(&self.queue).await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::mpsc;
    use tokio::task::JoinSet;

    use super::*;
    use crate::domain::event::{Event, EventHead, Seq};
    use crate::domain::time::Timestamp;
    use crate::store::committer::{Committer, Notice};
    use crate::store::memory::{MemoryStore, Reached};
    use crate::store::{Accepted, LaneId, NewEvent, Store};

    const NOW: Timestamp = Timestamp(1_736_937_000_000);

    fn group(id: usize, lane: LaneId) -> AcceptGroup {
        let head = EventHead::new(id.to_string(), "/test", "test", NOW);
        let json = bytes::Bytes::from_static(b"{}");
        let event = Event { head, json };
        let events = vec![NewEvent {
            event,
            lanes: [lane].into(),
        }];
        AcceptGroup { events }
    }

    /// What `sessions` are answered that hand in two groups each, all at once; and how many deliveries each commit told.
    async fn answers(sessions: usize, fails: bool) -> (Vec<AcceptAnswer>, Vec<usize>) {
        let store = Arc::new(MemoryStore::new(Duration::from_secs(60), 10_000));
        let lane = store.lane("one").unwrap();
        if fails {
            store.fail_commit(1, Reached::Nothing);
        }
        let (tell, mut notices) = mpsc::channel::<Vec<Notice>>(4096);
        let (committer, queue) =
            Committer::start(store, Arc::new(|| NOW), Duration::from_secs(60), tell).unwrap();
        let together = Together::new(queue);
        let mut waiting = JoinSet::new();
        for session in 0..sessions {
            let together = Arc::clone(&together);
            let groups = vec![group(2 * session, lane), group(2 * session + 1, lane)];
            waiting.spawn(async move { (session, together.accept(groups).await) });
        }
        let mut answers = waiting.join_all().await;
        answers.sort_by_key(|(session, _)| *session);
        committer.stop();
        let mut told = Vec::new();
        while let Ok(commit) = notices.try_recv() {
            told.push(commit.len());
        }
        (answers.into_iter().map(|(_, answer)| answer).collect(), told)
    }

    /// A2: the sessions of one round share a commit, and each gets the answers to its own groups.
    #[tokio::test]
    async fn a2_a_round_is_one_request() {
        let (answers, told) = answers(50, false).await;
        assert_eq!(told, [100]);
        let seqs = answers.into_iter().map(|answer| {
            let groups = answer.unwrap().into_iter();
            groups.map(|group| group.unwrap()).collect::<Vec<_>>()
        });
        let seqs: Vec<_> = seqs.collect();
        let [Accepted::New(Seq(first))] = seqs[0][0][..] else {
            panic!("{seqs:?}");
        };
        for (session, mine) in seqs.iter().enumerate() {
            let own = |at: u64| vec![Accepted::New(Seq(first + 2 * session as u64 + at))];
            assert_eq!(*mine, [own(0), own(1)]);
        }
    }

    /// A2: who is alone for two rounds has its event written by its own thread; in company, and with many events at once,
    /// it is the committer's.
    #[tokio::test]
    async fn a2_one_who_stays_alone_is_not_passed_on() {
        let store = Arc::new(MemoryStore::new(Duration::from_secs(60), 10_000));
        let lane = store.lane("one").unwrap();
        let (tell, _notices) = mpsc::channel(4096);
        let (asked, writers) = std::sync::mpsc::channel();
        let clock = move || {
            let _ = asked.send(std::thread::current().id());
            NOW
        };
        let (committer, queue) =
            Committer::start(store, Arc::new(clock), Duration::from_secs(60), tell).unwrap();
        let together = Together::new(queue);
        let here = std::thread::current().id();
        // Each round: how many sessions, with how many events each, and whether this thread writes them.
        let rounds = [
            (1, 1, false),
            (1, 1, true),
            (1, SMALL, true),
            (2, 1, false),
            (1, 1, false),
            (1, SMALL + 1, false),
            (1, 1, false),
            (1, 1, true),
        ];
        let mut ids = 0..;
        let began = std::time::Instant::now();
        for (at, (sessions, events, is_here)) in rounds.into_iter().enumerate() {
            loop {
                let mut waiting = JoinSet::new();
                for _ in 0..sessions {
                    let groups = ids.by_ref().take(events).map(|id| group(id, lane)).collect();
                    let together = Arc::clone(&together);
                    waiting.spawn(async move { together.accept(groups).await });
                }
                let answers = waiting.join_all().await;
                assert!(answers.iter().all(Result::is_ok), "round {at}");
                let wrote_here = writers.try_iter().any(|writer| writer == here);
                if wrote_here == is_here {
                    break;
                }
                // The committer may not have put its pen down yet, which is no fault; to write beside it would be.
                assert!(is_here && began.elapsed() < Duration::from_secs(30), "round {at}");
            }
        }
        committer.stop();
    }

    /// A2: more events than go together at once are all answered.
    #[tokio::test]
    async fn a2_a_large_round_is_answered_too() {
        let (answers, told) = answers(2 * EVENTS_MAX, false).await;
        assert!(
            answers
                .iter()
                .all(|answer| answer.as_ref().is_ok_and(|groups| groups.len() == 2))
        );
        assert_eq!(told.iter().sum::<usize>(), 4 * EVENTS_MAX);
    }

    /// I4: after a failed flush nobody of the round is told anything else.
    #[tokio::test]
    async fn i4_a_failure_is_everybodys() {
        let (answers, told) = answers(3, true).await;
        assert!(
            answers.iter().all(Result::is_err) && told.is_empty(),
            "{answers:?}"
        );
    }
}
