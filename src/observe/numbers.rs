//! What an endpoint's attempts add up to: totals, the rate of the last minute, response times. Written by
//! the dispatcher's jobs, read by status and metrics; a removed endpoint's numbers go with it.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use hdrhistogram::Histogram;

use crate::domain::outcome::{ErrorClass, Exchange, Outcome};
use crate::domain::time::{Now, Timestamp};

/// Response times are kept for the minute under way and the one before it.
const WINDOW_MS: u64 = 60_000;
/// Longest response time that is told apart from longer ones, in milliseconds.
const TOOK_MS_MAX: u64 = 3_600_000;

/// The latest attempt, as status shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastAttempt {
    /// When it ended.
    pub at: Timestamp,
    /// How it ended.
    pub outcome: Outcome,
    /// The answer's status, if one came.
    pub status: Option<u16>,
    /// What went wrong in one sentence; empty when delivered.
    pub message: Box<str>,
}

/// A reading of one endpoint's numbers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    /// Attempts that delivered, since the start.
    pub delivered: u64,
    /// Attempts that were rejected, since the start.
    pub rejected: u64,
    /// Attempts that ended in an error, since the start.
    pub failed: u64,
    /// Errors by class, since the start.
    pub errors: Vec<(ErrorClass, u64)>,
    /// Deliveries dropped because their event had expired, since the start.
    pub expired: u64,
    /// Deliveries settled without a request because `when` was false, since the start.
    pub skipped: u64,
    /// Readings of events whose ordering key could not be worked out, since the start.
    pub unkeyed: u64,
    /// Deliveries per second, over the last minute.
    pub delivered_per_second: f64,
    /// Of the attempts of the last minute, the share that delivered; `None`: there were none.
    pub success_share: Option<f64>,
    /// Of the attempts of the last minute, the share that ended in an error of each class.
    pub error_shares: Vec<(ErrorClass, f64)>,
    /// What the requests since the start spent in each phase, in microseconds.
    pub phases_us: [u64; PHASES.len()],
    /// Requests over a connection made for them, and over one that was open already, since the start.
    pub requests: [u64; 2],
    /// Response time in milliseconds: median, 95th and 99th percentile; zeros without an attempt.
    pub took_ms: [u64; 3],
    /// Attempts of the last minute.
    pub attempts_last_minute: u64,
    /// Attempts in a row, up to the latest, that were answered with 401 or 403.
    pub auth_failures: u32,
    /// When the first of the errors ended that no other end has followed; `None`: the latest was no error.
    pub failing_since: Option<Timestamp>,
    /// The latest attempt.
    pub last: Option<LastAttempt>,
}

/// The phases of a request in the order of [`Reading::phases_us`].
pub const PHASES: [&str; 5] = ["dns", "connect", "tls", "first_byte", "body"];

/// One endpoint's numbers.
#[derive(Debug)]
pub struct Numbers(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    delivered: u64,
    rejected: u64,
    failed: u64,
    expired: u64,
    skipped: u64,
    unkeyed: u64,
    errors: Vec<(ErrorClass, u64)>,
    /// The last sixty whole seconds of the monotonic clock that had attempts.
    seconds: VecDeque<Second>,
    phases_us: [u64; PHASES.len()],
    requests: [u64; 2],
    window_start_ms: u64,
    took_now: Option<Histogram<u32>>,
    took_before: Option<Histogram<u32>>,
    auth_failures: u32,
    failing_since: Option<Timestamp>,
    last: Option<LastAttempt>,
}

/// The attempts that ended in one second.
#[derive(Debug, Default)]
struct Second {
    at: u64,
    attempts: u64,
    delivered: u64,
    errors: Vec<(ErrorClass, u64)>,
}

fn count(errors: &mut Vec<(ErrorClass, u64)>, class: ErrorClass, more: u64) {
    match errors.iter_mut().find(|(known, _)| *known == class) {
        Some((_, count)) => *count += more,
        None => errors.push((class, more)),
    }
}

impl Default for Numbers {
    fn default() -> Self {
        Self(Mutex::new(Inner {
            delivered: 0,
            rejected: 0,
            failed: 0,
            expired: 0,
            skipped: 0,
            unkeyed: 0,
            errors: Vec::new(),
            seconds: VecDeque::new(),
            phases_us: [0; PHASES.len()],
            requests: [0; 2],
            window_start_ms: 0,
            took_now: None,
            took_before: None,
            auth_failures: 0,
            failing_since: None,
            last: None,
        }))
    }
}

