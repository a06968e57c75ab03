//! Who goes next. Pure: time comes in as `now`, decisions go out as values.
//!
//! The dispatcher tells the scheduler what happened ([`Scheduler::handle`]), asks what to do
//! ([`Scheduler::poll`]) and sleeps until [`Scheduler::wake_in`] or until something happens. After every
//! `handle` or `poll` it must ask `poll` again until that returns nothing, then `wake_in`. Every question
//! to the store must be answered, and news of accepted deliveries must come after their commit.
//!
//! It knows no clock, no store, no socket, and nothing of what is delivered.

mod agenda;
mod backlog;
mod breaker;
mod concurrency;
mod gathering;
mod hand;
mod lane;
mod ordered;
mod rate;
#[cfg(test)]
mod tests;
mod window;

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use rustc_hash::FxBuildHasher;

use agenda::{Agenda, Marks};
use lane::Lane;

use crate::domain::endpoint::{BatchPolicy, BreakerPolicy, Concurrency, OrderKey, OrderPolicy};
use crate::domain::event::Seq;
use crate::domain::outcome::Outcome;
use crate::domain::rate::Rate;
use crate::domain::several::Several;
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
    /// How fast requests may follow each other; `None`: as fast as they go.
    pub rate: Option<Rate>,
    /// How deliveries are put together; `None`: each goes alone.
    pub batch: Option<BatchPolicy>,
    /// What is kept in order of acceptance.
    pub order: OrderPolicy,
    /// Differs from before when events may have other keys than before, so that lines made until then hold no more.
    pub keyed: u64,
    /// Its last tries failed before the daemon started, so a new lane begins with one request at a time.
    pub doubtful: bool,
    /// It asked to be left alone until then before the daemon started, and a new lane does.
    pub rests_until: Option<Timestamp>,
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
        /// Bytes of the event's JSON.
        bytes: u32,
    },
    /// The store answered a [`Refill`].
    Refilled {
        /// Whose.
        lane: LaneId,
        /// What it found.
        answer: DueAnswer,
        /// What each delivery is kept in order with: the fresh ones first, then the deferred, then the tried; empty
        /// for a lane that keeps no order.
        keys: Vec<OrderKey>,
    },
    /// The store could not answer a [`Refill`]; it may be asked again.
    RefillFailed {
        /// Whose.
        lane: LaneId,
    },
    /// A request has ended: its slot is free. What became of its deliveries is not durable yet.
    Finished {
        /// Whose.
        lane: LaneId,
        /// The events it carried, in the order of the [`Job`].
        batch: Several<Seq>,
        /// What the endpoint showed of itself.
        seen: Seen,
    },
    /// Deliveries of a [`Job`] that did not fit into its request, as they were in it.
    GivenBack {
        /// Whose.
        lane: LaneId,
        /// Which.
        batch: Several<Due>,
    },
    /// The end of a delivery is durable. `deferred`: when it is due again, `None` if it is settled or dead.
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

/// A request to make now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// To whom.
    pub lane: LaneId,
    /// The deliveries that go in it, at least one: which event, and what is known of its tries.
    pub batch: Several<Due>,
    /// Bytes of events that may go in it; what does not fit is given back. One event goes in any case.
    pub bytes_max: usize,
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
    /// Lanes that came into another state since the last poll, for the log.
    pub moves: Vec<LaneView>,
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
    /// Those of them that were never tried and never put off.
    pub fresh: u32,
    /// Failures in a row.
    pub failures: u32,
    /// Until when a batch waits for more, if one does.
    pub gathers_until: Option<Timestamp>,
    /// Ordering keys whose first delivery waits for another try, and holds up all that follows.
    pub held_up: u32,
}

/// The bounds of the scheduler itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SchedulerConfig {
    /// Requests under way, all lanes together.
    pub in_flight_max: usize,
    /// Deliveries held in memory per lane, waiting to go; a lane with large batches holds three of them.
    pub window_max: usize,
    /// Bytes of batches under way, all lanes together. Each lane with batches has an equal part of it, so that a slow
    /// endpoint can't keep the others' part.
    pub batch_bytes_max: u64,
}

