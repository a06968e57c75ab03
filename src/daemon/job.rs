//! One request on its way: read its events, make the try, decide for each delivery, and say so. Whoever started it
//! hands the decisions to the store.

mod emit;
mod read;
#[cfg(test)]
pub(super) mod tests;
mod wanted;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;

use crate::delivery::{Courier, Item, Tried, batch};
use crate::domain::company;
use crate::domain::delivery::{self, DeadReason, Next};
use crate::domain::endpoint::{Endpoint, OrderPolicy};
use crate::domain::event::{Event, Seq};
use crate::domain::outcome::{Attempt, EndpointSignal, Exchange, Outcome};
use crate::domain::several::Several;
use crate::domain::time::{Now, Timestamp};
use crate::ingest::intake::Intake;
use crate::observe::numbers::{LastAttempt, Numbers};
use crate::scheduler::{Job, Seen};
use crate::store::committer::Queue;
use crate::store::{
    AttemptEntry, DeadEvidence, Deferral, DeliveryId, Due, LaneId, LoadError, NewAttempt, Settle, SettleTo,
};
use crate::trace::tracer::Tracer;

use super::clock::Clock;

use read::Found;
use wanted::{Wanted, wanted};

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

/// Carries out `job` and tells its end, whatever happens. A panic is a bug, of which the panic hook tells: nothing is known
/// of its deliveries then, so they stay pending, and nobody else waits for them.
pub async fn carry_out(job: Job, to: &Destination, queue: &Queue, clock: Clock, tell: &impl Fn(News)) {
    let (lane, batch) = (job.lane, job.batch.clone());
    let ended = match AssertUnwindSafe(run(job, to, queue, clock, tell))
        .catch_unwind()
        .await
    {
        Ok(ended) => ended,
        Err(_) => {
            // What panics once may do so every time.
            tokio::time::sleep(READ_PAUSE).await;
            Ended::unsent(lane, batch.into_iter().map(End::unknown).collect())
        }
    };
    tell(News::Ended(Box::new(ended)));
}

/// An endpoint in force, with what its deliveries need.
#[derive(Debug)]
pub struct Destination {
    /// Its rules.
    pub endpoint: Arc<Endpoint>,
    /// Makes the requests.
    pub courier: Courier,
    /// Takes what is born from its answers.
    pub intake: Arc<Intake>,
    /// What its attempts add up to; outlives a reload.
    pub numbers: Arc<Numbers>,
    /// Its last tries failed before this configuration was put in force.
    pub doubtful: bool,
    /// It asked to be left alone until then before the daemon started.
    pub rests_until: Option<Timestamp>,
    /// Whether bodies go into the log.
    pub log_payloads: bool,
    /// Shows its tries to trace viewers; `None`: nobody watches.
    pub tracer: Option<Arc<Tracer>>,
}

/// What the dispatcher hears of a job.
#[derive(Debug)]
pub enum News {
    /// So much of it did not fit into the request.
    GivenBack {
        /// Whose.
        lane: LaneId,
        /// Which.
        batch: Several<Due>,
    },
    /// Its request has ended.
    Ended(Box<Ended>),
}

/// What the dispatcher hears when a job's request has ended.
#[derive(Debug)]
pub struct Ended {
    /// Whose job.
    pub lane: LaneId,
    /// What became of each of its deliveries.
    pub ends: Several<End>,
    /// What the endpoint showed of itself.
    pub seen: Seen,
    /// The endpoint is gone for good, or asked to be disabled.
    pub gone: bool,
}

impl Ended {
    /// The end of a job that made no request.
    fn unsent(lane: LaneId, ends: Several<End>) -> Self {
        Self {
            lane,
            ends,
            seen: UNSEEN,
            gone: false,
        }
    }
}

/// What became of one delivery.
#[derive(Debug)]
pub struct End {
    /// Which event.
    pub seq: Seq,
    /// Where it goes. `None`: it stays as it is, because nothing came of the try.
    pub settle: Option<Settle>,
    /// The try, for the log; `None`: there was none.
    pub attempt: Option<NewAttempt>,
}

impl End {
    /// Nothing is known of this delivery.
    fn unknown(due: Due) -> Self {
        Self {
            seq: due.seq,
            settle: None,
            attempt: None,
        }
    }

    fn settled(lane: LaneId, due: Due, to: SettleTo) -> Self {
        Self {
            seq: due.seq,
            settle: Some(Settle {
                id: DeliveryId { lane, seq: due.seq },
                was_due: due.was_due,
                to,
            }),
            attempt: None,
        }
    }
}

/// The deliveries that go in one request; `events` and `owed` in the same order.
#[derive(Debug)]
struct Parcel {
    events: Several<Event>,
    owed: Several<Owed>,
}

impl Parcel {
    fn with_capacity(deliveries: usize) -> Self {
        Self {
            events: Several::with_capacity(deliveries),
            owed: Several::with_capacity(deliveries),
        }
    }

    fn add(&mut self, event: Event, owed: Owed) {
        self.events.push(event);
        self.owed.push(owed);
    }

