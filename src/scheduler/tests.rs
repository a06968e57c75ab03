//! Stories told through the three verbs, over virtual time and a store that is a few maps.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use crate::domain::endpoint::{BreakerPolicy, Concurrency};
use crate::domain::event::Seq;
use crate::domain::outcome::{ErrorClass, Outcome};
use crate::domain::time::{Now, Timestamp};
use crate::store::{Due, DueAnswer, DueQuery, LaneId};

use super::*;

mod batches;
mod latecomers;
mod order;
mod retries;
mod returning;

/// The wall clock when the tests begin.
const START: u64 = 1_700_000_000_000;

/// What one lane is owed, as a store keeps it.
#[derive(Debug, Default)]
pub(super) struct Owed {
    pub(super) fresh: BTreeSet<Seq>,
    pub(super) deferred: BTreeMap<(Timestamp, Seq), u32>,
    /// Those of them that failed a try.
    pub(super) tried: BTreeSet<Seq>,
}

/// A store that is a few maps; it answers [`DueQuery`] to the letter.
#[derive(Debug, Default)]
pub(super) struct FakeStore {
    pub(super) lanes: BTreeMap<LaneId, Owed>,
    pub(super) next: u64,
    /// Deferred deliveries it looked at to find those that failed a try.
    pub(super) looked_at: Cell<u64>,
}

impl FakeStore {
    /// Accepts one delivery for `lane`.
    pub(super) fn accept(&mut self, lane: LaneId, due: Option<Timestamp>) -> Seq {
        let seq = Seq(self.next);
        self.next += 1;
        let owed = self.lanes.entry(lane).or_default();
        match due {
            None => {
                owed.fresh.insert(seq);
            }
            Some(due) => {
                owed.deferred.insert((due, seq), 0);
            }
        }
        seq
    }

    /// Settles a delivery, or defers it with so many tries used.
    pub(super) fn settle(&mut self, lane: LaneId, seq: Seq, deferred: Option<(Timestamp, u32)>) {
        let owed = self.lanes.entry(lane).or_default();
        owed.fresh.remove(&seq);
        owed.deferred.retain(|(_, other), _| *other != seq);
        owed.tried.remove(&seq);
        if let Some((due, tries)) = deferred {
            owed.tried.insert(seq);
            owed.deferred.insert((due, seq), tries);
        }
    }

    pub(super) fn due(&self, lane: LaneId, query: &DueQuery) -> DueAnswer {
        let mut answer = DueAnswer {
            fresh_next: query.fresh_from,
            ..DueAnswer::default()
        };
        let Some(owed) = self.lanes.get(&lane) else {
            return answer;
        };
        for seq in owed.fresh.range(query.fresh_from..) {
            if !query.held.contains(seq) {
                if answer.fresh.len() == query.fresh_max {
                    answer.fresh_more = true;
                    break;
                }
                answer.fresh.push(Due::fresh(*seq));
            }
            answer.fresh_next = Seq(seq.0 + 1);
        }
        let looked_at = owed
            .deferred
            .iter()
            .inspect(|_| self.looked_at.set(self.looked_at.get() + 1));
        let tried = looked_at.filter(|((_, seq), _)| owed.tried.contains(seq) && !query.held.contains(seq));
        answer.tried = tried
            .take(query.tried_max)
            .map(|((due, seq), tries)| Due::deferred(*seq, *due, *tries))
            .collect();
        for ((due, seq), tries) in &owed.deferred {
            if query.held.contains(seq) {
                continue;
            }
            if *due > query.now || answer.deferred.len() == query.deferred_max {
                answer.deferred_next = Some(*due);
                break;
            }
            answer.deferred.push(Due::deferred(*seq, *due, *tries));
        }
        answer
    }
}

pub(super) fn lane_config(lane: u32, min: u32, max: u32) -> LaneConfig {
    LaneConfig {
        lane: LaneId(lane),
        enabled: true,
        rate: None,
        batch: None,
        order: OrderPolicy::None,
        keyed: 0,
        doubtful: false,
        rests_until: None,
        concurrency: Concurrency { min, max },
        breaker: BreakerPolicy {
            failures: 5,
            rate: 0.0,
            window: Duration::from_secs(60),
            min_requests: 20,
            open: Duration::from_secs(30),
            max_open: Duration::from_secs(120),
        },
    }
}

