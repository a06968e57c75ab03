//! What a job does, without a network: it reads its events, asks the endpoint, and lets `domain::company::after` decide
//! what becomes of each delivery.

use std::sync::Arc;
use std::time::Duration;

use posthaste::domain::company::after;
use posthaste::domain::delivery::{DeadReason, Next, Tried};
use posthaste::domain::endpoint::Endpoint;
use posthaste::domain::event::Event;
use posthaste::domain::outcome::Outcome;
use posthaste::domain::several::Several;
use posthaste::domain::time::Timestamp;
use posthaste::scheduler::{Input, Job, Seen};
use posthaste::store::{DeadEvidence, Deferral, DeliveryId, Due, LaneId, LoadError, SettleTo, Store};

use crate::ledger::is_retry;
use crate::receiver::Reply;
use crate::world::{Inside, World};

/// Before the store is asked again for an event that it could not read.
const READ_PAUSE_MS: u64 = 1000;

/// What a job shows of its endpoint when no request was made.
const UNSEEN: Seen = Seen {
    outcome: Outcome::Skipped,
    took: Duration::ZERO,
    retry_after: None,
    overloaded: false,
};

/// A job whose end is on its way to the dispatcher.
#[derive(Debug)]
pub struct Ended {
    /// Whose.
    pub lane: LaneId,
    /// The rules it began with.
    pub endpoint: Arc<Endpoint>,
    started: Timestamp,
    parts: Several<(Due, Found)>,
    /// What the endpoint answers, if it is asked.
    reply: Option<Reply>,
}

impl Ended {
    /// Whether it was a retry.
    pub fn is_retry(&self) -> bool {
        self.parts.iter().any(|(due, _)| is_retry(due))
    }
}

/// What the store has of one delivery.
#[derive(Debug)]
enum Found {
    /// An event to send, and when its first try began.
    Event(Box<Event>, Timestamp),
    /// Its bytes are damaged.
    Damaged,
    /// It is too late for it.
    Expired,
    /// It could not be read.
    Unread,
}

/// What became of one delivery; `None`: nothing.
#[derive(Debug)]
pub struct End {
    /// Which one.
    pub due: Due,
    /// Where it goes.
    pub to: Option<SettleTo>,
}

impl World {
    /// A job begins: reads its events, and makes its request.
    pub fn launch(&mut self, job: Job) {
        self.check_order(&job);
        self.check_batch(&job);
        if let Err(what) = self.ledger.started(&job) {
            self.fail(&what);
        }
        let at = job.lane.0 as usize;
        let endpoint = Arc::clone(&self.sites[at].endpoint);
        let mut parts: Several<_> = job
            .batch
            .iter()
            .map(|due| (*due, self.read(job.lane, *due)))
            .collect();
        let is_unread = |(_, found): &(Due, Found)| matches!(found, Found::Unread);
        let behind = match parts.iter().position(is_unread) {
            Some(at) if self.keeps_order(job.lane) => parts.drain(at + 1..).map(|(due, _)| due).collect(),
            _ => Several::new(),
        };
        let (parts, over) = cut(parts, job.bytes_max);
        for back in [behind, over].into_iter().filter(|back| !back.is_empty()) {
            self.totals.parted += 1;
            self.soon(0, Inside::GivenBack(job.lane, back));
        }
        let sent = |(due, found): &(Due, Found)| matches!(found, Found::Event(..)).then_some(due.seq.0);
        let seqs: Vec<u64> = parts.iter().filter_map(sent).collect();
        let reply = (!seqs.is_empty()).then(|| {
            self.totals.requests += 1;
            let mut reply = self.receivers[at].request(&seqs, self.now_ms, &mut self.dice);
            let most = endpoint.retry.max_retry_after;
            reply.signal.retry_after = reply.signal.retry_after.map(|asked| asked.min(most));
            reply
        });
        let pause_ms = if parts.iter().any(is_unread) {
            READ_PAUSE_MS
        } else {
            0
        };
        let ended = Ended {
            lane: job.lane,
            endpoint,
            started: self.wall(),
            parts,
            reply,
        };
        self.soon(
            reply.map_or(pause_ms, |reply| reply.took_ms),
            Inside::Ended(Box::new(ended)),
        );
    }

    /// What did not fit into its request waits again.
    pub fn give_back(&mut self, lane: LaneId, batch: Several<Due>) {
        for due in &batch {
            self.ledger.ended(DeliveryId { lane, seq: due.seq }, false);
        }
        self.tell(Input::GivenBack { lane, batch });
    }

