//! The lines of an ordered lane: one for each ordering key that has something in memory. In a line everything goes
//! in order of acceptance, one request at a time; what heads it and has to wait for another try holds up all of it.
//! Knows neither the store nor states nor limits, only who may go next.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rustc_hash::FxBuildHasher;

use crate::domain::endpoint::OrderKey;
use crate::domain::event::Seq;
use crate::domain::several::Several;
use crate::domain::time::{Now, Timestamp};
use crate::store::Due;

/// A delivery in a line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    pub(super) due: Due,
    /// Since when it is in memory, on the monotonic clock.
    pub(super) since_mono_ms: u64,
    /// It has failed a try, so it holds up the line until it is due.
    pub(super) tried: bool,
}

impl Standing {
    /// Until when it holds up its line.
    fn waits_until(&self) -> Option<Timestamp> {
        self.due.was_due.filter(|_| self.tried)
    }
}

/// Everything in memory that shares one key.
#[derive(Debug, Default)]
struct Line {
    queue: BTreeMap<Seq, Standing>,
    /// Those of the queue that were never deferred.
    fresh: usize,
    /// Those of the queue that failed a try.
    tried: usize,
    /// Bytes of the queue, as far as they are known.
    bytes: u64,
    /// Since when something waits that was first in memory, also if what was accepted before it joined later.
    since_mono_ms: u64,
    /// In a request, or ended and not durable yet.
    in_hand: usize,
    /// Fresh ones from here on were left in the store.
    cut: Option<Seq>,
    mark: Mark,
}

impl Line {
    /// Whether something accepted before `standing` may still be in the store. Fresh ones are read in order, and what
    /// was tried was sent in order, so only what was delayed can be early.
    fn is_early(&self, standing: &Standing, read: Option<Seq>) -> bool {
        let (due, cut) = (&standing.due, self.cut);
        let unread = read.is_some_and(|read| due.seq >= read) || cut.is_some_and(|cut| cut <= due.seq);
        due.was_due.is_some() && !standing.tried && unread
    }

    /// Whether what was accepted as `seq` has to wait for another try of the head. What was accepted before the head, and
    /// came in late because it was owed to another endpoint, does not.
    fn holds_up(&self, seq: Seq) -> bool {
        let after_head = self.queue.first_key_value().is_some_and(|(head, _)| *head < seq);
        matches!(self.mark, Mark::HeldUp(..)) && after_head
    }
}

/// What is in a request or not durable yet.
#[derive(Clone, Copy, Debug)]
struct Departed {
    key: OrderKey,
    tried: bool,
}

/// Where a line stands in the lists of all lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mark {
    /// Nothing to send, or something in hand.
    #[default]
    Still,
    /// Its head may go.
    Ready(Head),
    /// Its head waits for another try, and so many that were delayed or revived wait behind it.
    HeldUp(Timestamp, usize),
    /// Its head was delayed, and something accepted before it may still be in the store.
    Early(Seq),
}

/// The head of a line that may go, and what stands behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    seq: Seq,
    retry: bool,
    since_mono_ms: u64,
    count: usize,
    bytes: u64,
}

/// Whether a delivery may go in a request that is being put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    Yes,
    /// Not this one, but maybe one of another line.
    Apart,
    /// Nothing more.
    Full,
}

/// All lines.
#[derive(Debug)]
pub(super) struct Lines {
    lines: HashMap<OrderKey, Line, FxBuildHasher>,
    departed: HashMap<Seq, Departed, FxBuildHasher>,
    ready: BTreeSet<(Seq, OrderKey)>,
    ready_retries: BTreeSet<(Seq, OrderKey)>,
    held_up: BTreeSet<(Timestamp, OrderKey)>,
    oldest: BTreeSet<(u64, OrderKey)>,
    early: BTreeSet<(Seq, OrderKey)>,
    /// Every fresh delivery below it is in hand, or its line is cut before it.
    read: Seq,
    /// The store has no fresh ones beyond that.
    read_all: bool,
    /// Lines that were cut and could take more.
    hungry: BTreeSet<(Seq, OrderKey)>,
    /// Fresh deliveries that were taken out of a line as its head came to wait; nobody was told yet.
    let_go: Vec<Seq>,
    /// Their lines, since the store was last asked for what was left.
    cut_since: BTreeSet<OrderKey>,
    /// Fresh deliveries a line holds in memory at most.
    line_max: usize,
    waiting: usize,
    fresh: usize,
    tried: usize,
    held_back: usize,
    sendable: usize,
    sendable_bytes: u64,
}

