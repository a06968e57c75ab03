//! Whether an event that was found still goes out: not when it has expired, and not when the endpoint's `when` leaves
//! it out.

use crate::delivery::scene::{self, Load};
use crate::delivery::{self, Tried};
use crate::domain::endpoint::Judgement;
use crate::domain::event::Event;
use crate::domain::time::Timestamp;

use super::Destination;

/// What becomes of an event before there is a request.
#[derive(Debug)]
pub(super) enum Wanted {
    /// It goes out.
    Yes,
    /// Nothing more is owed: expired, or skipped.
    No,
    /// Nobody can say: the end of a try that came to no request.
    Unknown(Box<Tried>),
}

/// Judges `event` for its try `number`, at `now`; what settles it is counted and logged.
pub(super) fn wanted(to: &Destination, event: &Event, number: u32, now: Timestamp) -> Wanted {
    let (endpoint, id) = (&*to.endpoint.name, &*event.head.id);
    if event.head.expires.is_some_and(|expires| expires <= now) {
        to.numbers.expired();
        tracing::info!(endpoint, event = id, "expired before it could be delivered");
        return Wanted::No;
    }
    if to.endpoint.selection.when.is_none() {
        return Wanted::Yes;
    }
    let load = Load::alone(event, number, now);
    match scene::judge(&to.endpoint, &load) {
        Ok(Judgement::Send) => Wanted::Yes,
        Ok(Judgement::Skip(reason)) => {
            to.numbers.skipped();
            tracing::info!(endpoint, event = id, reason, "skipped");
            Wanted::No
        }
        Err(why) => Wanted::Unknown(Box::new(delivery::unsent(&load, why))),
    }
}
