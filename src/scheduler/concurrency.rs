//! How many requests to one endpoint may be under way at once, learnt from how it answers: additive
//! increase, multiplicative decrease, once per round trip.
//!
//! What counts as slow is judged by how it answers when it has little to do. If the mean were taken over all rounds it
//! would climb with the limit, and a queue in front of the endpoint would be taken for its usual speed.
//!
//! It knows attempts only, never retries: a slot is given back before any waiting, so waiting never looks
//! like a slow endpoint.

use std::time::Duration;

use crate::domain::endpoint::Concurrency;

/// Weight of the newest measurement in the mean response time.
const ALPHA: f64 = 0.4;
/// A round so many deviations above the mean means that the endpoint is getting slower.
const DEVIATIONS: f64 = 2.5;
/// Deviations below this share of the mean are noise, also when the mean has been very steady.
const NOISE: f64 = 0.1;
/// What is left of the limit after an overload.
const DECREASE: f64 = 0.9;
/// After so many rounds at the limit, one is made at half of it, to see what the endpoint does at its ease.
const ROUNDS_PER_EASE: u32 = 32;
/// Rounds in a row that were too slow: perhaps it is not the load, so the endpoint is measured at its ease.
const SLOW_ROUNDS_MAX: u32 = 6;
/// Length of a round as long as nothing is known of the endpoint.
const FIRST_ROUND_MS: u64 = 100;

/// A request that has ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    /// How long it took.
    pub(super) took: Duration,
    /// Whether it was answered properly; what ended otherwise says nothing about speed.
    pub(super) answered: bool,
    /// The endpoint could not keep up.
    pub(super) overloaded: bool,
    /// Requests under way before it ended, itself among them.
    pub(super) in_flight: u32,
}

/// Response times.
#[derive(Clone, Copy, Debug, Default)]
struct Sample {
    sum_s: f64,
    count: u32,
}

impl Sample {
    fn add(&mut self, end: &End) {
        if end.answered {
            self.sum_s += end.took.as_secs_f64();
            self.count += 1;
        }
    }

    fn mean_s(self) -> Option<f64> {
        (self.count > 0).then(|| self.sum_s / f64::from(self.count))
    }
}

/// The measurements since the last decision.
#[derive(Debug, Default)]
struct Round {
    ends_mono_ms: u64,
    answers: Sample,
    /// Whether the limit was in the way of anything.
    reached: bool,
    /// When the limit has been lowered in this round; answers of one burst count once.
    lowered_mono_ms: Option<u64>,
    /// Slots that were told of an overload again after that: they rest until the round ends, or they would
    /// spend the tries of one delivery after the other on an endpoint that wants none.
    resting: u32,
}

/// A measurement at half the limit.
#[derive(Debug, Default)]
struct Ease {
    /// When no more than that were under way for the first time.
    since_mono_ms: Option<u64>,
    /// Answers to requests that began after that.
    answers: Sample,
    /// How many of them have ended, answered or not.
    ended: u32,
}

/// The response time of an endpoint at its ease.
#[derive(Clone, Copy, Debug)]
struct Usual {
    mean_s: f64,
    variance: f64,
}

/// An adaptive limit between two bounds; equal bounds fix it.
#[derive(Debug)]
pub(super) struct Limit {
    bounds: Concurrency,
    limit: u32,
    /// Set while an endpoint that has just come back is let in slowly: no more than this, one more for each answer.
    ramp: Option<u32>,
    usual: Option<Usual>,
    round: Round,
    ease: Option<Ease>,
    /// Rounds at the limit since the last ease, and rounds in a row that were too slow.
    rounds: u32,
    slow_rounds: u32,
}

impl Limit {
    /// Starts at the lower bound, which is at least 1.
    pub(super) fn new(bounds: Concurrency) -> Self {
        let bounds = sound(bounds);
        Self {
            bounds,
            limit: bounds.min,
            ramp: None,
            usual: None,
            round: Round::default(),
            ease: None,
            rounds: 0,
            slow_rounds: 0,
        }
    }

