//! `[endpoint.batch]`: how many events go in one request, and how they stand in it.

use std::time::Duration;

use crate::config::language::{self, Names, optional};
use crate::config::raw::Table;
use crate::config::values::{self, Wrong};
use crate::domain::endpoint::{BatchPolicy, BatchShape, BodyFormat, BodyPolicy, DocumentKind, ItemsPolicy};
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

/// Notes what of the `batch` and `body` of an endpoint (or of a step, which has no batches) can't be had together, or would
/// be ignored. `[defaults]` alone are not judged: what is missing there may stand in each endpoint.
pub(super) fn check(table: &Table<'_>, policy: Option<&BatchPolicy>, format: &BodyPolicy) {
    let (batch, body) = (table.table("batch"), table.table("body"));
    if policy.is_none() {
        refuse_idle_items(&batch);
    }
    let shape = policy.map(|policy| &policy.shape);
    let has_template = body.value("template").is_some_and(|text| !text.is_empty());
    let (keys, says, help): (&[(&Table<'_>, &str)], &str, &str) = match (shape, &format.format) {
        // A template that is there and can't be used is a problem of its own.
        (Some(BatchShape::Template), _) if has_template => return,
        (Some(BatchShape::Template), _) => (
            &[(&batch, "shape")],
            "there is no body.template that could make one document of the events",
            "add one that loops over batch.events (body.format json, xml, soap or text), or write another shape",
        ),
        (Some(_), BodyFormat::Form(_)) => (
            &[(&batch, "shape"), (&batch, "max_events"), (&body, "format")],
            "a form holds one event, so forms can't be batched",
            "write max_events = 1, or another body.format",
        ),
        (Some(_), format) if is_markup(format) => (
            &[(&batch, "shape"), (&batch, "max_events"), (&body, "format")],
            "one body can't hold several documents of xml or soap",
            "write shape = \"template\" and a body.template that loops over batch.events, or max_events = 1",
        ),
        (Some(BatchShape::Wrapped(_)), format) if is_lines(format) => (
            &[(&batch, "shape"), (&body, "wrap")],
            "lines of text can't stand in the field of an object, so nothing would be wrapped",
            "remove shape and body.wrap, or write a body.format that is JSON",
        ),
        (None, format) if is_markup(format) || matches!(format, BodyFormat::Form(_)) => {
            if body.value("wrap").is_none_or(|wrap| wrap.is_empty()) {
                return;
            }
            (
                &[(&body, "wrap")],
                "wrap puts JSON into a field, and this format is none",
                "remove it, or write a body.format that is JSON",
            )
        }
        _ => return,
    };
    let found = keys.iter().filter_map(|(table, key)| table.value(key));
    let (own, shared): (Vec<_>, Vec<_>) = found.partition(|value| !value.place.is_of_defaults());
    if let Some(value) = own.first().or(shared.first()) {
        value.reject(&Wrong::whole(says, help));
    }
}

/// What an endpoint inherits it may leave unused; what it says itself is meant.
fn refuse_idle_items(batch: &Table<'_>) {
    let items = batch.value("items").filter(|items| !items.is_empty_text());
    if let Some(items) = items.filter(|items| !items.place.is_of_defaults()) {
        items.reject(&Wrong::whole(
            "nothing reads it where each event goes alone",
            "add max_events = 100, or remove it",
        ));
    }
}

fn is_markup(format: &BodyFormat) -> bool {
    let of = |kind: &DocumentKind| matches!(kind, DocumentKind::Xml | DocumentKind::Soap);
    matches!(format, BodyFormat::Document { kind, .. } if of(kind))
}

fn is_lines(format: &BodyFormat) -> bool {
    matches!(
        format,
        BodyFormat::Line(_)
            | BodyFormat::Document {
                kind: DocumentKind::Text,
                ..
            }
    )
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
