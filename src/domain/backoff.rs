//! When to try again. The only file that knows the `backoff` crate, which serves as the calculator of
//! exponential intervals; its own retry loops and its unseedable jitter are not used, because waiting
//! deliveries live in the queue and a schedule must be repeatable.

use std::time::Duration;

use backoff::ExponentialBackoff;
use backoff::backoff::Backoff;

use super::endpoint::RetryMatch;
use super::outcome::{ErrorClass, Outcome};

/// When a failed delivery is tried again, and when it is given up.
#[derive(Clone, Debug, PartialEq)]
pub struct RetryPolicy {
    /// The delays between tries.
    pub schedule: Schedule,
    /// Each delay is moved by at most this share of itself, up or down; 0 to 1.
    pub jitter: f64,
    /// Tries in all, the first one too; at least 1.
    pub max_attempts: u32,
    /// From the first try on; a delivery that could only be tried later than this is given up.
    pub max_age: Duration,
    /// What is worth another try.
    pub retry_on: Vec<RetryMatch>,
    /// Final even when it matches `retry_on`.
    pub dont_retry_on: Vec<RetryMatch>,
    /// Bound on what `Retry-After` may ask for.
    pub max_retry_after: Duration,
}

/// The base delays, before jitter.
#[derive(Clone, Debug, PartialEq)]
pub enum Schedule {
    /// A list; past its end the last delay repeats. Never empty. A fixed delay is a list of one.
    Listed(Vec<Duration>),
    /// `initial`, then each `factor` times the one before, at most `max`.
    Exponential {
        /// First delay.
        initial: Duration,
        /// At least 1.
        factor: f64,
        /// Cap on the delays.
        max: Duration,
    },
}

impl Schedule {
    /// The base delay after `tries` tries (at least 1) have failed.
    #[must_use]
    pub fn base_delay(&self, tries: u32) -> Duration {
        match self {
            Self::Listed(delays) => {
                let index = (tries.max(1) as usize - 1).min(delays.len().saturating_sub(1));
                delays.get(index).copied().unwrap_or(Duration::from_secs(60))
            }
            Self::Exponential { initial, factor, max } => exponential(*initial, *factor, *max, tries),
        }
    }
}

/// Steps the calculator `tries` times; it stops early once the cap is reached, so a large `tries` is cheap.
fn exponential(initial: Duration, factor: f64, max: Duration, tries: u32) -> Duration {
    let mut calculator = ExponentialBackoff {
        current_interval: initial.min(max),
        initial_interval: initial.min(max),
        multiplier: factor,
        max_interval: max,
        randomization_factor: 0.0,
        max_elapsed_time: None,
        ..ExponentialBackoff::default()
    };
    let mut delay = initial.min(max);
    for _ in 0..tries.max(1) {
        let next = calculator.next_backoff().unwrap_or(max);
        let settled = next == delay && (next == max || factor <= 1.0);
        delay = next;
        if settled {
            break;
        }
    }
    delay
}

impl RetryPolicy {
    /// The delay before the next try once `tries` tries have failed: the schedule's, moved by the jitter.
    /// `random` is any number; the same number gives the same delay, so a simulation can be repeated.
    #[must_use]
    pub fn delay(&self, tries: u32, random: u64) -> Duration {
        let base = self.schedule.base_delay(tries);
        // 53 bits fill a double's mantissa; the share runs from -1 to +1.
        let share = (random >> 11) as f64 / (1u64 << 52) as f64 - 1.0;
        base.mul_f64((1.0 + share * self.jitter).max(0.0))
    }

    /// Whether a try that ended in `class` (with `status`, if an answer came) is worth another.
    #[must_use]
    pub fn retries(&self, class: ErrorClass, status: Option<u16>) -> bool {
        let hit = |list: &[RetryMatch]| list.iter().any(|entry| entry.matches(class, status));
        hit(&self.retry_on) && !hit(&self.dont_retry_on)
    }

    /// [`RetryPolicy::retries`] for an outcome; only errors are ever retried.
    #[must_use]
    pub fn retries_outcome(&self, outcome: Outcome, status: Option<u16>) -> bool {
        matches!(outcome, Outcome::Error(class) if self.retries(class, status))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(schedule: Schedule, jitter: f64) -> RetryPolicy {
        RetryPolicy {
            schedule,
            jitter,
            max_attempts: 10,
            max_age: Duration::from_secs(86_400),
            retry_on: vec![
                RetryMatch::StatusClass(5),
                RetryMatch::Status(429),
                RetryMatch::Class(ErrorClass::Timeout),
            ],
            dont_retry_on: vec![RetryMatch::Status(501)],
            max_retry_after: Duration::from_secs(86_400),
        }
    }

    /// F1: a fixed delay, a list whose last delay repeats, exponential with a cap.
    #[test]
    fn f1_schedules() {
        let secs = |list: &[u64]| list.iter().map(|s| Duration::from_secs(*s)).collect::<Vec<_>>();
        let fixed = Schedule::Listed(secs(&[7]));
        let listed = Schedule::Listed(secs(&[5, 300, 1800]));
        let exponential = Schedule::Exponential {
            initial: Duration::from_secs(1),
            factor: 2.0,
            max: Duration::from_secs(3600),
        };
        for (schedule, tries, expected) in [
            (&fixed, 1, 7),
            (&fixed, 9, 7),
            (&listed, 1, 5),
            (&listed, 2, 300),
            (&listed, 3, 1800),
            (&listed, 50, 1800),
            (&exponential, 1, 1),
            (&exponential, 2, 2),
            (&exponential, 5, 16),
            (&exponential, 12, 2048),
            (&exponential, 13, 3600),
            (&exponential, u32::MAX, 3600),
        ] {
            assert_eq!(
                schedule.base_delay(tries),
                Duration::from_secs(expected),
                "{schedule:?} after {tries}"
            );
        }
    }

    #[test]
    fn a_factor_of_one_ends_for_any_number_of_tries() {
        let flat = Schedule::Exponential {
            initial: Duration::from_secs(2),
            factor: 1.0,
            max: Duration::from_secs(60),
        };
        assert_eq!(flat.base_delay(u32::MAX), Duration::from_secs(2));
    }

    /// F1: jitter stays within its share, both ways, and the same random number gives the same delay.
    #[test]
    fn f1_jitter_is_bounded_and_repeatable() {
        let policy = policy(Schedule::Listed(vec![Duration::from_secs(100)]), 0.2);
        assert_eq!(policy.delay(1, 0), Duration::from_secs(80));
        assert!(policy.delay(1, u64::MAX) <= Duration::from_secs(120));
        assert!(policy.delay(1, u64::MAX) > Duration::from_millis(119_999));
        assert_eq!(policy.delay(1, 12345), policy.delay(1, 12345));
    }

    /// F2: what matches `retry_on` is retried unless `dont_retry_on` matches too.
    #[test]
    fn f2_retry_rules() {
        let policy = policy(Schedule::Listed(vec![Duration::from_secs(1)]), 0.0);
        for (class, status, expected) in [
            (ErrorClass::Http5xx, Some(500), true),
            (ErrorClass::Http5xx, Some(501), false),
            (ErrorClass::Http5xx, Some(799), true),
            (ErrorClass::Http4xx, Some(429), true),
            (ErrorClass::Http4xx, Some(404), false),
            (ErrorClass::Timeout, None, true),
            (ErrorClass::Tls, None, false),
        ] {
            assert_eq!(policy.retries(class, status), expected, "{class:?} {status:?}");
        }
    }
}