pub(super) fn seen(outcome: Outcome) -> Seen {
    let overloaded = matches!(outcome, Outcome::Error(ErrorClass::Timeout));
    Seen {
        outcome,
        took: Duration::from_millis(10),
        retry_after: None,
        overloaded,
    }
}

const OK: Outcome = Outcome::Delivered;
const DOWN: Outcome = Outcome::Error(ErrorClass::Connect);
const A: LaneId = LaneId(0);
const B: LaneId = LaneId(1);

/// A scheduler, its store and its clock. `answers`: refills are answered at once; without, they collect in
/// `asked` for the test to answer.
struct World {
    scheduler: Scheduler,
    store: FakeStore,
    now: Now,
    answers: bool,
    asked: Vec<Refill>,
    /// Events have so many different ordering keys.
    keys: u64,
}

/// The keys of an answer, when there are `count` of them.
pub(super) fn keys_of(answer: &DueAnswer, count: u64) -> Vec<OrderKey> {
    let all = answer.fresh.iter().chain(&answer.deferred).chain(&answer.tried);
    all.map(|due| OrderKey(due.seq.0 % count)).collect()
}

impl World {
    fn new(config: SchedulerConfig, lanes: Vec<LaneConfig>) -> Self {
        let now = Now {
            wall: Timestamp(START),
            mono_ms: 0,
        };
        let mut scheduler = Scheduler::new(config);
        scheduler.handle(Input::Configure(lanes), now);
        Self {
            scheduler,
            store: FakeStore::default(),
            now,
            answers: true,
            asked: Vec::new(),
            keys: 1,
        }
    }

    /// One lane 0 with a fixed limit, that has already heard that the store is empty.
    fn one_lane(limit: u32) -> Self {
        let mut world = Self::new(SchedulerConfig::default(), vec![lane_config(0, limit, limit)]);
        assert!(world.poll().is_empty());
        world
    }

    fn handle(&mut self, input: Input) {
        self.scheduler.handle(input, self.now);
    }

    /// Polls until there is nothing left to do, as the dispatcher does.
    fn poll(&mut self) -> Vec<Job> {
        let mut jobs = Vec::new();
        for _ in 0..1000 {
            let actions = self.scheduler.poll(self.now);
            if actions.jobs.is_empty() && actions.refills.is_empty() {
                return jobs;
            }
            jobs.extend(actions.jobs);
            self.asked.extend(actions.refills);
            if self.answers {
                self.answer();
            }
        }
        panic!("poll never comes to rest");
    }

    /// Answers every question that waits from the store as it is now.
    fn answer(&mut self) {
        for refill in std::mem::take(&mut self.asked) {
            let answer = self.store.due(refill.lane, &refill.query);
            let keys = keys_of(&answer, self.keys);
            self.handle(Input::Refilled {
                lane: refill.lane,
                answer,
                keys,
            });
        }
    }

    /// Accepts a delivery and announces it.
    fn accept(&mut self, lane: LaneId, due: Option<Timestamp>) -> Seq {
        let seq = self.store.accept(lane, due);
        self.handle(Input::Accepted {
            lane,
            seq,
            due,
            bytes: 1,
        });
        seq
    }

    fn accept_many(&mut self, lane: LaneId, count: usize) {
        for _ in 0..count {
            self.accept(lane, None);
        }
    }

    fn finish(&mut self, job: &Job, seen: Seen) {
        self.handle(Input::Finished {
            lane: job.lane,
            batch: job.batch.iter().map(|due| due.seq).collect(),
            seen,
        });
    }

    fn commit(&mut self, job: Job, deferred: Option<Timestamp>) {
        for due in job.batch {
            let tries = due.tries + 1;
            self.store
                .settle(job.lane, due.seq, deferred.map(|due| (due, tries)));
            self.handle(Input::Committed {
                lane: job.lane,
                seq: due.seq,
                deferred,
                tries,
            });
        }
    }

