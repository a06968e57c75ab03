//! What the dispatcher and its jobs do, without sockets and threads: they tell the scheduler what happened, carry out
//! what it decides, ask the endpoints, and let `domain::delivery::after` decide what becomes of each delivery.

use std::sync::Arc;
use std::time::Duration;

use posthaste::domain::delivery::{DeadReason, Next, Tried, after};
use posthaste::domain::endpoint::Endpoint;
use posthaste::domain::event::Event;
use posthaste::domain::outcome::{ErrorClass, Outcome};
use posthaste::domain::time::{Now, Timestamp};
use posthaste::scheduler::{Actions, Input, Job, Refill, Scheduler, SchedulerConfig, Seen};
use posthaste::store::{DeadEvidence, Deferral, DeliveryId, LoadError, Pause, Settle, SettleTo, Store};

use crate::commit::Verb;
use crate::receiver::Reply;
use crate::scenario::Site;
use crate::world::{Inside, World};

/// Before the store is asked again for an event that it could not read.
const READ_PAUSE_MS: u64 = 1000;
/// The dispatcher never sleeps longer while something waits for its time.
pub const SLEEP_MS_MAX: u64 = 60_000;
/// Polls without an end are a bug; so many in a row never happen.
const POLLS_MAX: usize = 1000;

/// What a job shows of its endpoint when no request was made.
const UNSEEN: Seen = Seen {
    outcome: Outcome::Skipped,
    took: Duration::ZERO,
    retry_after: None,
    overloaded: false,
};

/// The part of the daemon that dies with it, beside its committer.
#[derive(Debug)]
pub struct Daemon {
    /// Who goes next.
    pub scheduler: Scheduler,
    started_ms: u64,
    /// When the dispatcher wakes by itself.
    pub wake_at_ms: Option<u64>,
}

impl Daemon {
    /// A daemon that starts at `now_ms`.
    pub fn new(config: SchedulerConfig, now_ms: u64) -> Self {
        Self {
            scheduler: Scheduler::new(config),
            started_ms: now_ms,
            wake_at_ms: None,
        }
    }
}

/// A job whose request is under way.
#[derive(Debug)]
pub struct Ended {
    job: Job,
    came: Came,
    /// The rules it began with.
    endpoint: Arc<Endpoint>,
    first_attempt: Timestamp,
    started: Timestamp,
}

/// What will have come of it.
#[derive(Debug)]
enum Came {
    /// The endpoint answered, or did not.
    Reply(Reply, Event),
    /// Nobody knows; nothing was sent.
    Nothing,
    /// The event is damaged.
    Damaged,
    /// The event has expired.
    Expired,
}

impl World {
    /// The clocks as the running daemon sees them.
    pub fn now(&self) -> Now {
        let started_ms = self.daemon.as_ref().map_or(0, |daemon| daemon.started_ms);
        Now {
            wall: self.wall(),
            mono_ms: self.now_ms - started_ms,
        }
    }

    /// The scheduler hears something.
    pub fn tell(&mut self, input: Input) {
        let now = self.now();
        self.watch.told(&input, self.now_ms);
        if let Some(daemon) = &mut self.daemon {
            daemon.scheduler.handle(input, now);
        }
    }

    /// The endpoints of the configuration come into force, and with them the pauses the store knows of.
    pub fn configure(&mut self, now: Now) {
        let sites = self.sites.iter().filter(|site| site.configured);
        let lanes = sites.map(Site::lane_config).collect();
        let Some(daemon) = &mut self.daemon else { return };
        let before: Vec<_> = daemon.scheduler.lanes().iter().map(|view| view.lane).collect();
        daemon.scheduler.handle(Input::Configure(lanes), now);
        for (lane, pause) in self.store.pauses() {
            if !before.contains(&lane) {
                let until = pause.until;
                self.tell(Input::Paused { lane, until });
            }
        }
    }

    /// Carries out what the scheduler decides; `happened`: something did, so this is not its own alarm.
    pub fn poll(&mut self, happened: bool) {
        let now = self.now();
        let due = self.daemon.as_ref().and_then(|daemon| daemon.wake_at_ms) == Some(self.now_ms);
        let mut did = false;
        for polls in 0.. {
            let Some(daemon) = &mut self.daemon else { return };
            let actions = daemon.scheduler.poll(now);
            let Actions { jobs, refills, moves } = &actions;
            did |= !(jobs.is_empty() && refills.is_empty() && moves.is_empty());
            self.totals.moves += moves.len() as u64;
            if jobs.is_empty() && refills.is_empty() {
                break;
            }
            if polls > POLLS_MAX {
                self.fail("poll never comes to rest");
            }
            self.check_jobs(&actions);
            for job in actions.jobs {
                self.launch(job);
            }
            for refill in actions.refills {
                let delay_ms = self.dice.below(4) as u64;
                self.soon(delay_ms, Inside::Looks(refill));
            }
        }
        if due && !happened {
            self.totals.wakes += 1;
            self.woke(did);
        }
        let now_ms = self.now_ms;
        if let Some(daemon) = &mut self.daemon {
            let wait = daemon.scheduler.wake_in(now);
            daemon.wake_at_ms = wait.map(|wait| now_ms + (wait.as_millis() as u64).clamp(1, SLEEP_MS_MAX));
        }
    }

