//! One try, from record to outcome: render, auth, sign, send, interpret.

use crate::domain::event::Event;
use crate::domain::outcome::{Attempt, EndpointSignal};

/// What one try produced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried {
    /// The evidence.
    pub attempt: Attempt,
    /// What the endpoint said beside the outcome.
    pub signal: EndpointSignal,
}

/// A part of the product that makes one try at delivering `event`; prepared once per endpoint.
#[derive(Debug)]
pub struct Courier;

impl Courier {
    /// Makes one try. Never fails: whatever goes wrong is an outcome.
    pub async fn deliver(&self, _event: &Event, _number: u32) -> Option<Tried> {
        None
    }
}