impl Numbers {
    /// Counts an attempt that took `took_ms` milliseconds.
    pub fn attempt(&self, last: LastAttempt, took_ms: u64, now: Now) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match last.outcome {
            Outcome::Delivered => inner.delivered += 1,
            Outcome::Rejected => inner.rejected += 1,
            Outcome::Skipped => {}
            Outcome::Error(class) => {
                inner.failed += 1;
                count(&mut inner.errors, class, 1);
            }
        }
        if last.outcome != Outcome::Skipped {
            inner.count_second(last.outcome, now.mono_ms / 1000);
            inner.count_trouble(&last);
        }
        inner.took(took_ms, now.mono_ms);
        inner.last = Some(last);
    }

    /// An endpoint that nothing has been sent to since the start has been failing since then.
    pub fn has_failed_since(&self, since: Timestamp) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.last.is_none() {
            inner.failing_since = Some(since);
        }
    }

    /// Counts what a request took, however many deliveries it carried.
    pub fn request(&self, exchange: &Exchange) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let phases = [
            exchange.dns_us,
            exchange.connect_us,
            exchange.tls_us,
            exchange.first_byte_us,
            exchange.body_us,
        ];
        for (sum, phase) in inner.phases_us.iter_mut().zip(phases) {
            *sum += phase.unwrap_or(0);
        }
        inner.requests[0] += u64::from(exchange.connect_us.is_some());
        inner.requests[1] += u64::from(exchange.reused);
    }

    /// Counts a delivery whose event had expired.
    pub fn expired(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).expired += 1;
    }

    /// Counts a delivery that was skipped.
    pub fn skipped(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).skipped += 1;
    }

    /// Counts an event whose ordering key could not be worked out; how many there have been by now.
    pub fn unkeyed(&self) -> u64 {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.unkeyed += 1;
        inner.unkeyed
    }

    /// Reads them all.
    #[must_use]
    pub fn read(&self, now: Now) -> Reading {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.turn(now.mono_ms);
        let since = (now.mono_ms / 1000).saturating_sub(60);
        let recent = inner.since(since);
        let share = |part: u64| part as f64 / recent.attempts as f64;
        let elapsed = (now.mono_ms as f64 / 1000.0).clamp(1.0, 60.0);
        Reading {
            delivered: inner.delivered,
            rejected: inner.rejected,
            failed: inner.failed,
            errors: inner.errors.clone(),
            expired: inner.expired,
            delivered_per_second: recent.delivered as f64 / elapsed,
            success_share: (recent.attempts > 0).then(|| share(recent.delivered)),
            error_shares: recent
                .errors
                .iter()
                .map(|(class, count)| (*class, share(*count)))
                .collect(),
            phases_us: inner.phases_us,
            requests: inner.requests,
            skipped: inner.skipped,
            unkeyed: inner.unkeyed,
            took_ms: [0.5, 0.95, 0.99].map(|quantile| inner.quantile(quantile)),
            attempts_last_minute: recent.attempts,
            auth_failures: inner.auth_failures,
            failing_since: inner.failing_since,
            last: inner.last.clone(),
        }
    }
}

impl Inner {
    /// What goes on for as long as nothing else comes in between.
    fn count_trouble(&mut self, last: &LastAttempt) {
        self.auth_failures = match last.status {
            Some(401 | 403) => self.auth_failures.saturating_add(1),
            _ => 0,
        };
        self.failing_since = match last.outcome {
            Outcome::Error(_) => self.failing_since.or(Some(last.at)),
            _ => None,
        };
    }

    fn count_second(&mut self, outcome: Outcome, at: u64) {
        if self.seconds.back().is_none_or(|latest| latest.at != at) {
            self.seconds.push_back(Second {
                at,
                ..Second::default()
            });
            if self.seconds.len() > 61 {
                self.seconds.pop_front();
            }
        }
        if let Some(second) = self.seconds.back_mut() {
            second.attempts += 1;
            second.delivered += u64::from(outcome == Outcome::Delivered);
            if let Some(class) = outcome.class() {
                count(&mut second.errors, class, 1);
            }
        }
    }

    /// The attempts since second `since`, together.
    fn since(&self, since: u64) -> Second {
        let mut sum = Second::default();
        for second in self.seconds.iter().filter(|second| second.at >= since) {
            sum.attempts += second.attempts;
            sum.delivered += second.delivered;
            for (class, more) in &second.errors {
                count(&mut sum.errors, *class, *more);
            }
        }
        sum
    }