    /// A job begins: reads its event, and makes its request.
    fn launch(&mut self, job: Job) {
        if let Err(what) = self.ledger.started(&job) {
            self.fail(&what);
        }
        let seq = job.due.seq;
        let id = id_of(&job);
        let started = self.wall();
        let endpoint = Arc::clone(&self.sites[job.lane.0 as usize].endpoint);
        let deferral = job.due.was_due.map(|was_due| self.store.deferral(id, was_due));
        let before = deferral.and_then(|found| found.ok().flatten());
        let first_attempt = before.map_or(started, |before| before.first_attempt);
        let fails = self.scenario.read_fails_one_in;
        let unread = fails > 0 && self.dice.one_in(fails);
        let loaded = self.store.load(&[seq]).pop().unwrap_or(Err(LoadError::Missing(seq)));
        let (took_ms, came) = match loaded {
            _ if unread => (READ_PAUSE_MS, Came::Nothing),
            Err(LoadError::Damaged(..)) => (1, Came::Damaged),
            Err(_) => (READ_PAUSE_MS, Came::Nothing),
            Ok(event) if event.head.expires.is_some_and(|at| at <= started) => (0, Came::Expired),
            Ok(event) => {
                let receiver = &mut self.receivers[job.lane.0 as usize];
                let mut reply = receiver.request(seq.0, self.now_ms, &mut self.dice);
                let most = endpoint.retry.max_retry_after;
                reply.signal.retry_after = reply.signal.retry_after.map(|asked| asked.min(most));
                self.totals.requests += 1;
                (reply.took_ms, Came::Reply(reply, event))
            }
        };
        let ended = Ended {
            job,
            came,
            endpoint,
            first_attempt,
            started,
        };
        self.soon(took_ms, Inside::Ended(Box::new(ended)));
    }

    /// A request has ended: the scheduler learns, and what becomes of the delivery goes to the committer.
    pub fn end(&mut self, ended: Ended) {
        let job = ended.job;
        let (lane, seq) = (job.lane, job.due.seq);
        let id = id_of(&job);
        let (seen, gone, to) = self.judge(&ended);
        self.ledger.ended(id, to.is_some());
        self.tell(Input::Finished { lane, seq, seen });
        if gone {
            let until = None;
            self.tell(Input::Paused { lane, until });
            let pause = Pause {
                by: "posthaste".into(),
                reason: "410".into(),
                since: self.wall(),
                until,
            };
            self.ask(Verb::Pause(lane, Some(pause)));
        }
        match to {
            Some(to) => self.settle(Settle {
                id,
                was_due: job.due.was_due,
                to,
            }),
            None => {
                let deferred = None;
                self.tell(Input::Committed { lane, seq, deferred });
                self.tell(Input::Revived { lane, from: seq });
            }
        }
    }

    /// What a try showed of its endpoint, whether that is gone for good, and what becomes of the delivery.
    fn judge(&mut self, ended: &Ended) -> (Seen, bool, Option<SettleTo>) {
        let id = id_of(&ended.job);
        let (reply, event) = match &ended.came {
            Came::Nothing => return (UNSEEN, false, None),
            Came::Damaged => {
                let dead = evidence(DeadReason::Damaged, None, 0, self.wall());
                return (UNSEEN, false, Some(dead));
            }
            Came::Expired => {
                self.ledger.excuse(id);
                return (UNSEEN, false, Some(SettleTo::Settled));
            }
            Came::Reply(reply, event) => (reply, event),
        };
        self.receivers[id.lane.0 as usize].ended();
        if reply.outcome == Outcome::Delivered {
            self.ledger.taken(id);
        } else if ended.endpoint.best_effort {
            self.ledger.excuse(id);
        }
        let tried = Tried {
            first_attempt: ended.first_attempt,
            tries_before: ended.job.due.tries,
            outcome: reply.outcome,
            status: reply.status,
            signal: reply.signal,
        };
        let now = self.wall();
        let to = match after(&ended.endpoint, &tried, now, self.dice.any()) {
            Next::Settled => SettleTo::Settled,
            Next::Later { due, tries } => SettleTo::Later(deferral(due, tries, ended, reply)),
            Next::Dead(reason) => evidence(reason, Some(event), ended.job.due.tries + 1, now),
        };
        let seen = Seen {
            outcome: reply.outcome,
            took: Duration::from_millis(reply.took_ms),
            retry_after: reply.signal.retry_after,
            overloaded: reply.signal.overloaded,
        };
        (seen, reply.signal.gone, Some(to))
    }

    /// The store answers a lane's question, a moment after it looked.
    pub fn look(&mut self, refill: Refill) {
        let lane = refill.lane;
        let fails = self.scenario.refill_fails_one_in;
        let input = match self.store.due(lane, &refill.query) {
            Ok(answer) if fails == 0 || !self.dice.one_in(fails) => Input::Refilled { lane, answer },
            _ => Input::RefillFailed { lane },
        };
        let delay_ms = self.dice.below(4) as u64;
        self.soon(delay_ms, Inside::Tell(input));
    }
}

fn id_of(job: &Job) -> DeliveryId {
    DeliveryId {
        lane: job.lane,
        seq: job.due.seq,
    }
}

fn deferral(due: Timestamp, tries: u32, ended: &Ended, reply: &Reply) -> Deferral {
    Deferral {
        due,
        tries,
        first_attempt: ended.first_attempt,
        last_attempt: ended.started,
        last_status: reply.status,
        last_class: match reply.outcome {
            Outcome::Error(class) => Some(class),
            _ => None::<ErrorClass>,
        },
        last_message: "".into(),
    }
}

fn evidence(reason: DeadReason, event: Option<&Event>, tries: u32, since: Timestamp) -> SettleTo {
    let head = event.map(|event| &event.head);
    SettleTo::Dead(Box::new(DeadEvidence {
        reason,
        since,
        tries,
        first_attempt: None,
        last: None,
        event_id: head.map_or_else(Box::default, |head| head.id.clone()),
        event_source: head.map_or_else(Box::default, |head| head.source.clone()),
        event_kind: head.map_or_else(Box::default, |head| head.kind.clone()),
        accepted: head.map_or(since, |head| head.accepted),
    }))
}
