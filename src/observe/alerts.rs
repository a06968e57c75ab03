//! Pure: which endpoints need a person, by the limits of `[alerts]`. Readings go in, what is raised and cleared comes
//! out. Knows no clock and nobody to tell; one evaluation after the other is all the time there is.

use std::collections::BTreeMap;

use super::numbers::Reading;
use crate::config::AlertsConfig;
use crate::domain::names::{Names, name_of};
use crate::domain::time::Timestamp;

/// Attempts of the last minute below which neither their share of errors nor their time says anything.
const ATTEMPTS_MIN: u64 = 5;
/// An alert ends below this share of its limit, so that one which swings around it does not come and go.
const CLEAR_SHARE: f64 = 0.8;

/// What an alert is about; its name is its key in `[alerts]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AlertKind {
    /// Seconds that 95 of 100 requests took at most.
    ResponseTimeP95,
    /// The share of the last minute's attempts that ended in an error.
    ErrorRate,
    /// Attempts in a row that were answered with 401 or 403.
    AuthFailures,
    /// Seconds since the first of the attempts that all failed.
    FailingFor,
    /// Dead letters.
    DeadLetters,
}

impl AlertKind {
    /// Every kind with its name.
    pub const NAMES: &'static Names<Self> = &[
        ("response_time_p95", Self::ResponseTimeP95),
        ("error_rate", Self::ErrorRate),
        ("auth_failures", Self::AuthFailures),
        ("failing_for", Self::FailingFor),
        ("dead_letters", Self::DeadLetters),
    ];

    /// The kind's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        name_of(Self::NAMES, &self)
    }

    /// The limit, in the unit of the value; `None`: switched off.
    fn limit(self, limits: &AlertsConfig) -> Option<f64> {
        let limit = match self {
            Self::ResponseTimeP95 => limits.response_time_p95.as_secs_f64(),
            Self::ErrorRate => limits.error_rate,
            Self::AuthFailures => f64::from(limits.auth_failures),
            Self::FailingFor => limits.failing_for.as_secs_f64(),
            Self::DeadLetters => f64::from(limits.dead_letters),
        };
        (limit > 0.0).then_some(limit)
    }

    /// What is held against the limit; `None`: nothing is known.
    fn value(self, seen: &Seen, now: Timestamp) -> Option<f64> {
        let reading = &seen.reading;
        let enough = reading.attempts_last_minute >= ATTEMPTS_MIN;
        match self {
            Self::ResponseTimeP95 => enough.then(|| reading.took_ms[1] as f64 / 1000.0),
            Self::ErrorRate => enough.then(|| reading.error_shares.iter().map(|(_, share)| share).sum()),
            Self::AuthFailures => Some(f64::from(reading.auth_failures)),
            Self::FailingFor => Some(
                reading
                    .failing_since
                    .map_or(0.0, |since| now.since(since).as_secs_f64()),
            ),
            Self::DeadLetters => Some(seen.dead as f64),
        }
    }
}

/// One endpoint as it is now.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// Its name.
    pub endpoint: Box<str>,
    /// What its attempts have shown.
    pub reading: Reading,
    /// Deliveries owed to it.
    pub pending: u64,
    /// Its dead letters.
    pub dead: u64,
}

/// Something that needs a person.
#[derive(Clone, Debug, PartialEq)]
pub struct Alert {
    /// Which endpoint.
    pub endpoint: Box<str>,
    /// What about it.
    pub kind: AlertKind,
    /// The latest value: seconds, a share or a count.
    pub value: f64,
    /// The limit it was raised by.
    pub limit: f64,
    /// When it was raised.
    pub since: Timestamp,
}

/// An alert begins or ends.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// It was not there before.
    Raised(Alert),
    /// It is over; the value is the one that ended it.
    Cleared(Alert),
}

/// The alerts that are raised: at most one of each kind for each endpoint.
#[derive(Clone, Debug, Default)]
pub struct Alerts(BTreeMap<(Box<str>, AlertKind), Alert>);

impl Alerts {
    /// Those that are raised, by endpoint.
    pub fn raised(&self) -> impl Iterator<Item = &Alert> {
        self.0.values()
    }

    /// Holds every endpoint against `limits`, and gives what has changed since the last time. Alerts of endpoints
    /// that are not among those `seen` end.
    pub fn judge(&mut self, limits: &AlertsConfig, seen: &[Seen], now: Timestamp) -> Vec<Change> {
        let mut changes = Vec::new();
        let before = std::mem::take(&mut self.0);
        for endpoint in seen {
            for &(_, kind) in AlertKind::NAMES {
                let key = (endpoint.endpoint.clone(), kind);
                let was = before.get(&key);
                if let Some(alert) = judge_one(kind, limits, endpoint, was, now) {
                    if was.is_none() {
                        changes.push(Change::Raised(alert.clone()));
                    }
                    self.0.insert(key, alert);
                }
            }
        }
        for (key, alert) in before {
            if !self.0.contains_key(&key) {
                let endpoint = seen.iter().find(|endpoint| endpoint.endpoint == alert.endpoint);
                let value = endpoint.and_then(|endpoint| alert.kind.value(endpoint, now));
                changes.push(Change::Cleared(Alert {
                    value: value.unwrap_or_default(),
                    ..alert
                }));
            }
        }
        changes
    }
}

