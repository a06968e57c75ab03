//! What an ordered lane knows of its queue in the store: enough of each line to send without a gap, and everything
//! that failed a try, because that is what may not be overtaken.
//!
//! In a line (all events of the endpoint, or those with one ordering key) a delivery leaves when everything accepted
//! before it is durably over: delivered, or among the dead letters. One that has to be tried again holds up its line;
//! what stands behind it is left in the store, so that a held up line costs the memory of its head alone, and is read
//! again when the line goes on. A delayed event and a replayed dead letter take their old place in the line among
//! what has not left yet, once they are due; until then they hold up nobody.

mod lines;

use crate::domain::endpoint::{BatchPolicy, OrderKey};
use crate::domain::event::Seq;
use crate::domain::several::Several;
use crate::domain::time::{Now, Timestamp};
use crate::store::{Due, DueAnswer, DueQuery};

use super::backlog::{Appetite, Backlog, Terms, earliest};
use super::hand::{Flight, Hand};
use lines::{Fit, Lines, Standing, standing};

/// How long to leave the store alone after it could not answer.
const ASK_AGAIN_MS: u64 = 100;
/// Deliveries that failed a try and are held in memory, as a multiple of the window: when there are more, nothing new
/// leaves until some of them are over.
const TRIED_WINDOWS: usize = 16;
/// Delayed and revived deliveries that stand behind a held up head and take no room from other lines, as a multiple of
/// the window: when there are more, those of other lines wait until they are due too.
const HELD_BACK_WINDOWS: usize = 8;
/// Fresh deliveries of one key in memory, so that one busy key does not fill the window.
const KEY_MAX: usize = 8;

/// What a question on its way to the store is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum About {
    /// What failed a try: before it is known nothing leaves.
    Tried,
    /// What comes next in order of acceptance, and deferred deliveries that are due.
    Next,
    /// What lines left in the store, from here on.
    Left(Seq),
    /// Deferred deliveries alone.
    Deferred,
}

/// A question on its way to the store.
#[derive(Debug)]
struct Asked {
    about: About,
    deferred_next: Option<Timestamp>,
    announced: Option<Seq>,
    stale: bool,
}

/// The backlog of an ordered lane.
#[derive(Debug)]
pub(super) struct Ordered {
    window_max: usize,
    batch: Option<BatchPolicy>,
    lines: Lines,
    hand: Hand,
    /// All that failed a try is in memory.
    knows_tried: bool,
    /// While it is not: how many such deliveries the store alone has, if that is known. So the store need not look at all
    /// that is deferred to find the last of them, which an endpoint may have cause for every few seconds.
    tried_stored: Option<usize>,
    /// The store has more of it than fits.
    more_tried: bool,
    /// The store may have more fresh deliveries beyond what has been read.
    behind: bool,
    deferred_next: Option<Timestamp>,
    asked: Option<Asked>,
    ask_after_mono_ms: u64,
    /// Since when something gathered that was given back to the store, until a batch has left: to be read again is no
    /// reason to wait longer.
    gathered_since: Option<u64>,
    /// Whether what was left in the store is asked for next, rather than what comes next.
    left_turn: bool,
    retry_turn: bool,
}

impl Ordered {
    /// An empty one that has not asked the store yet. `one_line`: everything stands in one line.
    pub(super) fn new(window_max: usize, batch: Option<BatchPolicy>, one_line: bool) -> Self {
        let events_max = batch.as_ref().map_or(1, |batch| batch.events_max);
        let line_max = if one_line { window_max } else { KEY_MAX };
        Self {
            window_max: window_max.max(3 * events_max),
            batch,
            lines: Lines::new(line_max.max(2 * events_max)),
            hand: Hand::default(),
            knows_tried: false,
            tried_stored: None,
            more_tried: false,
            behind: true,
            deferred_next: Some(Timestamp(0)),
            asked: None,
            ask_after_mono_ms: 0,
            gathered_since: None,
            left_turn: false,
            retry_turn: false,
        }
    }

