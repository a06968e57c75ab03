//! Listing dead letters: what is asked for, and a page of it. Pure.

use super::{DeadLetter, DeliveryId, LaneId};
use crate::domain::delivery::DeadReason;
use crate::domain::route::TypePattern;
use crate::domain::time::Timestamp;

/// What to list among the dead letters; every field narrows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeadFilter {
    /// One lane only.
    pub lane: Option<LaneId>,
    /// Event type, exact or with wildcards as in subscriptions.
    pub kind: Option<TypePattern>,
    /// Reason.
    pub reason: Option<DeadReason>,
    /// Last answer's status.
    pub status: Option<u16>,
    /// Dead since this instant or later.
    pub since: Option<Timestamp>,
    /// Dead before this instant.
    pub until: Option<Timestamp>,
}

impl DeadFilter {
    /// Whether `letter` is asked for.
    #[must_use]
    pub fn matches(&self, letter: &DeadLetter) -> bool {
        let evidence = &letter.evidence;
        self.lane.is_none_or(|lane| lane == letter.id.lane)
            && self
                .kind
                .as_ref()
                .is_none_or(|pattern| pattern.matches(&evidence.event_kind))
            && self.reason.is_none_or(|reason| reason == evidence.reason)
            && self
                .status
                .is_none_or(|status| evidence.last.as_ref().and_then(|a| a.status) == Some(status))
            && self.since.is_none_or(|since| evidence.since >= since)
            && self.until.is_none_or(|until| evidence.since < until)
    }
}

/// A page of dead letters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeadPage {
    /// In order of lane and acceptance.
    pub letters: Vec<DeadLetter>,
    /// Pass as `after` to go on; `None`: that was all.
    pub next: Option<DeliveryId>,
}