impl Lines {
    pub(super) fn new(line_max: usize) -> Self {
        Self {
            lines: HashMap::default(),
            departed: HashMap::default(),
            ready: BTreeSet::new(),
            ready_retries: BTreeSet::new(),
            held_up: BTreeSet::new(),
            oldest: BTreeSet::new(),
            early: BTreeSet::new(),
            read: Seq(0),
            read_all: false,
            hungry: BTreeSet::new(),
            let_go: Vec::new(),
            cut_since: BTreeSet::new(),
            line_max,
            waiting: 0,
            fresh: 0,
            tried: 0,
            held_back: 0,
            sendable: 0,
            sendable_bytes: 0,
        }
    }

    /// Fresh deliveries in memory, all lines together.
    pub(super) fn fresh(&self) -> usize {
        self.fresh
    }

    /// Deliveries that failed a try, all lines together.
    pub(super) fn tried(&self) -> usize {
        self.tried
    }

    /// Deliveries that were delayed or revived, and stand behind a head that waits for another try.
    pub(super) fn held_back(&self) -> usize {
        self.held_back
    }

    /// Deliveries that wait, all lines together.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Lines whose head waits for another try.
    pub(super) fn held_up(&self) -> usize {
        self.held_up.len()
    }

    /// When the first of them may go.
    pub(super) fn held_up_until(&self) -> Option<Timestamp> {
        self.held_up.first().map(|(until, _)| *until)
    }

    /// The first place from which a line that was cut could take more.
    pub(super) fn hungry_from(&self) -> Option<Seq> {
        self.hungry.first().map(|(cut, _)| *cut)
    }

    /// Deliveries of lines that may go with a first try, and their bytes.
    pub(super) fn sendable(&self) -> (usize, u64) {
        (self.sendable, self.sendable_bytes)
    }

    /// Since when the longest waiting of them waits.
    pub(super) fn oldest_since(&self) -> Option<u64> {
        self.oldest.first().map(|(since, _)| *since)
    }

    /// Whether the head of a line may go with a first try.
    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Whether the head of a line may be tried again.
    pub(super) fn has_ready_retry(&self, wall: Timestamp) -> bool {
        !self.ready_retries.is_empty() || self.held_up_until().is_some_and(|until| until <= wall)
    }

    /// So far all fresh deliveries have been read, or are about to join.
    pub(super) fn set_read(&mut self, read: Seq) {
        self.read = read;
    }

    /// So far all fresh deliveries have been read.
    pub(super) fn read(&self) -> Seq {
        self.read
    }

    /// Whether the store has no fresh deliveries beyond what was read.
    pub(super) fn set_read_all(&mut self, all: bool) {
        self.read_all = all;
    }

    /// Lets the lines go on whose delayed head has nothing unread before it any more.
    pub(super) fn wake_early(&mut self, wall: Timestamp) {
        let all = if self.read_all { Seq(u64::MAX) } else { self.read };
        let before = (all, OrderKey(0));
        let keys: Vec<OrderKey> = self.early.range(..before).map(|(_, key)| *key).collect();
        keys.into_iter().for_each(|key| self.refresh(key, wall));
    }

    /// Lets the lines go on whose head is due.
    pub(super) fn promote(&mut self, wall: Timestamp) {
        while let Some((until, key)) = self.held_up.first().copied()
            && until <= wall
        {
            self.refresh(key, wall);
        }
    }

