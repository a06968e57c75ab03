//! F6: how the adaptive limit moves in front of endpoints of different shapes. One lane of the real scheduler with more
//! to send than it can, in virtual time; what is asserted are the means and extremes of the limit, as one would read
//! them off a curve. Knows nothing of stores and crashes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use posthaste::domain::endpoint::Concurrency;
use posthaste::domain::event::Seq;
use posthaste::domain::outcome::{ErrorClass, Outcome};
use posthaste::domain::several::Several;
use posthaste::domain::time::{Now, Timestamp};
use posthaste::scheduler::{Input, LaneView, Scheduler, SchedulerConfig, Seen};
use posthaste::store::{DueAnswer, LaneId};

use crate::dice::Dice;
use crate::scenario::{PLAIN, Site};

const LANE: LaneId = LaneId(0);
const OK: Outcome = Outcome::Delivered;
/// Deliveries that wait at any time.
const BACKLOG: u32 = 200;
/// How often limit and requests are looked at.
const LOOK_EVERY_MS: u64 = 10;

/// An endpoint: what it does with a request at `ms` while it has so many, this one too.
type Server<'a> = Box<dyn FnMut(u64, u32) -> Answer + 'a>;

/// What comes of a request.
struct Answer {
    took_ms: u64,
    outcome: Outcome,
    overloaded: bool,
}

fn fine(took_ms: u64) -> Answer {
    Answer {
        took_ms,
        outcome: OK,
        overloaded: false,
    }
}

/// 429 or 503.
fn too_much() -> Answer {
    Answer {
        took_ms: 5,
        outcome: Outcome::Error(ErrorClass::Http4xx),
        overloaded: true,
    }
}

/// One look at the lane.
#[derive(Clone, Copy, Debug)]
struct Look {
    ms: u64,
    limit: u32,
    in_flight: u32,
}

/// A lane in front of a server.
struct Rig<'a> {
    scheduler: Scheduler,
    server: Server<'a>,
    ms: u64,
    under_way: u32,
    ends: BTreeMap<(u64, u64), Answer>,
    next_seq: u64,
    looks: Vec<Look>,
    /// Requests that were delivered, and those that were not, by the time of their ends.
    delivered: Vec<u64>,
    failed: Vec<u64>,
}

impl<'a> Rig<'a> {
    fn new(max: u32, server: impl FnMut(u64, u32) -> Answer + 'a) -> Self {
        let mut rig = Self {
            scheduler: Scheduler::new(SchedulerConfig::default()),
            server: Box::new(server),
            ms: 0,
            under_way: 0,
            ends: BTreeMap::new(),
            next_seq: 1,
            looks: Vec::new(),
            delivered: Vec::new(),
            failed: Vec::new(),
        };
        let mut endpoint = PLAIN.clone();
        endpoint.concurrency = Concurrency { min: 1, max };
        let site = Site {
            lane: LANE,
            endpoint: Arc::new(endpoint),
            configured: true,
            keyed: 0,
        };
        rig.tell(Input::Configure(vec![site.lane_config(false)]));
        rig
    }

    fn now(&self) -> Now {
        Now {
            wall: Timestamp(1_700_000_000_000 + self.ms),
            mono_ms: self.ms,
        }
    }

    fn tell(&mut self, input: Input) {
        self.scheduler.handle(input, self.now());
    }

    fn view(&self) -> LaneView {
        self.scheduler.lanes()[0]
    }

    /// Lets so much time pass; whatever ends is replaced by something new.
    fn run(mut self, for_s: u64) -> Self {
        let until_ms = self.ms + for_s * 1000;
        while self.ms < until_ms {
            self.poll();
            let wake = self
                .scheduler
                .wake_in(self.now())
                .map(|wait| self.ms + wait.as_millis() as u64);
            let end = self.ends.first_key_value().map(|((at, _), _)| *at);
            let next = wake
                .into_iter()
                .chain(end)
                .min()
                .unwrap_or(until_ms)
                .max(self.ms + 1);
            self.look_until(next.min(until_ms));
            while let Some(entry) = self.ends.first_entry().filter(|entry| entry.key().0 <= self.ms) {
                let ((_, seq), answer) = entry.remove_entry();
                self.end(Seq(seq), &answer);
            }
        }
        self
    }

