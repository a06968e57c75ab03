//! How many things in how much time: `50/s`, `600/m`, `1000/h`. As a pace (each its place in time), and as a
//! bucket (so many at once, then as they are refilled). Pure: `now` is handed in. How the requests of an endpoint are
//! held to it is the scheduler's business.

use std::fmt;
use std::time::Duration;

use super::time::Timestamp;

/// The units of a rate, with their lengths in milliseconds.
const UNITS: [(&str, u64); 3] = [("s", 1000), ("m", 60_000), ("h", 3_600_000)];

/// So many in a unit of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many, at least 1.
    count: u32,
    /// In so many milliseconds; one of [`UNITS`].
    per_ms: u64,
}

impl Rate {
    /// Reads `50/s`, `600/m` or `1000/h`.
    ///
    /// # Errors
    /// A sentence that names the text and shows what is understood.
    pub fn parse(text: &str) -> Result<Self, String> {
        text.split_once('/')
            .and_then(|(count, unit)| {
                let per_ms = UNITS.iter().find(|(name, _)| *name == unit.trim())?.1;
                let count = count.trim().parse().ok().filter(|count| *count > 0)?;
                Some(Self { count, per_ms })
            })
            .ok_or_else(|| format!("{text:?} is not a rate; write it like 50/s, 600/m or 1000/h"))
    }

    /// How many in [`Rate::per`]; at least 1.
    #[must_use]
    pub fn count(self) -> u32 {
        self.count
    }

    /// In how much time.
    #[must_use]
    pub fn per(self) -> Duration {
        Duration::from_millis(self.per_ms)
    }

    /// How long after the first the `index`th one (from 0) may go.
    #[must_use]
    pub fn offset(self, index: u64) -> Duration {
        let ms = u128::from(index) * u128::from(self.per_ms) / u128::from(self.count);
        Duration::from_millis(u64::try_from(ms).unwrap_or(u64::MAX))
    }
}

/// As [`Rate::parse`] reads it.
impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = UNITS.iter().find(|(_, ms)| *ms == self.per_ms);
        write!(f, "{}/{}", self.count, unit.map_or("", |(name, _)| name))
    }
}

/// What is left of a rate at some instant: full, it lets through the count of one unit at once, and it fills up
/// again evenly within one unit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    left: f64,
    at: Timestamp,
}

impl Bucket {
    /// A full one.
    #[must_use]
    pub fn full(rate: Rate, now: Timestamp) -> Self {
        Self {
            left: f64::from(rate.count),
            at: now,
        }
    }

    /// Takes `n` out at once. More than the bucket holds is taken from a full one, which is then empty for longer,
    /// so that a large batch waits instead of being refused for ever. A clock set back refills nothing.
    ///
    /// # Errors
    /// After how long the same will be let through; nothing was taken.
    pub fn take(&mut self, rate: Rate, n: usize, now: Timestamp) -> Result<(), Duration> {
        let full = f64::from(rate.count);
        let per_ms = full / rate.per_ms as f64;
        self.left = (self.left + now.since(self.at).as_millis() as f64 * per_ms).min(full);
        self.at = now;
        let missing = (n as f64).min(full) - self.left;
        if missing > 0.0 {
            return Err(Duration::from_millis((missing / per_ms).ceil() as u64));
        }
        self.left -= n as f64;
        Ok(())
    }

    /// Whether it would be full at `now`, so that forgetting it changes nothing.
    #[must_use]
    pub fn is_full(&self, rate: Rate, now: Timestamp) -> bool {
        let missing_ms = (f64::from(rate.count) - self.left) * rate.per_ms as f64 / f64::from(rate.count);
        now.since(self.at).as_millis() as f64 >= missing_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g2_rates_spread_evenly() {
        for (text, index, ms) in [
            ("50/s", 0, 0),
            ("50/s", 1, 20),
            ("50/s", 500, 10_000),
            ("600/m", 10, 1000),
            ("3600/h", 7, 7000),
        ] {
            let rate = Rate::parse(text).unwrap();
            assert_eq!(rate.offset(index), Duration::from_millis(ms), "{text} {index}");
            assert_eq!(rate.to_string(), text);
        }
        for bad in ["", "50", "0/s", "x/s", "5/week", "-1/s"] {
            assert!(Rate::parse(bad).is_err(), "{bad}");
        }
    }

    /// A7: a burst of one unit, then the refill; the time told is the time it takes.
    #[test]
    fn a7_a_bucket_lets_a_burst_through_and_then_its_rate() {
        let rate = Rate::parse("10/s").unwrap();
        let mut bucket = Bucket::full(rate, Timestamp(1000));
        for _ in 0..10 {
            assert_eq!(bucket.take(rate, 1, Timestamp(1000)), Ok(()));
        }
        let wait = bucket.take(rate, 1, Timestamp(1000)).unwrap_err();
        assert_eq!(wait, Duration::from_millis(100));
        assert!(bucket.take(rate, 1, Timestamp(1099)).is_err());
        assert_eq!(bucket.take(rate, 1, Timestamp(1100)), Ok(()));
        assert!(!bucket.is_full(rate, Timestamp(1500)) && bucket.is_full(rate, Timestamp(2100)));
    }

    /// A7: a batch larger than the bucket waits for a full one and is paid for afterwards.
    #[test]
    fn a7_a_large_batch_is_paid_for_later() {
        let rate = Rate::parse("10/s").unwrap();
        let mut bucket = Bucket::full(rate, Timestamp(0));
        assert_eq!(bucket.take(rate, 25, Timestamp(0)), Ok(()));
        assert_eq!(
            bucket.take(rate, 1, Timestamp(0)),
            Err(Duration::from_millis(1600))
        );
        assert_eq!(bucket.take(rate, 1, Timestamp(1600)), Ok(()));
    }

    /// A clock set back costs no more than what had been used up.
    #[test]
    fn a_clock_set_back_blocks_nobody() {
        let rate = Rate::parse("10/s").unwrap();
        let mut bucket = Bucket::full(rate, Timestamp(1_000_000));
        assert_eq!(bucket.take(rate, 10, Timestamp(1_000_000)), Ok(()));
        assert_eq!(
            bucket.take(rate, 1, Timestamp(5)),
            Err(Duration::from_millis(100))
        );
        assert_eq!(bucket.take(rate, 1, Timestamp(105)), Ok(()));
    }
}