    fn tried_max(&self) -> usize {
        TRIED_WINDOWS * self.window_max
    }

    /// Whether nothing that failed a try is in the store alone, as far as memory holds it.
    fn has_all_tried(&self) -> bool {
        self.knows_tried || self.tried_stored == Some(0)
    }

    fn tried_room(&self) -> usize {
        self.tried_max().saturating_sub(self.lines.tried()).max(1)
    }

    /// Nothing new leaves while something that failed a try is not known.
    fn is_clogged(&self) -> bool {
        !self.has_all_tried() || self.more_tried || self.lines.tried() >= self.tried_max()
    }

    /// Whether the next request is a retry; `None`: nothing is ready. The same rules as without order: new and old take
    /// turns, and retries leave half of the limit to what is new.
    fn turn(&self, terms: &Terms) -> Option<bool> {
        if !self.has_all_tried() {
            return None;
        }
        let bytes_max = self.batch.as_ref().map_or(0, |batch| batch.bytes_max as u64);
        let fits = |bytes| terms.fits(&self.hand, bytes);
        let (_, bytes) = self.lines.sendable();
        let fresh =
            self.lines.has_ready() && !self.is_clogged() && self.is_ripe(terms) && fits(bytes.min(bytes_max));
        let retry = self.lines.has_ready_retry(terms.now.wall)
            && terms.has_room_for_retry(&self.hand, fresh)
            && fits(bytes_max);
        match (fresh, retry) {
            (true, true) => Some(self.retry_turn),
            (true, false) => Some(false),
            (false, true) => Some(true),
            (false, false) => None,
        }
    }

    fn is_ripe(&self, terms: &Terms) -> bool {
        let Some(policy) = self.batch.as_ref().filter(|_| !terms.hurry) else {
            return true;
        };
        let (count, bytes) = self.lines.sendable();
        count >= policy.events_max
            || bytes >= policy.bytes_max as u64
            || self
                .gathers_until()
                .is_some_and(|until| until <= terms.now.mono_ms)
    }

    fn take_in(&mut self, due: Due, tried: bool, key: OrderKey, now: Now) {
        if self.hand.wait(due.seq) {
            self.lines.join(key, standing(due, tried, now), now.wall);
            self.let_go_behind();
        }
    }

    /// Whoever stands behind a head that has come to wait is in the store alone from now on. To be called after
    /// everything that may change which lines are held up.
    fn let_go_behind(&mut self) {
        for seq in self.lines.let_go() {
            self.hand.drop_waiting(seq);
        }
    }

    fn set_behind(&mut self, behind: bool) {
        self.behind = behind;
        self.lines.set_read_all(!behind);
    }

    fn outdate_answer(&mut self) {
        if let Some(asked) = &mut self.asked {
            asked.stale = true;
        }
    }

    fn fresh_room(&self, appetite: Appetite) -> usize {
        let len = self.lines.fresh();
        match appetite {
            Appetite::Nothing => 0,
            Appetite::One if len > 0 => 0,
            _ if self.is_clogged() || len * 2 >= self.window_max => 0,
            _ => self.window_max - len,
        }
    }

    /// Room for deliveries whose delay is over.
    fn deferred_room(&self) -> usize {
        let held_back = self.lines.held_back();
        let held = self.lines.waiting() - self.lines.fresh() - self.lines.tried() - held_back;
        let room = (self.window_max / 4).max(1).saturating_sub(held);
        room.min((HELD_BACK_WINDOWS * self.window_max).saturating_sub(held_back))
    }