    fn poll(&mut self) {
        loop {
            while self.view().window < BACKLOG && self.view().state.sends() {
                let seq = Seq(self.next_seq);
                self.next_seq += 1;
                self.tell(Input::Accepted {
                    lane: LANE,
                    seq,
                    due: None,
                    bytes: 2,
                });
                if self.view().window == 0 {
                    break;
                }
            }
            let actions = self.scheduler.poll(self.now());
            if actions.jobs.is_empty() && actions.refills.is_empty() {
                return;
            }
            for job in actions.jobs {
                self.under_way += 1;
                let answer = (self.server)(self.ms, self.under_way);
                let seq = job.batch[0].seq.0;
                self.ends.insert((self.ms + answer.took_ms, seq), answer);
            }
            for refill in actions.refills {
                let answer = DueAnswer {
                    fresh_next: Seq(self.next_seq.max(refill.query.fresh_from.0)),
                    ..DueAnswer::default()
                };
                self.tell(Input::Refilled {
                    lane: LANE,
                    answer,
                    keys: Vec::new(),
                });
            }
        }
    }

    fn end(&mut self, seq: Seq, answer: &Answer) {
        self.under_way -= 1;
        let ends = if answer.outcome == OK {
            &mut self.delivered
        } else {
            &mut self.failed
        };
        ends.push(self.ms);
        let seen = Seen {
            outcome: answer.outcome,
            took: Duration::from_millis(answer.took_ms),
            retry_after: None,
            overloaded: answer.overloaded,
        };
        let batch: Several<Seq> = std::iter::once(seq).collect();
        self.tell(Input::Finished {
            lane: LANE,
            batch,
            seen,
        });
        self.tell(Input::Committed {
            lane: LANE,
            seq,
            deferred: None,
            tries: 0,
        });
    }

    fn look_until(&mut self, ms: u64) {
        let view = self.view();
        for at in (self.ms..ms).filter(|at| at.is_multiple_of(LOOK_EVERY_MS)) {
            self.looks.push(Look {
                ms: at,
                limit: view.limit,
                in_flight: view.in_flight,
            });
        }
        self.ms = ms;
    }

    /// The curve from `from_s` to `to_s`.
    fn curve(&self, from_s: u64, to_s: u64) -> Curve {
        let within = |ms: &u64| (from_s * 1000..to_s * 1000).contains(ms);
        let looks: Vec<Look> = self
            .looks
            .iter()
            .filter(|look| within(&look.ms))
            .copied()
            .collect();
        let per_second =
            |ends: &[u64]| ends.iter().filter(|ms| within(ms)).count() as f64 / (to_s - from_s) as f64;
        Curve {
            limit: Spread::of(looks.iter().map(|look| look.limit)),
            in_flight: Spread::of(looks.iter().map(|look| look.in_flight)),
            delivered_per_second: per_second(&self.delivered),
            failed_per_second: per_second(&self.failed),
        }
    }
}

/// A stretch of time in numbers.
#[derive(Debug)]
struct Curve {
    limit: Spread,
    in_flight: Spread,
    delivered_per_second: f64,
    failed_per_second: f64,
}

#[derive(Debug)]
struct Spread {
    mean: f64,
    p95: u32,
    max: u32,
}

impl Spread {
    fn of(values: impl Iterator<Item = u32>) -> Self {
        let mut all: Vec<u32> = values.collect();
        all.sort_unstable();
        let at = |share: usize| all[(all.len() - 1) * share / 100];
        Self {
            mean: all.iter().map(|value| f64::from(*value)).sum::<f64>() / all.len() as f64,
            p95: at(95),
            max: at(100),
        }
    }
}

/// A server with `workers` that each take `work_ms` for a request; what they can't take waits in a row.
fn knee<'a>(workers: usize, work_ms: u64) -> impl FnMut(u64, u32) -> Answer + 'a {
    let mut free_at = vec![0; workers];
    move |ms, _| {
        free_at.sort_unstable();
        let begins = free_at[0].max(ms);
        free_at[0] = begins + work_ms;
        fine(begins + work_ms - ms)
    }
}