    /// Ends a job as the endpoint would: delivered is settled, an error is due again after `retry`.
    fn end(&mut self, job: Job, outcome: Outcome, retry: Duration) {
        self.finish(&job, seen(outcome));
        let deferred = (outcome != OK).then(|| self.now.wall.plus(retry));
        self.commit(job, deferred);
    }

    fn pass(&mut self, time: Duration) {
        self.now.wall = self.now.wall.plus(time);
        self.now.mono_ms += time.as_millis() as u64;
    }

    /// Sleeps exactly as long as the scheduler says.
    fn sleep(&mut self) -> Duration {
        let time = self.scheduler.wake_in(self.now).expect("something to wake for");
        self.pass(time);
        time
    }

    fn state(&self, lane: LaneId) -> LaneState {
        self.view(lane).state
    }

    fn view(&self, lane: LaneId) -> LaneView {
        self.scheduler
            .lanes()
            .into_iter()
            .find(|view| view.lane == lane)
            .unwrap()
    }

    /// Trips lane A by failures in a row; afterwards `backlog` fresh deliveries wait in the store.
    fn tripped(backlog: usize) -> Self {
        let mut world = Self::one_lane(5);
        world.accept_many(A, 5 + backlog);
        let jobs = world.poll();
        assert_eq!(jobs.len(), 5);
        for job in jobs {
            world.end(job, DOWN, Duration::from_secs(3600));
        }
        assert!(matches!(world.state(A), LaneState::Tripped { .. }));
        world
    }
}

