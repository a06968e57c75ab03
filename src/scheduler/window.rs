//! What a lane knows of its queue in the store: a bounded window of deliveries that can go, everything it
//! has in hand, and how far it has read.
//!
//! It knows neither states nor limits. Its one worry is that nothing owed is forgotten and nothing is
//! handed out twice: whatever is in hand is named to the store with every question, and whatever happens
//! while a question is on its way leads to another one unless the answer provably covers it.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::endpoint::{BatchPolicy, OrderKey};
use crate::domain::event::Seq;
use crate::domain::several::Several;
use crate::domain::time::{Now, Timestamp};
use crate::store::{Due, DueAnswer, DueQuery};

use super::backlog::{Appetite, Backlog, Terms, earliest};
use super::gathering::Gathering;
use super::hand::{Flight, Hand};

/// How long to leave the store alone after it could not answer.
const ASK_AGAIN_MS: u64 = 100;

/// Retries held in memory while they have to wait for slots, as a multiple of the window: so many of them keep what was
/// delayed and is due behind them from nothing.
const RETRIES_WINDOWS: usize = 4;

/// Which of a window's queues goes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Fresh,
    Delayed,
    Retry,
}

impl Turn {
    /// In this order, from each queue on: those that wait take turns.
    fn round(self) -> [Self; 3] {
        match self {
            Self::Fresh => [Self::Fresh, Self::Delayed, Self::Retry],
            Self::Delayed => [Self::Delayed, Self::Retry, Self::Fresh],
            Self::Retry => [Self::Retry, Self::Fresh, Self::Delayed],
        }
    }
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
    waiting_max: usize,
    /// Never tried: fresh ones, and in a lane with batches also those whose delay is over.
    fresh: Gathering,
    /// Never tried and delayed, in a lane without batches, by due time. Apart from the retries, because those may have to
    /// wait for a slot where these find one.
    delayed: BTreeSet<(Timestamp, Seq)>,
    /// By due time; the value is the tries used.
    retries: BTreeMap<(Timestamp, Seq), u32>,
    /// Whose turn it is when several wait.
    next: Turn,
    hand: Hand,
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
    /// An empty window that has not asked the store yet. It waits with at most `waiting_max` deliveries (more if
    /// a few batches need them), a quarter of them deferred ones (but at least one of each kind), and with some more
    /// retries while those have to wait.
    pub(super) fn new(waiting_max: usize, batch: Option<BatchPolicy>) -> Self {
        Self {
            waiting_max,
            fresh: Gathering::new(batch),
            delayed: BTreeSet::new(),
            retries: BTreeMap::new(),
            next: Turn::Fresh,
            hand: Hand::default(),
            cursor: Seq(0),
            confirmed: Seq(0),
            behind: true,
            deferred_next: Some(Timestamp(0)),
            asked: None,
            ask_after_mono_ms: 0,
        }
    }

    /// Who waits takes turns, and retries leave half of the limit to what is new. A batch also has to find room for its
    /// bytes, unless nothing is under way.
    fn turn(&self, terms: &Terms) -> Option<Turn> {
        let fits = |bytes| terms.fits(&self.hand, bytes);
        let fresh = self.fresh.is_ripe(terms.hurry, terms.now.mono_ms) && fits(self.fresh.next_bytes());
        let delayed = !self.delayed.is_empty();
        let retry = self.retries.first_key_value().is_some_and(|(first, tries)| {
            terms.has_room_for_retry(&self.hand, fresh || delayed)
                && (terms.hurry || !self.lacks_rest(first.0, *tries))
                && fits(self.fresh.policy().map_or(0, |policy| policy.bytes_max as u64))
        });
        let could = |turn: &Turn| match turn {
            Turn::Fresh => fresh,
            Turn::Delayed => delayed,
            Turn::Retry => retry,
        };
        self.next.round().into_iter().find(could)
    }

    /// Whether the rest of a batch may still be in the store, or on its way from there: it waits for that, because it goes
    /// again as it went before. Not when memory is full of what is due before that.
    fn lacks_rest(&self, due: Timestamp, tries: u32) -> bool {
        let Some(policy) = self.fresh.policy() else {
            return false;
        };
        let asked = self.asked.as_ref().and_then(|asked| asked.deferred_next);
        earliest(self.deferred_next, asked).is_some_and(|next| next <= due)
            && self.retries.len() < self.retries_max()
            && self.group(due, tries).take(policy.events_max).count() < policy.events_max
    }

