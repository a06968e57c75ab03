//! What becomes of deliveries that failed together in one request (C8): whether they are tried together again, or
//! part in halves because one of them may be to blame.
//!
//! An endpoint that says no to a batch for good may mean one event in it, so nobody becomes a dead letter in
//! company: the batch parts, its halves are tried at once, and so on, until an event that is refused alone has to
//! answer for itself. This counts as no try. Where the endpoint answered with an error that is worth another try,
//! or broke off, the batch stays together for [`TRIES_TOGETHER`] tries and then parts too, each half after the first
//! delay of the schedule; these tries count. What never reached the endpoint (no name, no connection, no TLS) says
//! nothing of the events, so the batch stays together as long as it lives.

use super::delivery::{self, DeadReason, Next, Tried};
use super::endpoint::Endpoint;
use super::outcome::{ErrorClass, Outcome};
use super::time::Timestamp;

/// Tries of a batch as a whole, after which an event in it is suspected.
pub const TRIES_TOGETHER: u32 = 3;

/// Where a delivery goes after a try that ended for all of its request alike, when it stood at `place` among `count`.
/// Alone it goes by [`delivery::after`]. `random` has to be the same for all of them, so that those who stay together
/// are due together: that is how they are known as a batch.
#[must_use]
pub fn after(
    endpoint: &Endpoint,
    tried: &Tried,
    (place, count): (usize, usize),
    now: Timestamp,
    random: u64,
) -> Next {
    let alone = delivery::after(endpoint, tried, now, random);
    if count < 2 {
        return alone;
    }
    // One millisecond keeps the halves apart.
    let half = |from: Timestamp| Timestamp(from.0.saturating_add(u64::from(place >= count.div_ceil(2))));
    let suspected = reached_it(tried) && tried.signal.retry_after.is_none() && !tried.signal.gone;
    match alone {
        Next::Dead(DeadReason::Rejected | DeadReason::NotRetried | DeadReason::Render) => Next::Later {
            due: half(now),
            tries: tried.tries_before.max(1),
        },
        Next::Later { tries, .. } if suspected && tries >= TRIES_TOGETHER => Next::Later {
            due: half(now.plus(endpoint.retry.delay(1, random))),
            tries,
        },
        Next::Dead(DeadReason::MaxAttempts) if suspected => Next::Later {
            due: half(now.plus(endpoint.retry.delay(1, random))),
            tries: tried.tries_before + 1,
        },
        other => other,
    }
}

/// Whether the endpoint has seen the request, so that an event in it may be what it died of.
fn reached_it(tried: &Tried) -> bool {
    match tried.outcome {
        Outcome::Delivered | Outcome::Skipped => false,
        Outcome::Rejected => true,
        Outcome::Error(class) => !matches!(
            class,
            ErrorClass::Dns | ErrorClass::Connect | ErrorClass::Tls | ErrorClass::Blocked
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::delivery::tests::{NOW, tried};
    use crate::domain::endpoint::{RetryMatch, fixture};

    fn endpoint() -> Endpoint {
        let mut endpoint = fixture::endpoint("crm", "http://localhost/");
        endpoint.retry.retry_on = vec![
            RetryMatch::StatusClass(5),
            RetryMatch::Status(429),
            RetryMatch::Class(ErrorClass::Connect),
        ];
        endpoint.retry.max_attempts = 5;
        endpoint
    }

    /// C8: one poisonous event does not sink its batch: what only an event can be to blame for parts it at once,
    /// what may pass parts it after a few tries, what never arrived does not part it.
    #[test]
    fn c8_when_a_batch_parts() {
        let endpoint = endpoint();
        let http = |status| (Outcome::Error(ErrorClass::of_status(status)), Some(status));
        let refused = (Outcome::Error(ErrorClass::Connect), None);
        let later = |ms, tries| Next::Later {
            due: Timestamp(NOW.0 + ms),
            tries,
        };
        for (tries_before, (outcome, status), first_half, second_half) in [
            (0, (Outcome::Delivered, Some(200)), Next::Settled, Next::Settled),
            (0, http(400), later(0, 1), later(1, 1)),
            (4, http(400), later(0, 4), later(1, 4)),
            (0, (Outcome::Rejected, Some(200)), later(0, 1), later(1, 1)),
            (
                0,
                (Outcome::Error(ErrorClass::Render), None),
                later(0, 1),
                later(1, 1),
            ),
            (0, http(500), later(5000, 1), later(5000, 1)),
            (1, http(500), later(5000, 2), later(5000, 2)),
            (2, http(500), later(5000, 3), later(5001, 3)),
            (4, http(500), later(5000, 5), later(5001, 5)),
            (7, http(500), later(5000, 8), later(5001, 8)),
            (3, refused, later(5000, 4), later(5000, 4)),
            (
                4,
                refused,
                Next::Dead(DeadReason::MaxAttempts),
                Next::Dead(DeadReason::MaxAttempts),
            ),
        ] {
            let tried = tried(tries_before, outcome, status);
            for (place, expected) in [(0, first_half), (1, first_half), (2, second_half)] {
                let next = after(&endpoint, &tried, (place, 3), NOW, 7);
                assert_eq!(next, expected, "{tried:?} at {place}");
            }
            let alone = after(&endpoint, &tried, (0, 1), NOW, 7);
            assert_eq!(
                alone,
                delivery::after(&endpoint, &tried, NOW, 7),
                "{tried:?} alone"
            );
        }
    }

    /// F3, F4: what the endpoint asks for holds for the batch as a whole, and an abort is an abort.
    #[test]
    fn f3_f4_signals_do_not_part_a_batch() {
        let mut busy = tried(3, Outcome::Error(ErrorClass::Http4xx), Some(429));
        busy.signal.retry_after = Some(Duration::from_secs(7));
        let due = NOW.plus(Duration::from_secs(7));
        assert_eq!(
            after(&endpoint(), &busy, (1, 2), NOW, 0),
            Next::Later { due, tries: 3 }
        );
        let mut aborted = tried(0, Outcome::Error(ErrorClass::Http5xx), Some(500));
        aborted.signal.abort = true;
        let next = after(&endpoint(), &aborted, (0, 2), NOW, 0);
        assert_eq!(next, Next::Dead(DeadReason::Aborted));
    }

    /// F8: best effort is one try, in company too.
    #[test]
    fn f8_best_effort_parts_nothing() {
        let endpoint = Endpoint {
            best_effort: true,
            ..endpoint()
        };
        let failed = tried(0, Outcome::Error(ErrorClass::Http4xx), Some(400));
        assert_eq!(after(&endpoint, &failed, (0, 2), NOW, 0), Next::Settled);
    }
}