    /// What to ask for, and how many fresh and deferred deliveries.
    fn wanted(&self, appetite: Appetite, now: Now) -> Option<(About, usize, usize)> {
        if self.asked.is_some() || appetite == Appetite::Nothing || self.ask_after_mono_ms > now.mono_ms {
            return None;
        }
        if !self.has_all_tried() {
            return Some((About::Tried, 0, 0));
        }
        let room = self.fresh_room(appetite);
        let is_due = self.deferred_next.is_some_and(|due| due <= now.wall);
        let deferred = if is_due { self.deferred_room() } else { 0 };
        let left = self.lines.hungry_from().filter(|_| room > 0);
        match left {
            Some(from) if self.left_turn || !self.behind => {
                Some((About::Left(from), self.window_max, deferred))
            }
            _ if room > 0 && self.behind => Some((About::Next, room, deferred)),
            _ if deferred > 0 => Some((About::Deferred, 0, deferred)),
            _ => None,
        }
    }

    fn take_next(&mut self, answer: &DueAnswer, keys: &[OrderKey], now: Now) {
        self.lines.set_read(self.lines.read().max(answer.fresh_next));
        for (due, key) in answer.fresh.iter().zip(keys) {
            if !self.hand.holds(due.seq) && self.lines.admits(*key, due.seq) {
                self.take_in(*due, false, *key, now);
            }
        }
    }

    fn take_left(&mut self, from: Seq, answer: &DueAnswer, keys: &[OrderKey], now: Now) {
        let mut left = self.lines.cut_since();
        let read = self.lines.read();
        let known = answer.fresh.iter().zip(keys);
        for (due, key) in known.take_while(|(due, _)| due.seq < read) {
            if self.hand.holds(due.seq) || left.contains(key) {
                continue;
            }
            if self.lines.admits_again(*key, due.seq, from) {
                self.take_in(*due, false, *key, now);
            } else {
                left.insert(*key);
            }
        }
        let to = if answer.fresh_more {
            answer.fresh_next.min(read)
        } else {
            read
        };
        self.lines.reread(from, to, &left, now.wall);
        self.let_go_behind();
    }

    fn take_tried(&mut self, answer: &DueAnswer, keys: &[OrderKey], now: Now) {
        let found = answer.tried.len();
        let is_all = self.tried_stored.take().is_some_and(|stored| stored <= found);
        self.more_tried = !is_all && found >= self.tried_room();
        for (due, key) in answer.tried.iter().zip(keys) {
            self.take_in(*due, true, *key, now);
        }
        self.knows_tried = true;
    }

    /// Asks again for what failed a try when there was more of it than fits, and most of that is over.
    fn make_room_for_tried(&mut self) {
        if self.more_tried && self.lines.tried() * 2 < self.tried_max() {
            (self.more_tried, self.knows_tried) = (false, false);
        }
    }
}

impl Backlog for Ordered {
    fn configure(&mut self, batch: Option<BatchPolicy>) {
        self.batch = batch;
    }

    fn is_ready(&self, terms: &Terms) -> bool {
        self.turn(terms).is_some()
    }

    fn waiting(&self) -> usize {
        self.lines.waiting()
    }

    fn fresh(&self) -> usize {
        self.lines.fresh()
    }

    fn hand(&self) -> &Hand {
        &self.hand
    }

    fn held_up(&self) -> usize {
        self.lines.held_up()
    }

    fn gathers_until(&self) -> Option<u64> {
        let policy = self.batch.as_ref()?;
        let wait_ms = u64::try_from(policy.wait_max.as_millis()).unwrap_or(u64::MAX);
        let oldest = self.lines.oldest_since()?;
        let since = self.gathered_since.map_or(oldest, |since| since.min(oldest));
        Some(since.saturating_add(wait_ms))
    }

    fn finished_max(&self) -> usize {
        self.window_max
    }

    fn is_idle(&self) -> bool {
        self.hand.is_empty() && self.asked.is_none()
    }

    /// News is only a hint here: the key of an event is known when it is read.
    fn announce(&mut self, due: Due, _open: bool, _now: Now) {
        if let Some(asked) = self.asked.as_mut().filter(|asked| asked.about == About::Next) {
            asked.announced = asked.announced.max(Some(due.seq));
        } else if due.seq >= self.lines.read() {
            self.set_behind(true);
        }
    }