    /// A delivery joins its line.
    pub(super) fn join(&mut self, key: OrderKey, standing: Standing, wall: Timestamp) {
        let line = self.lines.entry(key).or_default();
        let since = standing.since_mono_ms;
        line.since_mono_ms = if line.queue.is_empty() {
            since
        } else {
            line.since_mono_ms.min(since)
        };
        line.queue.insert(standing.due.seq, standing);
        line.bytes += u64::from(standing.due.bytes);
        self.waiting += 1;
        line.tried += usize::from(standing.tried);
        self.tried += usize::from(standing.tried);
        if standing.due.was_due.is_none() {
            line.fresh += 1;
            self.fresh += 1;
        }
        self.refresh(key, wall);
    }

    /// Whether a fresh delivery read at the end of everything read may join, or has to be left in the store; that is
    /// remembered.
    pub(super) fn admits(&mut self, key: OrderKey, seq: Seq) -> bool {
        let line = self.lines.entry(key).or_default();
        let admitted = line.cut.is_none() && !line.holds_up(seq) && line.fresh < self.line_max;
        if !admitted {
            line.cut = Some(line.cut.map_or(seq, |cut| cut.min(seq)));
            self.note_hunger(key);
        }
        admitted
    }

    /// The store is about to be asked for what lines left there.
    pub(super) fn reread_begins(&mut self) {
        self.cut_since.clear();
    }

    /// Lines of which the answer may lack something: what was in memory when the store was asked and is not any more.
    pub(super) fn cut_since(&mut self) -> BTreeSet<OrderKey> {
        std::mem::take(&mut self.cut_since)
    }

    /// The same for one that is read once more, from `from` on, when nothing of its line was left of that: only what
    /// follows a line's cut without a gap may join.
    pub(super) fn admits_again(&mut self, key: OrderKey, seq: Seq, from: Seq) -> bool {
        let Some(line) = self.lines.get_mut(&key) else {
            return false;
        };
        let Some(cut) = line.cut.filter(|cut| *cut >= from && *cut <= seq) else {
            return false;
        };
        let admitted = !line.holds_up(seq) && line.fresh < self.line_max;
        line.cut = Some(if admitted { Seq(seq.0 + 1) } else { seq });
        self.hungry.remove(&(cut, key));
        self.note_hunger(key);
        admitted
    }

    /// Everything from `from` to `to` has been read once more: lines that left nothing go on at `to`. `left`: those that
    /// did leave something.
    pub(super) fn reread(&mut self, from: Seq, to: Seq, left: &BTreeSet<OrderKey>, wall: Timestamp) {
        let passed: Vec<(Seq, OrderKey)> = self
            .hungry
            .range((from, OrderKey(0))..(to, OrderKey(0)))
            .filter(|(_, key)| !left.contains(key))
            .copied()
            .collect();
        for (cut, key) in passed {
            self.hungry.remove(&(cut, key));
            if let Some(line) = self.lines.get_mut(&key) {
                line.cut = Some(to);
            }
            self.refresh(key, wall);
        }
        left.iter().for_each(|key| self.refresh(*key, wall));
    }

    /// Takes the next request out: the line that stands first with what follows in it, then others behind it from up
    /// to `lines_max` lines, as `fits` says. Only retries, or only first tries.
    pub(super) fn depart(
        &mut self,
        retry: bool,
        lines_max: usize,
        wall: Timestamp,
        mut fits: impl FnMut(&[Due], &Due) -> Fit,
    ) -> Several<Due> {
        let ready = if retry { &self.ready_retries } else { &self.ready };
        let keys: Several<OrderKey> = ready.iter().take(lines_max).map(|(_, key)| *key).collect();
        let mut batch = Several::new();
        for key in keys {
            let fit = self.take_from(key, wall, &mut batch, &mut fits);
            self.refresh(key, wall);
            if fit == Fit::Full {
                break;
            }
        }
        batch.sort_unstable_by_key(|due: &Due| due.seq);
        batch
    }

