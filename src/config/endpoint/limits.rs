//! How much an endpoint is asked at once, and when it is left alone: `concurrency` and `[endpoint.breaker]`.

use crate::config::keys;
use crate::config::raw::{Table, Value};
use crate::config::values::{self, Wrong};
use crate::domain::endpoint::{BreakerPolicy, Concurrency};

const CONCURRENCY_MAX: u32 = 1024;

const CONCURRENCY_DEFAULT: Concurrency = Concurrency { min: 1, max: 32 };

pub(super) fn breaker(table: &Table<'_>) -> BreakerPolicy {
    let default = BreakerPolicy::default();
    let count = |key, default| table.read(key, values::count(1..=1_000_000)).unwrap_or(default);
    let duration = |key, default| table.read(key, values::some_duration).unwrap_or(default);
    let open = duration("open", default.open);
    let max_open = duration("max_open", default.max_open.max(open));
    if max_open < open {
        table.reject_key(
            &["max_open", "open"],
            &Wrong::new("is shorter than open", "let max_open be at least open"),
        );
    }
    BreakerPolicy {
        failures: count("failures", default.failures),
        rate: table
            .read("rate", values::number(0.0..=1.0))
            .unwrap_or(default.rate),
        window: duration("window", default.window),
        min_requests: count("min_requests", default.min_requests),
        open,
        max_open,
    }
}

/// How many requests at once.
pub(super) fn concurrency(table: &Table<'_>) -> Concurrency {
    table
        .value("concurrency")
        .map_or(CONCURRENCY_DEFAULT, |value| bounds(&value))
}

/// A number fixes the limit; a table gives the bounds between which it adapts.
fn bounds(value: &Value<'_>) -> Concurrency {
    let limit = values::count(1..=CONCURRENCY_MAX);
    let Some(table) = value.as_table(&keys::CONCURRENCY) else {
        let fixed = value.read(limit).unwrap_or(CONCURRENCY_DEFAULT.max);
        return Concurrency {
            min: fixed,
            max: fixed,
        };
    };
    let min = table.read("min", &limit).unwrap_or(CONCURRENCY_DEFAULT.min);
    let max = table
        .read("max", &limit)
        .unwrap_or(CONCURRENCY_DEFAULT.max.max(min));
    if min > max {
        table.reject_key(
            &["min", "max"],
            &Wrong::whole("min is above max", "let min be at most max"),
        );
    }
    Concurrency { min, max }
}