    /// Takes out what goes beyond `bytes_max`; the first event stays in any case.
    fn cut(&mut self, bytes_max: usize) -> Several<Due> {
        let mut bytes = 0;
        let fits = self.events.iter().take_while(|event| {
            bytes += event.json.len();
            bytes <= bytes_max
        });
        let keep = fits.count().max(1);
        self.events.truncate(keep);
        self.owed
            .drain(keep.min(self.owed.len())..)
            .map(|owed| owed.due)
            .collect()
    }
}

/// What is known of one delivery when its try begins.
#[derive(Clone, Copy, Debug)]
struct Owed {
    due: Due,
    first_attempt: Timestamp,
}

/// The whole life of one try, except for making its end durable.
async fn run(mut job: Job, to: &Destination, queue: &Queue, clock: Clock, tell: &impl Fn(News)) -> Ended {
    let lane = job.lane;
    let mut found = read::events(&job, queue).await;
    if to.endpoint.order.policy != OrderPolicy::None {
        cut_behind_unread(&mut found);
    }
    let give_back = |batch: Several<Due>| {
        if !batch.is_empty() {
            tell(News::GivenBack { lane, batch });
        }
    };
    // What was not read waits again: it stands behind what could not be, or goes beyond the request's bytes.
    give_back(job.batch.drain(found.len().min(job.batch.len())..).collect());
    let now = clock.now();
    let (mut parcel, ends) = sort_out(&job, found, to, now);
    give_back(parcel.cut(job.bytes_max));
    if parcel.events.is_empty() {
        if ends.iter().any(|end| end.settle.is_none()) {
            tokio::time::sleep(READ_PAUSE).await;
        }
        return Ended::unsent(lane, ends);
    }
    let batch_id = to.endpoint.batch.as_ref().map(|_| batch::id(&parcel.events));
    let tracer = to.tracer.as_ref();
    let traced = tracer.and_then(|tracer| tracer.attempting(&mut parcel.events));
    let tried = try_once(&parcel, batch_id.as_deref(), to, now.wall).await;
    if let Some(traced) = traced {
        traced.end(&to.endpoint, &tried.attempt, &tried.exchange);
    }
    to.numbers.request(&tried.exchange);
    let seen = Seen {
        outcome: tried.attempt.outcome,
        took: Duration::from_millis(tried.attempt.duration_ms),
        retry_after: tried.signal.retry_after,
        overloaded: tried.signal.overloaded,
    };
    let Tried {
        attempt,
        signal,
        items,
        emissions,
        exchange,
    } = tried;
    if let Err(error) = emit::accept(to, &parcel.events, emissions).await {
        tracing::error!(%error, "what is born from an answer could not be kept; its delivery stays as it is");
        let unknown = parcel.owed.iter().map(|owed| End::unknown(owed.due));
        return Ended::unsent(lane, ends.into_iter().chain(unknown).collect());
    }
    let told = Told {
        lane,
        to,
        now: clock.now(),
        signal,
        batch: batch_id.map(Into::into),
        exchange,
        random: parcel.owed.first().map_or(0, |owed| random(lane, owed.due)),
    };
    Ended {
        lane,
        ends: decide(&told, parcel, attempt, items, ends),
        seen,
        gone: signal.gone,
    }
}

/// Makes the request. A single event lends it its id, a batch has one of its own.
async fn try_once(parcel: &Parcel, batch_id: Option<&str>, to: &Destination, now: Timestamp) -> Tried {
    let tries = parcel.owed.iter().map(|owed| owed.due.tries).max();
    let number = tries.unwrap_or(0) + 1;
    let own = parcel.events.first().map_or("", |event| &event.head.id);
    let id = batch_id.unwrap_or(own);
    to.courier.deliver(&parcel.events, id, number, now).await
}

/// What is the same for every delivery of a request when it has ended.
struct Told<'a> {
    lane: LaneId,
    to: &'a Destination,
    now: Now,
    signal: EndpointSignal,
    /// The batch's id, if it was one.
    batch: Option<Box<str>>,
    exchange: Exchange,
    /// Feeds the jitter: the same for all, so that a batch stays together.
    random: u64,
}

impl Told<'_> {
    /// Where one delivery goes after `attempt`: decided, counted, logged. `place`: which of how many that share the
    /// outcome it is.
    fn conclude(&self, event: Event, owed: &Owed, attempt: Attempt, place: (usize, usize)) -> End {
        let Self { to, now, .. } = *self;
        let facts = delivery::Tried {
            first_attempt: owed.first_attempt,
            tries_before: owed.due.tries,
            outcome: attempt.outcome,
            status: attempt.status,
            signal: self.signal,
        };
        let next = company::after(&to.endpoint, &facts, place, now.wall, self.random);
        to.numbers
            .attempt(last_attempt(&attempt, now.wall), attempt.duration_ms, now);
        log(to, &event, &attempt, next);
        let goes = settle_to(next, &event, &attempt, owed.first_attempt, now.wall);
        let entry = entry(event, owed.due.seq, self.batch.clone(), attempt, self.exchange);
        End {
            attempt: Some(NewAttempt {
                lane: self.lane,
                entry,
            }),
            ..End::settled(self.lane, owed.due, goes)
        }
    }
}

