//! The log of attempts: every try is kept for a while, so that a person can see what happened, to whom and when. It
//! is evidence and no part of the queue: what can't be written or read is missing, and nothing else suffers.
//!
//! These are its nouns. On disk ([`log`]) it is a row of segment files beside the queue, which end in blocks
//! ([`block`]): one block for each commit, with all tries that the commit settles. Space comes back by removing the
//! oldest file, so the log never makes the queue's own file grow, and gives way at once when the disk is low.

pub mod block;
pub mod check;
pub mod log;
mod search;

use std::sync::Arc;

use super::LaneId;
use crate::domain::event::Seq;
use crate::domain::outcome::{Attempt, Detail, Exchange, OutcomeSet};
use crate::domain::time::Timestamp;

/// One try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptEntry {
    /// The event's place.
    pub seq: Seq,
    /// The event's id.
    pub event_id: Box<str>,
    /// The event's source.
    pub event_source: Box<str>,
    /// The event's type.
    pub event_kind: Box<str>,
    /// When the event was accepted.
    pub accepted: Timestamp,
    /// The id of the request, where it carried several events.
    pub batch: Option<Box<str>>,
    /// How it went; of a try that delivered, as [`Detail`] has it, only the numbers.
    pub attempt: Attempt,
    /// How long its parts took.
    pub exchange: Exchange,
}

/// One try, as the log takes it in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewAttempt {
    /// At which endpoint. The log keeps its name, since it may outlive the lane.
    pub lane: LaneId,
    /// The rest. In a box, because it changes hands several times on its way and is large.
    pub entry: Box<AttemptEntry>,
}

/// A try and the name of its endpoint.
pub type NamedTry = (Arc<str>, Box<AttemptEntry>);

/// One try, as the log has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedAttempt {
    /// Its number in the log, rising in the order in which tries were settled. One that was lost in a power cut may be
    /// given again.
    pub number: u64,
    /// The endpoint's name.
    pub endpoint: Box<str>,
    /// The rest.
    pub entry: AttemptEntry,
}

/// What to look for in the log; every field narrows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AttemptFilter {
    /// Endpoint of this name, configured or not.
    pub endpoint: Option<Box<str>>,
    /// Events with this id.
    pub event_id: Option<Box<str>>,
    /// One of these outcomes.
    pub outcomes: Option<OutcomeSet>,
    /// The answer's status.
    pub status: Option<u16>,
    /// Begun at this instant or later.
    pub since: Option<Timestamp>,
    /// Begun before this instant.
    pub until: Option<Timestamp>,
}

impl AttemptFilter {
    /// Whether `logged` is asked for.
    #[must_use]
    pub fn matches(&self, logged: &LoggedAttempt) -> bool {
        let entry = &logged.entry;
        let attempt = &entry.attempt;
        self.endpoint
            .as_ref()
            .is_none_or(|endpoint| *endpoint == logged.endpoint)
            && self.event_id.as_ref().is_none_or(|id| *id == entry.event_id)
            && self
                .outcomes
                .is_none_or(|outcomes| outcomes.contains(attempt.outcome))
            && self.status.is_none_or(|status| attempt.status == Some(status))
            && self.since.is_none_or(|since| attempt.started >= since)
            && self.until.is_none_or(|until| attempt.started < until)
    }
}

/// A page of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AttemptPage {
    /// Newest first, in the order in which they were settled.
    pub attempts: Vec<LoggedAttempt>,
    /// Pass as `before` to go on; `None`: that was all. A page ends when it is full, or when much was read: then it
    /// may hold little, even nothing, and there may still be more.
    pub next: Option<u64>,
}

/// How much the log holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AttemptLogSize {
    /// Bytes on disk.
    pub bytes: u64,
    /// Tries that were not logged since the start, because the disk refused them.
    pub dropped: u64,
}

/// What is kept, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Tries are kept so long, and go with maintenance some time after.
    pub keep_ms: u64,
    /// At most so many bytes; the oldest go first. 0: nothing is logged.
    pub bytes_max: u64,
    /// Of which tries what was said is kept.
    pub detail: Detail,
}