    /// Adopts other bounds; the limit moves only as far as they force it to.
    pub(super) fn configure(&mut self, bounds: Concurrency) {
        self.bounds = sound(bounds);
        self.limit = self.limit.clamp(self.bounds.min, self.bounds.max);
    }

    /// The limit as it stands.
    pub(super) fn current(&self) -> u32 {
        let limit = if self.ease.is_some() {
            self.limit / 2
        } else {
            self.limit
        };
        let limit = limit.saturating_sub(self.round.resting).max(self.bounds.min);
        self.ramp.map_or(limit, |ramp| ramp.min(limit))
    }

    /// Keeps the limit, and begins with one request, doubling with each round trip up to it: for an endpoint that was left
    /// alone for a while, whose backlog must not fall on it at once.
    pub(super) fn ease_in(&mut self) {
        self.ramp = Some(1);
    }

    /// Back to the lower bound, and to that as after a rest: for an endpoint that has just come back, or may still be down
    /// after a restart.
    pub(super) fn restart(&mut self) {
        self.limit = self.bounds.min;
        self.ease_in();
        self.round = Round::default();
        self.ease = None;
    }

    /// Learns from a request that has ended at `mono_ms`.
    pub(super) fn ended(&mut self, end: &End, mono_ms: u64) {
        self.round.reached |= end.in_flight >= self.current();
        if end.answered && !end.overloaded {
            self.ramp = self.ramp.map(|ramp| ramp + 1).filter(|ramp| *ramp < self.limit);
        }
        let began_mono_ms = mono_ms.saturating_sub(u64::try_from(end.took.as_millis()).unwrap_or(u64::MAX));
        if end.overloaded {
            match self.round.lowered_mono_ms {
                None => self.lower(mono_ms),
                Some(lowered) if began_mono_ms >= lowered => self.round.resting += 1,
                Some(_) => {}
            }
        }
        if self.ease.is_some() {
            self.ease_on(end, began_mono_ms, mono_ms);
        } else {
            self.round.answers.add(end);
        }
        if mono_ms >= self.round.ends_mono_ms {
            self.end_round(mono_ms);
        }
    }

    /// One more request of a measurement at half the limit; the first ones began before it was reached.
    fn ease_on(&mut self, end: &End, began_mono_ms: u64, mono_ms: u64) {
        let enough = self.current();
        let Some(ease) = &mut self.ease else { return };
        if end.in_flight.saturating_sub(1) <= enough {
            ease.since_mono_ms.get_or_insert(mono_ms);
        }
        if ease.since_mono_ms.is_some_and(|since| began_mono_ms >= since) {
            ease.answers.add(end);
            ease.ended += 1;
        }
        if ease.ended >= enough {
            let answers = ease.answers;
            self.ease = None;
            self.learn(answers);
            self.start_round(mono_ms);
        }
    }

    fn end_round(&mut self, mono_ms: u64) {
        if let Some(mean_s) = self.round.answers.mean_s() {
            let slow = self.usual.is_some_and(|usual| usual.is_left_by(mean_s));
            self.slow_rounds = if slow { self.slow_rounds + 1 } else { 0 };
            self.rounds += u32::from(self.round.reached);
            // At the lower bound, or below the limit, this is how it answers at its ease.
            if self.limit == self.bounds.min || !self.round.reached || self.usual.is_none() {
                self.learn(self.round.answers);
            }
            if slow {
                self.lower(mono_ms);
            } else if self.round.reached && self.round.lowered_mono_ms.is_none() {
                self.limit = (self.limit + 1).min(self.bounds.max);
            }
            let due = self.rounds >= ROUNDS_PER_EASE || self.slow_rounds >= SLOW_ROUNDS_MAX;
            if due && self.limit > self.bounds.min {
                self.ease = Some(Ease::default());
            }
        }
        self.start_round(mono_ms);
    }