    fn read(&mut self, lane: LaneId, due: Due) -> Found {
        let fails = self.scenario.read_fails_one_in;
        if fails > 0 && self.dice.one_in(fails) {
            return Found::Unread;
        }
        let now = self.wall();
        let id = DeliveryId { lane, seq: due.seq };
        let before = due.was_due.map(|was_due| self.store.deferral(id, was_due));
        let before = before.and_then(|found| found.ok().flatten());
        match self.store.load(&[due.seq]).pop() {
            Some(Ok(event)) if event.head.expires.is_some_and(|at| at <= now) => Found::Expired,
            Some(Ok(event)) => {
                Found::Event(Box::new(event), before.map_or(now, |before| before.first_attempt))
            }
            Some(Err(LoadError::Damaged(..))) => Found::Damaged,
            Some(Err(_)) | None => Found::Unread,
        }
    }

    /// What a job showed of its endpoint, whether that is gone for good, and what becomes of each delivery.
    pub fn judge(&mut self, ended: Ended, endpoint: &Endpoint) -> (Seen, bool, Vec<End>) {
        let now = self.wall();
        let (lane, started, reply) = (ended.lane, ended.started, ended.reply);
        let mut ends = Vec::with_capacity(ended.parts.len());
        let is_event = |part: &&(Due, Found)| matches!(part.1, Found::Event(..));
        let count = ended.parts.iter().filter(is_event).count();
        let (mut at, random) = (0, self.dice.any());
        for (due, found) in ended.parts {
            let id = DeliveryId { lane, seq: due.seq };
            let to = match found {
                Found::Unread => None,
                Found::Damaged => Some(evidence(DeadReason::Damaged, None, 0, now)),
                Found::Expired => {
                    self.ledger.excuse(id);
                    Some(SettleTo::Settled)
                }
                Found::Event(event, first_attempt) => reply.map(|reply| {
                    self.note(id, reply.outcome, endpoint.best_effort);
                    let tried = Tried {
                        first_attempt,
                        tries_before: due.tries,
                        outcome: reply.outcome,
                        status: reply.status,
                        signal: reply.signal,
                    };
                    let place = (at, count);
                    at += 1;
                    match after(endpoint, &tried, place, now, random) {
                        Next::Settled => SettleTo::Settled,
                        Next::Later { due, tries } => SettleTo::Later(deferral(due, tries, &tried, started)),
                        Next::Dead(reason) => evidence(reason, Some(&event), due.tries + 1, now),
                    }
                }),
            };
            ends.push(End { due, to });
        }
        let Some(reply) = reply else {
            return (UNSEEN, false, ends);
        };
        self.receivers[lane.0 as usize].ended();
        let seen = Seen {
            outcome: reply.outcome,
            took: Duration::from_millis(reply.took_ms),
            retry_after: reply.signal.retry_after,
            overloaded: reply.signal.overloaded,
        };
        (seen, reply.signal.gone, ends)
    }

    fn note(&mut self, id: DeliveryId, outcome: Outcome, best_effort: bool) {
        if outcome == Outcome::Delivered {
            self.ledger.taken(id);
        } else if best_effort {
            self.ledger.excuse(id);
        }
    }
}

/// Takes out what goes beyond `bytes_max`; the first event stays in any case.
fn cut(parts: Several<(Due, Found)>, bytes_max: usize) -> (Several<(Due, Found)>, Several<Due>) {
    let (mut kept, mut back) = (Several::new(), Several::new());
    let (mut events, mut bytes) = (0, 0);
    for (due, found) in parts {
        if let Found::Event(event, _) = &found {
            bytes += event.json.len();
            if events > 0 && bytes > bytes_max {
                back.push(due);
                continue;
            }
            events += 1;
        }
        kept.push((due, found));
    }
    (kept, back)
}

fn deferral(due: Timestamp, tries: u32, tried: &Tried, started: Timestamp) -> Deferral {
    Deferral {
        due,
        tries,
        first_attempt: tried.first_attempt,
        last_attempt: started,
        last_status: tried.status,
        last_class: match tried.outcome {
            Outcome::Error(class) => Some(class),
            Outcome::Delivered | Outcome::Rejected | Outcome::Skipped => None,
        },
        last_message: "".into(),
    }
}

fn evidence(reason: DeadReason, event: Option<&Event>, tries: u32, since: Timestamp) -> SettleTo {
    let head = event.map(|event| &event.head);
    SettleTo::Dead(Box::new(DeadEvidence {
        reason,
        since,
        tries,
        first_attempt: None,
        last: None,
        event_id: head.map_or_else(Box::default, |head| head.id.clone()),
        event_source: head.map_or_else(Box::default, |head| head.source.clone()),
        event_kind: head.map_or_else(Box::default, |head| head.kind.clone()),
        accepted: head.map_or(since, |head| head.accepted),
    }))
}
