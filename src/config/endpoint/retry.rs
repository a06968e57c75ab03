//! `[endpoint.retry]`: when to try again, and when to give up.

use std::time::Duration;

use crate::config::raw::{Table, Value};
use crate::config::values::{self, Read, Wrong};
use crate::domain::backoff::{RetryPolicy, Schedule};
use crate::domain::endpoint::RetryMatch;
use crate::domain::names;
use crate::domain::outcome::ErrorClass;

const INITIAL_DEFAULT: Duration = Duration::from_secs(1);

const MAX_DEFAULT: Duration = Duration::from_secs(3600);

const FACTOR_DEFAULT: f64 = 2.0;

pub(super) fn retry(table: &Table<'_>) -> RetryPolicy {
    let default = default_retry();
    let list = |key, default| table.value(key).map_or(default, |value| retry_matches(&value));
    RetryPolicy {
        schedule: schedule(table).unwrap_or(default.schedule),
        jitter: table
            .read("jitter", values::number(0.0..=1.0))
            .unwrap_or(default.jitter),
        max_attempts: table
            .read("max_attempts", values::count(1..=1_000_000))
            .unwrap_or(default.max_attempts),
        max_age: table
            .read("max_age", values::some_duration)
            .unwrap_or(default.max_age),
        retry_on: list("retry_on", default.retry_on),
        dont_retry_on: list("dont_retry_on", default.dont_retry_on),
        max_retry_after: table
            .read("max_retry_after", values::duration)
            .unwrap_or(default.max_retry_after),
    }
}

/// The policy of an endpoint that says nothing: the schedule, jitter and statuses that the Standard
/// Webhooks specification 1.0.0 recommends ("Deliverability and reliability").
#[must_use]
pub(super) fn default_retry() -> RetryPolicy {
    let seconds = [5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400];
    let statuses = [408, 425, 429].map(RetryMatch::Status);
    let classes = [
        ErrorClass::Connect,
        ErrorClass::Timeout,
        ErrorClass::Tls,
        ErrorClass::Dns,
        ErrorClass::Reset,
        ErrorClass::InvalidResponse,
    ];
    let hundreds = [RetryMatch::StatusClass(5)];
    RetryPolicy {
        schedule: Schedule::Listed(seconds.map(Duration::from_secs).to_vec()),
        jitter: 0.2,
        max_attempts: 10,
        max_age: Duration::from_secs(4 * 86_400),
        retry_on: hundreds
            .into_iter()
            .chain(statuses)
            .chain(classes.map(RetryMatch::Class))
            .collect(),
        dont_retry_on: Vec::new(),
        max_retry_after: Duration::from_secs(86_400),
    }
}

/// The delays, in one of their three forms. The layer that names a form decides alone: an endpoint's
/// `delay` is not mixed with a `schedule` of `[defaults]`.
fn schedule(table: &Table<'_>) -> Option<Schedule> {
    let table = table.layer_with_any(&["schedule", "delay", "initial", "factor", "max"]);
    let exponential = ["initial", "factor", "max"];
    let forms = ["schedule", "delay"]
        .into_iter()
        .filter(|key| table.has(key))
        .count()
        + usize::from(exponential.iter().any(|key| table.has(key)));
    let initial = table
        .read("initial", values::some_duration)
        .unwrap_or(INITIAL_DEFAULT);
    let factor = table
        .read("factor", values::number(1.0..=f64::INFINITY))
        .unwrap_or(FACTOR_DEFAULT);
    let max = table
        .read("max", values::some_duration)
        .unwrap_or(MAX_DEFAULT.max(initial));
    let listed = table.value("schedule").map(|value| delays(&value));
    let fixed = table.read("delay", values::some_duration);
    if forms > 1 {
        table.reject_key(
            &["schedule", "delay", "initial", "factor", "max"],
            &Wrong::whole(
                "the delays are given in more than one form",
                "keep schedule, or delay, or initial, factor and max",
            ),
        );
    }
    if max < initial {
        let help = "let max be at least initial";
        table.reject_key(&["max"], &Wrong::new("is shorter than initial", help));
    }
    let is_exponential = exponential.iter().any(|key| table.has(key));
    listed
        .map(Schedule::Listed)
        .or_else(|| fixed.map(|delay| Schedule::Listed(vec![delay])))
        .or_else(|| is_exponential.then_some(Schedule::Exponential { initial, factor, max }))
}

fn delays(list: &Value<'_>) -> Vec<Duration> {
    let items = list.some_items("write it like [\"5s\", \"5m\", \"1h\"]", "the schedule is empty");
    items
        .iter()
        .filter_map(|item| item.read(values::duration))
        .collect()
}

pub(super) fn retry_matches(list: &Value<'_>) -> Vec<RetryMatch> {
    let items = list
        .items("write it like [\"5xx\", 429, \"timeout\"]")
        .unwrap_or_default();
    items.iter().filter_map(|item| item.read(retry_match)).collect()
}

fn retry_match(value: &Value<'_>) -> Read<RetryMatch> {
    if !value.is_text() {
        let status = values::count(100..=599)(value)?;
        return Ok(RetryMatch::Status(u16::try_from(status).unwrap_or(u16::MAX)));
    }
    let text = values::text(value)?;
    let hundred = text
        .strip_suffix("xx")
        .and_then(|digit| digit.parse().ok())
        .filter(|h| (1..=5).contains(h));
    hundred
        .map(RetryMatch::StatusClass)
        .or_else(|| ErrorClass::named(&text).map(RetryMatch::Class))
        .ok_or_else(|| {
            let classes = names::list(ErrorClass::NAMES);
            Wrong::new(
                "is not known here",
                format!("write a status, 4xx, 5xx, or one of {}", classes.join(" ")),
            )
        })
}
