//! What the dispatcher does, without threads: it tells the scheduler what happened, and carries out what that decides.

use std::sync::Arc;

use posthaste::domain::time::Now;
use posthaste::scheduler::{Actions, Input, Refill, Scheduler, SchedulerConfig};
use posthaste::store::{DeliveryId, Pause, Settle, Store};

use crate::commit::Verb;
use crate::job::{End, Ended};
use crate::world::{Inside, World};

/// The dispatcher never sleeps longer while something waits for its time.
pub const SLEEP_MS_MAX: u64 = 60_000;
/// Polls without an end are a bug; so many in a row never happen.
const POLLS_MAX: usize = 1000;

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
        let Some(daemon) = &mut self.daemon else { return };
        let before: Vec<_> = daemon.scheduler.lanes().iter().map(|view| view.lane).collect();
        let sites = self.sites.iter().filter(|site| site.configured);
        let lanes = sites
            .map(|site| site.lane_config(self.ledger.has_tried(site.lane)))
            .collect();
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

    /// A job has ended: the scheduler learns, and what becomes of its deliveries goes to the committer.
    pub fn end(&mut self, ended: Ended) {
        let (lane, endpoint) = (ended.lane, Arc::clone(&ended.endpoint));
        let retry = ended.is_retry();
        self.ledger.request_ended(lane, retry);
        let (seen, gone, ends) = self.judge(ended, &endpoint);
        if retry {
            self.watch.retry_ended(lane, &seen);
        }
        let batch = ends.iter().map(|end| end.due.seq).collect();
        self.tell(Input::Finished { lane, batch, seen });
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
        for End { due, to } in ends {
            let (seq, was_due) = (due.seq, due.was_due);
            let id = DeliveryId { lane, seq };
            self.ledger.ended(id, to.is_some());
            match to {
                Some(to) => self.settle(Settle { id, was_due, to }),
                None => {
                    self.tell(Input::Committed {
                        lane,
                        seq,
                        deferred: None,
                        tries: 0,
                    });
                    self.tell(Input::Revived { lane, from: seq });
                }
            }
        }
    }

    /// The store answers a lane's question, a moment after it looked.
    pub fn look(&mut self, refill: Refill) {
        let lane = refill.lane;
        let fails = self.scenario.refill_fails_one_in;
        let input = match self.store.due(lane, &refill.query) {
            Ok(answer) if fails == 0 || !self.dice.one_in(fails) => {
                let keys = self.order_keys(lane, &answer);
                Input::Refilled { lane, answer, keys }
            }
            _ => Input::RefillFailed { lane },
        };
        let delay_ms = self.dice.below(4) as u64;
        self.soon(delay_ms, Inside::Tell(input));
    }
}