fn seqs(jobs: &[Job]) -> Vec<u64> {
    jobs.iter()
        .flat_map(|job| &job.batch)
        .map(|due| due.seq.0)
        .collect()
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

#[test]
fn an_accepted_delivery_leaves_at_the_next_poll_without_asking_the_store() {
    let mut world = World::one_lane(4);
    world.accept(A, None);
    world.answers = false;
    assert_eq!(seqs(&world.poll()), [0]);
    assert!(world.asked.is_empty());
    assert_eq!(world.scheduler.wake_in(world.now), None);
}

#[test]
fn a_restart_picks_up_the_backlog_at_once() {
    let mut world = World::new(SchedulerConfig::default(), vec![lane_config(0, 9, 9)]);
    for _ in 0..3 {
        world.store.accept(A, None);
    }
    world.store.accept(A, Some(Timestamp(START - 1)));
    world.store.accept(A, Some(Timestamp(START + 7000)));
    let mut first = seqs(&world.poll());
    first.sort_unstable();
    assert_eq!(first, [0, 1, 2, 3]);
    assert_eq!(world.sleep(), secs(7));
    assert_eq!(seqs(&world.poll()), [4]);
}

#[test]
fn a_backlog_larger_than_the_window_drains_in_order_and_in_bounded_memory() {
    let config = SchedulerConfig {
        in_flight_max: 8,
        window_max: 16,
        ..SchedulerConfig::default()
    };
    let mut world = World::new(config, vec![lane_config(0, 4, 4)]);
    world.accept_many(A, 500);
    let mut order = Vec::new();
    while order.len() < 500 {
        let jobs = world.poll();
        assert!(!jobs.is_empty(), "stuck after {}", order.len());
        assert!(world.view(A).window <= 16);
        order.extend(seqs(&jobs));
        for job in jobs {
            world.end(job, OK, secs(0));
        }
    }
    assert_eq!(order, (0..500).collect::<Vec<_>>());
}

/// The classic lost wake-up, in each of its interleavings: a question is asked, the store looks, news
/// comes, the answer comes; the news must be seen to without any further event.
#[test]
fn no_news_is_lost_around_a_question() {
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum When {
        BeforeTheStoreLooks,
        AfterTheStoreLooked,
        AfterTheAnswer,
    }
    #[derive(Clone, Copy, Debug)]
    enum News {
        Fresh,
        DeferredSoon,
        Retry,
        Revived,
        Flushed,
    }
    for when in [
        When::BeforeTheStoreLooks,
        When::AfterTheStoreLooked,
        When::AfterTheAnswer,
    ] {
        for news in [
            News::Fresh,
            News::DeferredSoon,
            News::Retry,
            News::Revived,
            News::Flushed,
        ] {
            for fails in [false, true] {
                check_news(when, news, fails);
            }
        }
    }

    fn check_news(when: When, news: News, fails: bool) {
        let mut world = World::one_lane(3);
        let flying = world.accept(A, None);
        let job = world.poll().remove(0);
        assert_eq!(job.batch[0].seq, flying);
        let parked = world.store.accept(A, Some(Timestamp(START + 3_600_000)));
        world.accept(A, Some(Timestamp(START + 3_600_000)));
        world.answers = false;
        world.handle(Input::Revived {
            lane: A,
            from: Seq(0),
        });
        assert!(world.poll().is_empty());
        let question = world.asked.pop().expect("a question");

        let tell = |world: &mut World| match news {
            News::Fresh => {
                world.accept(A, None);
            }
            News::DeferredSoon => {
                world.accept(A, Some(world.now.wall.plus(secs(2))));
            }
            News::Retry => world.end(job.clone(), DOWN, secs(2)),
            News::Revived => {
                world.store.settle(A, parked, Some((world.now.wall, 0)));
                world.handle(Input::Revived {
                    lane: A,
                    from: parked,
                });
            }
            News::Flushed => {
                world.store.settle(A, parked, Some((world.now.wall, 0)));
                world.handle(Input::Flushed { lane: A });
            }
        };
        if when == When::BeforeTheStoreLooks {
            tell(&mut world);
        }
        let answer = world.store.due(A, &question.query);
        if when == When::AfterTheStoreLooked {
            tell(&mut world);
        }
        world.handle(if fails {
            Input::RefillFailed { lane: A }
        } else {
            Input::Refilled {
                lane: A,
                answer,
                keys: Vec::new(),
            }
        });
        if when == When::AfterTheAnswer {
            tell(&mut world);
        }
        world.answers = true;
        let mut left = world.poll();
        for _ in 0..4 {
            if left.is_empty() {
                world.sleep();
                left = world.poll();
            }
        }
        assert_eq!(left.len(), 1, "{when:?} {news:?} fails={fails}");
        assert!(
            world.now.wall < Timestamp(START + 10_000),
            "late: {when:?} {news:?}"
        );
    }
}

#[test]
fn an_answer_that_comes_late_repeats_nothing() {
    let mut world = World::one_lane(4);
    world.answers = false;
    world.store.accept(A, Some(Timestamp(START)));
    world.handle(Input::Accepted {
        lane: A,
        seq: Seq(0),
        due: Some(Timestamp(START)),
        bytes: 1,
    });
    assert!(world.poll().is_empty());
    let fresh = world.accept(A, None);
    let job = world.poll().remove(0);
    assert_eq!(job.batch[0].seq, fresh);
    let question = world.asked.pop().unwrap();
    let answer = world.store.due(A, &question.query);
    world.end(job, OK, secs(0));
    world.handle(Input::Refilled {
        lane: A,
        answer,
        keys: Vec::new(),
    });
    assert_eq!(seqs(&world.poll()), [0]);
}

#[test]
fn news_out_of_order_is_not_taken_for_old() {
    let mut world = World::one_lane(4);
    let [first, second] = [world.store.accept(A, None), world.store.accept(A, None)];
    world.handle(Input::Accepted {
        lane: A,
        seq: second,
        due: None,
        bytes: 1,
    });
    world.handle(Input::Accepted {
        lane: A,
        seq: first,
        due: None,
        bytes: 1,
    });
    let mut all = seqs(&world.poll());
    all.sort_unstable();
    assert_eq!(all, [0, 1]);
}

#[test]
fn a_delivery_stays_in_hand_until_it_is_durable() {
    let mut world = World::one_lane(4);
    world.accept(A, None);
    let job = world.poll().remove(0);
    world.finish(&job, seen(OK));
    world.handle(Input::Revived {
        lane: A,
        from: Seq(0),
    });
    assert!(
        world.poll().is_empty(),
        "finished but not durable: not handed out again"
    );
    world.store.settle(A, Seq(0), None);
    world.handle(Input::Committed {
        lane: A,
        seq: Seq(0),
        deferred: None,
        tries: 0,
    });
    assert!(world.poll().is_empty());
}

#[test]
fn a_stalled_store_stops_sending() {
    let config = SchedulerConfig {
        in_flight_max: 8,
        window_max: 16,
        ..SchedulerConfig::default()
    };
    let mut world = World::new(config, vec![lane_config(0, 4, 4)]);
    world.accept_many(A, 100);
    let mut ended = Vec::new();
    loop {
        let jobs = world.poll();
        if jobs.is_empty() {
            break;
        }
        for job in jobs {
            world.finish(&job, seen(OK));
            ended.push(job);
        }
    }
    assert_eq!(ended.len(), 16, "no more than the window holds");
    world.commit(ended[0].clone(), None);
    assert_eq!(world.poll().len(), 4);
}

/// F5: trips, defers the backlog without attempts and without memory, probes with one.
#[test]
fn f5_a_dead_endpoint_is_left_alone_and_probed_with_one() {
    let mut world = World::tripped(100);
    assert!(world.poll().is_empty());
    assert_eq!(world.view(A).window, 0);
    for expected in [30, 60, 120, 120] {
        assert_eq!(world.sleep(), secs(expected));
        let probe = world.poll();
        assert_eq!(probe.len(), 1, "exactly one probe");
        assert_eq!(world.state(A), LaneState::Probing);
        world.end(probe[0].clone(), DOWN, secs(36_000));
        assert!(world.poll().is_empty());
    }
    world.sleep();
    let probe = world.poll();
    world.end(probe[0].clone(), OK, secs(0));
    assert_eq!(world.state(A), LaneState::Ready);
    assert_eq!(world.poll().len(), 1, "its backlog is let go slowly");
}

/// Each change of a lane's state is told once, by the next poll, and nothing else is.
#[test]
fn f5_changes_of_state_are_told_once() {
    let mut world = World::one_lane(5);
    world.accept_many(A, 20);
    let jobs = world.poll();
    for job in jobs {
        world.end(job, DOWN, secs(36_000));
    }
    let told = world.scheduler.poll(world.now).moves;
    let states: Vec<_> = told.iter().map(|view| (view.lane, view.state)).collect();
    let until = world.now.wall.plus(secs(30));
    assert_eq!(states, [(A, LaneState::Tripped { until })]);
    assert!(world.scheduler.poll(world.now).moves.is_empty());
    world.sleep();
    let told = world.scheduler.poll(world.now).moves;
    assert_eq!(
        told.iter().map(|view| view.state).collect::<Vec<_>>(),
        [LaneState::Probing]
    );
}

/// F5: an adaptive lane comes back slowly, so that the backlog does not knock the endpoint over again.
#[test]
fn f5_an_endpoint_that_comes_back_is_not_stampeded() {
    let mut world = World::new(SchedulerConfig::default(), vec![lane_config(0, 1, 32)]);
    world.accept_many(A, 2000);
    let mut jobs = world.poll();
    for _ in 0..20 {
        world.pass(Duration::from_millis(20));
        for job in std::mem::take(&mut jobs) {
            world.end(job, OK, secs(0));
        }
        jobs = world.poll();
    }
    assert!(jobs.len() > 10, "{}", jobs.len());
    for job in jobs {
        world.end(job, DOWN, secs(3600));
    }
    world.sleep();
    let probe = world.poll();
    world.end(probe[0].clone(), OK, secs(0));
    assert_eq!(world.poll().len(), 1);
}

/// F5: what began before the trip and fails after it neither doubles the wait nor trips it again.
#[test]
fn f5_stragglers_from_before_the_trip_teach_nothing() {
    let mut world = World::one_lane(20);
    world.accept_many(A, 30);
    let mut jobs = world.poll();
    for job in jobs.drain(..6) {
        world.end(job, DOWN, secs(3600));
    }
    let until = world.state(A);
    world.pass(secs(10));
    for job in jobs.drain(..7) {
        world.end(job, DOWN, secs(3600));
    }
    assert_eq!(world.state(A), until);
    assert_eq!(world.sleep(), secs(20));
    let probe = world.poll();
    assert_eq!(probe.len(), 1);
    world.end(probe[0].clone(), OK, secs(0));
    for job in jobs {
        world.end(job, DOWN, secs(3600));
    }
    assert_eq!(world.state(A), LaneState::Ready);
    assert_eq!(world.view(A).failures, 0);
}

/// F3: the later of two wishes counts, nothing leaves meanwhile, and it ends by itself.
#[test]
fn f3_retry_after_suspends_the_whole_lane() {
    let mut world = World::one_lane(3);
    world.accept_many(A, 10);
    let jobs = world.poll();
    for (job, wait) in jobs.iter().zip([20, 60, 5]) {
        let busy = Outcome::Error(ErrorClass::Http4xx);
        world.finish(
            job,
            Seen {
                retry_after: Some(secs(wait)),
                overloaded: true,
                ..seen(busy)
            },
        );
        world.commit(job.clone(), Some(world.now.wall.plus(secs(wait))));
    }
    assert_eq!(
        world.state(A),
        LaneState::Suspended {
            until: Timestamp(START + 60_000)
        }
    );
    assert!(world.poll().is_empty());
    assert_eq!(world.sleep(), secs(60));
    eases_in(&mut world, 3);
    assert_eq!(world.state(A), LaneState::Ready);
}

/// F5: what was left alone for a while meets one request of its backlog first, and twice as many with each that
/// comes back, up to `limit`.
fn eases_in(world: &mut World, limit: usize) {
    let mut under_way = 1;
    loop {
        let jobs = world.poll();
        assert_eq!(jobs.len(), under_way);
        if under_way == limit {
            return;
        }
        jobs.into_iter().for_each(|job| world.end(job, OK, secs(0)));
        under_way = (under_way * 2).min(limit);
    }
}

/// A jump of the wall clock, either way, neither ends an open breaker early nor sticks it.
#[test]
fn clock_jumps_do_not_stick_a_lane() {
    for jump in [-86_400_000i64, 86_400_000] {
        let mut world = World::tripped(10);
        world.now.wall = Timestamp(world.now.wall.0.saturating_add_signed(jump));
        world.poll();
        let until = world.now.wall.plus(secs(30));
        assert_eq!(
            world.state(A),
            LaneState::Tripped { until },
            "shown in the new time"
        );
        world.now.mono_ms += 29_999;
        assert!(world.poll().is_empty());
        world.now.mono_ms += 1;
        assert_eq!(world.poll().len(), 1, "jump {jump}");
    }
}

#[test]
fn a_flush_ends_a_suspension_and_probes_a_tripped_lane() {
    let mut world = World::tripped(10);
    world.handle(Input::Flushed { lane: A });
    assert_eq!(world.state(A), LaneState::Probing);
    assert_eq!(world.poll().len(), 1);

    let mut world = World::one_lane(1);
    world.accept_many(A, 2);
    let job = world.poll().remove(0);
    world.finish(
        &job,
        Seen {
            retry_after: Some(secs(3600)),
            ..seen(Outcome::Error(ErrorClass::Http5xx))
        },
    );
    world.commit(job, Some(world.now.wall.plus(secs(3600))));
    world.handle(Input::Flushed { lane: A });
    assert_eq!(world.state(A), LaneState::Ready);
    assert_eq!(world.poll().len(), 1);
}

#[test]
fn a_pause_parks_everything_and_ends_by_itself() {
    let mut world = World::one_lane(2);
    world.accept_many(A, 5);
    let jobs = world.poll();
    let until = Timestamp(START + 9000);
    world.handle(Input::Paused {
        lane: A,
        until: Some(until),
    });
    for job in jobs {
        world.end(job, OK, secs(0));
    }
    world.accept_many(A, 5);
    assert!(world.poll().is_empty());
    assert_eq!(
        (world.state(A), world.view(A).window),
        (LaneState::Paused { until: Some(until) }, 0)
    );
    assert_eq!(world.sleep(), secs(9));
    eases_in(&mut world, 2);
    world.handle(Input::Paused { lane: A, until: None });
    assert!(world.poll().is_empty());
    assert_eq!(world.scheduler.wake_in(world.now), None);
    world.handle(Input::Resumed { lane: A });
    assert_eq!(world.state(A), LaneState::Ready);
}

/// A pause does not make an open breaker or a suspension forgotten.
#[test]
fn after_a_pause_the_breaker_still_holds_the_lane() {
    let mut world = World::tripped(10);
    world.handle(Input::Paused { lane: A, until: None });
    world.handle(Input::Resumed { lane: A });
    assert!(matches!(world.state(A), LaneState::Tripped { .. }));
    world.handle(Input::Paused { lane: A, until: None });
    world.pass(secs(60));
    world.handle(Input::Resumed { lane: A });
    assert_eq!(world.state(A), LaneState::Probing);
    assert_eq!(world.poll().len(), 1);
}

/// A12/I3: a disabled endpoint's deliveries stay parked and leave when it is enabled again.
#[test]
fn a_disabled_lane_parks_until_it_is_enabled() {
    let disabled = LaneConfig {
        enabled: false,
        ..lane_config(0, 4, 4)
    };
    let mut world = World::new(SchedulerConfig::default(), vec![disabled]);
    world.accept_many(A, 3);
    assert!(world.poll().is_empty());
    assert_eq!(world.state(A), LaneState::Paused { until: None });
    world.handle(Input::Resumed { lane: A });
    assert!(world.poll().is_empty(), "only the configuration enables it");
    world.handle(Input::Configure(vec![lane_config(0, 4, 4)]));
    eases_in(&mut world, 2);
}

#[test]
fn a_removed_lane_ends_what_it_has_under_way_and_can_come_back() {
    let mut world = World::one_lane(2);
    world.accept_many(A, 5);
    let jobs = world.poll();
    world.handle(Input::Configure(Vec::new()));
    assert!(world.poll().is_empty());
    world.end(jobs[0].clone(), OK, secs(0));
    assert_eq!(world.scheduler.lanes().len(), 1);
    world.handle(Input::Configure(vec![lane_config(0, 4, 4)]));
    assert_eq!(
        seqs(&world.poll()),
        [2, 3, 4],
        "not the one that is still under way"
    );
    world.handle(Input::Configure(Vec::new()));
    world.end(jobs[1].clone(), OK, secs(0));
    assert_eq!(world.view(A).in_flight, 3);
}

#[test]
fn a_removed_lane_is_gone_with_its_last_delivery() {
    let mut world = World::one_lane(2);
    world.accept_many(A, 5);
    let jobs = world.poll();
    world.handle(Input::Configure(Vec::new()));
    for job in jobs {
        world.end(job, OK, secs(0));
    }
    assert!(world.scheduler.lanes().is_empty());
    world.handle(Input::Configure(vec![lane_config(0, 9, 9)]));
    assert_eq!(seqs(&world.poll()), [2, 3, 4]);
}

#[test]
fn draining_starts_and_asks_nothing_more() {
    let mut world = World::one_lane(2);
    world.accept_many(A, 5);
    let jobs = world.poll();
    world.handle(Input::Drain);
    world.end(jobs[0].clone(), DOWN, secs(1));
    assert!(world.poll().is_empty());
    assert_eq!(world.scheduler.wake_in(world.now), None);
}

/// F6: two lanes that both want everything get half each, whoever came first.
#[test]
fn f6_competing_lanes_share_the_slots() {
    let config = SchedulerConfig {
        in_flight_max: 8,
        window_max: 64,
        ..SchedulerConfig::default()
    };
    let mut world = World::new(config, vec![lane_config(0, 100, 100), lane_config(1, 100, 100)]);
    world.poll();
    world.accept_many(A, 50);
    let first = world.poll();
    assert!(first.len() < 8, "room is kept for the idle lane");
    world.accept_many(B, 50);
    assert!(!world.poll().is_empty(), "the second lane starts at once");
    for job in first {
        world.end(job, OK, secs(0));
        world.poll();
    }
    assert_eq!((world.view(A).in_flight, world.view(B).in_flight), (4, 4));
}

/// F6: hanging lanes that hold all they can get leave a lane that wakes later its full share, and don't
/// creep into it while it has nothing to send for a moment.
#[test]
fn f6_hanging_lanes_cannot_take_the_slots_of_the_others() {
    let config = SchedulerConfig {
        in_flight_max: 64,
        window_max: 64,
        ..SchedulerConfig::default()
    };
    let lanes = (0..9).map(|lane| lane_config(lane, 32, 32)).collect();
    let mut world = World::new(config, lanes);
    world.poll();
    for lane in 1..9 {
        world.accept_many(LaneId(lane), 40);
    }
    let hanging = world.poll().len();
    assert!(hanging <= 56, "{hanging}");
    for _ in 0..50 {
        world.accept_many(A, 7);
        let jobs = world.poll();
        assert_eq!(jobs.iter().filter(|job| job.lane == A).count(), 7);
        for job in jobs.into_iter().filter(|job| job.lane == A) {
            world.end(job, OK, secs(0));
        }
    }
}

/// The cap holds, and lanes take turns also when there are more of them than slots.
#[test]
fn f6_more_lanes_than_slots_take_turns() {
    let config = SchedulerConfig {
        in_flight_max: 3,
        window_max: 8,
        ..SchedulerConfig::default()
    };
    let mut world = World::new(config, (0..10).map(|lane| lane_config(lane, 4, 4)).collect());
    for lane in 0..10 {
        world.accept_many(LaneId(lane), 3);
    }
    let mut served = Vec::new();
    for _ in 0..10 {
        let jobs = world.poll();
        assert!(!jobs.is_empty() && jobs.len() <= 3);
        for job in jobs {
            served.push(job.lane);
            world.end(job, OK, secs(0));
        }
    }
    let first_ten: HashSet<LaneId> = served[..10].iter().copied().collect();
    assert_eq!(first_ten.len(), 10, "{served:?}");
    assert_eq!(served.len(), 30);
}

/// F6: a lane that lost its turn, here by a pause, does not use up the turn of the next one.
#[test]
fn f6_a_lost_turn_is_not_the_next_lanes() {
    let config = SchedulerConfig {
        in_flight_max: 8,
        window_max: 64,
        ..SchedulerConfig::default()
    };
    let lanes = (0..3).map(|lane| lane_config(lane, 32, 32)).collect();
    let mut world = World::new(config, lanes);
    world.poll();
    world.accept_many(LaneId(2), 20);
    assert_eq!(world.poll().len(), 7);
    world.accept(A, None);
    world.accept(B, None);
    world.handle(Input::Paused { lane: A, until: None });
    assert_eq!(world.poll().len(), 1);
}

/// An answer to a question from before a trip knows nothing of what the trip gave back to the store.
#[test]
fn f5_an_answer_from_before_the_trip_skips_nothing() {
    let config = SchedulerConfig {
        in_flight_max: 64,
        window_max: 16,
        ..SchedulerConfig::default()
    };
    let mut world = World::new(config, vec![lane_config(0, 8, 8)]);
    world.poll();
    world.accept_many(A, 40);
    world.answers = false;
    let mut jobs = world.poll();
    assert_eq!((jobs.len(), world.asked.len()), (8, 1));
    for job in jobs.drain(..5) {
        world.end(job, DOWN, secs(1));
    }
    world.handle(Input::Flushed { lane: A });
    assert_eq!(world.state(A), LaneState::Probing);
    world.answer();
    world.answers = true;
    let mut delivered = HashSet::new();
    while delivered.len() < 40 {
        jobs.extend(world.poll());
        if jobs.is_empty() {
            world.sleep();
        }
        for job in jobs.drain(..) {
            delivered.insert(job.batch[0].seq);
            world.end(job, OK, secs(0));
        }
    }
}
