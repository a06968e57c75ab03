//! What a lane knows of its queue in the store: a bounded window of deliveries that can go, everything it
//! has in hand, and how far it has read.
//!
//! It knows neither states nor limits. Its one worry is that nothing owed is forgotten and nothing is
//! handed out twice: whatever is in hand is named to the store with every question, and whatever happens
//! while a question is on its way leads to another one unless the answer provably covers it.

use std::collections::{BTreeMap, HashMap, VecDeque};

use rustc_hash::FxBuildHasher;

use crate::domain::event::Seq;
use crate::domain::time::{Now, Timestamp};
use crate::store::{Due, DueAnswer, DueQuery};

/// How long to leave the store alone after it could not answer.
const ASK_AGAIN_MS: u64 = 100;

/// How much a lane could use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Appetite {
    /// It sends nothing for now.
    Nothing,
    /// One delivery, for a probe.
    One,
    /// As much as the window holds.
    Window,
}

/// A request under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flight {
    /// In which era of the lane it began: what ends in a later one teaches nothing.
    pub(super) era: u32,
    /// Whether it is a retry.
    pub(super) retry: bool,
}

/// Where a delivery in hand is.
#[derive(Clone, Copy, Debug)]
enum Holding {
    Waiting,
    InFlight(Flight),
    /// Its request has ended, what became of it is not durable yet.
    Finished,
}

/// A question on its way to the store.
#[derive(Debug)]
struct Asked {
    /// Whether it asks for fresh deliveries.
    fresh: bool,
    /// The next deferred due time as it was known before.
    deferred_next: Option<Timestamp>,
    /// The last fresh delivery that was announced meanwhile.
    announced: Option<Seq>,
    /// The window was given back or due times have changed meanwhile: the answer is worth nothing.
    stale: bool,
}

/// The window of one lane.
#[derive(Debug)]
pub(super) struct Window {
    fresh_max: usize,
    deferred_max: usize,
    fresh: VecDeque<Due>,
    /// By due time; the value is the tries used.
    deferred: BTreeMap<(Timestamp, Seq), u32>,
    held: HashMap<Seq, Holding, FxBuildHasher>,
    in_flight: u32,
    retries_in_flight: u32,
    finished: usize,
    /// Every fresh delivery below it was put into the window once, unless `behind`.
    cursor: Seq,
    /// The part of that which the store itself has confirmed.
    confirmed: Seq,
    /// The store may have more fresh deliveries from `cursor` on.
    behind: bool,
    /// The earliest due time of a deferred delivery that is not in hand.
    deferred_next: Option<Timestamp>,
    asked: Option<Asked>,
    ask_after_mono_ms: u64,
}

impl Window {
    /// An empty window that has not asked the store yet. It waits with at most `waiting_max` deliveries, a
    /// quarter of them deferred ones (but at least one of each kind).
    pub(super) fn new(waiting_max: usize) -> Self {
        let deferred_max = (waiting_max / 4).max(1);
        Self {
            fresh_max: waiting_max.saturating_sub(deferred_max).max(1),
            deferred_max,
            fresh: VecDeque::new(),
            deferred: BTreeMap::new(),
            held: HashMap::default(),
            in_flight: 0,
            retries_in_flight: 0,
            finished: 0,
            cursor: Seq(0),
            confirmed: Seq(0),
            behind: true,
            deferred_next: Some(Timestamp(0)),
            asked: None,
            ask_after_mono_ms: 0,
        }
    }

    /// Whether a fresh delivery waits.
    pub(super) fn has_fresh(&self) -> bool {
        !self.fresh.is_empty()
    }

    /// The tries used by the first deferred delivery that waits.
    pub(super) fn first_deferred_tries(&self) -> Option<u32> {
        self.deferred.first_key_value().map(|(_, tries)| *tries)
    }

    /// Fresh deliveries that wait.
    pub(super) fn fresh_len(&self) -> usize {
        self.fresh.len()
    }

    /// Deliveries that wait, of both kinds.
    pub(super) fn waiting(&self) -> usize {
        self.fresh.len() + self.deferred.len()
    }

    /// Requests under way.
    pub(super) fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// Those of them that are retries.
    pub(super) fn retries_in_flight(&self) -> u32 {
        self.retries_in_flight
    }

    /// Requests that have ended but are not durable yet.
    pub(super) fn finished(&self) -> usize {
        self.finished
    }