    /// Room for the rest of the batch that is next among the retries.
    fn room_for_rest(&self) -> usize {
        let next = self.retries.first_key_value();
        let lacks = next.is_some_and(|((due, _), tries)| self.lacks_rest(*due, *tries));
        if lacks { self.batches(1) } else { 0 }
    }

    /// The deliveries that were deferred to `due` after so many tries: those of one request. They fail and are
    /// tried again as one, under the same id, until an end or a split parts them.
    fn group(&self, due: Timestamp, tries: u32) -> impl Iterator<Item = Seq> + '_ {
        let same = self.retries.range((due, Seq(0))..=(due, Seq(u64::MAX)));
        same.filter(move |(_, other)| **other == tries)
            .map(|((_, seq), _)| *seq)
    }

    fn take_delayed(&mut self) -> Several<Due> {
        let first = self.delayed.pop_first();
        first
            .map(|(due, seq)| Due::deferred(seq, due, 0))
            .into_iter()
            .collect()
    }

    fn take_group(&mut self) -> Several<Due> {
        let Some(((due, first), tries)) = self.retries.first_key_value().map(|(key, tries)| (*key, *tries))
        else {
            return Several::new();
        };
        let seqs: Several<Seq> = match self.fresh.policy() {
            None => Several::from_elem(first, 1),
            Some(policy) => self.group(due, tries).take(policy.events_max).collect(),
        };
        for seq in &seqs {
            self.retries.remove(&(due, *seq));
        }
        let bytes = self.retry_bytes(seqs.len());
        seqs.into_iter()
            .map(|seq| Due {
                bytes,
                ..Due::deferred(seq, due, tries)
            })
            .collect()
    }

    /// Bytes reserved for each delivery of a group: what it holds is not known, but it was a batch once.
    fn retry_bytes(&self, count: usize) -> u32 {
        let bytes = self
            .fresh
            .policy()
            .map_or(0, |policy| policy.bytes_max / count.max(1));
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }

    fn fresh_max(&self) -> usize {
        let deferred_max = (self.waiting_max / 4).max(1);
        let fresh_max = self.waiting_max.saturating_sub(deferred_max).max(1);
        fresh_max.max(self.batches(3))
    }

    fn deferred_max(&self) -> usize {
        (self.waiting_max / 4).max(1).max(self.batches(3))
    }

    /// Deliveries in so many full batches.
    fn batches(&self, count: usize) -> usize {
        self.fresh.policy().map_or(0, |policy| policy.events_max * count)
    }

    fn release_deferred(&mut self) {
        let delayed = std::mem::take(&mut self.delayed);
        let retries = std::mem::take(&mut self.retries).into_keys();
        for (due, seq) in retries.chain(delayed) {
            self.hand.drop_waiting(seq);
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

    fn take_in_fresh(&mut self, due: Due, mono_ms: u64) {
        if due.seq >= self.cursor && self.hand.wait(due.seq) {
            self.fresh.push(due, mono_ms);
        }
    }

    /// In a lane with batches what was delayed joins those that were never tried, once its time has come.
    fn take_in_deferred(&mut self, due: Due, mono_ms: u64) {
        let Some(was_due) = due.was_due.filter(|_| self.hand.wait(due.seq)) else {
            return;
        };
        if due.tries > 0 {
            self.retries.insert((was_due, due.seq), due.tries);
        } else if self.fresh.policy().is_some() {
            self.fresh.push(due, mono_ms);
        } else {
            self.delayed.insert((was_due, due.seq));
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
        let fresh_max = self.fresh_max();
        match appetite {
            Appetite::Nothing => (0, 0),
            Appetite::One if self.waiting() == 0 => {
                let one = self.batches(1).max(1);
                (one, one)
            }
            Appetite::One => (0, 0),
            Appetite::Window { past_retries } => (
                refill(self.fresh.len(), fresh_max),
                // What was delayed may go to the fresh ones, so a full queue of those takes in neither kind.
                if self.fresh.len() > fresh_max {
                    0
                } else {
                    self.deferred_room(past_retries)
                },
            ),
        }
    }

    /// Room for deferred deliveries, which the store gives in order of due time, retries or not. `past_retries`: retries
    /// take no room from what was delayed, up to [`RETRIES_WINDOWS`].
    fn deferred_room(&self, past_retries: bool) -> usize {
        let max = self.deferred_max();
        let (retries, delayed) = (self.retries.len(), self.delayed.len());
        let room = refill(retries + delayed, max);
        let room = if room == 0 && past_retries && retries + max <= self.retries_max() {
            refill(delayed, max)
        } else {
            room
        };
        room.max(self.room_for_rest())
    }

    fn retries_max(&self) -> usize {
        RETRIES_WINDOWS * self.waiting_max.max(self.deferred_max())
    }
}

/// A half full queue takes in nothing, so that questions are few.
fn refill(len: usize, max: usize) -> usize {
    if len * 2 < max { max - len } else { 0 }
}

impl Backlog for Window {
    fn held_up(&self) -> usize {
        0
    }

    /// Adopts another batch policy.
    fn configure(&mut self, batch: Option<BatchPolicy>) {
        self.fresh.configure(batch);
    }

    /// Whether a request could leave on these terms.
    fn is_ready(&self, terms: &Terms) -> bool {
        self.turn(terms).is_some()
    }

    /// Deliveries that wait, of both kinds.
    fn waiting(&self) -> usize {
        self.fresh.len() + self.delayed.len() + self.retries.len()
    }

    fn fresh(&self) -> usize {
        self.fresh.len()
    }

    /// What it has in hand.
    fn hand(&self) -> &Hand {
        &self.hand
    }

    /// Until when a batch gathers, if one does.
    fn gathers_until(&self) -> Option<u64> {
        self.fresh.ripe_at()
    }

    /// So many requests may have ended without being durable; a stalled store stops sending.
    fn finished_max(&self) -> usize {
        self.fresh_max() + self.deferred_max()
    }

    /// Nothing in hand and no answer to wait for: the lane could be dropped.
    fn is_idle(&self) -> bool {
        self.hand.is_empty() && self.asked.is_none()
    }

    /// A fresh delivery is on disk. It is taken if the lane sends (`open`), nothing before it is missing
    /// and there is room; if not, the store is asked later. Such news may come out of order.
    fn announce(&mut self, due: Due, open: bool, now: Now) {
        let seq = due.seq;
        if seq < self.confirmed {
            return;
        }
        if let Some(asked) = self.asked.as_mut().filter(|asked| asked.fresh) {
            asked.announced = asked.announced.max(Some(seq));
            return;
        }
        if seq < self.cursor {
            if !self.hand.holds(seq) {
                self.step_back(seq);
            }
        } else if open && !self.behind && self.fresh.len() < self.fresh_max() {
            self.take_in_fresh(due, now.mono_ms);
            self.cursor = Seq(seq.0 + 1);
        } else {
            self.behind = true;
        }
    }

    /// A deferred delivery that is not in hand is due at `due`.
    fn announce_deferred(&mut self, due: Timestamp) {
        self.deferred_next = earliest(self.deferred_next, Some(due));
    }

    /// Deliveries from `from` on are pending again, or due times have changed.
    fn revive(&mut self, from: Seq, now: Now) {
        self.release_deferred();
        self.step_back(from);
        self.announce_deferred(now.wall);
    }

    /// Deferred deliveries are due now. Those that wait here would leave with outdated due times.
    fn flush(&mut self, now: Now) {
        self.release_deferred();
        self.announce_deferred(now.wall);
    }

    /// What became of a delivery is durable; `deferred`: when it is due again.
    fn committed(&mut self, seq: Seq, deferred: Option<(Timestamp, u32)>, _now: Now) {
        self.hand.settled(seq);
        if let Some((due, _)) = deferred {
            self.announce_deferred(due);
        }
    }

    /// Asks the store if there is something to ask for and room for the answer. One question at a time.
    fn ask(&mut self, appetite: Appetite, now: Now) -> Option<DueQuery> {
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
        let held = self.hand.seqs();
        Some(DueQuery {
            fresh_from: self.cursor,
            fresh_max,
            now: now.wall,
            deferred_max,
            held,
            tried_max: 0,
        })
    }

    /// Whether [`Window::ask`] would ask.
    fn wants(&self, appetite: Appetite, now: Now) -> bool {
        self.wanted(appetite, now) != (0, 0)
    }

    /// When it will ask though nothing happens: a wall-clock time and a monotonic one.
    fn wakes_at(&self, appetite: Appetite, now: Now) -> (Option<Timestamp>, Option<u64>) {
        if appetite == Appetite::Nothing {
            return (None, None);
        }
        // The answer to a question leads to the next one.
        let due = self
            .deferred_next
            .filter(|due| self.asked.is_none() && *due > now.wall && self.room(appetite).1 > 0);
        let times = [Some(self.ask_after_mono_ms), self.fresh.ripe_at()];
        let mono = times.into_iter().flatten().filter(|at| *at > now.mono_ms);
        (due, mono.min())
    }

    /// Takes in the store's answer; `open`: the lane still sends.
    fn answered(&mut self, answer: &DueAnswer, _keys: &[OrderKey], open: bool, now: Now) {
        let Some(asked) = self.asked.take() else { return };
        if asked.stale || !open {
            // Nothing of it is in hand, so the store will give all of it again.
            self.deferred_next = earliest(self.deferred_next, asked.deferred_next);
            return;
        }
        for due in &answer.deferred {
            self.take_in_deferred(*due, now.mono_ms);
        }
        self.deferred_next = earliest(self.deferred_next, answer.deferred_next);
        if asked.fresh {
            for due in &answer.fresh {
                self.take_in_fresh(*due, now.mono_ms);
            }
            self.cursor = self.cursor.max(answer.fresh_next);
            self.confirmed = self.cursor;
            self.behind = answer.fresh_more || asked.announced.is_some_and(|seq| seq >= self.confirmed);
        }
    }

    /// The store could not answer.
    fn unanswered(&mut self, now: Now) {
        let Some(asked) = self.asked.take() else { return };
        self.deferred_next = earliest(self.deferred_next, asked.deferred_next);
        self.ask_after_mono_ms = now.mono_ms.saturating_add(ASK_AGAIN_MS);
    }

    /// Sends the next request off; empty: none is ready.
    fn start(&mut self, terms: &Terms) -> Several<Due> {
        let Some(turn) = self.turn(terms) else {
            return Several::new();
        };
        self.next = turn.round()[1];
        let batch = match turn {
            Turn::Fresh => self.fresh.take(),
            Turn::Delayed => self.take_delayed(),
            Turn::Retry => self.take_group(),
        };
        let bytes = batch.iter().map(|due| u64::from(due.bytes)).sum();
        self.hand.depart(&batch, terms.era, bytes);
        batch
    }

    /// A delivery's request has ended; see [`Hand::finish`].
    fn finish(&mut self, seq: Seq) -> Option<Flight> {
        self.hand.finish(seq)
    }

    /// Deliveries that did not fit into their request, in their order; `open`: the lane still sends.
    fn give_back(&mut self, batch: &[Due], open: bool, _now: Now) {
        for due in batch.iter().rev() {
            if !self.hand.give_back(due.seq) {
                continue;
            }
            match due.was_due.filter(|_| due.tries > 0) {
                Some(was_due) => {
                    self.retries.insert((was_due, due.seq), due.tries);
                }
                None => self.fresh.push_front(*due),
            }
        }
        if !open {
            self.release();
        }
    }

    /// Gives back all that waits, and its memory: the store still has it.
    fn release(&mut self) {
        let mut first = None;
        for due in self.fresh.drain() {
            self.hand.drop_waiting(due.seq);
            match due.was_due {
                Some(was_due) => self.deferred_next = earliest(self.deferred_next, Some(was_due)),
                None => first = Some(first.map_or(due.seq, |first: Seq| first.min(due.seq))),
            }
        }
        if let Some(first) = first {
            self.step_back(first);
        }
        self.release_deferred();
        self.hand.shrink();
    }
}