    fn announce_deferred(&mut self, due: Timestamp) {
        self.deferred_next = earliest(self.deferred_next, Some(due));
    }

    /// That may be said of what failed a try and could not be read, too.
    fn revive(&mut self, from: Seq, now: Now) {
        self.release();
        self.tried_stored = None;
        self.lines.set_read(self.lines.read().min(from));
        self.set_behind(true);
        self.announce_deferred(now.wall);
    }

    fn flush(&mut self, now: Now) {
        self.release();
        self.announce_deferred(now.wall);
    }

    fn committed(&mut self, seq: Seq, deferred: Option<(Timestamp, u32)>, now: Now) {
        if !self.hand.settled(seq) {
            if let Some((due, _)) = deferred {
                self.announce_deferred(due);
                self.tried_stored = None;
            }
            return;
        }
        let asking = |asked: &Asked| asked.about == About::Tried && !asked.stale;
        let known = self.knows_tried || self.asked.as_ref().is_some_and(asking);
        // What is not known now is read with the rest of what was tried.
        if deferred.is_some() && !known {
            self.tried_stored = self.tried_stored.map(|stored| stored + 1);
        }
        let back = deferred
            .filter(|_| known && self.hand.wait(seq))
            .map(|(due, tries)| Standing {
                tried: true,
                ..standing(Due::deferred(seq, due, tries), true, now)
            });
        self.lines.returned(seq, back, now.wall);
        self.let_go_behind();
        self.make_room_for_tried();
    }

    fn ask(&mut self, appetite: Appetite, now: Now) -> Option<DueQuery> {
        let (about, fresh_max, deferred_max) = self.wanted(appetite, now)?;
        self.left_turn = about == About::Next;
        if matches!(about, About::Left(_)) {
            self.lines.reread_begins();
        }
        let deferred_next = self.deferred_next.take();
        self.asked = Some(Asked {
            about,
            deferred_next,
            announced: None,
            stale: false,
        });
        Some(DueQuery {
            fresh_from: match about {
                About::Left(from) => from,
                _ => self.lines.read(),
            },
            fresh_max,
            now: now.wall,
            deferred_max,
            held: self.hand.seqs(),
            tried_max: match about {
                About::Tried => self.tried_stored.unwrap_or(usize::MAX).min(self.tried_room()),
                _ => 0,
            },
        })
    }

    fn wants(&self, appetite: Appetite, now: Now) -> bool {
        self.wanted(appetite, now).is_some()
    }

    fn wakes_at(&self, appetite: Appetite, now: Now) -> (Option<Timestamp>, Option<u64>) {
        if appetite == Appetite::Nothing {
            return (None, None);
        }
        let deferred = self
            .deferred_next
            .filter(|_| self.asked.is_none() && self.deferred_room() > 0);
        let wall = [deferred, self.lines.held_up_until()];
        let mono = [Some(self.ask_after_mono_ms), self.gathers_until()];
        (
            wall.into_iter().flatten().filter(|at| *at > now.wall).min(),
            mono.into_iter().flatten().filter(|at| *at > now.mono_ms).min(),
        )
    }

    fn answered(&mut self, answer: &DueAnswer, keys: &[OrderKey], open: bool, now: Now) {
        let Some(asked) = self.asked.take() else { return };
        if asked.stale || !open {
            self.deferred_next = earliest(self.deferred_next, asked.deferred_next);
            self.set_behind(self.behind || asked.about == About::Next);
            return;
        }
        let (fresh_keys, keys) = keys.split_at(answer.fresh.len().min(keys.len()));
        let (deferred_keys, tried_keys) = keys.split_at(answer.deferred.len().min(keys.len()));
        for (due, key) in answer.deferred.iter().zip(deferred_keys) {
            self.take_in(*due, false, *key, now);
        }
        self.deferred_next = earliest(self.deferred_next, answer.deferred_next);
        match asked.about {
            About::Tried => self.take_tried(answer, tried_keys, now),
            About::Left(from) => self.take_left(from, answer, fresh_keys, now),
            About::Next => {
                self.take_next(answer, fresh_keys, now);
                let unseen = asked.announced.is_some_and(|seq| seq >= self.lines.read());
                self.set_behind(answer.fresh_more || unseen);
                self.lines.wake_early(now.wall);
                self.let_go_behind();
            }
            About::Deferred => {}
        }
    }