    fn take_from(
        &mut self,
        key: OrderKey,
        wall: Timestamp,
        batch: &mut Several<Due>,
        fits: &mut impl FnMut(&[Due], &Due) -> Fit,
    ) -> Fit {
        let unread_from = self.unread_from();
        let Some(line) = self.lines.get_mut(&key) else {
            return Fit::Apart;
        };
        while let Some((seq, standing)) = line.queue.first_key_value().map(|(seq, s)| (*seq, *s)) {
            let waits = standing.waits_until().is_some_and(|until| until > wall);
            if waits || line.is_early(&standing, unread_from) {
                break;
            }
            match fits(batch, &standing.due) {
                Fit::Yes => {}
                no => return no,
            }
            line.queue.remove(&seq);
            let next = line.queue.first_key_value();
            line.since_mono_ms = next.map_or(0, |(_, next)| next.since_mono_ms);
            line.bytes -= u64::from(standing.due.bytes);
            line.in_hand += 1;
            self.waiting -= 1;
            line.tried -= usize::from(standing.tried);
            self.tried -= usize::from(standing.tried);
            if standing.due.was_due.is_none() {
                line.fresh -= 1;
                self.fresh -= 1;
            }
            let tried = standing.tried;
            self.departed.insert(seq, Departed { key, tried });
            batch.push(standing.due);
        }
        Fit::Apart
    }

    /// A delivery that had departed did not fit into its request, and stands where it stood.
    pub(super) fn given_back(&mut self, due: Due, now: Now) {
        let Some(departed) = self.departed.get(&due.seq) else {
            return;
        };
        let back = Standing {
            since_mono_ms: 0,
            ..standing(due, departed.tried, now)
        };
        self.returned(due.seq, Some(back), now.wall);
    }

    /// A delivery that had departed is durable, and joins again as `back` if it has to be tried again.
    pub(super) fn returned(&mut self, seq: Seq, back: Option<Standing>, wall: Timestamp) {
        let Some(Departed { key, .. }) = self.departed.remove(&seq) else {
            return;
        };
        if let Some(line) = self.lines.get_mut(&key) {
            line.in_hand -= 1;
        }
        match back {
            Some(standing) => self.join(key, standing, wall),
            None => self.refresh(key, wall),
        }
    }

    /// Takes everything out that waits. What the store has from the second on has to be read again.
    pub(super) fn release(&mut self) -> (Vec<Standing>, Option<Seq>) {
        let mut out = Vec::new();
        let mut from: Option<Seq> = None;
        for line in self.lines.values_mut() {
            let first_fresh = line.queue.values().find(|s| s.due.was_due.is_none());
            let firsts = [line.cut.take(), first_fresh.map(|s| s.due.seq), from];
            from = firsts.into_iter().flatten().min();
            out.extend(std::mem::take(&mut line.queue).into_values());
            (line.fresh, line.tried, line.bytes) = (0, 0, 0);
            line.mark = Mark::Still;
        }
        self.lines.retain(|_, line| line.in_hand > 0);
        self.lines.shrink_to_fit();
        let read = (self.read, self.read_all);
        let departed = std::mem::take(&mut self.departed);
        let lines = std::mem::take(&mut self.lines);
        *self = Self::new(self.line_max);
        (self.departed, self.lines) = (departed, lines);
        (self.read, self.read_all) = read;
        (out, from)
    }

    /// Leaves the fresh deliveries behind a head which waits for another try in the store; see [`Lines::let_go`].
    fn cut_behind_head(&mut self, key: OrderKey) {
        let Some(line) = self.lines.get_mut(&key).filter(|line| line.fresh > 0) else {
            return;
        };
        let is_fresh = |_: &Seq, standing: &mut Standing| standing.due.was_due.is_none();
        let bytes = &mut line.bytes;
        let cut_off = line.queue.extract_if(.., is_fresh);
        let cut_off = cut_off.inspect(|(_, standing)| *bytes -= u64::from(standing.due.bytes));
        let fresh: Vec<Seq> = cut_off.map(|(seq, _)| seq).collect();
        if let Some(cut) = line.cut {
            self.hungry.remove(&(cut, key));
        }
        line.cut = line.cut.into_iter().chain(fresh.first().copied()).min();
        line.fresh = 0;
        self.fresh -= fresh.len();
        self.waiting -= fresh.len();
        self.let_go.extend(fresh);
        self.cut_since.insert(key);
    }

