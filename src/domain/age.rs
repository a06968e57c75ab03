//! How old what waits is, in a few steps: the histogram that tells in one look since when something is stuck.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How many deliveries are how old, counted from the acceptance of their event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Ages {
    /// Younger than a minute.
    pub under_1m: u64,
    /// A minute or more.
    pub under_5m: u64,
    /// Five minutes or more.
    pub under_1h: u64,
    /// An hour or more.
    pub under_6h: u64,
    /// Six hours or more.
    pub under_1d: u64,
    /// A day or more.
    pub older: u64,
}

impl Ages {
    /// The heads of the columns, in the order of [`Ages::counts`].
    pub const NAMES: [&'static str; 6] = ["<1m", "<5m", "<1h", "<6h", "<1d", "OLDER"];

    /// Counts `count` deliveries of this age.
    pub fn add(&mut self, age: Duration, count: u64) {
        let step = match age.as_secs() {
            0..60 => &mut self.under_1m,
            60..300 => &mut self.under_5m,
            300..3600 => &mut self.under_1h,
            3600..21_600 => &mut self.under_6h,
            21_600..86_400 => &mut self.under_1d,
            _ => &mut self.older,
        };
        *step += count;
    }

    /// The steps, youngest first.
    #[must_use]
    pub fn counts(&self) -> [u64; 6] {
        [
            self.under_1m,
            self.under_5m,
            self.under_1h,
            self.under_6h,
            self.under_1d,
            self.older,
        ]
    }

    /// Adds what another histogram counted.
    pub fn merge(&mut self, other: &Self) {
        self.under_1m += other.under_1m;
        self.under_5m += other.under_5m;
        self.under_1h += other.under_1h;
        self.under_6h += other.under_6h;
        self.under_1d += other.under_1d;
        self.older += other.older;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_age_has_one_step() {
        for (seconds, step) in [
            (0, 0),
            (59, 0),
            (60, 1),
            (299, 1),
            (300, 2),
            (3600, 3),
            (21_599, 3),
            (21_600, 4),
            (86_399, 4),
            (86_400, 5),
            (10_000_000, 5),
        ] {
            let mut ages = Ages::default();
            ages.add(Duration::from_secs(seconds), 3);
            let mut twice = ages;
            twice.merge(&ages);
            let mut expected = [0; 6];
            expected[step] = 3;
            assert_eq!(ages.counts(), expected, "{seconds} s");
            assert_eq!(twice.counts()[step], 6);
        }
    }
}
