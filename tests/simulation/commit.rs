//! What producers and the committer do: lines are handed in, shares of them become durable together with the ends of
//! tries, and only then is anybody told.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use posthaste::domain::event::{Event, EventHead, Seq};
use posthaste::domain::time::Timestamp;
use posthaste::store::committer::Notice;
use posthaste::store::memory::Reached;
use posthaste::store::{
    AcceptGroup, Accepted, Batch, DeliveryId, FlushCursor, LaneId, NewEvent, Pause, Refusal, Settle,
    SettleTo, Store,
};

use crate::scenario::between;
use crate::world::{Inside, World};

/// Longest time that ends of tries wait for company.
const LINGER_MS: usize = 5;

/// A writing verb of an operator.
#[derive(Debug)]
pub enum Verb {
    /// Pause a lane, or resume it; the scheduler hears of it when it is durable.
    Pause(LaneId, Option<Pause>),
    /// Everything deferred is due now.
    Flush(LaneId, Timestamp, Option<FlushCursor>),
    /// Dead letters become pending.
    Replay(Vec<(DeliveryId, Timestamp)>),
    /// Dead letters go.
    Purge(Vec<DeliveryId>),
    /// What one lane is owed is owed to another.
    Move(LaneId, LaneId),
}

/// The answer to a line.
#[derive(Debug)]
pub struct Answer {
    line: u64,
    accepted: Result<Vec<Accepted>, Refusal>,
}

/// What one commit is made of.
#[derive(Debug, Default)]
struct Share {
    lines: Vec<(u64, AcceptGroup)>,
    settles: Vec<Settle>,
}

/// The committer's memory; gone with the daemon.
#[derive(Debug, Default)]
pub struct Committer {
    waiting: Share,
    verbs: VecDeque<Verb>,
    /// What is being written.
    writing: Option<Share>,
    busy: bool,
}

impl Committer {
    /// Whether it has nothing to do.
    pub fn is_idle(&self) -> bool {
        !self.busy
            && self.verbs.is_empty()
            && self.waiting.lines.is_empty()
            && self.waiting.settles.is_empty()
    }
}

impl World {
    /// A producer sends a line, and keeps it until it has its answer.
    pub fn produce(&mut self) {
        self.lines_sent += 1;
        let there: Vec<_> = self
            .sites
            .iter()
            .filter(|site| site.configured)
            .map(|site| site.lane)
            .collect();
        if there.is_empty() {
            return;
        }
        let count = 1 + self.dice.below(4);
        let group = AcceptGroup {
            events: (0..count).map(|_| self.event(&there)).collect(),
        };
        self.unanswered.insert(self.lines_sent, group.clone());
        self.hand_in(self.lines_sent, group);
    }

    fn event(&mut self, there: &[LaneId]) -> NewEvent {
        self.events_sent += 1;
        let mut lanes: Vec<_> = there.iter().copied().filter(|_| self.dice.one_in(3)).collect();
        if lanes.is_empty() {
            lanes.push(there[self.dice.below(there.len())]);
        }
        let now = self.wall();
        let after = |ms| now.plus(Duration::from_millis(ms));
        let delayed = self.scenario.delayed_one_in;
        let deliver_at =
            (delayed > 0 && self.dice.one_in(delayed)).then(|| after(between(&mut self.dice, 0, 9000)));
        let expires = self
            .dice
            .one_in(20)
            .then(|| after(between(&mut self.dice, 0, 9000)));
        let head = EventHead {
            deliver_at,
            expires,
            partition_key: self.partition_key(),
            ..EventHead::new(format!("e{}", self.events_sent), "/simulation", "simulated", now)
        };
        let size = 2 + self.dice.below(5);
        let json = Bytes::from(format!("{{{:1$}}}", "", size - 2));
        NewEvent {
            event: Event { head, json },
            lanes: lanes.into(),
        }
    }

    /// A line waits for the next commit, if the daemon is there.
    pub fn hand_in(&mut self, line: u64, group: AcceptGroup) {
        if self.daemon.is_some() {
            self.committer.waiting.lines.push((line, group));
            self.soon(0, Inside::Turn);
        }
    }

    /// The end of a try waits for the next commit.
    pub fn settle(&mut self, settle: Settle) {
        self.committer.waiting.settles.push(settle);
        let delay_ms = self.dice.below(LINGER_MS + 1) as u64;
        self.soon(delay_ms, Inside::Turn);
    }

    /// A verb waits for its turn.
    pub fn ask(&mut self, verb: Verb) {
        self.committer.verbs.push_back(verb);
        self.soon(0, Inside::Turn);
    }

    /// The committer begins what waits, unless it is at work.
    pub fn turn(&mut self) {
        if self.committer.busy {
            return;
        }
        let flush_ms = self.flush_ms();
        if let Some(verb) = self.committer.verbs.pop_front() {
            self.committer.busy = true;
            self.soon(flush_ms, Inside::Done(verb));
            return;
        }
        let share = std::mem::take(&mut self.committer.waiting);
        if !(share.lines.is_empty() && share.settles.is_empty()) {
            self.committer.busy = true;
            self.committer.writing = Some(share);
            self.soon(flush_ms, Inside::Flushed);
        }
    }

