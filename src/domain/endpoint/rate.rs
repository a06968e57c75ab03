//! How many requests an endpoint gets in a time.

use std::time::Duration;

/// So many requests in so long, spread evenly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RatePolicy {
    /// Requests; at least 1.
    pub requests: u32,
    /// In this time; longer than nothing.
    pub per: Duration,
}
