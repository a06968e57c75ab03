//! `[endpoint.batch]`: how many events go in one request, and how they stand in it.

use std::time::Duration;

use crate::config::language::{self, Names, optional};
use crate::config::raw::Table;
use crate::config::values;
use crate::domain::endpoint::{BatchPolicy, BatchShape, ItemsPolicy};
use crate::template::Expression;

const EVENTS_MAX: u32 = 10_000;
const BYTES_DEFAULT: u64 = 1 << 20;
const BYTES_MAX: u64 = 64 << 20;
const WAIT_DEFAULT: Duration = Duration::from_secs(1);
const WRAP_DEFAULT: &str = "events";
const ITEM_ID_DEFAULT: &str = "item.id";
const ITEM_SUCCESS_DEFAULT: &str = "item.status == 'success'";

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

/// How events are put together; `None` for one at a time. `bind`: the second name of data, `steps`: those before it.
pub(super) fn batch(
    table: &Table<'_>,
    body: &Table<'_>,
    bind: &str,
    steps: &[Box<str>],
) -> Option<BatchPolicy> {
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
    let items = items(table, bind, steps);
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
        items,
    })
}

/// Where the answer speaks of each event.
fn items(table: &Table<'_>, bind: &str, steps: &[Box<str>]) -> Option<ItemsPolicy> {
    let names = Names::with(bind, &["response"]).behind(steps);
    let item_names = Names::with(bind, &["response", "item"]).behind(steps);
    let list = table
        .read("items", optional(language::expression(&names)))
        .flatten();
    let of_item = |key, default| {
        let written = table.read(key, optional(language::expression(&item_names)));
        written.flatten().or_else(|| Expression::compile(default).ok())
    };
    let (id, success) = (
        of_item("item_id", ITEM_ID_DEFAULT),
        of_item("item_success", ITEM_SUCCESS_DEFAULT),
    );
    Some(ItemsPolicy {
        list: list?,
        id: id?,
        success: success?,
    })
}