/// The alert as it is now, if it is raised.
fn judge_one(
    kind: AlertKind,
    limits: &AlertsConfig,
    seen: &Seen,
    was: Option<&Alert>,
    now: Timestamp,
) -> Option<Alert> {
    let limit = kind.limit(limits)?;
    let Some(value) = kind.value(seen, now) else {
        // Without attempts nothing is learnt: while it owes something it is as it was.
        return was.filter(|_| seen.pending > 0).cloned();
    };
    let bound = if was.is_some() { limit * CLEAR_SHARE } else { limit };
    (value >= bound).then(|| Alert {
        endpoint: seen.endpoint.clone(),
        kind,
        value,
        limit,
        since: was.map_or(now, |was| was.since),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::outcome::ErrorClass;

    fn seen(change: impl FnOnce(&mut Seen)) -> Seen {
        let mut seen = Seen {
            endpoint: "crm".into(),
            reading: Reading {
                attempts_last_minute: 100,
                ..Reading::default()
            },
            pending: 1,
            dead: 0,
        };
        change(&mut seen);
        seen
    }

    const NOW: Timestamp = Timestamp(10_000_000);

    /// The names and values of what is raised after these readings, one after the other.
    fn raised(readings: Vec<Seen>) -> Vec<Vec<(&'static str, f64)>> {
        let mut alerts = Alerts::default();
        let mut all = Vec::new();
        for reading in readings {
            alerts.judge(&AlertsConfig::default(), &[reading], NOW);
            all.push(
                alerts
                    .raised()
                    .map(|alert| (alert.kind.name(), alert.value))
                    .collect(),
            );
        }
        all
    }

    /// H7: each limit by itself, at it and just below.
    #[test]
    fn h7_every_limit_raises() {
        let share = |share| vec![(ErrorClass::Timeout, share)];
        let since = |ms_ago: u64| Some(Timestamp(NOW.0 - ms_ago));
        type Set = Box<dyn Fn(&mut Seen)>;
        let cases: Vec<(&str, f64, Set, Set)> = vec![
            (
                "response_time_p95",
                5.0,
                Box::new(|seen| seen.reading.took_ms = [1, 5000, 5000]),
                Box::new(|seen| seen.reading.took_ms = [1, 4999, 9000]),
            ),
            (
                "error_rate",
                0.05,
                Box::new(move |seen| seen.reading.error_shares = share(0.05)),
                Box::new(move |seen| seen.reading.error_shares = share(0.04)),
            ),
            (
                "auth_failures",
                3.0,
                Box::new(|seen| seen.reading.auth_failures = 3),
                Box::new(|seen| seen.reading.auth_failures = 2),
            ),
            (
                "failing_for",
                3600.0,
                Box::new(move |seen| seen.reading.failing_since = since(3_600_000)),
                Box::new(move |seen| seen.reading.failing_since = since(3_599_999)),
            ),
            (
                "dead_letters",
                100.0,
                Box::new(|seen| seen.dead = 100),
                Box::new(|seen| seen.dead = 99),
            ),
        ];
        for (name, value, at, below) in cases {
            assert_eq!(raised(vec![seen(at)]), [vec![(name, value)]], "{name}");
            assert_eq!(raised(vec![seen(below)]), [vec![]], "{name}");
        }
    }

    /// H7: what swings around its limit neither comes nor goes; the change is told once.
    #[test]
    fn h7_alerts_do_not_flap() {
        let mut alerts = Alerts::default();
        let mut told = Vec::new();
        for (at, dead) in [100, 95, 100, 80, 79, 99, 100].into_iter().enumerate() {
            let now = Timestamp(at as u64);
            let changes = alerts.judge(&AlertsConfig::default(), &[seen(|seen| seen.dead = dead)], now);
            told.extend(changes.into_iter().map(|change| match change {
                Change::Raised(alert) => (at, "raised", alert.value, alert.since),
                Change::Cleared(alert) => (at, "cleared", alert.value, alert.since),
            }));
        }
        assert_eq!(
            told,
            [
                (0, "raised", 100.0, Timestamp(0)),
                (4, "cleared", 79.0, Timestamp(0)),
                (6, "raised", 100.0, Timestamp(6)),
            ]
        );
    }

    /// H7: a few attempts say nothing; without any an alert stays while something is owed, and no longer.
    #[test]
    fn h7_silence_is_no_news() {
        let failing = |attempts, pending| {
            seen(|seen| {
                seen.reading.error_shares = vec![(ErrorClass::Timeout, 1.0)];
                seen.reading.attempts_last_minute = attempts;
                seen.pending = pending;
            })
        };
        let rate = vec![("error_rate", 1.0)];
        assert_eq!(
            raised(vec![failing(4, 1), failing(5, 1), failing(0, 1), failing(0, 0)]),
            [vec![], rate.clone(), rate, vec![]]
        );
    }

    /// H7: 0 switches a limit off, and what leaves the configuration takes its alerts along.
    #[test]
    fn h7_switched_off_and_removed() {
        let mut alerts = Alerts::default();
        let dead = [seen(|seen| seen.dead = 1000)];
        let off = AlertsConfig {
            dead_letters: 0,
            ..AlertsConfig::default()
        };
        assert_eq!(alerts.judge(&off, &dead, NOW), []);
        assert_eq!(alerts.judge(&AlertsConfig::default(), &dead, NOW).len(), 1);
        let changes = alerts.judge(&AlertsConfig::default(), &[], NOW);
        assert!(matches!(&changes[..], [Change::Cleared(alert)] if alert.value == 0.0));
    }
}