/// Where each delivery of a request goes, added to those whose `ends` are known.
fn decide(
    told: &Told<'_>,
    parcel: Parcel,
    attempt: Attempt,
    items: Option<Vec<Item>>,
    mut ends: Several<End>,
) -> Several<End> {
    let count = parcel.owed.len();
    let alone = items.is_some();
    let mut items = items.unwrap_or_default().into_iter();
    let attempts = std::iter::repeat_n(attempt, count);
    ends.reserve(count);
    for (at, ((event, owed), attempt)) in parcel
        .events
        .into_iter()
        .zip(&parcel.owed)
        .zip(attempts)
        .enumerate()
    {
        let attempt = own(attempt, owed, items.next(), told.to.courier.tells_of_all());
        // Whom the answer names by itself does not answer for the others.
        let place = if alone { (0, 1) } else { (at, count) };
        ends.push(told.conclude(event, owed, attempt, place));
    }
    ends
}

/// The try as the log takes it.
fn entry(
    event: Event,
    seq: Seq,
    batch: Option<Box<str>>,
    attempt: Attempt,
    exchange: Exchange,
) -> Box<AttemptEntry> {
    let head = event.head;
    Box::new(AttemptEntry {
        seq,
        event_id: head.id,
        event_source: head.source,
        event_kind: head.kind,
        accepted: head.accepted,
        batch,
        attempt,
        exchange,
    })
}

/// The attempt as one delivery's own: with its number, and with what the answer says of it alone, if it does. `tells_of_all`:
/// what was said stays also where the item was delivered.
fn own(mut attempt: Attempt, owed: &Owed, item: Option<Item>, tells_of_all: bool) -> Attempt {
    attempt.number = owed.due.tries + 1;
    if let Some(item) = item {
        if item.outcome == Outcome::Delivered && !tells_of_all {
            attempt.forget_exchange();
        }
        attempt.outcome = item.outcome;
        attempt.message = item.message;
    }
    attempt
}

/// Leaves out what stands behind the first event that could not be read: in an endpoint that keeps order it might
/// overtake that one.
fn cut_behind_unread(found: &mut Several<Result<Found, LoadError>>) {
    let unread =
        |found: &Result<_, LoadError>| matches!(found, Err(LoadError::Missing(_) | LoadError::Store(_)));
    let keep = found.iter().position(unread).map_or(found.len(), |at| at + 1);
    found.truncate(keep);
}

/// Tells what can be sent from what has ended already: events that nobody wants any more, and those that can't be read.
fn sort_out(
    job: &Job,
    found: Several<Result<Found, LoadError>>,
    to: &Destination,
    now: Now,
) -> (Parcel, Several<End>) {
    let mut parcel = Parcel::with_capacity(found.len());
    let mut ends = Several::new();
    for (due, found) in job.batch.iter().copied().zip(found) {
        match found {
            Ok(Found { event, before }) => {
                let first_attempt = before.map_or(now.wall, |before| before.first_attempt);
                let owed = Owed { due, first_attempt };
                match wanted(to, &event, due.tries + 1, now.wall) {
                    Wanted::Yes => parcel.add(event, owed),
                    Wanted::No => ends.push(End::settled(job.lane, due, SettleTo::Settled)),
                    Wanted::Unknown(tried) => {
                        let told = Told {
                            lane: job.lane,
                            to,
                            now,
                            signal: tried.signal,
                            batch: None,
                            exchange: tried.exchange,
                            random: random(job.lane, due),
                        };
                        ends.push(told.conclude(event, &owed, tried.attempt, (0, 1)));
                    }
                }
            }
            Err(error) => ends.push(unreadable(job.lane, due, &error)),
        }
    }
    (parcel, ends)
}

/// What to do with a delivery whose event can't be read. A damaged event goes to the dead letters, where a
/// person sees it. Anything else is no reason to give a delivery up: it stays as it is, and the store is asked
/// again whether it is owed.
fn unreadable(lane: LaneId, due: Due, error: &LoadError) -> End {
    match error {
        LoadError::Damaged(seq, why) => {
            tracing::error!(
                seq = seq.0,
                why,
                "an event is damaged; its bytes are in quarantine"
            );
            End::settled(lane, due, SettleTo::Dead(Box::new(damaged(why))))
        }
        LoadError::Missing(_) | LoadError::Store(_) => {
            tracing::error!(%error, "an event could not be read; the store will be asked for it again");
            End::unknown(due)
        }
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

/// A number for the jitter that differs between deliveries and between tries (SplitMix64's mixing step).
fn random(lane: LaneId, due: Due) -> u64 {
    let mut x = due.seq.0 ^ (u64::from(lane.0) << 40) ^ (u64::from(due.tries) << 56);
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

fn last_attempt(attempt: &Attempt, at: Timestamp) -> LastAttempt {
    LastAttempt {
        at,
        outcome: attempt.outcome,
        status: attempt.status,
        message: attempt.message.as_str().into(),
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
