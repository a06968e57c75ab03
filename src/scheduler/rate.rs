//! How fast requests may follow each other: the generic cell rate algorithm (ITU-T I.371, annex A), which needs
//! one number to remember. Bursts are bounded to what fits into a tenth of a second, and to at least one request.

use crate::domain::endpoint::RatePolicy;

const NANOS_A_MS: u64 = 1_000_000;
/// What was not used is saved up for so long.
const BURST_NS: u64 = 100 * NANOS_A_MS;

/// The limiter of one lane.
#[derive(Debug)]
pub(super) struct Rate {
    /// The time one request takes up; 0: no limit.
    interval_ns: u64,
    /// How far a request may be ahead of its time.
    tolerance_ns: u64,
    /// When the next request would leave if they were evenly spread.
    expected_ns: u64,
}

impl Rate {
    /// A limiter that has not been used for long; `None`: no limit.
    pub(super) fn new(policy: Option<RatePolicy>) -> Self {
        let mut rate = Self {
            interval_ns: 0,
            tolerance_ns: 0,
            expected_ns: 0,
        };
        rate.configure(policy);
        rate
    }

    /// Adopts another limit; what was sent already counts on.
    pub(super) fn configure(&mut self, policy: Option<RatePolicy>) {
        self.interval_ns = policy.map_or(0, |policy| {
            let each = policy.per.as_nanos() / u128::from(policy.requests.max(1));
            u64::try_from(each).unwrap_or(u64::MAX).max(1)
        });
        self.tolerance_ns = BURST_NS.saturating_sub(self.interval_ns);
        if policy.is_none() {
            self.expected_ns = 0;
        }
    }

    /// From when on a request may leave, on the monotonic clock; 0: at once, whenever that is.
    pub(super) fn free_at_ms(&self) -> u64 {
        self.expected_ns
            .saturating_sub(self.tolerance_ns)
            .div_ceil(NANOS_A_MS)
    }

    /// Whether a request may leave.
    pub(super) fn is_free(&self, mono_ms: u64) -> bool {
        self.free_at_ms() <= mono_ms
    }

    /// A request leaves.
    pub(super) fn take(&mut self, mono_ms: u64) {
        if self.interval_ns > 0 {
            let now_ns = mono_ms.saturating_mul(NANOS_A_MS);
            self.expected_ns = self.expected_ns.max(now_ns).saturating_add(self.interval_ns);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Sends whenever it may, looking every `step_ms`; how many leave in each second.
    fn run(requests: u32, per_ms: u64, step_ms: u64, seconds: u64) -> Vec<u32> {
        let per = Duration::from_millis(per_ms);
        let mut rate = Rate::new(Some(RatePolicy { requests, per }));
        let mut sent = vec![0; seconds as usize];
        for mono_ms in (5000..5000 + seconds * 1000).step_by(step_ms as usize) {
            while rate.is_free(mono_ms) {
                rate.take(mono_ms);
                sent[((mono_ms - 5000) / 1000) as usize] += 1;
            }
        }
        sent
    }

    /// F6: over a second never more than the rate and one burst, and on the whole not less, also when the wake-ups
    /// are late.
    #[test]
    fn f6_the_rate_is_kept_and_used() {
        for (requests, per_ms, step_ms, first, each) in [
            (100, 1000, 1, 100..=110, 99..=101),
            (100, 1000, 7, 100..=110, 99..=101),
            (5000, 60_000, 3, 83..=92, 83..=84),
            (5000, 1000, 1, 5000..=5500, 4999..=5001),
            (1, 1000, 1, 1..=1, 1..=1),
            (20, 1000, 20, 19..=22, 19..=21),
        ] {
            let sent = run(requests, per_ms, step_ms, 5);
            let context = format!("{requests} in {per_ms} ms, every {step_ms} ms: {sent:?}");
            assert!(first.contains(&sent[0]), "{context}");
            assert!(sent[1..].iter().all(|n| each.contains(n)), "{context}");
        }
    }

    /// F6: an hour of silence earns no more than one burst.
    #[test]
    fn f6_bursts_are_bounded() {
        let per = Duration::from_secs(1);
        for (requests, burst) in [(100, 10), (5, 1), (1000, 100)] {
            let mut rate = Rate::new(Some(RatePolicy { requests, per }));
            rate.take(1);
            let mut sent = 0;
            while rate.is_free(3_600_000) {
                rate.take(3_600_000);
                sent += 1;
            }
            assert_eq!(sent, burst, "{requests}/s");
            let free_at_ms = rate.free_at_ms();
            assert!(!rate.is_free(free_at_ms - 1) && rate.is_free(free_at_ms));
        }
    }

    #[test]
    fn no_rate_is_no_limit() {
        let mut rate = Rate::new(None);
        for _ in 0..1000 {
            rate.take(0);
        }
        assert!(rate.is_free(0));
    }
}