    /// A round lasts as long as requests take now, so that the next one sees what the decision has changed.
    fn start_round(&mut self, mono_ms: u64) {
        let usual_s = self.usual.map(|usual| usual.mean_s);
        let longest_s = [self.round.answers.mean_s(), usual_s]
            .into_iter()
            .flatten()
            .reduce(f64::max);
        let length_ms = longest_s.map_or(FIRST_ROUND_MS, |mean_s| (mean_s * 1000.0).ceil() as u64);
        self.round = Round {
            ends_mono_ms: mono_ms.saturating_add(length_ms.max(1)),
            ..Round::default()
        };
    }

    /// What the endpoint does at its ease, as measured just now.
    fn learn(&mut self, answers: Sample) {
        if let Some(mean_s) = answers.mean_s() {
            self.usual = Some(Usual::after(self.usual, mean_s));
        }
        self.rounds = 0;
        self.slow_rounds = 0;
    }

    fn lower(&mut self, mono_ms: u64) {
        if self.round.lowered_mono_ms.is_none() {
            self.round.lowered_mono_ms = Some(mono_ms);
            self.limit = ((f64::from(self.limit) * DECREASE) as u32).max(self.bounds.min);
        }
    }
}

impl Usual {
    /// Exponentially weighted mean and variance with one more measurement in them.
    fn after(before: Option<Self>, mean_s: f64) -> Self {
        let Some(old) = before else {
            return Self {
                mean_s,
                variance: 0.0,
            };
        };
        let difference = mean_s - old.mean_s;
        let step = ALPHA * difference;
        Self {
            mean_s: old.mean_s + step,
            variance: (1.0 - ALPHA) * (old.variance + difference * step),
        }
    }

    fn is_left_by(self, mean_s: f64) -> bool {
        let deviation = self.variance.sqrt().max(self.mean_s * NOISE);
        mean_s > self.mean_s + DEVIATIONS * deviation
    }
}