/// Between 0 and 1, not 0.
fn chance(dice: &mut Dice) -> f64 {
    ((dice.any() >> 11) as f64 + 1.0) / (1u64 << 53) as f64
}

/// Exponentially distributed around a mean.
fn exponential(dice: &mut Dice, mean_ms: f64) -> u64 {
    1 + (-mean_ms * chance(dice).ln()) as u64
}

/// Whatever the response time, an endpoint that can take everything gets as much as the configuration allows. The few
/// rounds at half the limit cost next to nothing.
#[test]
fn f6_constant_response_times_bring_the_limit_to_its_maximum() {
    for ms in [10, 100, 1000] {
        let curve = Rig::new(32, |_, _| fine(ms)).run(120).curve(60, 120);
        assert!(
            curve.limit.mean > 31.0 && curve.in_flight.mean > 31.0,
            "{ms} ms: {curve:?}"
        );
    }
}

/// What a server can't work on at once only waits there, so nobody gains by sending it.
#[test]
fn f6_a_knee_is_found_wherever_it_is() {
    for (workers, max) in [(4, 32), (10, 64), (20, 128)] {
        let curve = Rig::new(max, knee(workers, 100)).run(200).curve(50, 200);
        let n = workers as f64;
        let mean = (0.6 * n..1.5 * n).contains(&curve.limit.mean);
        assert!(
            mean && f64::from(curve.limit.p95) <= 1.5 * n + 2.0,
            "{workers}: {curve:?}"
        );
        let most_per_second = n * 10.0;
        assert!(
            curve.delivered_per_second > 0.85 * most_per_second,
            "{workers}: {curve:?}"
        );
    }
}

/// The same for one that gets slower with each request beyond what it likes.
#[test]
fn f6_a_server_that_chokes_is_not_choked() {
    let server = |_, under_way: u32| {
        let over = under_way.saturating_sub(10).min(60) as i32;
        fine((100.0 * 1.1_f64.powi(over)) as u64)
    };
    let curve = Rig::new(128, server).run(200).curve(50, 200);
    assert!(
        (6.0..15.0).contains(&curve.limit.mean) && curve.limit.max < 20,
        "{curve:?}"
    );
    assert!(curve.delivered_per_second > 80.0, "{curve:?}");
}

/// Response times all over the place are no sign of load.
#[test]
fn f6_jitter_does_not_bring_the_limit_down() {
    let mut dice = Dice::new(1);
    let uniform = Rig::new(32, |_, _| fine(50 + dice.below(100) as u64))
        .run(200)
        .curve(60, 200);
    assert!(uniform.limit.mean > 28.0, "{uniform:?}");
    let mut dice = Dice::new(2);
    let skewed = Rig::new(32, |_, _| fine(exponential(&mut dice, 100.0)))
        .run(300)
        .curve(60, 300);
    assert!(skewed.limit.mean > 20.0, "{skewed:?}");
    let mut dice = Dice::new(3);
    let stalls = |_, _| fine(if dice.one_in(50) { 2000 } else { 50 });
    let stalls = Rig::new(32, stalls).run(300).curve(60, 300);
    assert!(stalls.limit.mean > 16.0, "{stalls:?}");
}

/// 429 above a rate: the rate is used up, and few tries are spent on finding out that it is.
#[test]
fn f6_above_a_rate_few_tries_are_refused() {
    let mut next_us = 0;
    let bucket = |ms: u64, _| {
        let us = ms * 1000;
        if next_us > us + 100_000 {
            return too_much();
        }
        next_us = next_us.max(us) + 10_000;
        fine(100)
    };
    let curve = Rig::new(64, bucket).run(200).curve(60, 200);
    assert!((6.0..15.0).contains(&curve.limit.mean), "{curve:?}");
    assert!(
        curve.delivered_per_second > 90.0 && curve.failed_per_second < 10.0,
        "{curve:?}"
    );

    // The whole second's worth at its beginning is the worst way to count: what is left of the second refuses all.
    let (mut second, mut count) = (0, 0);
    let window = |ms: u64, _| {
        if ms / 1000 != second {
            (second, count) = (ms / 1000, 0);
        }
        count += 1;
        if count > 100 { too_much() } else { fine(100) }
    };
    let curve = Rig::new(64, window).run(200).curve(60, 200);
    assert!((6.0..15.0).contains(&curve.limit.mean), "{curve:?}");
    assert!(
        curve.delivered_per_second > 95.0 && curve.failed_per_second < 150.0,
        "{curve:?}"
    );
}