    /// Takes what was left in the store lately because the head of its line has come to wait for another try: after a
    /// failure, or because the wall clock has jumped back.
    pub(super) fn let_go(&mut self) -> Vec<Seq> {
        std::mem::take(&mut self.let_go)
    }

    /// From here on the store may have fresh deliveries that were never read.
    fn unread_from(&self) -> Option<Seq> {
        (!self.read_all).then_some(self.read)
    }

    /// Brings the lists into step with a line.
    fn refresh(&mut self, key: OrderKey, wall: Timestamp) {
        let unread_from = self.unread_from();
        let Some(line) = self.lines.get_mut(&key) else {
            return;
        };
        let head = line.queue.first_key_value().map(|(_, standing)| *standing);
        let next = match head {
            None => Mark::Still,
            Some(_) if line.in_hand > 0 => Mark::Still,
            Some(head) => match head.waits_until() {
                Some(until) if until > wall => {
                    Mark::HeldUp(until, line.queue.len() - line.fresh - line.tried)
                }
                None if line.is_early(&head, unread_from) => Mark::Early(head.due.seq),
                _ => Mark::Ready(Head {
                    seq: head.due.seq,
                    retry: head.due.tries > 0,
                    since_mono_ms: line.since_mono_ms,
                    count: line.queue.len(),
                    bytes: line.bytes,
                }),
            },
        };
        let before = std::mem::replace(&mut line.mark, next);
        if matches!(next, Mark::HeldUp(..)) {
            self.cut_behind_head(key);
        }
        self.list(key, before, false);
        self.list(key, next, true);
        self.note_hunger(key);
        self.drop_if_over(key);
    }

    fn list(&mut self, key: OrderKey, mark: Mark, add: bool) {
        let set = |list: &mut BTreeSet<(Seq, OrderKey)>, at| {
            if add {
                list.insert(at);
            } else {
                list.remove(&at);
            }
        };
        match mark {
            Mark::Still => {}
            Mark::Ready(head) if head.retry => set(&mut self.ready_retries, (head.seq, key)),
            Mark::Ready(head) => {
                set(&mut self.ready, (head.seq, key));
                let since = (head.since_mono_ms, key);
                if add {
                    self.oldest.insert(since);
                    self.sendable += head.count;
                    self.sendable_bytes += head.bytes;
                } else {
                    self.oldest.remove(&since);
                    self.sendable -= head.count;
                    self.sendable_bytes -= head.bytes;
                }
            }
            Mark::Early(seq) => set(&mut self.early, (seq, key)),
            Mark::HeldUp(until, behind) if add => {
                self.held_up.insert((until, key));
                self.held_back += behind;
            }
            Mark::HeldUp(until, behind) => {
                self.held_up.remove(&(until, key));
                self.held_back -= behind;
            }
        }
    }

    /// A cut line that is not held up there takes more once it has less than half of what it may hold.
    fn note_hunger(&mut self, key: OrderKey) {
        let Some(line) = self.lines.get_mut(&key) else {
            return;
        };
        let Some(cut) = line.cut else { return };
        if cut >= self.read {
            // Nothing beyond has been read yet, so nothing was left.
            line.cut = None;
            self.hungry.remove(&(cut, key));
        } else if !line.holds_up(cut) && line.fresh * 2 <= self.line_max {
            self.hungry.insert((cut, key));
        } else {
            self.hungry.remove(&(cut, key));
        }
    }

    fn drop_if_over(&mut self, key: OrderKey) {
        let over = |line: &Line| line.queue.is_empty() && line.in_hand == 0 && line.cut.is_none();
        if self.lines.get(&key).is_some_and(over) {
            self.lines.remove(&key);
        }
    }
}

/// Now, for whoever takes a delivery into memory.
pub(super) fn standing(due: Due, tried: bool, now: Now) -> Standing {
    Standing {
        due,
        since_mono_ms: now.mono_ms,
        tried,
    }
}
