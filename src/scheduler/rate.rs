//! How fast requests may follow each other: the generic cell rate algorithm (ITU-T I.371, annex A), which needs
//! one number to remember. Bursts are bounded to what fits into a tenth of a second, and to at least one request.

use crate::domain::rate::Rate;

const NANOS_A_MS: u64 = 1_000_000;
/// What was not used is saved up for so long.
const BURST_NS: u64 = 100 * NANOS_A_MS;

/// The limiter of one lane.
#[derive(Debug)]
pub(super) struct Limiter {
    /// The time one request takes up; 0: no limit.
    interval_ns: u64,
    /// How far a request may be ahead of its time.
    tolerance_ns: u64,
    /// When the next request would leave if they were evenly spread.
    expected_ns: u64,
}

impl Limiter {
    /// A limiter that has not been used for long; `None`: no limit.
    pub(super) fn new(rate: Option<Rate>) -> Self {
        let mut limiter = Self {
            interval_ns: 0,
            tolerance_ns: 0,
            expected_ns: 0,
        };
        limiter.configure(rate);
        limiter
    }

    /// Adopts another limit; what was sent already counts on.
    pub(super) fn configure(&mut self, rate: Option<Rate>) {
        self.interval_ns = rate.map_or(0, |rate| {
            let each = rate.per().as_nanos() / u128::from(rate.count().max(1));
            u64::try_from(each).unwrap_or(u64::MAX).max(1)
        });
        self.tolerance_ns = BURST_NS.saturating_sub(self.interval_ns);
        if rate.is_none() {
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
    use super::*;

    fn limiter(rate: &str) -> Limiter {
        Limiter::new(Some(Rate::parse(rate).unwrap()))
    }

    /// Sends whenever it may, looking every `step_ms`; how many leave in each second.
    fn run(rate: &str, step_ms: u64, seconds: u64) -> Vec<u32> {
        let mut rate = limiter(rate);
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
        for (rate, step_ms, first, each) in [
            ("100/s", 1, 100..=110, 99..=101),
            ("100/s", 7, 100..=110, 99..=101),
            ("5000/m", 3, 83..=92, 83..=84),
            ("5000/s", 1, 5000..=5500, 4999..=5001),
            ("1/s", 1, 1..=1, 1..=1),
            ("20/s", 20, 19..=22, 19..=21),
        ] {
            let sent = run(rate, step_ms, 5);
            let context = format!("{rate}, every {step_ms} ms: {sent:?}");
            assert!(first.contains(&sent[0]), "{context}");
            assert!(sent[1..].iter().all(|n| each.contains(n)), "{context}");
        }
    }

    /// F6: an hour of silence earns no more than one burst.
    #[test]
    fn f6_bursts_are_bounded() {
        for (written, burst) in [("100/s", 10), ("5/s", 1), ("1000/s", 100)] {
            let mut rate = limiter(written);
            rate.take(1);
            let mut sent = 0;
            while rate.is_free(3_600_000) {
                rate.take(3_600_000);
                sent += 1;
            }
            assert_eq!(sent, burst, "{written}");
            let free_at_ms = rate.free_at_ms();
            assert!(!rate.is_free(free_at_ms - 1) && rate.is_free(free_at_ms));
        }
    }

    #[test]
    fn no_rate_is_no_limit() {
        let mut rate = Limiter::new(None);
        for _ in 0..1000 {
            rate.take(0);
        }
        assert!(rate.is_free(0));
    }
}
