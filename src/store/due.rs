//! The question of what a lane could send now, and its answer. What is asked of them is
//! [`Store::due`](super::Store::due)'s business; here are only the nouns.

use rustc_hash::FxHashSet;

use crate::domain::event::Seq;
use crate::domain::time::Timestamp;

/// What to look for in [`Store::due`](super::Store::due).
#[derive(Clone, Debug, Default)]
pub struct DueQuery {
    /// Fresh deliveries (never tried, due at once) from this place on, in order of acceptance.
    pub fresh_from: Seq,
    /// At most so many of them.
    pub fresh_max: usize,
    /// Deferred deliveries due at this time or before, in order of due time.
    pub now: Timestamp,
    /// At most so many of them.
    pub deferred_max: usize,
    /// Deliveries deferred after a try, whatever their due time, in order of due time: at most so many. For whoever
    /// has to know what may not be overtaken; 0 costs nothing, more costs a look at all that is deferred.
    pub tried_max: usize,
    /// Deliveries the caller holds already; they are passed over and not counted.
    pub held: FxHashSet<Seq>,
}

/// One delivery that can go now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// Which event.
    pub seq: Seq,
    /// The due time of its deferral; `None`: fresh.
    pub was_due: Option<Timestamp>,
    /// Tries used so far.
    pub tries: u32,
    /// Bytes of the event's JSON, 0 if that is not known, and only an estimate when it comes from [`Store::due`](super::Store::due): what
    /// a batch holds is measured when its events are read.
    pub bytes: u32,
}

impl Due {
    /// A delivery never tried, due at once.
    #[must_use]
    pub const fn fresh(seq: Seq) -> Self {
        Self {
            seq,
            was_due: None,
            tries: 0,
            bytes: 0,
        }
    }

    /// A delivery that was not to be made before `due`, after so many tries.
    #[must_use]
    pub const fn deferred(seq: Seq, due: Timestamp, tries: u32) -> Self {
        Self {
            seq,
            was_due: Some(due),
            tries,
            bytes: 0,
        }
    }
}

/// The answer of [`Store::due`](super::Store::due).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DueAnswer {
    /// Fresh deliveries, in order of acceptance.
    pub fresh: Vec<Due>,
    /// Where to go on asking; everything fresh below this has been given (or is held).
    pub fresh_next: Seq,
    /// Whether there may be more fresh ones from `fresh_next` on.
    pub fresh_more: bool,
    /// Deferred deliveries that are due, in order of due time.
    pub deferred: Vec<Due>,
    /// The earliest due time of a deferred delivery that was neither given nor held; `None`: there is none.
    pub deferred_next: Option<Timestamp>,
    /// What [`DueQuery::tried_max`] asks for; one that is due may be among the deferred as well.
    pub tried: Vec<Due>,
}
