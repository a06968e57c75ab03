//! Random endpoints, random load, a store that answers late and commits late, all of it from one seed.
//!
//! At every step the bounds must hold, and in the end nothing may have been forgotten. A failing seed is
//! printed; `POSTHASTE_SEED=<seed> cargo test --lib scheduler::simulation` runs it alone.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use crate::domain::endpoint::BatchShape;
use crate::domain::event::Seq;
use crate::domain::outcome::{ErrorClass, Outcome};
use crate::domain::time::{Now, Timestamp};
use crate::store::{DueQuery, LaneId};

use super::tests::{FakeStore, keys_of, lane_config};
use super::*;

/// Small and repeatable (SplitMix64); the scheduler itself uses no randomness.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From `low` to `high`, both included.
    fn within(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low + 1)
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.next().is_multiple_of(n)
    }
}

/// How an endpoint behaves.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Fast,
    Slow,
    /// Fails one request in four.
    Flaky,
    /// Refuses connections.
    Dead,
    /// Answers nothing until the deadline.
    Hanging,
    /// Wants to be left alone every few requests.
    Limited,
}

const KINDS: [Kind; 6] = [
    Kind::Fast,
    Kind::Slow,
    Kind::Flaky,
    Kind::Dead,
    Kind::Hanging,
    Kind::Limited,
];
const ORDERS: [OrderPolicy; 2] = [OrderPolicy::Endpoint, OrderPolicy::Key];
const KEYS: u64 = 5;
const TIMEOUT_MS: u64 = 10_000;
const IN_FLIGHT_MAX: usize = 24;
const WINDOW_MAX: usize = 16;

/// Something that is on its way.
#[derive(Debug)]
enum Coming {
    Ended(Job, Seen),
    Durable(Job, Option<Timestamp>),
    StoreLooks(LaneId, DueQuery),
    Answer(Input),
    Accept,
    Meddle,
}

/// The tries used by a deferred delivery.
fn tries_of(store: &FakeStore, lane: LaneId, seq: Seq) -> u32 {
    let deferred = &store.lanes[&lane].deferred;
    let found = deferred.iter().find(|((_, other), _)| *other == seq);
    found.map_or(0, |(_, tries)| *tries)
}

fn random_batch(random: &mut Random) -> BatchPolicy {
    BatchPolicy {
        events_max: random.within(2, 9) as usize,
        bytes_max: random.within(2, 12) as usize,
        wait_max: Duration::from_millis(random.within(0, 200)),
        shape: BatchShape::Array,
        items: None,
    }
}

/// What a request carries.
fn ids(job: &Job) -> impl Iterator<Item = (LaneId, Seq)> {
    job.batch.iter().map(|due| (job.lane, due.seq))
}