    /// Nothing in hand and no answer to wait for: the lane could be dropped.
    pub(super) fn is_idle(&self) -> bool {
        self.held.is_empty() && self.asked.is_none()
    }

    /// A fresh delivery is on disk. It is taken if the lane sends (`open`), nothing before it is missing
    /// and there is room; if not, the store is asked later. Such news may come out of order.
    pub(super) fn announce(&mut self, due: Due, open: bool) {
        let seq = due.seq;
        if seq < self.confirmed {
            return;
        }
        if let Some(asked) = self.asked.as_mut().filter(|asked| asked.fresh) {
            asked.announced = asked.announced.max(Some(seq));
            return;
        }
        if seq < self.cursor {
            if !self.held.contains_key(&seq) {
                self.step_back(seq);
            }
        } else if open && !self.behind && self.fresh.len() < self.fresh_max {
            self.take_in_fresh(due);
            self.cursor = Seq(seq.0 + 1);
        } else {
            self.behind = true;
        }
    }

    /// A deferred delivery that is not in hand is due at `due`.
    pub(super) fn announce_deferred(&mut self, due: Timestamp) {
        self.deferred_next = earliest(self.deferred_next, Some(due));
    }

    /// Deliveries from `from` on are pending again, or due times have changed.
    pub(super) fn revive(&mut self, from: Seq, now: Timestamp) {
        self.release_deferred();
        self.step_back(from);
        self.announce_deferred(now);
    }

    /// Deferred deliveries are due now. Those that wait here would leave with outdated due times.
    pub(super) fn flush(&mut self, now: Timestamp) {
        self.release_deferred();
        self.announce_deferred(now);
    }

    /// What became of a delivery is durable; `deferred`: when it is due again.
    pub(super) fn committed(&mut self, seq: Seq, deferred: Option<Timestamp>) {
        let _ = self.finish(seq);
        if matches!(self.held.get(&seq), Some(Holding::Finished)) {
            self.held.remove(&seq);
            self.finished -= 1;
        }
        if let Some(due) = deferred {
            self.announce_deferred(due);
        }
    }

    /// Asks the store if there is something to ask for and room for the answer. One question at a time.
    pub(super) fn ask(&mut self, appetite: Appetite, now: Now) -> Option<DueQuery> {
        let (fresh_max, deferred_max) = self.wanted(appetite, now);
        if fresh_max + deferred_max == 0 {
            return None;
        }
        // Taking the time out lets news that come while the question is on its way stand out.
        let deferred_next = self.deferred_next.take();
        self.asked = Some(Asked {
            fresh: fresh_max > 0,
            deferred_next,
            announced: None,
            stale: false,
        });
        let held = self.held.keys().copied().collect();
        Some(DueQuery {
            fresh_from: self.cursor,
            fresh_max,
            now: now.wall,
            deferred_max,
            held,
        })
    }

    /// Whether [`Window::ask`] would ask.
    pub(super) fn wants(&self, appetite: Appetite, now: Now) -> bool {
        self.wanted(appetite, now) != (0, 0)
    }

    /// When it will ask though nothing happens: a wall-clock time and a monotonic one.
    pub(super) fn wakes_at(&self, appetite: Appetite, now: Now) -> (Option<Timestamp>, Option<u64>) {
        if self.asked.is_some() || appetite == Appetite::Nothing {
            return (None, None);
        }
        let due = self
            .deferred_next
            .filter(|due| *due > now.wall && self.room(appetite).1 > 0);
        (
            due,
            Some(self.ask_after_mono_ms).filter(|after| *after > now.mono_ms),
        )
    }

    /// Takes in the store's answer; `open`: the lane still sends.
    pub(super) fn answered(&mut self, answer: DueAnswer, open: bool) {
        let Some(asked) = self.asked.take() else { return };
        if asked.stale || !open {
            // Nothing of it is in hand, so the store will give all of it again.
            self.deferred_next = earliest(self.deferred_next, asked.deferred_next);
            return;
        }
        for due in answer.deferred {
            self.take_in_deferred(due);
        }
        self.deferred_next = earliest(self.deferred_next, answer.deferred_next);
        if asked.fresh {
            for due in answer.fresh {
                self.take_in_fresh(due);
            }
            self.cursor = self.cursor.max(answer.fresh_next);
            self.confirmed = self.cursor;
            self.behind = answer.fresh_more || asked.announced.is_some_and(|seq| seq >= self.confirmed);
        }
    }

