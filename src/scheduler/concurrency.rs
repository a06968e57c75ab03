//! How many requests to one endpoint may be under way at once, learnt from how it answers: additive
//! increase, multiplicative decrease, once per round trip.
//!
//! It knows attempts only, never retries: a slot is given back before any waiting, so waiting never looks
//! like a slow endpoint.

use std::time::Duration;

use crate::domain::endpoint::Concurrency;

/// Weight of the newest round in the mean response time.
const ALPHA: f64 = 0.4;
/// A round so many deviations above the mean means that the endpoint is getting slower.
const DEVIATIONS: f64 = 2.5;
/// Deviations below this share of the mean are noise, also when the mean has been very steady.
const NOISE: f64 = 0.1;
/// What is left of the limit after an overload.
const DECREASE: f64 = 0.9;

/// The measurements since the last decision.
#[derive(Debug, Default)]
struct Round {
    ends_mono_ms: u64,
    sum_s: f64,
    count: u32,
    /// Whether the limit was in the way of anything.
    reached: bool,
    /// Whether the limit has been lowered in this round; answers of one burst count once.
    lowered: bool,
}

/// The long-run response time.
#[derive(Clone, Copy, Debug)]
struct Usual {
    mean_s: f64,
    variance: f64,
}

/// An adaptive limit between two bounds; equal bounds fix it.
#[derive(Debug)]
pub(super) struct Limit {
    bounds: Concurrency,
    current: u32,
    /// Set while an endpoint that has just come back is let in slowly: no more than this, one more for each answer.
    ramp: Option<u32>,
    usual: Option<Usual>,
    round: Round,
}

impl Limit {
    /// Starts at the lower bound, which is at least 1.
    pub(super) fn new(bounds: Concurrency) -> Self {
        let bounds = sound(bounds);
        Self {
            bounds,
            current: bounds.min,
            ramp: None,
            usual: None,
            round: Round::default(),
        }
    }

    /// Adopts other bounds; the limit moves only as far as they force it to.
    pub(super) fn configure(&mut self, bounds: Concurrency) {
        self.bounds = sound(bounds);
        self.current = self.current.clamp(self.bounds.min, self.bounds.max);
    }

    /// The limit as it stands.
    pub(super) fn current(&self) -> u32 {
        self.ramp.map_or(self.current, |ramp| ramp.min(self.current))
    }

    /// Back to the lower bound, and to that from one request on, doubling with each round trip: for an endpoint that has
    /// just come back, or may still be down after a restart: its backlog must not fall on it at once.
    pub(super) fn restart(&mut self) {
        self.current = self.bounds.min;
        self.ramp = Some(1);
        self.round = Round::default();
    }

    /// Learns from a request that has ended. `answered_in`: how long the answer took, `None` if what ended
    /// was no proper answer and so says nothing about speed; `reached`: as many requests were under way as
    /// the limit allows; `overloaded`: the endpoint could not keep up.
    pub(super) fn ended(
        &mut self,
        answered_in: Option<Duration>,
        reached: bool,
        overloaded: bool,
        mono_ms: u64,
    ) {
        self.round.reached |= reached;
        if answered_in.is_some() && !overloaded {
            self.ramp = self.ramp.map(|ramp| ramp + 1).filter(|ramp| *ramp < self.current);
        }
        if let Some(took) = answered_in {
            self.round.sum_s += took.as_secs_f64();
            self.round.count += 1;
        }
        if overloaded {
            self.lower();
        }
        if mono_ms >= self.round.ends_mono_ms {
            self.end_round(mono_ms);
        }
    }

    fn end_round(&mut self, mono_ms: u64) {
        if self.round.count > 0 {
            let mean_s = self.round.sum_s / f64::from(self.round.count);
            if self.usual.is_some_and(|usual| usual.is_left_by(mean_s)) {
                self.lower();
            } else if self.round.reached && !self.round.lowered {
                self.current = (self.current + 1).min(self.bounds.max);
            }
            self.usual = Some(Usual::after(self.usual, mean_s));
        }
        let length_ms = self
            .usual
            .map_or(0, |usual| (usual.mean_s * 1000.0).ceil() as u64);
        self.round = Round {
            ends_mono_ms: mono_ms.saturating_add(length_ms.max(1)),
            ..Round::default()
        };
    }

    fn lower(&mut self) {
        if !self.round.lowered {
            self.round.lowered = true;
            self.current = ((f64::from(self.current) * DECREASE) as u32).max(self.bounds.min);
        }
    }
}

impl Usual {
    /// Exponentially weighted mean and variance with one more round in them.
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

    /// So many rounds, each with one answer after `took_ms`.
    fn rounds(limit: &mut Limit, count: u32, took_ms: u64, reached: bool, mono_ms: &mut u64) {
        for _ in 0..count {
            *mono_ms += took_ms + 1;
            limit.ended(Some(Duration::from_millis(took_ms)), reached, false, *mono_ms);
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
            limit.ended(Some(Duration::from_millis(100)), true, false, 150);
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
            limit.ended(None, true, true, mono_ms + 1);
        }
        assert_eq!(limit.current(), 27);
        for _ in 0..100 {
            mono_ms += 1000;
            limit.ended(None, true, true, mono_ms);
        }
        assert_eq!(limit.current(), 2);
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

    #[test]
    fn f6_requests_that_ended_without_an_answer_do_not_grow_it() {
        let mut limit = limit(1, 32);
        for mono_ms in (0..100_000).step_by(1000) {
            limit.ended(None, true, false, mono_ms);
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
                limit.ended(Some(Duration::from_millis(10)), true, false, mono_ms);
            }
        }
        assert_eq!(seen, [1, 2, 4, 8, 16, 20]);
    }
}