impl Default for SchedulerConfig {
    fn default() -> Self {
        Self {
            in_flight_max: 512,
            window_max: 1024,
            batch_bytes_max: 64 << 20,
        }
    }
}

/// The scheduler: one lane for each endpoint, one next wake-up for all.
#[derive(Debug)]
pub struct Scheduler {
    config: SchedulerConfig,
    lanes: HashMap<LaneId, Entry, FxBuildHasher>,
    agenda: Agenda,
    draining: bool,
    moves: Vec<LaneView>,
    /// The time of the latest call, for [`Scheduler::lanes`].
    seen: Now,
}

/// A lane and what the agenda knows of it.
#[derive(Debug)]
struct Entry {
    lane: Lane,
    marks: Marks,
}

impl Scheduler {
    /// A scheduler without lanes.
    #[must_use]
    pub fn new(config: SchedulerConfig) -> Self {
        Self {
            config,
            lanes: HashMap::default(),
            agenda: Agenda::default(),
            draining: false,
            moves: Vec::new(),
            seen: Now::default(),
        }
    }

    /// Takes in what happened. News of a lane that was never configured is passed over: it asks the store
    /// when it comes into force, so a pause that is in force must be told after [`Input::Configure`].
    pub fn handle(&mut self, input: Input, now: Now) {
        self.seen = now;
        match input {
            Input::Configure(configs) => self.configure(configs, now),
            Input::Drain => self.draining = true,
            Input::Accepted {
                lane,
                seq,
                due,
                bytes,
            } => self.change(lane, now, |lane| lane.accepted(seq, due, bytes, now)),
            Input::Refilled { lane, answer, keys } => {
                self.change(lane, now, |lane| lane.refilled(&answer, &keys, now));
            }
            Input::RefillFailed { lane } => self.change(lane, now, |lane| lane.refill_failed(now)),
            Input::Finished { lane, batch, seen } => {
                self.change(lane, now, |lane| lane.finished(&batch, &seen, now));
            }
            Input::GivenBack { lane, batch } => self.change(lane, now, |lane| lane.given_back(&batch, now)),
            Input::Committed {
                lane,
                seq,
                deferred,
                tries,
            } => {
                let deferred = deferred.map(|due| (due, tries));
                self.change(lane, now, |lane| lane.committed(seq, deferred, now));
            }
            Input::Paused { lane, until } => self.change(lane, now, |lane| lane.paused(until, now)),
            Input::Resumed { lane } => self.change(lane, now, |lane| lane.resumed(now)),
            Input::Revived { lane, from } => self.change(lane, now, |lane| lane.revived(from, now)),
            Input::Flushed { lane } => self.change(lane, now, |lane| lane.flushed(now)),
        }
    }

    /// Starts what can start, asks what must be asked. Costs what there is to do: lanes that can neither
    /// send nor ask are not looked at.
    #[must_use]
    pub fn poll(&mut self, now: Now) -> Actions {
        self.seen = now;
        let mut actions = Actions::default();
        if self.draining {
            return actions;
        }
        while let Some(lane) = self.agenda.pop_due(now) {
            self.change(lane, now, |lane| lane.advance(now));
        }
        actions.moves = std::mem::take(&mut self.moves);
        self.dispatch(now, &mut actions.jobs);
        self.ask(now, &mut actions.refills);
        actions
    }

    /// How long from `now` until `poll` could have something to do though nothing happens; `None`: never.
    #[must_use]
    pub fn wake_in(&self, now: Now) -> Option<Duration> {
        if self.draining {
            None
        } else {
            self.agenda.wakes_in(now)
        }
    }

    /// Every lane, for status, in the order of their numbers.
    #[must_use]
    pub fn lanes(&self) -> Vec<LaneView> {
        let mut views: Vec<LaneView> = self
            .lanes
            .values()
            .map(|entry| entry.lane.view(self.seen))
            .collect();
        views.sort_unstable_by_key(|view| view.lane);
        views
    }

