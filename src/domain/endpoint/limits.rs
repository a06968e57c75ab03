//! What is retried, when an endpoint is left alone, and how much it is asked at once.

use std::time::Duration;

use crate::domain::outcome::ErrorClass;

/// An entry of `retry_on` or `dont_retry_on`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryMatch {
    /// One status.
    Status(u16),
    /// A hundred of statuses: `5` for `5xx`.
    StatusClass(u8),
    /// A kind of technical error.
    Class(ErrorClass),
}

impl RetryMatch {
    /// Whether an error of `class`, with `status` if an answer came, is one that this names.
    #[must_use]
    pub fn matches(self, class: ErrorClass, status: Option<u16>) -> bool {
        match self {
            Self::Status(listed) => status == Some(listed),
            // A status outside every class counts as 5xx (RFC 9110 §15).
            Self::StatusClass(hundred) => {
                status.is_some_and(|status| (status / 100).min(5) == u16::from(hundred))
            }
            Self::Class(listed) => listed == class,
        }
    }
}

/// When the breaker of an endpoint trips and how it comes back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BreakerPolicy {
    /// Failures in a row that trip it.
    pub failures: u32,
    /// Share of failures in `window` that trips it, once there were `min_requests`.
    pub rate: f64,
    /// The window that `rate` looks at.
    pub window: Duration,
    /// Requests in the window before `rate` is looked at.
    pub min_requests: u32,
    /// How long it stays open before one probe; doubles with each failed probe.
    pub open: Duration,
    /// Bound on that doubling.
    pub max_open: Duration,
}

/// That of an endpoint that says nothing.
impl Default for BreakerPolicy {
    fn default() -> Self {
        Self {
            failures: 5,
            rate: 0.5,
            window: Duration::from_secs(60),
            min_requests: 20,
            open: Duration::from_secs(30),
            max_open: Duration::from_secs(600),
        }
    }
}

/// How many requests to one endpoint may be under way at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Concurrency {
    /// Lowest limit; with `max` equal, the limit is fixed.
    pub min: u32,
    /// Highest limit.
    pub max: u32,
}
