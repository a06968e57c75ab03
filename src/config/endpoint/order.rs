//! `rate` and `order`: how fast an endpoint gets its events, and in which order.

use std::time::Duration;

use crate::config::raw::{Table, Value};
use crate::config::values::{self, Read, Wrong};
use crate::domain::endpoint::{OrderPolicy, RatePolicy};

const REQUESTS_MAX: u32 = 1_000_000;

const UNITS: [(&str, u64); 3] = [("s", 1), ("m", 60), ("h", 3600)];

const ORDERS: &[(&str, OrderPolicy)] = &[
    ("none", OrderPolicy::None),
    ("endpoint", OrderPolicy::Endpoint),
    ("key", OrderPolicy::Key),
];

/// What is kept in order.
pub(super) fn order(table: &Table<'_>) -> OrderPolicy {
    table
        .read("order", values::choice(ORDERS))
        .unwrap_or(OrderPolicy::None)
}

/// How fast requests may follow each other; `None`, or `""`: as fast as they go.
pub(super) fn rate(table: &Table<'_>) -> Option<RatePolicy> {
    table.read("rate", written_rate).flatten()
}

fn written_rate(value: &Value<'_>) -> Read<Option<RatePolicy>> {
    let text = values::text(value)?;
    if text.is_empty() {
        return Ok(None);
    }
    let parsed = text.split_once('/').and_then(|(requests, unit)| {
        let requests = requests.trim().parse::<u32>().ok()?;
        let (_, seconds) = UNITS.iter().find(|(name, _)| *name == unit.trim())?;
        let per = Duration::from_secs(*seconds);
        (1..=REQUESTS_MAX)
            .contains(&requests)
            .then_some(RatePolicy { requests, per })
    });
    let help = format!("write it like 100/s, 5000/m or 10/h, from 1 to {REQUESTS_MAX}");
    parsed.map(Some).ok_or_else(|| Wrong::new("is not a rate", help))
}

/// A rate as it is written.
#[must_use]
pub(crate) fn show_rate(rate: Option<RatePolicy>) -> String {
    let Some(RatePolicy { requests, per }) = rate else {
        return String::new();
    };
    let unit = UNITS.iter().find(|(_, seconds)| *seconds == per.as_secs());
    format!("{requests}/{}", unit.map_or("s", |(name, _)| name))
}