    /// Mostly as fast as the disk; now and then it stalls.
    fn flush_ms(&mut self) -> u64 {
        if self.scenario.flush_ms_max > 0 && self.dice.one_in(100) {
            return 500;
        }
        between(&mut self.dice, 0, self.scenario.flush_ms_max)
    }

    /// The commit has reached the disk, or failed.
    pub fn flushed(&mut self) {
        let Some(share) = self.committer.writing.take() else {
            return;
        };
        let now = self.wall();
        let batch = Batch {
            accepts: share.lines.iter().map(|(_, group)| group.clone()).collect(),
            settles: share.settles.clone(),
        };
        let Ok(committed) = self.store.commit(batch, now) else {
            // Nothing is answered, nothing more is delivered: the daemon ends.
            self.totals.disk_failures += 1;
            self.crash();
            if self.failing == Reached::Disk {
                self.find_again(share, now);
            }
            return;
        };
        let mut notices: Vec<_> = share.settles.iter().map(moved).collect();
        share
            .settles
            .iter()
            .for_each(|settle| self.ledger.settled(settle));
        let mut answers = Vec::new();
        for ((line, group), accepted) in share.lines.into_iter().zip(committed.accepts) {
            for (new, accepted) in group.events.iter().zip(accepted.iter().flatten()) {
                if let Accepted::New(seq) = *accepted {
                    self.on_disk(seq, new, now, &mut notices);
                }
            }
            answers.push(Answer { line, accepted });
        }
        let delay_ms = self.dice.below(2) as u64;
        self.soon(delay_ms, Inside::Told(notices, answers));
    }

    /// An event is on disk, with everything it owes.
    fn on_disk(&mut self, seq: Seq, new: &NewEvent, now: Timestamp, notices: &mut Vec<Notice>) {
        let due = new.event.head.deliver_at.filter(|at| *at > now);
        self.accepted.insert(new.event.head.id.clone(), seq);
        self.delays.extend(new.event.head.deliver_at.map(|at| (seq, at)));
        for lane in new.lanes.iter().copied() {
            self.totals.deliveries += 1;
            self.ledger.accepted(DeliveryId { lane, seq }, due);
            let bytes = new.event.json.len() as u32;
            notices.push(Notice::Accepted {
                lane,
                seq,
                due,
                bytes,
            });
        }
        let damaged = self.scenario.damaged_one_in;
        if damaged > 0 && self.dice.one_in(damaged) {
            self.store.damage(seq, "simulated");
        } else {
            let key = new.event.head.partition_key.clone();
            self.keys.extend(key.map(|key| (seq, key)));
        }
    }

    /// A commit that failed after it had reached the disk: the next daemon finds all of it.
    fn find_again(&mut self, share: Share, now: Timestamp) {
        for settle in &share.settles {
            self.ledger.settled(settle);
        }
        for new in share.lines.iter().flat_map(|(_, group)| &group.events) {
            let id = &new.event.head.id;
            let found = self.store.find(id, 1).expect("the store works again");
            if let Some(found) = found.first().filter(|_| !self.accepted.contains_key(id)) {
                self.on_disk(found.seq, new, now, &mut Vec::new());
            }
        }
    }

    /// The dispatcher hears what is durable, then the producers get their answers.
    pub fn told(&mut self, notices: Vec<Notice>, answers: Vec<Answer>) {
        for notice in notices {
            self.tell(notice.into());
        }
        for answer in answers {
            let line = self.unanswered.remove(&answer.line);
            let ids = line
                .iter()
                .flat_map(|group| &group.events)
                .map(|new| &new.event.head.id);
            if let Some(id) = ids
                .into_iter()
                .find(|id| answer.accepted.is_ok() && !self.accepted.contains_key(*id))
            {
                self.fail(&format!(
                    "{id} is answered {:?} and is not on disk",
                    answer.accepted
                ));
            }
        }
        self.committer.busy = false;
        self.turn();
    }
}

fn moved(settle: &Settle) -> Notice {
    let (deferred, tries) = match &settle.to {
        SettleTo::Later(deferral) => (Some(deferral.due), deferral.tries),
        SettleTo::Settled | SettleTo::Dead(_) => (None, 0),
    };
    let DeliveryId { lane, seq } = settle.id;
    Notice::Committed {
        lane,
        seq,
        deferred,
        tries,
    }
}

impl World {
    /// The committer is free again.
    pub fn verb_over(&mut self) {
        self.totals.verbs += 1;
        self.committer.busy = false;
        self.turn();
    }

    /// Other rules for an endpoint.
    pub fn change_site(
        &mut self,
        at: usize,
        change: impl FnOnce(&mut posthaste::domain::endpoint::Endpoint),
    ) {
        change(Arc::make_mut(&mut self.sites[at].endpoint));
    }
}
