//! Whether an endpoint's events travel alone or together, and how many go in one request.

use std::time::Duration;

use crate::template::Expression;

/// How an endpoint's events are put together. A batch leaves when the first of the bounds is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchPolicy {
    /// Events in one request; at least 2, since 1 means no batching at all.
    pub events_max: usize,
    /// Bytes of events in one request; an event larger than this goes alone.
    pub bytes_max: usize,
    /// How long the first of them waits for company.
    pub wait_max: Duration,
    /// How they stand in the body.
    pub shape: BatchShape,
    /// How the answer speaks of each event by itself (E5); `None`: it does not.
    pub items: Option<ItemsPolicy>,
}

/// Where an answer says what became of each event of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemsPolicy {
    /// The list of what it says, one item an event.
    pub list: Expression,
    /// The id in `item`: that of the event, or the `id` in its data.
    pub id: Expression,
    /// Whether `item` means delivered.
    pub success: Expression,
}

/// How several events stand in one body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BatchShape {
    /// A JSON array (CloudEvents' JSON batch format).
    Array,
    /// One event a line.
    Ndjson,
    /// An object with the array in the field of this name.
    Wrapped(Box<str>),
    /// One document, from a template that loops over `batch.events`.
    Template,
}