    /// Who goes next. Lanes take turns, one delivery a turn: first those that hold less than their share,
    /// then, with what is left over the reserve, whoever can use more. A lane is never given what another
    /// is short of, so an endpoint that keeps its slots for long can't keep those of the others.
    fn dispatch(&mut self, now: Now, jobs: &mut Vec<Job>) {
        let (share, reserve) = self.share_and_reserve();
        for (each_max, kept_free) in [(share, 0), (usize::MAX, reserve)] {
            let mut passed_over = 0;
            while passed_over < self.agenda.turns()
                && self.agenda.in_flight() + kept_free < self.config.in_flight_max
            {
                let Some(id) = self.agenda.next_turn() else { break };
                let Some(entry) = self.lanes.get_mut(&id) else {
                    continue;
                };
                Agenda::turn_taken(&mut entry.marks);
                if !entry.lane.can_send(now) {
                    continue;
                }
                if (entry.lane.in_flight() as usize) < each_max {
                    jobs.extend(entry.lane.start(now));
                    passed_over = 0;
                } else {
                    passed_over += 1;
                }
                self.agenda.note(id, &entry.lane, &mut entry.marks, now);
            }
        }
    }

    /// How many requests each lane may have under way before anyone gets more, and how many slots are kept
    /// for lanes below their share. While some lanes have nothing to send, their part is an eighth of the
    /// slots, so that they start at once when they do, whatever the others hold.
    fn share_and_reserve(&self) -> (usize, usize) {
        let slots = self.config.in_flight_max;
        let active = self.agenda.active();
        let reserve = if self.lanes.len() > 1 { slots / 8 } else { 0 };
        let kept_for_idle = if active < self.lanes.len() { reserve } else { 0 };
        (((slots - kept_for_idle) / active.max(1)).max(1), reserve)
    }

    fn ask(&mut self, now: Now, refills: &mut Vec<Refill>) {
        for id in self.agenda.take_asking() {
            let Some(entry) = self.lanes.get_mut(&id) else {
                continue;
            };
            Agenda::heard(&mut entry.marks);
            refills.extend(entry.lane.refill(now).map(|query| Refill { lane: id, query }));
            self.agenda.note(id, &entry.lane, &mut entry.marks, now);
        }
    }

    /// Changes one lane and brings the agenda into step with it.
    fn change(&mut self, id: LaneId, now: Now, change: impl FnOnce(&mut Lane)) {
        let Some(entry) = self.lanes.get_mut(&id) else {
            return;
        };
        let before = entry.lane.state();
        change(&mut entry.lane);
        if std::mem::discriminant(&before) != std::mem::discriminant(&entry.lane.state()) {
            self.moves.push(entry.lane.view(now));
        }
        self.agenda.note(id, &entry.lane, &mut entry.marks, now);
        if entry.lane.is_over() {
            self.agenda.forget(id, &mut entry.marks);
            self.lanes.remove(&id);
        }
    }

    /// Adds, updates and retires lanes.
    fn configure(&mut self, configs: Vec<LaneConfig>, now: Now) {
        let mut gone: BTreeSet<LaneId> = self.lanes.keys().copied().collect();
        // A batch is in memory twice: its events, and the body made of them.
        let batching = configs.iter().filter(|config| config.batch.is_some()).count();
        let batch_bytes_max = self.config.batch_bytes_max / (2 * batching.max(1) as u64);
        for mut config in configs {
            if let Some(batch) = &mut config.batch {
                let part = usize::try_from(batch_bytes_max).unwrap_or(usize::MAX);
                batch.bytes_max = batch.bytes_max.min(part);
            }
            let id = config.lane;
            gone.remove(&id);
            let window_max = self.config.window_max;
            self.lanes.entry(id).or_insert_with(|| Entry {
                lane: Lane::new(config.clone(), window_max, now),
                marks: Marks::default(),
            });
            self.change(id, now, |lane| lane.configure(config, batch_bytes_max, now));
        }
        for id in gone {
            self.change(id, now, |lane| lane.retire(now));
        }
    }
}
