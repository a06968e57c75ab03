//! The durable life of one delivery, and the one function that moves it.
//!
//! ```text
//!             accept                     outcome delivered, skipped
//!   (nothing) ──────► pending {due, tries} ─────────────────────────► settled
//!                        │  ▲      │                                     ▲
//!      error, try again  └──┘      │ rejected, final error,              │ purge
//!      (tries + 1, later)          │ tries or age used up                │
//!                                  ▼                                     │
//!                               dead {reason, since} ────────────────────┘
//!                                  │        replay: pending {due, tries 0}
//!                                  └────────────────────────────────────► pending
//! ```
//! In flight is never durable: a crash between a request and its commit finds the delivery pending, and
//! the request is made again with the same `webhook-id`.

use serde::{Deserialize, Serialize};

use super::endpoint::Endpoint;
use super::outcome::{EndpointSignal, ErrorClass, Outcome};
use super::time::Timestamp;
use crate::domain::names::{Names, called, name_of};

/// Why a delivery is among the dead letters. The names stand in the API, the CLI and the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeadReason {
    /// The endpoint said no.
    Rejected,
    /// The error is not one that `retry_on` retries.
    NotRetried,
    /// `max_attempts` tries failed.
    MaxAttempts,
    /// `max_age` since the first try would pass before the next one.
    MaxAge,
    /// The endpoint answered `webhook-delivery: abort-message`.
    Aborted,
    /// The request could not be built.
    Render,
    /// The stored event could not be read; its bytes are in quarantine.
    Damaged,
    /// An operator gave up an orphaned endpoint's deliveries.
    Orphaned,
}

impl DeadReason {
    /// Every reason with its name.
    pub const NAMES: &'static Names<Self> = &[
        ("rejected", Self::Rejected),
        ("not_retried", Self::NotRetried),
        ("max_attempts", Self::MaxAttempts),
        ("max_age", Self::MaxAge),
        ("aborted", Self::Aborted),
        ("render", Self::Render),
        ("damaged", Self::Damaged),
        ("orphaned", Self::Orphaned),
    ];

    /// The reason's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        name_of(Self::NAMES, &self)
    }

    /// The reason called `name`.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        called(Self::NAMES, name)
    }
}

/// Where one try leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing more is owed.
    Settled,
    /// Try again, not before `due`; `tries` have been used.
    Later {
        /// Wall-clock time of the next try.
        due: Timestamp,
        /// Tries used so far.
        tries: u32,
    },
    /// Give up and keep the evidence.
    Dead(DeadReason),
}

/// What is known of a delivery when a try has ended.
#[derive(Clone, Copy, Debug)]
pub struct Tried {
    /// When the first try of this retry budget began; this one's beginning if it is the first.
    pub first_attempt: Timestamp,
    /// Tries used before this one.
    pub tries_before: u32,
    /// How this one ended.
    pub outcome: Outcome,
    /// The answer's status, if an answer came.
    pub status: Option<u16>,
    /// What the endpoint said beside the outcome.
    pub signal: EndpointSignal,
}

