//! Who goes next. Pure: time comes in as `now`, decisions go out as values.
//!
//! The dispatcher tells the scheduler what happened ([`Scheduler::handle`]), asks what to do
//! ([`Scheduler::poll`]) and sleeps until [`Scheduler::wake_at`] or until something happens. After every
//! `handle` or `poll` it must ask `poll` again until that returns nothing, then `wake_at`.

use std::time::Duration;

use crate::domain::endpoint::{BreakerPolicy, Concurrency};
use crate::domain::event::Seq;
use crate::domain::outcome::Outcome;
use crate::domain::time::{Now, Timestamp};
use crate::store::{Due, DueAnswer, DueQuery, LaneId};

/// What the scheduler needs to know of an endpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct LaneConfig {
    /// Its queue.
    pub lane: LaneId,
    /// A disabled endpoint's deliveries stay parked.
    pub enabled: bool,
    /// Bounds on requests at once.
    pub concurrency: Concurrency,
    /// When to stop trying for a while.
    pub breaker: BreakerPolicy,
}

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// The endpoints in force, all of them. Lanes not named get no more jobs; what they have under way ends.
    Configure(Vec<LaneConfig>),
    /// A delivery was accepted and is on disk. `due`: `None` for at once.
    Accepted {
        /// To whom.
        lane: LaneId,
        /// Which event.
        seq: Seq,
        /// Not before.
        due: Option<Timestamp>,
    },
    /// The store answered a [`Refill`].
    Refilled {
        /// Whose.
        lane: LaneId,
        /// What it found.
        answer: DueAnswer,
    },
    /// The store could not answer a [`Refill`]; it may be asked again.
    RefillFailed {
        /// Whose.
        lane: LaneId,
    },
    /// A request has ended: its slot is free. What became of the delivery is not durable yet.
    Finished {
        /// Whose.
        lane: LaneId,
        /// Which event.
        seq: Seq,
        /// What the endpoint showed of itself.
        seen: Seen,
    },
    /// The end of a delivery is durable. `deferred`: when it is due again, `None` if it is settled or dead.
    Committed {
        /// Whose.
        lane: LaneId,
        /// Which event.
        seq: Seq,
        /// When it is due again.
        deferred: Option<Timestamp>,
    },
    /// The lane is paused; `until`: it resumes by itself then.
    Paused {
        /// Whose.
        lane: LaneId,
        /// The end of the pause.
        until: Option<Timestamp>,
    },
    /// The lane is paused no more.
    Resumed {
        /// Whose.
        lane: LaneId,
    },
    /// Deliveries at or after `from` became pending again, or due earlier: ask the store again.
    Revived {
        /// Whose.
        lane: LaneId,
        /// The first of them.
        from: Seq,
    },
    /// An operator wants the lane tried now: ends a suspension or an open breaker early.
    Flushed {
        /// Whose.
        lane: LaneId,
    },
    /// Hand out no more jobs: the daemon is stopping.
    Drain,
}

/// What one attempt showed of the endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// How it ended.
    pub outcome: Outcome,
    /// How long it took.
    pub took: Duration,
    /// Leave the whole endpoint alone for so long (`Retry-After`).
    pub retry_after: Option<Duration>,
    /// 429, 503 or a timeout: send fewer at once.
    pub overloaded: bool,
}

/// A delivery to make now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job {
    /// To whom.
    pub lane: LaneId,
    /// Which event, and what is known of its tries.
    pub due: Due,
}

/// A question to the store; its answer comes back as [`Input::Refilled`].
#[derive(Clone, Debug)]
pub struct Refill {
    /// Whose.
    pub lane: LaneId,
    /// What to look for.
    pub query: DueQuery,
}

/// What to do now.
#[derive(Clone, Debug, Default)]
pub struct Actions {
    /// Deliveries to start.
    pub jobs: Vec<Job>,
    /// Questions to the store.
    pub refills: Vec<Refill>,
}

/// A lane's state (design: one enum with one table of legal moves), for status and logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaneState {
    /// Sends as its limits allow.
    Ready,
    /// The endpoint asked to be left alone.
    Suspended {
        /// Until then.
        until: Timestamp,
    },
    /// The breaker is open: the backlog waits without attempts.
    Tripped {
        /// The next probe.
        until: Timestamp,
    },
    /// One probe is under way, or about to leave.
    Probing,
    /// Paused by an operator, by the endpoint's own 410, or because it is disabled.
    Paused {
        /// The end of the pause; `None`: until resumed.
        until: Option<Timestamp>,
    },
}

/// The numbers of one lane in memory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LaneView {
    /// Which lane.
    pub lane: LaneId,
    /// Its state.
    pub state: LaneState,
    /// When it came into that state.
    pub since: Timestamp,
    /// Requests under way.
    pub in_flight: u32,
    /// How many may be under way.
    pub limit: u32,
    /// Deliveries held in memory, waiting to go.
    pub window: u32,
    /// Failures in a row.
    pub failures: u32,
}

/// The bounds of the scheduler itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SchedulerConfig {
    /// Requests under way, all lanes together.
    pub in_flight_max: usize,
    /// Deliveries held in memory per lane, waiting to go.
    pub window_max: usize,
}

impl Default for SchedulerConfig {
    fn default() -> Self {
        Self { in_flight_max: 512, window_max: 1024 }
    }
}

/// The scheduler: one lane for each endpoint, one next wake-up for all.
#[derive(Debug)]
pub struct Scheduler {
    config: SchedulerConfig,
}

impl Scheduler {
    /// A scheduler without lanes.
    #[must_use]
    pub fn new(config: SchedulerConfig) -> Self {
        Self { config }
    }

    /// Takes in what happened.
    pub fn handle(&mut self, _input: Input, _now: Now) {}

    /// Starts what can start, asks what must be asked.
    #[must_use]
    pub fn poll(&mut self, _now: Now) -> Actions {
        let _ = self.config;
        Actions::default()
    }

    /// How long from `now` until `poll` could have something to do though nothing happens; `None`: never.
    #[must_use]
    pub fn wake_in(&self, _now: Now) -> Option<Duration> {
        None
    }

    /// Every lane, for status.
    #[must_use]
    pub fn lanes(&self) -> Vec<LaneView> {
        Vec::new()
    }
}
