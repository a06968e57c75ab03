//! The one loop. It waits for whatever happens, tells the scheduler, and carries out what the scheduler
//! decides. It owns the scheduler, so no lock is needed and every decision is made in one place.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, broadcast, mpsc, oneshot};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until};
use tokio_util::task::TaskTracker;

use crate::control::types::LiveEvent;
use crate::domain::endpoint::{OrderKey, OrderPolicy};
use crate::domain::event::{Event, Seq};
use crate::domain::time::Now;
use crate::scheduler::{
    Actions, Input, Job, LaneConfig, LaneState, LaneView, Refill, Scheduler, SchedulerConfig,
};
use crate::store::committer::{Notice, Queue};
use crate::store::{DueAnswer, LaneId, LoadError, Pause, Store, StoreError};

use super::clock::Clock;
use super::job::{Destination, Ended, News};
use super::live::Live;
use super::runners::{RunnerId, Runners};

/// Messages taken in before the scheduler is polled again.
const TAKE_MAX: usize = 1024;

/// Longest sleep while something waits for its time: due times are on the wall clock, sleep is not, so a
/// jump of the clock forward would otherwise be noticed only at the end of the sleep.
const SLEEP_MAX: Duration = Duration::from_secs(60);

/// What others tell the dispatcher.
#[derive(Debug)]
pub enum Message {
    /// Something of a job, by whom carries it out.
    Job(RunnerId, News),
    /// Something for the scheduler.
    Tell(Input),
    /// New endpoints in force.
    Configure(HashMap<LaneId, Arc<Destination>>),
    /// Somebody wants to see the lanes.
    Views(oneshot::Sender<Vec<LaneView>>),
    /// No more jobs; answer when the last one has ended.
    Drain(oneshot::Sender<()>),
}

/// The way to the dispatcher. Cheap to clone.
#[derive(Clone, Debug)]
pub struct DispatcherHandle {
    to: mpsc::UnboundedSender<Message>,
    news: broadcast::Sender<LiveEvent>,
    attempts: Arc<Notify>,
}

impl DispatcherHandle {
    /// Tells the scheduler something.
    pub fn tell(&self, input: Input) {
        self.send(Message::Tell(input));
    }

    /// Puts other endpoints in force.
    pub fn configure(&self, destinations: HashMap<LaneId, Arc<Destination>>) {
        self.send(Message::Configure(destinations));
    }

    /// What happens from now on.
    #[must_use]
    pub fn listen(&self) -> broadcast::Receiver<LiveEvent> {
        self.news.subscribe()
    }

    /// Waits until an attempt ends; one that ended since the last call counts. For one waiter.
    pub async fn attempt_ended(&self) {
        self.attempts.notified().await;
    }

    /// The lanes as they are; empty when the dispatcher has stopped. An answer also shows that the loop
    /// makes progress, which is what the watchdog asks.
    pub async fn views(&self) -> Option<Vec<LaneView>> {
        let (answer, wait) = oneshot::channel();
        self.send(Message::Views(answer));
        wait.await.ok()
    }

    /// Stops handing out jobs, and waits until those under way have ended.
    pub async fn drain(&self) {
        let (answer, wait) = oneshot::channel();
        self.send(Message::Drain(answer));
        // An error means that the dispatcher is gone, so nothing is under way any more.
        let _ = wait.await;
    }

    fn send(&self, message: Message) {
        // The dispatcher goes last; who still talks then has nothing to say that matters.
        let _ = self.to.send(message);
    }
}

/// The loop's state.
#[derive(Debug)]
pub struct Dispatcher {
    scheduler: Scheduler,
    destinations: HashMap<LaneId, Arc<Destination>>,
    /// Rises with each configuration; which of them first gave events the keys they have in a lane.
    configured: u64,
    keyed: HashMap<LaneId, u64>,
    queue: Queue,
    clock: Clock,
    runners: Runners,
    /// Whatever is under way, runners included.
    tasks: TaskTracker,
    to_self: mpsc::UnboundedSender<Message>,
    messages: mpsc::UnboundedReceiver<Message>,
    notices: mpsc::Receiver<Vec<Notice>>,
    wake_at: Option<Instant>,
    live: Live,
    attempts: Arc<Notify>,
}

