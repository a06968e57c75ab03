//! What must hold at every step, whatever the seed. Each complaint says when it came up and how to see it again.

use std::collections::VecDeque;

use posthaste::domain::outcome::{ErrorClass, Outcome};
use posthaste::domain::time::Timestamp;
use posthaste::scheduler::{Actions, Input, LaneState, LaneView, Seen};
use posthaste::store::{Due, LaneId, Store};

use crate::daemon::Daemon;
use crate::ledger::{Place, is_retry};
use crate::receiver::TIMEOUT_MS;
use crate::scenario::GATHERS_MS_MAX;
use crate::world::World;

/// A lane with work that is due and a slot that is free starts it within this time.
const PATIENCE_MS: u64 = 1500;
/// The same while others hold the slots of all: until some of their requests have reached their deadlines.
const PATIENCE_WITHOUT_SLOTS_MS: u64 = 3 * TIMEOUT_MS;
/// After a jump of the wall clock the dispatcher may sleep on for so long.
const CLOCK_PATIENCE_MS: u64 = 61_000;
/// When all trouble has ended, everything is over after this time at the latest.
const END_MS: u64 = 600_000;
/// Wake-ups in one second that find nothing to do. Where a rate allows the next request while all slots are taken there
/// are some; a busy loop has a thousand.
const IDLE_WAKES_MAX: usize = 400;
/// Steps of one world, at most.
const STEPS_MAX: u64 = 1_000_000;

/// What is known of a lane from one step to the next.
#[derive(Clone, Debug, Default)]
struct LaneWatch {
    /// Since when it could start something and has not; and since when it waits for a slot of all.
    able_since_ms: Option<u64>,
    slotless_since_ms: Option<u64>,
    /// When it will have something to do though nothing happens.
    wakes_at_ms: Option<u64>,
    /// What the scheduler was told of pauses.
    pause: Option<Option<Timestamp>>,
    /// Another order is wanted, which begins when all that is in hand is over; until then nothing leaves.
    reorders: bool,
    /// Until when the endpoint asked to be left alone.
    alone_until_ms: u64,
    /// When requests began, in the last second.
    began_ms: VecDeque<u64>,
    /// Its state after the last step, and whether it has delivered anything since its breaker closed.
    state: Option<LaneState>,
    alive: bool,
    /// Whether the last retry to end was answered well.
    retries_flow: bool,
    /// Since when a batch could leave that has waited long enough.
    aged_since_ms: Option<u64>,
}

/// What is known from one step to the next.
#[derive(Clone, Debug)]
pub struct Watch {
    lanes: Vec<LaneWatch>,
    /// When wake-ups found nothing to do, lately.
    idle_wakes: VecDeque<u64>,
    /// The latest the wall clock has shown.
    wall_max: Timestamp,
    /// No patience is tried before.
    excused_until_ms: u64,
    /// How far it was set back in all.
    behind_ms: u64,
    steps: u64,
}

impl Watch {
    /// Of so many lanes.
    pub fn new(lanes: usize) -> Self {
        Self {
            lanes: vec![LaneWatch::default(); lanes],
            idle_wakes: VecDeque::new(),
            wall_max: Timestamp::default(),
            excused_until_ms: 0,
            behind_ms: 0,
            steps: 0,
        }
    }

    /// The scheduler hears something.
    pub fn told(&mut self, input: &Input, now_ms: u64) {
        match input {
            Input::Paused { lane, until } => self.lanes[lane.0 as usize].pause = Some(*until),
            Input::Resumed { lane } => self.lanes[lane.0 as usize].pause = None,
            Input::Flushed { lane } => self.lanes[lane.0 as usize].alone_until_ms = 0,
            Input::Finished { lane, seen, .. } => {
                let lane = &mut self.lanes[lane.0 as usize];
                lane.alive |= lane.state == Some(LaneState::Ready) && seen.outcome == Outcome::Delivered;
                if let Some(wait) = seen.retry_after {
                    lane.alone_until_ms = lane.alone_until_ms.max(now_ms + wait.as_millis() as u64);
                }
            }
            _ => {}
        }
    }

