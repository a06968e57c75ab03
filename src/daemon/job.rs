//! One delivery on its way: read the event, make the try, decide, hand the decision to the store.

use std::sync::Arc;
use std::time::Duration;

use crate::delivery::{Courier, Tried};
use crate::domain::delivery::{self, DeadReason, Next};
use crate::domain::endpoint::Endpoint;
use crate::domain::event::Event;
use crate::domain::outcome::{Attempt, Outcome};
use crate::domain::time::Timestamp;
use crate::observe::numbers::{LastAttempt, Numbers};
use crate::scheduler::{Job, Seen};
use crate::store::committer::Queue;
use crate::store::{
    AttemptEntry, DeadEvidence, Deferral, DeliveryId, LoadError, NewAttempt, Settle, SettleTo,
};

use super::clock::Clock;

/// Before the store is asked again for an event that it could not read.
const READ_PAUSE: Duration = Duration::from_secs(1);
/// Longest error text a deferral keeps, in bytes.
const MESSAGE_BYTES_MAX: usize = 200;

/// What a job shows of its endpoint when no request was made: nothing to learn from.
const UNSEEN: Seen = Seen {
    outcome: Outcome::Skipped,
    took: Duration::ZERO,
    retry_after: None,
    overloaded: false,
};

/// Tells the dispatcher that a job is over even if the job panicked, which is a bug: its delivery then stays
/// pending, its slot becomes free, and nobody else waits.
struct Watched<F: Fn(Ended)> {
    job: Job,
    tell: F,
    told: bool,
}

impl<F: Fn(Ended)> Drop for Watched<F> {
    fn drop(&mut self) {
        if !self.told {
            (self.tell)(unknown(self.job));
        }
    }
}

/// Carries out `job` and tells its end, whatever happens.
pub async fn carry_out(job: Job, to: Arc<Destination>, queue: Queue, clock: Clock, tell: impl Fn(Ended)) {
    let mut watched = Watched {
        job,
        tell,
        told: false,
    };
    let ended = run(job, to, queue, clock).await;
    watched.told = true;
    (watched.tell)(ended);
}

/// An endpoint in force, with what its deliveries need.
#[derive(Debug)]
pub struct Destination {
    /// Its rules.
    pub endpoint: Arc<Endpoint>,
    /// Makes the requests.
    pub courier: Courier,
    /// What its attempts add up to; outlives a reload.
    pub numbers: Arc<Numbers>,
    /// Whether bodies go into the log.
    pub log_payloads: bool,
}

/// What the dispatcher hears when a job's request has ended.
#[derive(Debug)]
pub struct Ended {
    /// The job.
    pub job: Job,
    /// What the endpoint showed of itself.
    pub seen: Seen,
    /// The endpoint is gone for good, or asked to be disabled.
    pub gone: bool,
    /// Where the delivery goes. `None`: it stays as it is, because nothing came of the try.
    pub settle: Option<Settle>,
    /// The try, for the log. `None`: no request was to be made.
    pub attempt: Option<NewAttempt>,
}

/// The whole life of one try, except for making its end durable.
async fn run(job: Job, to: Arc<Destination>, queue: Queue, clock: Clock) -> Ended {
    let (event, before) = match read(&job, &queue).await {
        Ok(found) => found,
        Err(error) => return unreadable(job, &error).await,
    };
    let now = clock.now();
    if event.head.expires.is_some_and(|expires| expires <= now.wall) {
        to.numbers.expired();
        tracing::info!(
            endpoint = &*to.endpoint.name,
            event = &*event.head.id,
            "expired before it could be delivered"
        );
        return ended(job, UNSEEN, false, SettleTo::Settled);
    }
    let first_attempt = before.map_or(now.wall, |before| before.first_attempt);
    let tried = to.courier.deliver(&event, job.due.tries + 1, now.wall).await;
    let now = clock.now();
    let next = delivery::after(
        &to.endpoint,
        &facts(&job, &tried, first_attempt),
        now.wall,
        random(&job),
    );
    to.numbers
        .attempt(last_attempt(&tried, now.wall), tried.attempt.duration_ms, now);
    log(&to, &event, &tried.attempt, next);
    let seen = Seen {
        outcome: tried.attempt.outcome,
        took: Duration::from_millis(tried.attempt.duration_ms),
        retry_after: tried.signal.retry_after,
        overloaded: tried.signal.overloaded,
    };
    let to = settle_to(next, &event, &tried.attempt, first_attempt, now.wall);
    let gone = tried.signal.gone;
    Ended {
        attempt: Some(logged(&job, event, tried)),
        ..ended(job, seen, gone, to)
    }
}

/// The try as the log takes it.
fn logged(job: &Job, event: Event, tried: Tried) -> NewAttempt {
    let head = event.head;
    NewAttempt {
        lane: job.lane,
        entry: AttemptEntry {
            seq: job.due.seq,
            event_id: head.id,
            event_source: head.source,
            event_kind: head.kind,
            accepted: head.accepted,
            attempt: tried.attempt,
            exchange: tried.exchange,
        },
    }
}

fn ended(job: Job, seen: Seen, gone: bool, to: SettleTo) -> Ended {
    let id = DeliveryId {
        lane: job.lane,
        seq: job.due.seq,
    };
    Ended {
        job,
        seen,
        gone,
        settle: Some(Settle {
            id,
            was_due: job.due.was_due,
            to,
        }),
        attempt: None,
    }
}