impl Dispatcher {
    /// A dispatcher without endpoints, and the way to it.
    #[must_use]
    pub fn new(
        config: SchedulerConfig,
        queue: Queue,
        clock: Clock,
        notices: mpsc::Receiver<Vec<Notice>>,
    ) -> (Self, DispatcherHandle) {
        // Bounded by what is under way: a message per job, and per verb of an operator.
        let (to_self, messages) = mpsc::unbounded_channel();
        let live = Live::default();
        let handle = DispatcherHandle {
            to: to_self.clone(),
            news: live.source(),
            attempts: Arc::default(),
        };
        let (tasks, back) = (TaskTracker::new(), to_self.clone());
        let tell = move |runner, news| {
            // Gone at the very end only; then the deliveries stay pending.
            let _ = back.send(Message::Job(runner, news));
        };
        let dispatcher = Self {
            scheduler: Scheduler::new(config),
            destinations: HashMap::new(),
            configured: 0,
            keyed: HashMap::new(),
            runners: Runners::new(queue.clone(), clock, tasks.clone(), Arc::new(tell)),
            queue,
            clock,
            tasks,
            to_self,
            messages,
            notices,
            wake_at: None,
            live,
            attempts: Arc::clone(&handle.attempts),
        };
        (dispatcher, handle)
    }

    /// Runs until the store's notices end.
    pub async fn run(mut self) {
        let mut messages = Vec::new();
        let mut notices = Vec::new();
        while self.wait(&mut messages, &mut notices).await {
            self.apply(&mut messages, &mut notices);
        }
    }