    /// Starts a new window when the one under way is over; a pause longer than a window empties both.
    fn turn(&mut self, mono_ms: u64) {
        let passed = mono_ms.saturating_sub(self.window_start_ms) / WINDOW_MS;
        if passed > 0 {
            let ended = self.took_now.take();
            self.took_before = if passed == 1 { ended } else { None };
            self.window_start_ms = mono_ms;
        }
    }

    fn took(&mut self, took_ms: u64, mono_ms: u64) {
        self.turn(mono_ms);
        if self.took_now.is_none() {
            self.took_now = Histogram::new_with_bounds(1, TOOK_MS_MAX, 2).ok();
        }
        if let Some(histogram) = &mut self.took_now {
            histogram.saturating_record(took_ms.max(1));
        }
    }

    fn quantile(&self, quantile: f64) -> u64 {
        // The window under way speaks alone once it has enough to say; before that the last one does.
        match (&self.took_now, &self.took_before) {
            (Some(now), Some(before)) if now.len() < 20 && before.len() > now.len() => {
                before.value_at_quantile(quantile)
            }
            (Some(now), _) => now.value_at_quantile(quantile),
            (None, Some(before)) => before.value_at_quantile(quantile),
            (None, None) => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last(outcome: Outcome) -> LastAttempt {
        LastAttempt {
            at: Timestamp(0),
            outcome,
            status: None,
            message: "".into(),
        }
    }

    fn at(seconds: u64) -> Now {
        Now {
            wall: Timestamp(0),
            mono_ms: seconds * 1000,
        }
    }

    /// H6: totals, the rate of the last minute and quantiles of the response time.
    #[test]
    fn h6_totals_rates_and_quantiles() {
        let numbers = Numbers::default();
        for second in 0..120 {
            numbers.attempt(last(Outcome::Delivered), 10, at(second));
        }
        numbers.attempt(last(Outcome::Error(ErrorClass::Timeout)), 30_000, at(120));
        let reading = numbers.read(at(120));
        assert_eq!((reading.delivered, reading.failed), (120, 1));
        assert_eq!(reading.errors, [(ErrorClass::Timeout, 1)]);
        assert!(
            (reading.delivered_per_second - 1.0).abs() < 0.1,
            "{}",
            reading.delivered_per_second
        );
        assert_eq!(reading.success_share, Some(60.0 / 61.0), "of the last minute");
        assert_eq!(reading.error_shares, [(ErrorClass::Timeout, 1.0 / 61.0)]);
        assert_eq!(reading.took_ms[0], 10);
        assert_eq!(reading.last.unwrap().outcome, Outcome::Error(ErrorClass::Timeout));
    }

    /// H1: what connecting costs is told apart from what the endpoint takes.
    #[test]
    fn h1_phases_and_connections_add_up() {
        let numbers = Numbers::default();
        let reused = Exchange {
            reused: true,
            first_byte_us: Some(300),
            body_us: Some(4),
            ..Exchange::default()
        };
        let connected = Exchange {
            dns_us: Some(10),
            connect_us: Some(150),
            tls_us: Some(50),
            reused: false,
            ..reused
        };
        for exchange in [connected, reused, reused, Exchange::default()] {
            numbers.request(&exchange);
        }
        let reading = numbers.read(at(1));
        assert_eq!(
            (reading.phases_us, reading.requests),
            ([10, 150, 50, 900, 12], [1, 2])
        );
    }

    /// H7: what counts in a row ends with the first attempt that ends otherwise.
    #[test]
    fn h7_trouble_in_a_row() {
        let numbers = Numbers::default();
        let mut seen = Vec::new();
        let refused = Outcome::Error(ErrorClass::Http4xx);
        for (at_ms, outcome, status) in [
            (1, refused, Some(401)),
            (2, refused, Some(403)),
            (3, Outcome::Error(ErrorClass::Timeout), None),
            (4, Outcome::Delivered, Some(200)),
        ] {
            let last = LastAttempt {
                at: Timestamp(at_ms),
                outcome,
                status,
                message: "".into(),
            };
            numbers.attempt(last, 1, at(1));
            let reading = numbers.read(at(1));
            seen.push((reading.auth_failures, reading.failing_since));
        }
        let since = Some(Timestamp(1));
        assert_eq!(seen, [(1, since), (2, since), (0, since), (0, None)]);
        assert_eq!(numbers.read(at(1)).attempts_last_minute, 4);
    }

    #[test]
    fn an_old_window_is_forgotten() {
        let numbers = Numbers::default();
        numbers.attempt(last(Outcome::Delivered), 500, at(1));
        let reading = numbers.read(at(600));
        assert_eq!((reading.took_ms, reading.delivered_per_second), ([0; 3], 0.0));
    }
}