/// The durable state machine: where a delivery goes after a try (E1, F1 to F4, F8).
///
/// A 429 or 503 with `Retry-After` suspends the endpoint and does not burn a try (F3): the delivery stays
/// at `tries_before` and is due when the endpoint wants to be asked again, while its age still counts.
/// `random` feeds the jitter.
#[must_use]
pub fn after(endpoint: &Endpoint, tried: &Tried, now: Timestamp, random: u64) -> Next {
    let policy = &endpoint.retry;
    let failed = match tried.outcome {
        Outcome::Delivered | Outcome::Skipped => return Next::Settled,
        _ if endpoint.best_effort => return Next::Settled,
        Outcome::Rejected => return Next::Dead(DeadReason::Rejected),
        Outcome::Error(ErrorClass::Render) => return Next::Dead(DeadReason::Render),
        Outcome::Error(class) => class,
    };
    if tried.signal.abort {
        return Next::Dead(DeadReason::Aborted);
    }
    // An endpoint that is gone gets paused; what it is owed waits with it, unspent.
    if tried.signal.gone {
        return Next::Later {
            due: now,
            tries: tried.tries_before,
        };
    }
    if !policy.retries(failed, tried.status) {
        return Next::Dead(DeadReason::NotRetried);
    }
    let (delay, tries) = match tried.signal.retry_after {
        Some(asked) => (asked.min(policy.max_retry_after), tried.tries_before),
        None => (
            policy.delay(tried.tries_before + 1, random),
            tried.tries_before + 1,
        ),
    };
    if tries >= policy.max_attempts {
        return Next::Dead(DeadReason::MaxAttempts);
    }
    let due = now.plus(delay);
    if due > tried.first_attempt.plus(policy.max_age) {
        return Next::Dead(DeadReason::MaxAge);
    }
    Next::Later { due, tries }
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::backoff::{RetryPolicy, Schedule};
    use crate::domain::endpoint::{Endpoint, RetryMatch, fixture};

    pub const NOW: Timestamp = Timestamp(1_000_000);
    const SECOND: Duration = Duration::from_secs(1);

    fn endpoint() -> Endpoint {
        Endpoint {
            retry: RetryPolicy {
                schedule: Schedule::Listed(vec![10 * SECOND]),
                jitter: 0.0,
                max_attempts: 3,
                max_age: 60 * SECOND,
                retry_on: vec![
                    RetryMatch::StatusClass(5),
                    RetryMatch::Status(429),
                    RetryMatch::Class(ErrorClass::Dns),
                ],
                dont_retry_on: vec![RetryMatch::Status(501)],
                max_retry_after: 20 * SECOND,
            },
            ..fixture::endpoint("crm", "http://localhost/")
        }
    }

    /// A try that began at [`NOW`].
    pub fn tried(tries_before: u32, outcome: Outcome, status: Option<u16>) -> Tried {
        Tried {
            first_attempt: NOW,
            tries_before,
            outcome,
            status,
            signal: EndpointSignal::default(),
        }
    }

    /// E1, F1, F2: where each outcome leads.
    #[test]
    fn e1_f1_f2_every_outcome_leads_somewhere() {
        let later = |seconds, tries| Next::Later {
            due: NOW.plus(seconds * SECOND),
            tries,
        };
        let http = |status| Outcome::Error(ErrorClass::of_status(status));
        for (tried, expected) in [
            (tried(0, Outcome::Delivered, Some(200)), Next::Settled),
            (tried(0, Outcome::Skipped, None), Next::Settled),
            (
                tried(0, Outcome::Rejected, Some(200)),
                Next::Dead(DeadReason::Rejected),
            ),
            (tried(0, http(500), Some(500)), later(10, 1)),
            (tried(1, http(500), Some(500)), later(10, 2)),
            (
                tried(2, http(500), Some(500)),
                Next::Dead(DeadReason::MaxAttempts),
            ),
            (tried(0, http(501), Some(501)), Next::Dead(DeadReason::NotRetried)),
            (tried(0, http(404), Some(404)), Next::Dead(DeadReason::NotRetried)),
            (tried(0, Outcome::Error(ErrorClass::Dns), None), later(10, 1)),
            (
                tried(0, Outcome::Error(ErrorClass::Tls), None),
                Next::Dead(DeadReason::NotRetried),
            ),
            (
                tried(0, Outcome::Error(ErrorClass::Render), None),
                Next::Dead(DeadReason::Render),
            ),
        ] {
            assert_eq!(after(&endpoint(), &tried, NOW, 0), expected, "{tried:?}");
        }
    }

    /// F1: a delivery that could only be tried after `max_age` is given up at once. What it waited before its
    /// first try (a delay, an open breaker, its time among the dead letters) does not count.
    #[test]
    fn f1_age_is_counted_from_the_first_try() {
        let failed = tried(0, Outcome::Error(ErrorClass::Http5xx), Some(500));
        let late = NOW.plus(51 * SECOND);
        assert_eq!(
            after(&endpoint(), &failed, late, 0),
            Next::Dead(DeadReason::MaxAge)
        );
    }

    /// F3: Retry-After is honoured up to its cap and burns no try.
    #[test]
    fn f3_retry_after_burns_no_try() {
        let mut busy = tried(2, Outcome::Error(ErrorClass::Http4xx), Some(429));
        for (asked, expected) in [(7, 7), (500, 20)] {
            busy.signal.retry_after = Some(asked * SECOND);
            let due = NOW.plus(expected * SECOND);
            assert_eq!(
                after(&endpoint(), &busy, NOW, 0),
                Next::Later { due, tries: 2 },
                "asked {asked} s"
            );
        }
    }

    /// F4: an abort is final; what is owed to an endpoint that is gone is parked, not spent.
    #[test]
    fn f4_abort_and_gone() {
        let mut answer = tried(0, Outcome::Error(ErrorClass::Http5xx), Some(503));
        answer.signal.abort = true;
        assert_eq!(
            after(&endpoint(), &answer, NOW, 0),
            Next::Dead(DeadReason::Aborted)
        );
        let mut gone = tried(2, Outcome::Error(ErrorClass::Http4xx), Some(410));
        gone.signal.gone = true;
        assert_eq!(
            after(&endpoint(), &gone, NOW, 0),
            Next::Later { due: NOW, tries: 2 }
        );
    }

    /// F8: best effort means one try and no dead letter.
    #[test]
    fn f8_best_effort_never_dies() {
        let endpoint = Endpoint {
            best_effort: true,
            ..endpoint()
        };
        for outcome in [Outcome::Rejected, Outcome::Error(ErrorClass::Timeout)] {
            assert_eq!(after(&endpoint, &tried(0, outcome, None), NOW, 0), Next::Settled);
        }
    }
}