    /// All the waiting there is: until something happened or the scheduler wants to be asked.
    async fn wait(&mut self, messages: &mut Vec<Message>, notices: &mut Vec<Vec<Notice>>) -> bool {
        let wake_at = self.wake_at;
        let alarm = async move {
            match wake_at {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            taken = self.notices.recv_many(notices, TAKE_MAX) => if taken == 0 { return false },
            taken = self.messages.recv_many(messages, TAKE_MAX) => if taken == 0 { return false },
            () = alarm => {}
        }
        // Where one job has ended others are about to: those that are ready go first, and one poll serves them all.
        if !messages.is_empty() {
            yield_now().await;
        }
        // Whatever else is there comes along, so that one poll serves all of it.
        while messages.len() < TAKE_MAX {
            let Ok(message) = self.messages.try_recv() else {
                break;
            };
            messages.push(message);
        }
        // Whoever tells of something durable was told so after its notice was sent; so the notices that come
        // before these messages are here by now, and they are applied first.
        while let Ok(notice) = self.notices.try_recv() {
            notices.push(notice);
        }
        true
    }

    /// All the change there is.
    fn apply(&mut self, messages: &mut Vec<Message>, notices: &mut Vec<Vec<Notice>>) {
        let now = self.clock.now();
        for notice in notices.drain(..).flatten() {
            if let Notice::Committed {
                lane, seq, deferred, ..
            } = notice
            {
                self.live.committed(lane, seq, deferred);
            }
            self.scheduler.handle(notice.into(), now);
        }
        for message in messages.drain(..) {
            match message {
                Message::Job(runner, news) => match news {
                    News::Ended(ended) => {
                        self.runners.is_free(runner);
                        self.end(*ended, now);
                    }
                    News::GivenBack { lane, batch } => {
                        self.scheduler.handle(Input::GivenBack { lane, batch }, now);
                    }
                },
                Message::Tell(input) => self.scheduler.handle(input, now),
                Message::Configure(destinations) => self.configure(destinations),
                Message::Views(answer) => drop(answer.send(self.scheduler.lanes())),
                Message::Drain(answer) => self.drain(answer),
            }
        }
        loop {
            let Actions { jobs, refills, moves } = self.scheduler.poll(now);
            moves.iter().for_each(|view| self.log_move(view));
            if jobs.is_empty() && refills.is_empty() {
                break;
            }
            jobs.into_iter().for_each(|job| self.start(job));
            refills.into_iter().for_each(|refill| self.refill(refill));
        }
        // A wake-up a little late costs a delivery that much; one a little early costs a useless round.
        self.wake_at = self
            .scheduler
            .wake_in(now)
            .map(|wait| Instant::now() + wait.clamp(Duration::from_millis(1), SLEEP_MAX));
    }

    /// One line for each change of a lane's state.
    fn log_move(&self, view: &LaneView) {
        let Some(to) = self.destinations.get(&view.lane) else {
            return;
        };
        let endpoint = &*to.endpoint.name;
        self.live.moved(endpoint, view);
        match view.state {
            LaneState::Ready => tracing::info!(endpoint, "sends again"),
            LaneState::Probing => tracing::info!(endpoint, "one request finds out whether it works again"),
            LaneState::Suspended { until } => {
                tracing::info!(endpoint, %until, "asked to be left alone; no attempts until then");
            }
            LaneState::Tripped { until } => {
                tracing::warn!(endpoint, failures = view.failures, %until, "keeps failing; its backlog waits without attempts");
            }
            LaneState::Paused { .. } => tracing::info!(endpoint, "paused; what it is owed is parked"),
        }
    }

    fn configure(&mut self, destinations: HashMap<LaneId, Arc<Destination>>) {
        self.configured += 1;
        self.keyed = destinations
            .iter()
            .map(|(lane, to)| (*lane, self.keyed_since(*lane, to)))
            .collect();
        let lanes = destinations
            .iter()
            .map(|(&lane, to)| LaneConfig {
                lane,
                enabled: to.endpoint.enabled,
                concurrency: to.endpoint.concurrency,
                breaker: to.endpoint.breaker,
                rate: to.endpoint.rate,
                batch: to.endpoint.batch.clone(),
                order: to.endpoint.order.policy,
                keyed: self.keyed.get(&lane).copied().unwrap_or_default(),
                doubtful: to.doubtful,
                rests_until: to.rests_until,
            })
            .collect();
        let before = std::mem::replace(&mut self.destinations, destinations);
        let now = self.clock.now();
        self.scheduler.handle(Input::Configure(lanes), now);
        self.keep_pauses(&before, now);
    }

    /// Since which configuration events have the keys that `to` gives them; 0 where only what is in the event does.
    fn keyed_since(&self, lane: LaneId, to: &Destination) -> u64 {
        let has_same_keys = |before: &&Arc<Destination>| before.endpoint.has_keys_of(&to.endpoint);
        match self.destinations.get(&lane).filter(has_same_keys) {
            _ if to.endpoint.order.key.is_none() => 0,
            Some(_) => self.keyed.get(&lane).copied().unwrap_or(self.configured),
            None => self.configured,
        }
    }

    /// Pauses are durable, and the scheduler begins each lane without knowing them. It learns of them before it
    /// is polled again, so that no request slips out to a paused endpoint at a start or a reload.
    fn keep_pauses(&mut self, before: &HashMap<LaneId, Arc<Destination>>, now: Now) {
        for (lane, pause) in self.queue.store().pauses() {
            if !before.contains_key(&lane) {
                let until = pause.until;
                self.scheduler.handle(Input::Paused { lane, until }, now);
            }
        }
    }

    fn start(&mut self, job: Job) {
        let Some(to) = self.destinations.get(&job.lane).map(Arc::clone) else {
            // Configure has just removed this lane; its deliveries stay pending in the store.
            let now = self.clock.now();
            job.batch
                .iter()
                .for_each(|due| self.let_go(job.lane, due.seq, now));
            return;
        };
        self.runners.start(job, to);
    }

    fn end(&mut self, ended: Ended, now: Now) {
        let Ended {
            lane,
            ends,
            seen,
            gone,
        } = ended;
        self.attempts.notify_one();
        let batch = ends.iter().map(|end| end.seq).collect();
        self.scheduler.handle(Input::Finished { lane, batch, seen }, now);
        if gone {
            self.pause_gone(lane, now);
        }
        for end in ends {
            match end.settle {
                Some(settle) => {
                    if let Some(to) = self.destinations.get(&lane) {
                        self.live.decided(&to.endpoint.name, &settle);
                    }
                    self.queue.settle(settle, end.attempt);
                }
                None => {
                    // It is still pending in the store, which is asked for it again.
                    self.let_go(lane, end.seq, now);
                    let from = end.seq;
                    self.scheduler.handle(Input::Revived { lane, from }, now);
                }
            }
        }
    }

    /// The lane holds this delivery no more.
    fn let_go(&mut self, lane: LaneId, seq: Seq, now: Now) {
        let input = Input::Committed {
            lane,
            seq,
            deferred: None,
            tries: 0,
        };
        self.scheduler.handle(input, now);
    }

    /// An endpoint that says it is gone gets no more requests until somebody resumes it (Standard Webhooks,
    /// "410 Gone"); what it is owed is parked.
    fn pause_gone(&mut self, lane: LaneId, now: Now) {
        let Some(to) = self.destinations.get(&lane) else {
            return;
        };
        tracing::warn!(
            endpoint = &*to.endpoint.name,
            "the endpoint says it is gone: paused until it is resumed"
        );
        self.scheduler.handle(Input::Paused { lane, until: None }, now);
        let pause = Pause {
            by: "posthaste".into(),
            reason: "the endpoint answered 410 Gone or asked to be disabled".into(),
            since: Clock::wall(),
            until: None,
        };
        let (queue, back) = (self.queue.clone(), self.to_self.clone());
        self.tasks.spawn(async move {
            // If the store fails here the daemon ends anyway, and the next answer pauses it again.
            let paused = queue.write(move |store| {
                store.pause(lane, Some(pause))?;
                // Somebody may have resumed it just before that was durable; what is on disk counts.
                let _ = back.send(Message::Tell(Input::Paused { lane, until: None }));
                Ok(())
            });
            let _ = paused.await;
        });
    }

    fn refill(&self, refill: Refill) {
        let (queue, back) = (self.queue.clone(), self.to_self.clone());
        let lane = refill.lane;
        let to = self.destinations.get(&lane).map(Arc::clone);
        self.tasks.spawn(async move {
            let answer = queue
                .read(move |store| {
                    let answer = store.due(lane, &refill.query)?;
                    let keys = to.map_or_else(|| Ok(Vec::new()), |to| order_keys(store, &to, &answer))?;
                    Ok((answer, keys))
                })
                .await
                .and_then(|found| found);
            let input = match answer {
                Ok((answer, keys)) => Input::Refilled { lane, answer, keys },
                Err(error) => {
                    tracing::error!(%error, "the store could not say what is due");
                    Input::RefillFailed { lane }
                }
            };
            let _ = back.send(Message::Tell(input));
        });
    }

    fn drain(&mut self, answer: oneshot::Sender<()>) {
        self.scheduler.handle(Input::Drain, self.clock.now());
        self.runners.close();
        self.tasks.close();
        let (tasks, back) = (self.tasks.clone(), self.to_self.clone());
        tokio::spawn(async move {
            tasks.wait().await;
            // One round through the loop, so that the ends of those jobs have been handed to the store.
            let (seen, wait) = oneshot::channel();
            let _ = back.send(Message::Views(seen));
            let _ = wait.await;
            let _ = answer.send(());
        });
    }
}

/// What each delivery of `answer` is kept in order with. Worked out from the event itself whenever it is read, so it
/// is the same after a restart, and another `order` holds for everything that waits. What is damaged or has no key
/// that could be worked out is in order with nothing.
///
/// # Errors
/// When the store can't read an event that it has: its line is not known, so nothing may be sent for now.
fn order_keys(store: &dyn Store, to: &Destination, answer: &DueAnswer) -> Result<Vec<OrderKey>, StoreError> {
    let all = answer.fresh.iter().chain(&answer.deferred).chain(&answer.tried);
    let policy = to.endpoint.order.policy;
    match policy {
        OrderPolicy::None => Ok(Vec::new()),
        OrderPolicy::Endpoint => Ok(all.map(|due| policy.key(due.seq, None)).collect()),
        OrderPolicy::Key => {
            let seqs: Vec<Seq> = all.map(|due| due.seq).collect();
            let events = store.load(&seqs);
            let keyed = seqs.iter().zip(events);
            keyed.map(|(seq, event)| order_key(*seq, event, to)).collect()
        }
    }
}

fn order_key(seq: Seq, event: Result<Event, LoadError>, to: &Destination) -> Result<OrderKey, StoreError> {
    let alone = to.endpoint.order.policy.key(seq, None);
    let event = match event {
        Ok(event) => event,
        Err(LoadError::Store(error)) => return Err(error),
        // Its job will tell why.
        Err(LoadError::Damaged(..) | LoadError::Missing(_)) => return Ok(alone),
    };
    Ok(to.endpoint.order_key(seq, &event).unwrap_or_else(|error| {
        let times = to.numbers.unkeyed();
        // All of a backlog may have this in common.
        if times.is_power_of_two() {
            let (endpoint, id) = (&*to.endpoint.name, &*event.head.id);
            tracing::warn!(endpoint, event = id, times, %error, "order_key can't be worked out: in order with nobody");
        }
        alone
    }))
}

/// What is durable is news for the scheduler.
impl From<Notice> for Input {
    fn from(notice: Notice) -> Self {
        match notice {
            Notice::Accepted {
                lane,
                seq,
                due,
                bytes,
            } => Self::Accepted {
                lane,
                seq,
                due,
                bytes,
            },
            Notice::Committed {
                lane,
                seq,
                deferred,
                tries,
            } => Self::Committed {
                lane,
                seq,
                deferred,
                tries,
            },
        }
    }
}
