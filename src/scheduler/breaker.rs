//! The circuit breaker of one endpoint: counts what attempts showed and says when to stop trying.
//!
//! It knows nothing of states, queues or limits; the lane asks it and moves.

use std::time::Duration;

use crate::domain::endpoint::BreakerPolicy;
use crate::domain::outcome::{ErrorClass, Outcome};

use super::Seen;

/// What one attempt says about whether the endpoint is alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It answered for itself, be it with a refusal of this one event.
    Alive,
    /// It is not there, or not well.
    Failed,
    /// It answered that it is too busy: neither dead nor able to take more.
    Busy,
    /// Nothing reached it, so nothing was learnt.
    Unseen,
}

impl Verdict {
    /// Reads an attempt. A 4xx is the answer of a living endpoint, except 429, which is known here as a
    /// 4xx that is `overloaded`.
    pub(super) fn of(seen: &Seen) -> Self {
        let class = match seen.outcome {
            Outcome::Delivered | Outcome::Rejected => return Self::Alive,
            Outcome::Skipped => return Self::Unseen,
            Outcome::Error(class) => class,
        };
        match class {
            ErrorClass::Http4xx if seen.overloaded => Self::Busy,
            ErrorClass::Http3xx | ErrorClass::Http4xx => Self::Alive,
            ErrorClass::Render | ErrorClass::Blocked => Self::Unseen,
            ErrorClass::Dns
            | ErrorClass::Connect
            | ErrorClass::Tls
            | ErrorClass::Timeout
            | ErrorClass::Reset
            | ErrorClass::InvalidResponse
            | ErrorClass::Http5xx => Self::Failed,
        }
    }
}

/// The rate's window is counted in so many slices, so that it slides without remembering each request.
const SLICES: u64 = 10;

/// Requests and failures of one slice of the window.
#[derive(Clone, Copy, Debug, Default)]
struct Slice {
    requests: u32,
    failures: u32,
}

/// Counts failures in a row and their share in a sliding window, and doubles the time it stays open.
#[derive(Debug)]
pub(super) struct Breaker {
    policy: BreakerPolicy,
    row: u32,
    slices: [Slice; SLICES as usize],
    /// The running number of the slice counted into last.
    slice_number: u64,
    /// Trips since the endpoint was last seen alive; more than 0 means open.
    trips: u32,
}

impl Breaker {
    /// A closed breaker. A policy with `failures` or `rate` of 0 never trips by that rule.
    pub(super) fn new(policy: BreakerPolicy) -> Self {
        Self {
            policy,
            row: 0,
            slices: Default::default(),
            slice_number: 0,
            trips: 0,
        }
    }

    /// Adopts another policy; what was counted stays, unless it was counted by another window.
    pub(super) fn configure(&mut self, policy: BreakerPolicy) {
        if policy.window != self.policy.window {
            self.slices = Default::default();
        }
        self.policy = policy;
    }

    /// Counts one verdict of a closed breaker; true: it has to trip.
    pub(super) fn record(&mut self, verdict: Verdict, mono_ms: u64) -> bool {
        let failed = match verdict {
            Verdict::Alive => false,
            Verdict::Failed => true,
            Verdict::Busy | Verdict::Unseen => return false,
        };
        self.row = if failed { self.row.saturating_add(1) } else { 0 };
        let slice = self.slice_at(mono_ms);
        slice.requests = slice.requests.saturating_add(1);
        slice.failures = slice.failures.saturating_add(u32::from(failed));
        failed && (self.row_is_full() || self.rate_is_high())
    }

    /// Opens, or opens again after a failed probe: how long to leave the endpoint alone.
    pub(super) fn trip(&mut self) -> Duration {
        let doublings = self.trips.min(31);
        self.trips = self.trips.saturating_add(1);
        self.slices = Default::default();
        let cap = self.policy.max_open.max(self.policy.open);
        self.policy.open.saturating_mul(1 << doublings).min(cap)
    }

    /// The endpoint is alive again: everything counted against it is forgotten.
    pub(super) fn close(&mut self) {
        self.row = 0;
        self.trips = 0;
        self.slices = Default::default();
    }

    /// Whether it has tripped and no probe has succeeded since.
    pub(super) fn is_open(&self) -> bool {
        self.trips > 0
    }

    /// Failures in a row.
    pub(super) fn failures(&self) -> u32 {
        self.row
    }

    fn row_is_full(&self) -> bool {
        self.policy.failures > 0 && self.row >= self.policy.failures
    }

    fn rate_is_high(&self) -> bool {
        let (requests, failures) = self.slices.iter().fold((0u32, 0u32), |(r, f), s| {
            (r.saturating_add(s.requests), f.saturating_add(s.failures))
        });
        self.policy.rate > 0.0
            && requests >= self.policy.min_requests.max(1)
            && f64::from(failures) >= self.policy.rate * f64::from(requests)
    }

