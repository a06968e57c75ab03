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
    /// `max_age` would pass before the next try.
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
    pub const ALL: [(Self, &'static str); 8] = [
        (Self::Rejected, "rejected"),
        (Self::NotRetried, "not_retried"),
        (Self::MaxAttempts, "max_attempts"),
        (Self::MaxAge, "max_age"),
        (Self::Aborted, "aborted"),
        (Self::Render, "render"),
        (Self::Damaged, "damaged"),
        (Self::Orphaned, "orphaned"),
    ];

    /// The reason's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(reason, _)| *reason == self).map_or("", |(_, name)| name)
    }

    /// The reason called `name`.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, n)| *n == name).map(|(reason, _)| *reason)
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
    /// When the event was accepted.
    pub accepted: Timestamp,
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
        return Next::Later { due: now, tries: tried.tries_before };
    }
    if !policy.retries(failed, tried.status) {
        return Next::Dead(DeadReason::NotRetried);
    }
    let (delay, tries) = match tried.signal.retry_after {
        Some(asked) => (asked.min(policy.max_retry_after), tried.tries_before),
        None => (policy.delay(tried.tries_before + 1, random), tried.tries_before + 1),
    };
    if tries >= policy.max_attempts {
        return Next::Dead(DeadReason::MaxAttempts);
    }
    let due = now.plus(delay);
    if due > tried.accepted.plus(policy.max_age) {
        return Next::Dead(DeadReason::MaxAge);
    }
    Next::Later { due, tries }
}