/// Bounds that can be worked with: at least one request, and no upper bound below the lower.
fn sound(bounds: Concurrency) -> Concurrency {
    let min = bounds.min.max(1);
    Concurrency {
        min,
        max: bounds.max.max(min),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(min: u32, max: u32) -> Limit {
        Limit::new(Concurrency { min, max })
    }

    /// A request that took so long; `reached`: the limit was in the way of another.
    fn end(limit: &Limit, took_ms: u64, reached: bool) -> End {
        End {
            took: Duration::from_millis(took_ms),
            answered: true,
            overloaded: false,
            in_flight: if reached { limit.current() } else { 0 },
        }
    }

    fn overload(limit: &Limit, took_ms: u64) -> End {
        End {
            answered: false,
            overloaded: true,
            ..end(limit, took_ms, true)
        }
    }

    /// So many rounds, each with one answer after `took_ms`.
    fn rounds(limit: &mut Limit, count: u32, took_ms: u64, reached: bool, mono_ms: &mut u64) {
        for _ in 0..count {
            *mono_ms += took_ms + 1;
            limit.ended(&end(limit, took_ms, reached), *mono_ms);
        }
    }

    #[test]
    fn f6_grows_by_one_a_round_trip_and_only_when_the_limit_was_reached() {
        for (min, max, reached, after) in [
            (1, 32, true, 11),
            (1, 32, false, 1),
            (4, 8, true, 8),
            (5, 5, true, 5),
            (0, 0, true, 1),
        ] {
            let mut limit = limit(min, max);
            rounds(&mut limit, 10, 20, reached, &mut 0);
            assert_eq!(limit.current(), after, "{min}..{max} reached={reached}");
        }
    }

    #[test]
    fn f6_many_answers_in_one_round_trip_grow_it_once() {
        let mut limit = limit(1, 32);
        rounds(&mut limit, 1, 100, true, &mut 0);
        for _ in 0..50 {
            limit.ended(&end(&limit, 100, true), 150);
        }
        assert_eq!(limit.current(), 2);
    }

    #[test]
    fn f6_an_overload_takes_a_tenth_once_a_round_and_never_goes_below_min() {
        let mut limit = limit(2, 32);
        let mut mono_ms = 0;
        rounds(&mut limit, 28, 20, true, &mut mono_ms);
        assert_eq!(limit.current(), 30);
        for _ in 0..30 {
            limit.ended(&overload(&limit, 20), mono_ms + 1);
        }
        assert_eq!(limit.current(), 27);
        for _ in 0..100 {
            mono_ms += 1000;
            limit.ended(&overload(&limit, 20), mono_ms);
        }
        assert_eq!(limit.current(), 2);
    }

    /// Each slot that is told again rests, to the end of the round: one burst of refusals costs few tries.
    #[test]
    fn f6_slots_that_are_refused_again_rest_for_the_round() {
        let mut limit = limit(2, 32);
        let mut mono_ms = 0;
        rounds(&mut limit, 28, 20, true, &mut mono_ms);
        for ms in [1, 3, 5, 7] {
            limit.ended(&overload(&limit, 2), mono_ms + ms);
        }
        assert_eq!(limit.current(), 27 - 3);
        limit.ended(&end(&limit, 20, true), mono_ms + 21);
        assert_eq!(limit.current(), 27);
    }

    #[test]
    fn f6_a_response_time_far_from_its_mean_lowers_it_and_noise_does_not() {
        for (took_ms, lowered) in [
            (100, false),
            (110, false),
            (120, false),
            (200, true),
            (1000, true),
        ] {
            let mut limit = limit(1, 32);
            let mut mono_ms = 0;
            rounds(&mut limit, 20, 100, true, &mut mono_ms);
            let before = limit.current();
            rounds(&mut limit, 1, took_ms, true, &mut mono_ms);
            assert_eq!(limit.current() < before, lowered, "{took_ms} ms");
        }
    }

    /// Half as many go for a while, and only answers to those that began then say how fast the endpoint is.
    #[test]
    fn f6_after_many_rounds_it_measures_at_half_the_limit() {
        let mut limit = limit(1, 64);
        let mut mono_ms = 0;
        rounds(&mut limit, 33, 100, true, &mut mono_ms);
        assert_eq!(limit.current(), 17, "half of 34");
        let usual = limit.usual.unwrap().mean_s;
        for in_flight in (18..=34).rev() {
            let end = End {
                in_flight,
                ..end(&limit, 9000, true)
            };
            limit.ended(&end, mono_ms + 100);
        }
        for _ in 0..17 {
            limit.ended(&end(&limit, 200, true), mono_ms + 400);
        }
        assert!((limit.usual.unwrap().mean_s - (usual + ALPHA * 0.1)).abs() < 1e-6);
        assert_eq!(limit.current(), 34);
    }

    #[test]
    fn f6_requests_that_ended_without_an_answer_do_not_grow_it() {
        let mut limit = limit(1, 32);
        for mono_ms in (0..100_000).step_by(1000) {
            let end = End {
                answered: false,
                ..end(&limit, 10, true)
            };
            limit.ended(&end, mono_ms);
        }
        assert_eq!(limit.current(), 1);
    }

    #[test]
    fn new_bounds_move_it_only_as_far_as_they_must() {
        let mut limit = limit(1, 32);
        rounds(&mut limit, 10, 20, true, &mut 0);
        for (min, max, after) in [(1, 64, 11), (1, 6, 6), (9, 20, 9)] {
            limit.configure(Concurrency { min, max });
            assert_eq!(limit.current(), after);
        }
        limit.restart();
        assert_eq!(limit.current(), 1, "whoever comes back begins with one");
    }

    /// F5: an endpoint that comes back is let in from one on, doubling with each round trip, also when its limit is
    /// fixed.
    #[test]
    fn f5_a_restart_is_slow_at_first() {
        let mut limit = limit(20, 20);
        limit.restart();
        let mut mono_ms = 0;
        let mut seen = Vec::new();
        for _ in 0..6 {
            let now = limit.current();
            seen.push(now);
            mono_ms += 11;
            for _ in 0..now {
                limit.ended(&end(&limit, 10, true), mono_ms);
            }
        }
        assert_eq!(seen, [1, 2, 4, 8, 16, 20]);
    }
}