/// The event, and what earlier tries left. A fresh delivery is mostly still in memory; else the store is
/// read where blocking is allowed.
async fn read(job: &Job, queue: &Queue) -> Result<(Event, Option<Deferral>), LoadError> {
    let seq = job.due.seq;
    let Some(was_due) = job.due.was_due else {
        if let Some(event) = queue.store().load_cached(seq) {
            return Ok((event, None));
        }
        return Ok((load(queue, seq).await?, None));
    };
    let event = load(queue, seq).await?;
    let id = DeliveryId { lane: job.lane, seq };
    let before = queue
        .read(move |store| store.deferral(id, was_due))
        .await
        .and_then(|found| found);
    Ok((event, before.map_err(LoadError::Store)?))
}

async fn load(queue: &Queue, seq: crate::domain::event::Seq) -> Result<Event, LoadError> {
    let loaded = queue
        .read(move |store| store.load(&[seq]).pop())
        .await
        .map_err(LoadError::Store)?;
    loaded.unwrap_or(Err(LoadError::Missing(seq)))
}

/// What to do with a delivery whose event can't be read. A damaged event goes to the dead letters, where a
/// person sees it. Anything else is no reason to give a delivery up: it stays as it is, and the store is asked
/// again whether it is owed.
async fn unreadable(job: Job, error: &LoadError) -> Ended {
    match error {
        LoadError::Damaged(seq, why) => {
            tracing::error!(
                seq = seq.0,
                why,
                "an event is damaged; its bytes are in quarantine"
            );
            ended(job, UNSEEN, false, SettleTo::Dead(Box::new(damaged(why))))
        }
        LoadError::Missing(_) | LoadError::Store(_) => {
            tracing::error!(%error, "an event could not be read; the store will be asked for it again");
            tokio::time::sleep(READ_PAUSE).await;
            unknown(job)
        }
    }
}

/// The end of a job that says nothing of its delivery.
fn unknown(job: Job) -> Ended {
    Ended {
        job,
        seen: UNSEEN,
        gone: false,
        settle: None,
        attempt: None,
    }
}

fn damaged(why: &str) -> DeadEvidence {
    let since = Clock::wall();
    DeadEvidence {
        reason: DeadReason::Damaged,
        since,
        tries: 0,
        first_attempt: None,
        last: None,
        event_id: format!("(damaged: {why})").into(),
        event_source: "".into(),
        event_kind: "".into(),
        accepted: since,
    }
}

fn facts(job: &Job, tried: &Tried, first_attempt: Timestamp) -> delivery::Tried {
    delivery::Tried {
        first_attempt,
        tries_before: job.due.tries,
        outcome: tried.attempt.outcome,
        status: tried.attempt.status,
        signal: tried.signal,
    }
}

/// A number for the jitter that differs between deliveries and between tries (SplitMix64's mixing step).
fn random(job: &Job) -> u64 {
    let mut x = job.due.seq.0 ^ (u64::from(job.lane.0) << 40) ^ (u64::from(job.due.tries) << 56);
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

fn last_attempt(tried: &Tried, at: Timestamp) -> LastAttempt {
    LastAttempt {
        at,
        outcome: tried.attempt.outcome,
        status: tried.attempt.status,
        message: tried.attempt.message.as_str().into(),
    }
}

fn settle_to(
    next: Next,
    event: &Event,
    attempt: &Attempt,
    first_attempt: Timestamp,
    now: Timestamp,
) -> SettleTo {
    match next {
        Next::Settled => SettleTo::Settled,
        Next::Later { due, tries } => SettleTo::Later(Deferral {
            due,
            tries,
            first_attempt,
            last_attempt: attempt.started,
            last_status: attempt.status,
            last_class: attempt.outcome.class(),
            last_message: cut(&attempt.message).into(),
        }),
        Next::Dead(reason) => SettleTo::Dead(Box::new(DeadEvidence {
            reason,
            since: now,
            tries: attempt.number,
            first_attempt: Some(first_attempt),
            event_id: event.head.id.clone(),
            event_source: event.head.source.clone(),
            event_kind: event.head.kind.clone(),
            accepted: event.head.accepted,
            last: Some(attempt.clone()),
        })),
    }
}

fn cut(text: &str) -> &str {
    let mut end = text.len().min(MESSAGE_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

fn log(to: &Destination, event: &Event, attempt: &Attempt, next: Next) {
    let endpoint = &*to.endpoint.name;
    let id = &*event.head.id;
    if to.log_payloads {
        let body = String::from_utf8_lossy(&event.json);
        tracing::info!(endpoint, event = id, %body, answer = attempt.response_excerpt, "payload");
    }
    let (status, ms) = (attempt.status, attempt.duration_ms);
    let error = &*attempt.message;
    match next {
        Next::Settled if attempt.outcome == Outcome::Delivered => {
            tracing::debug!(
                endpoint,
                event = id,
                status,
                ms,
                attempt = attempt.number,
                "delivered"
            );
        }
        Next::Settled => tracing::warn!(endpoint, event = id, status, ms, error, "given up: best effort"),
        Next::Later { due, tries } => {
            tracing::info!(endpoint, event = id, status, ms, error, tries, next = %due, "will be tried again");
        }
        Next::Dead(reason) => {
            tracing::warn!(
                endpoint,
                event = id,
                status,
                ms,
                error,
                reason = reason.name(),
                "now a dead letter"
            );
        }
    }
}