    fn unanswered(&mut self, now: Now) {
        let Some(asked) = self.asked.take() else { return };
        self.deferred_next = earliest(self.deferred_next, asked.deferred_next);
        self.set_behind(self.behind || asked.about == About::Next);
        self.ask_after_mono_ms = now.mono_ms.saturating_add(ASK_AGAIN_MS);
    }

    fn start(&mut self, terms: &Terms) -> Several<Due> {
        self.lines.promote(terms.now.wall);
        self.let_go_behind();
        let Some(retry) = self.turn(terms) else {
            return Several::new();
        };
        self.retry_turn = !retry;
        self.gathered_since = self.gathered_since.filter(|_| retry);
        let (events_max, bytes_max) = match &self.batch {
            None => (1, usize::MAX),
            Some(policy) => (policy.events_max, policy.bytes_max),
        };
        let mut bytes = 0;
        let fits = |batch: &[Due], next: &Due| {
            let more = bytes + next.bytes as usize;
            match batch.first() {
                // What failed together is tried again together, and with nobody else.
                Some(first)
                    if (first.tries > 0 || next.tries > 0)
                        && (first.was_due, first.tries) != (next.was_due, next.tries) =>
                {
                    Fit::Apart
                }
                Some(_) if batch.len() >= events_max || more > bytes_max => Fit::Full,
                _ => {
                    bytes = more;
                    Fit::Yes
                }
            }
        };
        // Retries of one batch may stand in lines far apart.
        let lines_max = if retry && events_max > 1 {
            usize::MAX
        } else {
            events_max
        };
        let mut batch = self.lines.depart(retry, lines_max, terms.now.wall, fits);
        self.let_go_behind();
        if retry && let Some(policy) = &self.batch {
            // What they hold is not known, but it was a batch once.
            let each = policy.bytes_max / batch.len().max(1);
            let bytes = u32::try_from(each).unwrap_or(u32::MAX);
            batch.iter_mut().for_each(|due| due.bytes = bytes);
        }
        let bytes = batch.iter().map(|due| u64::from(due.bytes)).sum();
        self.hand.depart(&batch, terms.era, bytes);
        batch
    }

    fn finish(&mut self, seq: Seq) -> Option<Flight> {
        self.hand.finish(seq)
    }

    fn give_back(&mut self, batch: &[Due], open: bool, now: Now) {
        for due in batch {
            if self.hand.give_back(due.seq) {
                self.lines.given_back(*due, now);
            }
        }
        self.let_go_behind();
        if !open {
            self.release();
        }
    }

    fn release(&mut self) {
        let in_memory = self.lines.tried();
        self.tried_stored = match self.knows_tried {
            true => Some(in_memory).filter(|_| !self.more_tried),
            false => self.tried_stored.map(|stored| stored + in_memory),
        };
        let since = [self.gathered_since, self.lines.oldest_since()];
        self.gathered_since = since.into_iter().flatten().min();
        let (waiting, from) = self.lines.release();
        for standing in waiting {
            self.hand.drop_waiting(standing.due.seq);
            if let Some(due) = standing.due.was_due.filter(|_| !standing.tried) {
                self.announce_deferred(due);
            }
        }
        if let Some(from) = from {
            self.lines.set_read(self.lines.read().min(from));
            self.set_behind(true);
        }
        (self.knows_tried, self.more_tried) = (false, false);
        self.outdate_answer();
        self.hand.shrink();
    }
}
