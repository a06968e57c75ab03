//! `[endpoint.batch]`: how many events go in one request, and how they stand in it.

use std::time::Duration;

use crate::config::raw::Table;
use crate::config::values;
use crate::domain::endpoint::{BatchPolicy, BatchShape};

const EVENTS_MAX: u32 = 10_000;
const BYTES_DEFAULT: u64 = 1 << 20;
const BYTES_MAX: u64 = 64 << 20;
const WAIT_DEFAULT: Duration = Duration::from_secs(1);
const WRAP_DEFAULT: &str = "events";

/// The shapes by name.
#[derive(Clone, Copy)]
enum Shape {
    Array,
    Ndjson,
    Wrapped,
    Template,
}

const SHAPES: &[(&str, Shape)] = &[
    ("array", Shape::Array),
    ("ndjson", Shape::Ndjson),
    ("wrapped", Shape::Wrapped),
    ("template", Shape::Template),
];

/// How events are put together; `None` for one at a time.
pub(super) fn batch(table: &Table<'_>, body: &Table<'_>) -> Option<BatchPolicy> {
    let events_max = table
        .read("max_events", values::count(1..=EVENTS_MAX))
        .unwrap_or(1);
    let bytes_max = table
        .read("max_bytes", values::size(1..=BYTES_MAX))
        .unwrap_or(BYTES_DEFAULT);
    let wait_max = table.read("max_wait", values::duration).unwrap_or(WAIT_DEFAULT);
    let shape = table
        .read("shape", values::choice(SHAPES))
        .unwrap_or(Shape::Array);
    let wrap = body.read("wrap", values::text).filter(|wrap| !wrap.is_empty());
    let is_wrapped = wrap.is_some() && !table.has("shape");
    let wrap = wrap.unwrap_or_else(|| WRAP_DEFAULT.to_owned());
    (events_max > 1).then(|| BatchPolicy {
        events_max: events_max as usize,
        bytes_max: usize::try_from(bytes_max).unwrap_or(usize::MAX),
        wait_max,
        shape: match shape {
            Shape::Array if is_wrapped => BatchShape::Wrapped(wrap.into()),
            Shape::Array => BatchShape::Array,
            Shape::Ndjson => BatchShape::Ndjson,
            Shape::Wrapped => BatchShape::Wrapped(wrap.into()),
            Shape::Template => BatchShape::Template,
        },
    })
}