struct Simulation {
    seed: u64,
    random: Random,
    now: Now,
    scheduler: Scheduler,
    store: FakeStore,
    kinds: Vec<Kind>,
    batches: Vec<Option<BatchPolicy>>,
    orders: Vec<OrderPolicy>,
    /// By time, then by order of happening.
    coming: BTreeMap<(u64, u64), Coming>,
    happened: u64,
    under_way: HashSet<(LaneId, Seq)>,
    requests: u32,
    delivered: BTreeSet<(LaneId, Seq)>,
    accepted: Vec<(LaneId, Seq)>,
    accepts_left: u32,
    /// Deliveries not yet made, and those of them that will be: the endpoint answers.
    owed: usize,
    owed_to_living: usize,
    /// When each fresh delivery to a fast lane was accepted, and the longest wait of any.
    waiting_since: BTreeMap<(LaneId, Seq), u64>,
    longest_wait_ms: u64,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let now = Now {
            wall: Timestamp(1_700_000_000_000),
            mono_ms: 0,
        };
        let mut kinds = vec![Kind::Fast];
        for _ in 0..random.within(1, 9) {
            kinds.push(KINDS[random.next() as usize % KINDS.len()]);
        }
        let lanes: Vec<LaneConfig> = kinds
            .iter()
            .enumerate()
            .map(|(lane, _)| {
                let min = random.within(1, 4) as u32;
                let mut config = lane_config(lane as u32, min, min + random.within(0, 12) as u32);
                if lane > 0 && random.one_in(3) {
                    config.batch = Some(random_batch(&mut random));
                }
                if lane > 0 && random.one_in(3) {
                    config.order = ORDERS[random.next() as usize % 2];
                }
                if lane > 0 && random.one_in(4) {
                    let requests = random.within(20, 2000) as u32;
                    let per = Duration::from_secs(1);
                    config.rate = Some(RatePolicy { requests, per });
                }
                config
            })
            .collect();
        let mut scheduler = Scheduler::new(SchedulerConfig {
            in_flight_max: IN_FLIGHT_MAX,
            window_max: WINDOW_MAX,
            ..SchedulerConfig::default()
        });
        let orders = lanes.iter().map(|lane| lane.order).collect();
        let batches = lanes.iter().map(|lane| lane.batch.clone()).collect();
        scheduler.handle(Input::Configure(lanes), now);
        let mut simulation = Self {
            seed,
            random,
            now,
            scheduler,
            store: FakeStore::default(),
            kinds,
            batches,
            orders,
            coming: BTreeMap::new(),
            happened: 0,
            under_way: HashSet::new(),
            requests: 0,
            delivered: BTreeSet::new(),
            accepted: Vec::new(),
            accepts_left: 300,
            owed: 0,
            owed_to_living: 0,
            waiting_since: BTreeMap::new(),
            longest_wait_ms: 0,
        };
        simulation.later(0, Coming::Accept);
        simulation.later(500, Coming::Meddle);
        simulation
    }

    fn later(&mut self, delay_ms: u64, coming: Coming) {
        self.happened += 1;
        self.coming
            .insert((self.now.mono_ms + delay_ms, self.happened), coming);
    }

    fn handle(&mut self, input: Input) {
        self.scheduler.handle(input, self.now);
    }

    /// Runs until every lane that answers has got everything.
    fn run(&mut self) {
        for _ in 0..200_000 {
            self.poll();
            if self.accepts_left == 0 && self.owed_to_living == 0 {
                return;
            }
            self.advance();
        }
        let missing: Vec<_> = self
            .accepted
            .iter()
            .filter(|id| self.answers(id.0) && !self.delivered.contains(id))
            .collect();
        panic!(
            "seed {}: not delivered: {missing:?} of {:?}",
            self.seed, self.kinds
        );
    }

    fn answers(&self, lane: LaneId) -> bool {
        !matches!(self.kinds[lane.0 as usize], Kind::Dead | Kind::Hanging)
    }

    fn poll(&mut self) {
        loop {
            let actions = self.scheduler.poll(self.now);
            if actions.jobs.is_empty() && actions.refills.is_empty() {
                break;
            }
            for refill in actions.refills {
                let delay_ms = self.random.within(0, 3);
                self.later(delay_ms, Coming::StoreLooks(refill.lane, refill.query));
            }
            for job in actions.jobs {
                self.start(job);
            }
        }
        self.check();
    }

    fn start(&mut self, job: Job) {
        for id in ids(&job) {
            assert!(
                self.under_way.insert(id),
                "seed {}: {id:?} handed out twice at once",
                self.seed
            );
            assert!(
                !self.delivered.contains(&id),
                "seed {}: {id:?} again after its commit",
                self.seed
            );
            if let Some(since) = self.waiting_since.remove(&id) {
                self.longest_wait_ms = self.longest_wait_ms.max(self.now.mono_ms - since);
            }
        }
        self.requests += 1;
        let events_max = self.batches[job.lane.0 as usize]
            .as_ref()
            .map_or(1, |batch| batch.events_max);
        assert!(
            (1..=events_max).contains(&job.batch.len()),
            "seed {}: {job:?}",
            self.seed
        );
        self.check_order(&job);
        let job = self.give_some_back(job);
        let seen = self.attempt(self.kinds[job.lane.0 as usize]);
        self.later(seen.took.as_millis() as u64, Coming::Ended(job, seen));
    }

    fn keys(&self, lane: LaneId) -> u64 {
        match self.orders[lane.0 as usize] {
            OrderPolicy::Key => KEYS,
            _ => 1,
        }
    }

    /// F7: before a delivery leaves, all that was accepted before it under the same key is over, but for what has been
    /// delayed, or goes in the same request.
    fn check_order(&self, job: &Job) {
        if self.orders[job.lane.0 as usize] == OrderPolicy::None {
            return;
        }
        let keys = self.keys(job.lane);
        let owed = &self.store.lanes[&job.lane];
        let mut before = HashSet::new();
        for due in &job.batch {
            let same = |seq: &&Seq| **seq < due.seq && seq.0 % keys == due.seq.0 % keys;
            let earlier = owed.fresh.iter().chain(&owed.tried).filter(same);
            let overtaken: Vec<_> = earlier.filter(|seq| !before.contains(*seq)).collect();
            assert!(
                overtaken.is_empty(),
                "seed {}: {due:?} overtakes {overtaken:?}",
                self.seed
            );
            before.insert(due.seq);
        }
    }

    /// Now and then a batch turns out too large, and all behind some of it comes back.
    fn give_some_back(&mut self, mut job: Job) -> Job {
        if job.batch.len() > 1 && self.random.one_in(4) {
            let keep = self.random.within(1, job.batch.len() as u64 - 1) as usize;
            let lane = job.lane;
            let batch: Several<Due> = job.batch.drain(keep..).collect();
            for due in &batch {
                self.under_way.remove(&(lane, due.seq));
            }
            self.handle(Input::GivenBack { lane, batch });
        }
        job
    }

    fn attempt(&mut self, kind: Kind) -> Seen {
        let down = Outcome::Error(ErrorClass::Connect);
        let (outcome, took_ms) = match kind {
            Kind::Fast => (Outcome::Delivered, self.random.within(1, 3)),
            Kind::Slow => (Outcome::Delivered, self.random.within(500, 2000)),
            Kind::Flaky if self.random.one_in(4) => (Outcome::Error(ErrorClass::Http5xx), 20),
            Kind::Flaky => (Outcome::Delivered, 20),
            Kind::Dead => (down, 1),
            Kind::Hanging => (Outcome::Error(ErrorClass::Timeout), TIMEOUT_MS),
            Kind::Limited if self.random.one_in(5) => (Outcome::Error(ErrorClass::Http4xx), 5),
            Kind::Limited => (Outcome::Delivered, 10),
        };
        let limited = outcome == Outcome::Error(ErrorClass::Http4xx);
        Seen {
            outcome,
            took: Duration::from_millis(took_ms),
            retry_after: limited.then(|| Duration::from_millis(self.random.within(1, 2000))),
            overloaded: limited || kind == Kind::Hanging,
        }
    }

    /// Goes to the next thing that happens, or to the time the scheduler asked to be woken at.
    fn advance(&mut self) {
        let wake = self
            .scheduler
            .wake_in(self.now)
            .map(|wait| self.now.mono_ms + wait.as_millis() as u64);
        let next = self.coming.first_key_value().map(|(at, _)| at.0);
        let Some(at) = wake.into_iter().chain(next).min() else {
            panic!("seed {}: asleep for ever with deliveries owed", self.seed);
        };
        assert!(
            wake.is_none_or(|wake| wake > self.now.mono_ms),
            "seed {}: spins",
            self.seed
        );
        self.now.wall = self.now.wall.plus(Duration::from_millis(at - self.now.mono_ms));
        self.now.mono_ms = at;
        while let Some(entry) = self.coming.first_entry().filter(|entry| entry.key().0 <= at) {
            let coming = entry.remove();
            self.happen(coming);
            if self.random.one_in(3) {
                break;
            }
        }
    }

    fn happen(&mut self, coming: Coming) {
        match coming {
            Coming::Ended(job, seen) => {
                self.requests -= 1;
                self.handle(Input::Finished {
                    lane: job.lane,
                    batch: job.batch.iter().map(|due| due.seq).collect(),
                    seen,
                });
                let deferred = (seen.outcome != Outcome::Delivered).then(|| {
                    let delay = Duration::from_millis(self.random.within(0, 5000));
                    self.now.wall.plus(seen.retry_after.unwrap_or(delay))
                });
                for due in &job.batch {
                    let tries = due.tries + u32::from(seen.retry_after.is_none());
                    self.under_way.remove(&(job.lane, due.seq));
                    self.store
                        .settle(job.lane, due.seq, deferred.map(|due| (due, tries)));
                    if deferred.is_none() {
                        self.delivered.insert((job.lane, due.seq));
                        self.owed -= 1;
                        self.owed_to_living -= usize::from(self.answers(job.lane));
                    }
                }
                let flush_ms = self.random.within(0, 4);
                self.later(flush_ms, Coming::Durable(job, deferred));
            }
            Coming::Durable(job, deferred) => {
                for (lane, seq) in ids(&job) {
                    let tries = tries_of(&self.store, lane, seq);
                    self.handle(Input::Committed {
                        lane,
                        seq,
                        deferred,
                        tries,
                    });
                }
            }
            Coming::StoreLooks(lane, query) => {
                let answer = if self.random.one_in(20) {
                    Input::RefillFailed { lane }
                } else {
                    let answer = self.store.due(lane, &query);
                    let keys = keys_of(&answer, self.keys(lane));
                    Input::Refilled { lane, answer, keys }
                };
                let delay_ms = self.random.within(0, 3);
                self.later(delay_ms, Coming::Answer(answer));
            }
            Coming::Answer(input) => self.handle(input),
            Coming::Accept => self.accept(),
            Coming::Meddle => self.meddle(),
        }
    }

    fn accept(&mut self) {
        for _ in 0..self.random.within(1, 12) {
            let lane = LaneId(self.random.next() as u32 % self.kinds.len() as u32);
            let delay = Duration::from_millis(self.random.within(0, 3000));
            let due = self.random.one_in(10).then(|| self.now.wall.plus(delay));
            let seq = self.store.accept(lane, due);
            self.accepted.push((lane, seq));
            self.owed += 1;
            self.owed_to_living += usize::from(self.answers(lane));
            if lane == LaneId(0) && due.is_none() {
                self.waiting_since.insert((lane, seq), self.now.mono_ms);
            }
            self.handle(Input::Accepted {
                lane,
                seq,
                due,
                bytes: 1,
            });
        }
        self.accepts_left -= 1;
        if self.accepts_left > 0 {
            let pause_ms = self.random.within(0, 60);
            self.later(pause_ms, Coming::Accept);
        }
    }

    /// An operator's hand on a lane, never on lane 0, whose waits are measured.
    fn meddle(&mut self) {
        let lane = LaneId(1 + self.random.next() as u32 % (self.kinds.len() as u32 - 1));
        let soon = self
            .now
            .wall
            .plus(Duration::from_millis(self.random.within(1, 900)));
        let input = match self.random.within(0, 4) {
            0 | 1 => Input::Paused {
                lane,
                until: Some(soon),
            },
            2 => Input::Resumed { lane },
            3 => Input::Revived {
                lane,
                from: Seq(self.random.within(0, self.store.next)),
            },
            _ => Input::Flushed { lane },
        };
        self.handle(input);
        let pause_ms = self.random.within(100, 3000);
        self.later(pause_ms, Coming::Meddle);
    }

    /// A lane with batches may have room for nine of them, and for what was delayed.
    fn window_max(&self, lane: LaneId) -> usize {
        let batch = self.batches[lane.0 as usize].as_ref();
        let tried = match self.orders[lane.0 as usize] {
            OrderPolicy::None => 0,
            _ => 20 * WINDOW_MAX.max(batch.map_or(0, |batch| 9 * batch.events_max)),
        };
        WINDOW_MAX.max(batch.map_or(0, |batch| 9 * batch.events_max))
            + batch.map_or(0, |_| WINDOW_MAX)
            + tried
    }

    fn check(&self) {
        let seed = self.seed;
        let views = self.scheduler.lanes();
        let in_flight: u32 = views.iter().map(|view| view.in_flight).sum();
        assert_eq!(in_flight, self.requests, "seed {seed}: slots and requests differ");
        assert!(in_flight as usize <= IN_FLIGHT_MAX, "seed {seed}: over the cap");
        for view in views {
            assert!(
                view.window as usize <= self.window_max(view.lane),
                "seed {seed}: window over its bound: {view:?}"
            );
            let rests = !view.state.sends();
            assert!(
                !rests || view.window == 0,
                "seed {seed}: a lane that rests holds memory: {view:?}"
            );
        }
        let moves = self
            .coming
            .values()
            .any(|coming| !matches!(coming, Coming::Accept | Coming::Meddle));
        let wakes = self.scheduler.wake_in(self.now).is_some();
        assert!(
            self.owed == 0 || moves || wakes,
            "seed {seed}: owed, but nothing under way and no wake-up"
        );
    }
}

/// F5, F6: whatever the others do, nothing is lost or repeated, all bounds hold, and a healthy lane's
/// deliveries never wait for as long as even one slow answer.
#[test]
fn f5_f6_nothing_is_forgotten_and_no_lane_delays_another() {
    let seeds: Vec<u64> = match std::env::var("POSTHASTE_SEED") {
        Ok(seed) => vec![seed.parse().expect("POSTHASTE_SEED is a number")],
        Err(_) => (0..60).collect(),
    };
    for seed in seeds {
        let mut simulation = Simulation::new(seed);
        simulation.run();
        let waited = simulation.longest_wait_ms;
        assert!(waited < 400, "seed {seed}: a healthy lane waited {waited} ms");
    }
}