/// 503 above so many at once.
#[test]
fn f6_a_refusal_above_a_number_finds_that_number() {
    let server = |_, under_way| if under_way > 10 { too_much() } else { fine(100) };
    let curve = Rig::new(64, server).run(200).curve(60, 200);
    assert!(
        (8.0..=11.0).contains(&curve.limit.mean) && curve.limit.max <= 12,
        "{curve:?}"
    );
    assert!(
        curve.delivered_per_second > 85.0 && curve.failed_per_second < 6.0,
        "{curve:?}"
    );
}

/// An endpoint that gets slower for reasons of its own, bit by bit or at once, is no overloaded one.
#[test]
fn f6_slower_is_not_overloaded() {
    let drift = Rig::new(32, |ms, _| fine(50 + ms / 1000)).run(400).curve(60, 400);
    assert!(drift.limit.mean > 30.0, "{drift:?}");
    let step = Rig::new(32, |ms, _| fine(if ms < 60_000 { 50 } else { 150 })).run(200);
    let (first, later) = (step.curve(60, 80), step.curve(100, 200));
    assert!(
        first.limit.mean > 16.0 && later.limit.mean > 30.0,
        "{first:?} {later:?}"
    );
}

/// F5: a dead endpoint gets its probes and no more, whether it refuses or hangs; and then all it can take again.
#[test]
fn f5_f6_the_dead_are_left_alone_and_the_living_recover() {
    for (class, took_ms) in [(ErrorClass::Connect, 1), (ErrorClass::Timeout, 10_000)] {
        let server = |ms, _| {
            if !(60_000..180_000).contains(&ms) {
                return fine(50);
            }
            Answer {
                took_ms,
                outcome: Outcome::Error(class),
                overloaded: class == ErrorClass::Timeout,
            }
        };
        let rig = Rig::new(32, server).run(400);
        // Those under way when it died, and one probe after each time the breaker was open.
        let dead = rig.curve(62, 180);
        assert!(dead.failed_per_second * 118.0 < 40.0, "{class:?}: {dead:?}");
        let back = rig.curve(340, 400);
        assert!(
            back.limit.mean > 31.0 && back.delivered_per_second > 600.0,
            "{class:?}: {back:?}"
        );
    }
}

/// E6, F6: a server that drips its answers, however many there are, and one in five beyond the deadline of ten seconds: it is asked
/// less than it could be, never given up, and back to its pace once it has stopped dripping.
#[test]
fn f6_a_server_that_drips_is_asked_gently_and_not_given_up() {
    let mut dice = Dice::new(4);
    let server = move |ms, _| match dice.below(5) {
        _ if ms > 1_200_000 => fine(50),
        0 => Answer {
            took_ms: 10_000,
            outcome: Outcome::Error(ErrorClass::Timeout),
            overloaded: true,
        },
        _ => fine(8_000 + dice.below(1_900) as u64),
    };
    let rig = Rig::new(32, server).run(1_500);
    let dripping = rig.curve(600, 1_200);
    assert!(
        dripping.limit.mean < 6.0 && dripping.limit.max < 16,
        "{dripping:?}"
    );
    assert!(
        dripping.limit.mean > 1.0 && dripping.delivered_per_second > 0.1,
        "{dripping:?}"
    );
    let back = rig.curve(1_400, 1_500);
    assert!(
        back.limit.mean > 28.0 && back.delivered_per_second > 500.0,
        "{back:?}"
    );
}
