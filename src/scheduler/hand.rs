//! What a lane has in hand: deliveries that wait in memory, those in a request, and those whose request has ended
//! but whose end is not durable yet. It knows neither queues nor limits; it keeps count, so that nothing is handed
//! out twice and every slot is given back once.

use std::collections::HashMap;

use rustc_hash::{FxBuildHasher, FxHashSet};

use crate::domain::event::Seq;
use crate::store::Due;

/// A request under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flight {
    /// In which era of the lane it began: what ends in a later one teaches nothing.
    pub(super) era: u32,
    /// Whether it is a retry.
    pub(super) retry: bool,
    /// Bytes reserved for it.
    pub(super) bytes: u64,
}

/// Where a delivery in hand is.
#[derive(Clone, Copy, Debug)]
enum Holding {
    Waiting,
    /// The first of a request.
    InFlight(Flight),
    /// In a request behind its first.
    Following,
    /// Its request has ended, what became of it is not durable yet.
    Finished,
}

/// Everything in hand.
#[derive(Debug, Default)]
pub(super) struct Hand {
    held: HashMap<Seq, Holding, FxBuildHasher>,
    in_flight: u32,
    retries_in_flight: u32,
    bytes_in_flight: u64,
    finished: usize,
}

impl Hand {
    /// Requests under way.
    pub(super) fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// Those of them that are retries.
    pub(super) fn retries_in_flight(&self) -> u32 {
        self.retries_in_flight
    }

    /// Bytes reserved for them.
    pub(super) fn bytes_in_flight(&self) -> u64 {
        self.bytes_in_flight
    }

    /// Deliveries whose request has ended but that are not durable yet.
    pub(super) fn finished(&self) -> usize {
        self.finished
    }

    /// Nothing in hand.
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Whether this delivery is in hand.
    pub(super) fn holds(&self, seq: Seq) -> bool {
        self.held.contains_key(&seq)
    }

    /// Everything in hand, to be passed over by the store.
    pub(super) fn seqs(&self) -> FxHashSet<Seq> {
        self.held.keys().copied().collect()
    }

    /// Takes a delivery in hand to wait; false: it is there already.
    pub(super) fn wait(&mut self, seq: Seq) -> bool {
        let new = !self.held.contains_key(&seq);
        if new {
            self.held.insert(seq, Holding::Waiting);
        }
        new
    }

    /// Lets go of a delivery that only waits.
    pub(super) fn drop_waiting(&mut self, seq: Seq) {
        if matches!(self.held.get(&seq), Some(Holding::Waiting)) {
            self.held.remove(&seq);
        }
    }

    /// Gives back what memory can be given back.
    pub(super) fn shrink(&mut self) {
        self.held.shrink_to_fit();
    }

    /// `batch` leaves in one request, for which `bytes` are reserved.
    pub(super) fn depart(&mut self, batch: &[Due], era: u32, bytes: u64) {
        let Some((first, rest)) = batch.split_first() else {
            return;
        };
        let retry = first.was_due.is_some() && first.tries > 0;
        let flight = Flight { era, retry, bytes };
        self.held.insert(first.seq, Holding::InFlight(flight));
        for due in rest {
            self.held.insert(due.seq, Holding::Following);
        }
        self.in_flight += 1;
        self.retries_in_flight += u32::from(retry);
        self.bytes_in_flight += bytes;
    }

    /// A delivery's request has ended; the flight if it was the first of it, `None` if not, or if it was not under
    /// way. It stays in hand until it is durable.
    pub(super) fn finish(&mut self, seq: Seq) -> Option<Flight> {
        let holding = self.held.get_mut(&seq)?;
        let flight = match *holding {
            Holding::InFlight(flight) => Some(flight),
            Holding::Following => None,
            Holding::Waiting | Holding::Finished => return None,
        };
        *holding = Holding::Finished;
        self.finished += 1;
        if let Some(flight) = flight {
            self.in_flight -= 1;
            self.retries_in_flight -= u32::from(flight.retry);
            self.bytes_in_flight -= flight.bytes;
        }
        flight
    }

    /// What became of a delivery is durable; true: it was in a request of ours, and is let go.
    pub(super) fn settled(&mut self, seq: Seq) -> bool {
        let _ = self.finish(seq);
        let ours = matches!(self.held.get(&seq), Some(Holding::Finished));
        if ours {
            self.held.remove(&seq);
            self.finished -= 1;
        }
        ours
    }

    /// A delivery behind the first did not fit into its request: it waits again. False: it was in none.
    pub(super) fn give_back(&mut self, seq: Seq) -> bool {
        match self.held.get_mut(&seq) {
            Some(holding @ Holding::Following) => {
                *holding = Holding::Waiting;
                true
            }
            _ => false,
        }
    }
}