    /// The store could not answer.
    pub(super) fn unanswered(&mut self, now: Now) {
        let Some(asked) = self.asked.take() else { return };
        self.deferred_next = earliest(self.deferred_next, asked.deferred_next);
        self.ask_after_mono_ms = now.mono_ms.saturating_add(ASK_AGAIN_MS);
    }

    /// Sends the first fresh delivery off.
    pub(super) fn start_fresh(&mut self, era: u32) -> Option<Due> {
        let due = self.fresh.pop_front()?;
        self.start(due, era);
        Some(due)
    }

    /// Sends the first deferred delivery off.
    pub(super) fn start_deferred(&mut self, era: u32) -> Option<Due> {
        let ((was_due, seq), tries) = self.deferred.pop_first()?;
        let due = Due::deferred(seq, was_due, tries);
        self.start(due, era);
        Some(due)
    }

    /// A request has ended; `None`: it was not under way. The delivery stays in hand until it is durable.
    pub(super) fn finish(&mut self, seq: Seq) -> Option<Flight> {
        let holding = self.held.get_mut(&seq)?;
        let Holding::InFlight(flight) = *holding else {
            return None;
        };
        *holding = Holding::Finished;
        self.in_flight -= 1;
        self.retries_in_flight -= u32::from(flight.retry);
        self.finished += 1;
        Some(flight)
    }

    /// Gives back all that waits, and its memory: the store still has it.
    pub(super) fn release(&mut self) {
        if let Some(first) = self.fresh.iter().map(|due| due.seq).min() {
            for due in std::mem::take(&mut self.fresh) {
                self.held.remove(&due.seq);
            }
            self.step_back(first);
        }
        self.release_deferred();
        self.held.shrink_to_fit();
    }

    fn release_deferred(&mut self) {
        for ((due, seq), _) in std::mem::take(&mut self.deferred) {
            self.held.remove(&seq);
            self.announce_deferred(due);
        }
        self.outdate_answer();
    }

    /// Reads again from `seq` on.
    fn step_back(&mut self, seq: Seq) {
        self.cursor = self.cursor.min(seq);
        self.confirmed = self.confirmed.min(seq);
        self.behind = true;
        self.outdate_answer();
    }

    fn outdate_answer(&mut self) {
        if let Some(asked) = &mut self.asked {
            asked.stale = true;
        }
    }

    fn start(&mut self, due: Due, era: u32) {
        let retry = due.was_due.is_some() && due.tries > 0;
        self.held
            .insert(due.seq, Holding::InFlight(Flight { era, retry }));
        self.in_flight += 1;
        self.retries_in_flight += u32::from(retry);
    }

    fn take_in_fresh(&mut self, due: Due) {
        if due.seq >= self.cursor && !self.held.contains_key(&due.seq) {
            self.held.insert(due.seq, Holding::Waiting);
            self.fresh.push_back(due);
        }
    }

    fn take_in_deferred(&mut self, due: Due) {
        if let Some(was_due) = due.was_due
            && !self.held.contains_key(&due.seq)
        {
            self.held.insert(due.seq, Holding::Waiting);
            self.deferred.insert((was_due, due.seq), due.tries);
        }
    }

    /// How many fresh and deferred deliveries to ask for now.
    fn wanted(&self, appetite: Appetite, now: Now) -> (usize, usize) {
        if self.asked.is_some() || self.ask_after_mono_ms > now.mono_ms {
            return (0, 0);
        }
        let (fresh, deferred) = self.room(appetite);
        let deferred_is_due = self.deferred_next.is_some_and(|due| due <= now.wall);
        (
            if self.behind { fresh } else { 0 },
            if deferred_is_due { deferred } else { 0 },
        )
    }

    /// Room for fresh and deferred deliveries; a half full window asks for none, so that questions are few.
    fn room(&self, appetite: Appetite) -> (usize, usize) {
        let refill = |len: usize, max: usize| if len * 2 < max { max - len } else { 0 };
        match appetite {
            Appetite::Nothing => (0, 0),
            Appetite::One if self.waiting() == 0 => (1, 1),
            Appetite::One => (0, 0),
            Appetite::Window => (
                refill(self.fresh.len(), self.fresh_max),
                refill(self.deferred.len(), self.deferred_max),
            ),
        }
    }
}

fn earliest(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, None) | (None, one) => one,
    }
}