    /// The slice for this moment, after emptying those that have left the window.
    fn slice_at(&mut self, mono_ms: u64) -> &mut Slice {
        let window_ms = u64::try_from(self.policy.window.as_millis()).unwrap_or(u64::MAX);
        let number = mono_ms / (window_ms / SLICES).max(1);
        let passed = number.saturating_sub(self.slice_number).min(SLICES);
        for back in 0..passed {
            self.slices[((number - back) % SLICES) as usize] = Slice::default();
        }
        self.slice_number = self.slice_number.max(number);
        &mut self.slices[(self.slice_number % SLICES) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> BreakerPolicy {
        BreakerPolicy {
            failures: 3,
            rate: 0.5,
            window: Duration::from_secs(60),
            min_requests: 10,
            open: Duration::from_secs(30),
            max_open: Duration::from_secs(100),
        }
    }

    #[test]
    fn f5_verdicts_tell_dead_from_refusing() {
        use ErrorClass as C;
        for (outcome, overloaded, expected) in [
            (Outcome::Delivered, false, Verdict::Alive),
            (Outcome::Rejected, false, Verdict::Alive),
            (Outcome::Skipped, false, Verdict::Unseen),
            (Outcome::Error(C::Http4xx), false, Verdict::Alive),
            (Outcome::Error(C::Http4xx), true, Verdict::Busy),
            (Outcome::Error(C::Http3xx), false, Verdict::Alive),
            (Outcome::Error(C::Http5xx), false, Verdict::Failed),
            (Outcome::Error(C::Http5xx), true, Verdict::Failed),
            (Outcome::Error(C::Timeout), true, Verdict::Failed),
            (Outcome::Error(C::Connect), false, Verdict::Failed),
            (Outcome::Error(C::Dns), false, Verdict::Failed),
            (Outcome::Error(C::Tls), false, Verdict::Failed),
            (Outcome::Error(C::Reset), false, Verdict::Failed),
            (Outcome::Error(C::InvalidResponse), false, Verdict::Failed),
            (Outcome::Error(C::Render), false, Verdict::Unseen),
            (Outcome::Error(C::Blocked), false, Verdict::Unseen),
        ] {
            let seen = Seen {
                outcome,
                took: Duration::ZERO,
                retry_after: None,
                overloaded,
            };
            assert_eq!(
                Verdict::of(&seen),
                expected,
                "{outcome:?} overloaded={overloaded}"
            );
        }
    }

    /// `f` failed, `.` alive, `b` busy, `u` unseen, a digit: so many times ten seconds pass.
    #[test]
    fn f5_trips_in_a_row_or_by_rate() {
        for (story, trips) in [
            ("fff", true),
            ("ff.ff", false),
            ("ffbuf", true),
            ("f.f.f.f.f.", false), // ten requests, half failed, but it trips on a failure only
            ("f.f.f.f.f.f", true), // six of eleven
            ("f..f..f..f..f", false), // five of thirteen
            ("f.f.f.f.f.7f", false), // the window has passed
            ("f.f.f.f.3f.f", true), // still inside it
        ] {
            let mut breaker = Breaker::new(policy());
            let mut mono_ms = 5;
            let mut tripped = false;
            for step in story.chars() {
                tripped |= match step {
                    'f' => breaker.record(Verdict::Failed, mono_ms),
                    '.' => breaker.record(Verdict::Alive, mono_ms),
                    'b' => breaker.record(Verdict::Busy, mono_ms),
                    'u' => breaker.record(Verdict::Unseen, mono_ms),
                    tens => {
                        mono_ms += 10_000 * u64::from(tens.to_digit(10).unwrap());
                        false
                    }
                };
            }
            assert_eq!(tripped, trips, "{story}");
        }
    }

    #[test]
    fn f5_each_failed_probe_doubles_up_to_the_bound_and_success_starts_over() {
        let mut breaker = Breaker::new(policy());
        let opens: Vec<u64> = (0..4).map(|_| breaker.trip().as_secs()).collect();
        assert_eq!(opens, [30, 60, 100, 100]);
        assert!(breaker.is_open());
        breaker.close();
        assert!(!breaker.is_open());
        assert_eq!(breaker.trip().as_secs(), 30);
    }

    #[test]
    fn rules_set_to_zero_are_off() {
        let mut breaker = Breaker::new(BreakerPolicy {
            failures: 0,
            rate: 0.0,
            min_requests: 0,
            ..policy()
        });
        assert!((0..100).all(|_| !breaker.record(Verdict::Failed, 0)));
    }
}
