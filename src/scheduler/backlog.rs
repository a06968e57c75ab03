//! What a lane asks of its backlog: the part of its queue that is in memory, and the questions to the store about the
//! rest. There are two: [`Window`](super::window::Window) for a lane that keeps no order, and
//! [`Ordered`](super::ordered::Ordered) for one that does. Both follow the same two rules: nothing owed is forgotten,
//! and nothing is handed out twice.

use std::fmt::Debug;

use crate::domain::endpoint::{BatchPolicy, OrderKey};
use crate::domain::event::Seq;
use crate::domain::several::Several;
use crate::domain::time::{Now, Timestamp};
use crate::store::{Due, DueAnswer, DueQuery};

use super::hand::{Flight, Hand};

/// How much a lane could use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Appetite {
    /// It sends nothing for now.
    Nothing,
    /// One request, for a probe.
    One,
    /// As much as the window holds. `past_retries`: retries may have to wait for slots, so that what is due behind them
    /// is wanted too.
    Window { past_retries: bool },
}

/// Under what terms the next request may leave.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// The era it would begin in.
    pub(super) era: u32,
    /// Requests at once, as the limit stands.
    pub(super) limit: u32,
    /// It is a probe, which waits for no company and for no slot.
    pub(super) hurry: bool,
    /// The last retry to end was answered well, so that those under way will not hold their slots for long.
    pub(super) retries_flow: bool,
    /// Bytes of batches that the lane may have under way; one request leaves in any case.
    pub(super) bytes_max: u64,
    /// The time.
    pub(super) now: Now,
}

impl Terms {
    /// Whether so many more bytes may be under way.
    pub(super) fn fits(&self, hand: &Hand, bytes: u64) -> bool {
        hand.in_flight() == 0 || hand.bytes_in_flight().saturating_add(bytes) <= self.bytes_max
    }

    /// New before old: retries hold at most half of the limit (of one slot: all of it, or they would never go), so that
    /// what is new finds a slot at once, however long they hang. The other half is lent to them while nothing new
    /// could leave and they get through: a backlog of retries drains at full speed once the endpoint takes them.
    pub(super) fn has_room_for_retry(&self, hand: &Hand, new_waits: bool) -> bool {
        let half = (self.limit / 2).max(1);
        self.hurry || hand.retries_in_flight() < half || (self.retries_flow && !new_waits)
    }
}

/// The part of a lane's queue that is in memory.
pub(super) trait Backlog: Debug + Send {
    /// Adopts another batch policy.
    fn configure(&mut self, batch: Option<BatchPolicy>);

    /// Whether a request could leave on these terms.
    fn is_ready(&self, terms: &Terms) -> bool;

    /// Deliveries that wait.
    fn waiting(&self) -> usize;

    /// Those of them that were never tried and never put off.
    fn fresh(&self) -> usize;

    /// What it has in hand.
    fn hand(&self) -> &Hand;

    /// Lines whose head waits for another try.
    fn held_up(&self) -> usize;

    /// Until when a batch gathers, on the monotonic clock, if one does.
    fn gathers_until(&self) -> Option<u64>;

    /// So many deliveries may have ended without being durable; a stalled store stops sending.
    fn finished_max(&self) -> usize;

    /// Nothing in hand and no answer to wait for: the lane could be dropped.
    fn is_idle(&self) -> bool;

    /// A fresh delivery is on disk; `open`: the lane sends. Such news may come out of order.
    fn announce(&mut self, due: Due, open: bool, now: Now);

    /// A deferred delivery that is not in hand is due at `due`.
    fn announce_deferred(&mut self, due: Timestamp);

    /// Deliveries from `from` on are pending again, or due times have changed.
    fn revive(&mut self, from: Seq, now: Now);

    /// Deferred deliveries are due now. Those that wait here would leave with outdated due times.
    fn flush(&mut self, now: Now);

    /// What became of a delivery is durable; `deferred`: when it is due again, and the tries used.
    fn committed(&mut self, seq: Seq, deferred: Option<(Timestamp, u32)>, now: Now);

    /// Asks the store if there is something to ask for and room for the answer. One question at a time.
    fn ask(&mut self, appetite: Appetite, now: Now) -> Option<DueQuery>;

    /// Whether [`Backlog::ask`] would ask.
    fn wants(&self, appetite: Appetite, now: Now) -> bool;

    /// When it will ask, or have something to send, though nothing happens: a wall-clock time and a monotonic one.
    fn wakes_at(&self, appetite: Appetite, now: Now) -> (Option<Timestamp>, Option<u64>);

    /// Takes in the store's answer; `open`: the lane still sends. `keys`: what each delivery is kept in order with, the
    /// fresh ones first, then the deferred, then the tried; empty for a lane that keeps none.
    fn answered(&mut self, answer: &DueAnswer, keys: &[OrderKey], open: bool, now: Now);

    /// The store could not answer.
    fn unanswered(&mut self, now: Now);

    /// Sends the next request off; empty: none is ready.
    fn start(&mut self, terms: &Terms) -> Several<Due>;

    /// A delivery's request has ended; see [`Hand::finish`].
    fn finish(&mut self, seq: Seq) -> Option<Flight>;

    /// Deliveries that did not fit into their request, in their order; `open`: the lane still sends.
    fn give_back(&mut self, batch: &[Due], open: bool, now: Now);

    /// Gives back all that waits, and its memory: the store still has it.
    fn release(&mut self);
}

/// The earlier of two times, if there is one.
pub(super) fn earliest(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, None) | (None, one) => one,
    }
}