    /// The wall clock has jumped. Whatever was due stays due then, so a jump back takes as long to make up for.
    pub fn clock_jumped(&mut self, by_ms: i64, now_ms: u64, wall: Timestamp) {
        self.wall_max = self.wall_max.max(wall);
        self.behind_ms += by_ms.min(0).unsigned_abs();
        self.excused_until_ms = now_ms + CLOCK_PATIENCE_MS;
    }

    /// Since when a batch `waits` though its company has had its time; now, if none does.
    pub fn aged(&mut self, lane: LaneId, waits: bool, now_ms: u64) -> u64 {
        let since = &mut self.lanes[lane.0 as usize].aged_since_ms;
        *since = waits.then(|| since.unwrap_or(now_ms));
        since.unwrap_or(now_ms)
    }

    /// A retry has ended.
    pub fn retry_ended(&mut self, lane: LaneId, seen: &Seen) {
        let flow = &mut self.lanes[lane.0 as usize].retries_flow;
        *flow = match seen.outcome {
            Outcome::Skipped => *flow,
            Outcome::Delivered | Outcome::Rejected => true,
            Outcome::Error(ErrorClass::Http3xx | ErrorClass::Http4xx) => !seen.overloaded,
            Outcome::Error(_) => false,
        };
    }

    /// A lane is to keep another order.
    pub fn reordered(&mut self, lane: LaneId) {
        self.lanes[lane.0 as usize].reorders = true;
    }

    /// A lane that is removed forgets what its endpoint has asked for, as the daemon does when it ends. One that comes
    /// back before that still lets what is in hand end before another order begins.
    pub fn removed(&mut self, lane: LaneId) {
        let lane = &mut self.lanes[lane.0 as usize];
        *lane = LaneWatch {
            pause: lane.pause,
            reorders: lane.reorders,
            retries_flow: lane.retries_flow,
            ..LaneWatch::default()
        };
    }

    /// The daemon starts anew.
    pub fn restarted(&mut self) {
        self.lanes.fill(LaneWatch::default());
    }
}

/// How many of a lane's slots are for retries.
fn half(view: &LaneView) -> u32 {
    (view.limit / 2).max(1)
}

impl World {
    /// Ends the test.
    pub fn fail(&self, what: &str) -> ! {
        let seed = self.seed;
        panic!(
            "seed {seed}, after {} ms: {what}\nto see each step: POSTHASTE_SEED={seed} cargo test --test simulation \
             every_seed -- --nocapture{}",
            self.now_ms,
            self.views()
                .iter()
                .map(|view| format!("\n{view:?}"))
                .collect::<String>()
        );
    }

    pub fn require(&self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.fail(&what());
        }
    }

    /// Everything ends.
    pub fn check_time(&mut self) {
        self.watch.steps += 1;
        let wall = self.wall();
        self.watch.wall_max = self.watch.wall_max.max(wall);
        let patience_ms = END_MS + self.watch.behind_ms;
        let late = self
            .healed_at_ms
            .is_some_and(|healed| self.now_ms > healed + patience_ms);
        let now_ms = self.now_ms;
        let sleep_ms = PATIENCE_MS + GATHERS_MS_MAX;
        let overslept = |lane: &LaneWatch| lane.wakes_at_ms.is_some_and(|at| now_ms > at + sleep_ms);
        if let Some(at) = self.watch.lanes.iter().position(overslept) {
            let lane = self.lane(at);
            let waiting = format!("{:?}", self.ledger.waiting(lane));
            self.fail(&format!("lane {at} has overslept at {wall:?}: {waiting}"));
        }
        self.require(!late, || {
            format!("{} deliveries are still owed", self.ledger.owed)
        });
        self.require(self.watch.steps < STEPS_MAX, || "it goes on and on".to_owned());
    }

    /// What the scheduler hands out, before it is carried out.
    pub fn check_jobs(&mut self, actions: &Actions) {
        let views = self.views();
        for job in &actions.jobs {
            let at = job.lane.0 as usize;
            let (site, watch) = (&self.sites[at], &self.watch.lanes[at]);
            let id = (job.lane, &job.batch);
            let in_force = site.configured && site.endpoint.enabled;
            self.require(in_force, || {
                format!("{id:?} goes to an endpoint that is not in force")
            });
            let early = |due: &Due| due.was_due.is_some_and(|at| at > self.watch.wall_max);
            self.require(!job.batch.iter().any(early), || {
                format!("{id:?} goes before it is due")
            });
            let paused = watch
                .pause
                .is_some_and(|until| until.is_none_or(|until| until > self.watch.wall_max));
            self.require(!paused, || format!("{id:?} goes to a paused endpoint"));
            let alone = watch.alone_until_ms > self.now_ms;
            self.require(!alone, || {
                format!("{id:?} goes to an endpoint that wants to be left alone")
            });
        }
        for view in &views {
            let mine = actions.jobs.iter().filter(|job| job.lane == view.lane);
            let started = mine.clone().count() as u32;
            if started > 0 {
                let retries = mine.filter(|job| job.batch.iter().any(is_retry)).count();
                self.check_lane_started(view, started, retries as u32);
            }
        }
        let under_way: u32 = views.iter().map(|view| view.in_flight).sum();
        self.require(
            under_way as usize <= self.scenario.scheduler.in_flight_max,
            || format!("{under_way} requests are under way, over the limit of all"),
        );
    }

    /// A lane that has just started something.
    fn check_lane_started(&mut self, view: &LaneView, started: u32, retries: u32) {
        let at = view.lane.0 as usize;
        self.watch.lanes[at].able_since_ms = None;
        self.watch.lanes[at].slotless_since_ms = None;
        self.watch.lanes[at].aged_since_ms = None;
        match view.state {
            LaneState::Ready => self.require(view.in_flight <= view.limit, || {
                format!("over its limit: {view:?}")
            }),
            LaneState::Probing => {
                self.require(started == 1, || format!("{started} probes at once: {view:?}"))
            }
            _ => self.fail(&format!("a lane sends that rests: {view:?}")),
        }
        if retries > 0 && view.state == LaneState::Ready {
            self.check_half(view, retries);
        }
        self.check_rate(at, started);
    }

    /// F6: so many retries that a lane has just started leave half of its slots to what is new, unless nothing new waits
    /// and the last one to end got through.
    fn check_half(&self, view: &LaneView, retries: u32) {
        let at = view.lane.0 as usize;
        let retries_all = self.ledger.retries(view.lane) + retries;
        // Of a batch only whoever gathers it knows whether it could go, and of a line whoever keeps it.
        let unclear = self.sites[at].endpoint.batch.is_some() || self.keeps_order(view.lane);
        let lent = self.watch.lanes[at].retries_flow && (unclear || view.fresh == 0);
        self.require(lent || retries_all <= half(view), || {
            format!("{retries_all} retries, over half of its slots: {view:?}")
        });
    }

    /// F6: no more requests in a second than the rate allows, and a burst of a tenth of them.
    fn check_rate(&mut self, at: usize, started: u32) {
        let Some(rate) = self.sites[at].endpoint.rate else {
            return;
        };
        let now_ms = self.now_ms;
        let began = &mut self.watch.lanes[at].began_ms;
        began.extend(std::iter::repeat_n(now_ms, started as usize));
        while began.front().is_some_and(|at| at + 1000 <= now_ms) {
            began.pop_front();
        }
        let (count, most) = (began.len(), rate.count() + rate.count() / 10 + 1);
        self.require(count <= most as usize, || {
            format!("{count} requests in a second, not {rate:?}")
        });
    }

    /// After every step.
    pub fn check_step(&mut self) {
        let views = self.views();
        let under_way: u32 = views.iter().map(|view| view.in_flight).sum();
        self.watch
            .lanes
            .iter_mut()
            .for_each(|lane| lane.wakes_at_ms = None);
        for view in &views {
            let waiting = self.ledger.waiting(view.lane);
            let (requests, ended) = (waiting.requests, waiting.ended);
            self.require(view.in_flight == requests, || {
                format!("{requests} requests are under way, not {view:?}")
            });
            let window_max = self.scenario.scheduler.window_max;
            let most = self.window_max(view);
            self.require(view.window as usize <= most, || {
                format!("over its window: {view:?}")
            });
            let holds = !view.state.sends() && view.window > 0;
            self.require(!holds, || format!("a lane that rests holds memory: {view:?}"));
            self.check_progress(view, under_way, (ended as usize) < window_max);
            self.check_breaker(view);
            if matches!(view.state, LaneState::Tripped { .. } | LaneState::Probing) {
                // From here on the breaker decides how long it is left alone.
                self.watch.lanes[view.lane.0 as usize].alone_until_ms = 0;
            }
        }
        for (at, watch) in self.watch.lanes.iter_mut().enumerate() {
            let is_there = views.iter().any(|view| view.lane.0 as usize == at);
            watch.retries_flow &= is_there;
        }
        self.check_pauses(&views);
    }

    /// F5: a breaker that was closed opens for as long as configured, or as the endpoint asked, and not longer: what was
    /// counted before is forgotten.
    fn check_breaker(&mut self, view: &LaneView) {
        let at = view.lane.0 as usize;
        let (wall, now_ms) = (self.wall(), self.now_ms);
        let open_ms = self.sites[at].endpoint.breaker.open.as_millis() as u64;
        let watch = &mut self.watch.lanes[at];
        let before = watch.state.replace(view.state);
        let LaneState::Tripped { until } = view.state else {
            return;
        };
        let was_closed = before == Some(LaneState::Ready) && std::mem::take(&mut watch.alive);
        let most_ms = open_ms.max(watch.alone_until_ms.saturating_sub(now_ms));
        let rests_ms = until.since(wall).as_millis() as u64;
        self.require(!was_closed || rests_ms <= most_ms, || {
            format!("tripped for {rests_ms} ms, not {most_ms} ms: {view:?}")
        });
    }

    /// F6: a lane that has something to send and may send it does so soon. `flows`: what has ended becomes durable.
    fn check_progress(&mut self, view: &LaneView, under_way: u32, flows: bool) {
        let (wall, now_ms) = (self.wall(), self.now_ms);
        let at = view.lane.0 as usize;
        let slots = self.scenario.scheduler.in_flight_max;
        let reserve = if self.sites.len() > 1 { slots / 8 } else { 0 };
        let next = match view.state {
            LaneState::Ready => self.next_start(view, wall),
            _ => None,
        };
        let due = next.is_some_and(|at| at <= wall) && flows && now_ms >= self.watch.excused_until_ms;
        let has_slots = (under_way as usize) + reserve < slots;
        let can_start = flows && has_slots && view.in_flight < view.limit;
        let is_reordered = self.watch.lanes[at].reorders || now_ms < self.watch.excused_until_ms;
        self.check_age(view, can_start && !is_reordered);
        let wakes_at = match view.state {
            LaneState::Ready => next.filter(|_| can_start),
            LaneState::Suspended { until } | LaneState::Tripped { until } => Some(until),
            LaneState::Paused { until } => until,
            LaneState::Probing => None,
        };
        let wakes_at = wakes_at.filter(|at| *at > wall && now_ms >= self.watch.excused_until_ms);
        self.watch.lanes[at].wakes_at_ms = wakes_at.map(|at| now_ms + at.since(wall).as_millis() as u64);
        let watch = &mut self.watch.lanes[at];
        let since = |since: &mut Option<u64>, holds: bool| {
            *since = holds.then(|| since.unwrap_or(now_ms));
            since.map_or(0, |since| now_ms - since)
        };
        let idle_ms = since(
            &mut watch.able_since_ms,
            due && has_slots && view.in_flight < view.limit,
        );
        let slotless_ms = since(&mut watch.slotless_since_ms, due && view.in_flight == 0);
        let batch = self.sites[at].endpoint.batch.as_ref();
        let gathers_ms = batch.map_or(0, |batch| batch.wait_max.as_millis() as u64);
        let starved = idle_ms > PATIENCE_MS + gathers_ms;
        let kept = slotless_ms > PATIENCE_WITHOUT_SLOTS_MS + gathers_ms;
        if starved || kept {
            let waiting = self.ledger.waiting(view.lane);
            let what = format!(
                "nothing of {waiting:?} goes at {wall:?}, for {idle_ms} ms, {slotless_ms} ms: {view:?}"
            );
            self.fail(&what);
        }
    }

    /// B6: when nothing is on its way between them, store and scheduler agree on who is paused.
    fn check_pauses(&self, views: &[LaneView]) {
        if !self.inside.is_empty() || !self.committer.is_idle() {
            return;
        }
        let pauses = self.store.pauses();
        for view in views
            .iter()
            .filter(|view| self.sites[view.lane.0 as usize].configured)
        {
            let pause = pauses.iter().find(|(lane, _)| *lane == view.lane);
            let paused =
                pause.is_some_and(|(_, pause)| pause.until.is_none_or(|until| until > self.watch.wall_max));
            let sends = view.state.sends();
            self.require(!(paused && sends), || format!("paused on disk only: {view:?}"));
        }
    }

    /// The scheduler's own alarm rang; `did`: there was something to do.
    pub fn woke(&mut self, did: bool) {
        let now_ms = self.now_ms;
        let wakes = &mut self.watch.idle_wakes;
        wakes.extend((!did).then_some(now_ms));
        while wakes.front().is_some_and(|at| at + 1000 < now_ms) {
            wakes.pop_front();
        }
        let idle = wakes.len();
        self.require(idle <= IDLE_WAKES_MAX, || {
            format!("{idle} wake-ups for nothing in a second")
        });
    }

    /// When all is over: nothing is lost, and the store agrees.
    pub fn check_end(&mut self) {
        let mut dead = 0;
        for (id, record) in self.ledger.records() {
            let well = match record.place {
                Place::Owed { .. } => false,
                Place::Settled => record.taken > 0 || record.excused,
                Place::Dead => {
                    dead += 1;
                    self.store.dead_letter(*id).is_ok_and(|letter| letter.is_some())
                }
                Place::Gone => true,
            };
            self.require(well, || format!("{id:?} is lost: {record:?}"));
        }
        let lanes = self.store.lanes();
        let kept: (u64, u64) = lanes
            .iter()
            .fold((0, 0), |(p, d), lane| (p + lane.pending, d + lane.dead));
        self.require(kept == (0, dead), || {
            format!("the store keeps {kept:?}, not {dead} dead letters")
        });
        self.totals.dead += dead;
        let taken = self
            .ledger
            .records()
            .map(|(_, record)| u64::from(record.taken.saturating_sub(1)));
        self.totals.repeats += taken.sum::<u64>();
    }

    /// When a lane can start something: it could already, or when the first of what is owed is due.
    fn next_start(&mut self, view: &LaneView, wall: Timestamp) -> Option<Timestamp> {
        let at = view.lane.0 as usize;
        self.watch.lanes[at].reorders &= !self.ledger.waiting(view.lane).busy.is_empty();
        if self.watch.lanes[at].reorders {
            return None;
        }
        if self.keeps_order(view.lane) {
            return self.next_in_line(view);
        }
        let retries_flow = self.watch.lanes[at].retries_flow;
        let window_max = self.scenario.scheduler.window_max;
        let waiting = self.ledger.waiting(view.lane);
        let new = waiting.new_due();
        if retries_flow || waiting.retries < half(view) {
            return [new, waiting.again_due()].into_iter().flatten().min();
        }
        // What was delayed goes past retries that have to wait, as far as those have room in memory.
        new.filter(|_| waiting.again_at(wall) <= 3 * window_max)
    }

    /// A lane with batches may have room for nine of them, and for what was delayed.
    fn window_max(&self, view: &LaneView) -> usize {
        // An ordered lane has room for three in any case.
        let least = if self.keeps_order(view.lane) { 3 } else { 1 };
        let max = self.scenario.scheduler.window_max.max(least);
        let batch = self.sites[view.lane.0 as usize].endpoint.batch.as_ref();
        let most = batch.map_or(max, |batch| max.max(9 * batch.events_max) + max);
        // All that has failed a try in an ordered lane is in memory too, and some of what was put off behind it. Without
        // an order it is what has to wait for slots.
        let windows = if self.keeps_order(view.lane) { 29 } else { 5 };
        windows * most
    }

    pub fn views(&self) -> Vec<LaneView> {
        let lanes = |daemon: &Daemon| daemon.scheduler.lanes();
        self.daemon.as_ref().map(lanes).unwrap_or_default()
    }
}
