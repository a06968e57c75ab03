//! `GET /v1/events/{id}`: where an event stands, and what was tried. For people: finding an event by its id may read
//! the whole queue and the whole log of attempts.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::attempts;
use super::dead::letter_id;
use super::error::{ApiError, ApiResult};
use super::server::App;
use super::types::attempt::attempt_of;
use super::types::{AttemptView, DeliveryView, EventView};
use crate::domain::event::{Event, Seq};
use crate::domain::outcome::Outcome;
use crate::store::{
    AttemptFilter, DeadEvidence, Deferral, DeliveryState, FoundEvent, LaneId, LoggedAttempt, Store,
    StoreError,
};

/// Events under one id that are looked at; they differ in their source.
const SAME_ID_MAX: usize = 20;
/// Tries of an event that are shown; the newest.
const ATTEMPTS_MAX: usize = 500;

/// Which of the events under one id.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShowQuery {
    source: Option<String>,
}

/// `GET /v1/events/{id}`: the newest event with this id, or the one from `?source=`. One that is kept goes before one
/// that only the log knows.
pub async fn show(
    State(app): State<App>,
    id: Result<Path<String>, PathRejection>,
    query: Result<Query<ShowQuery>, QueryRejection>,
) -> ApiResult<Json<EventView>> {
    let (Path(id), Query(query)) = (id?, query?);
    let wanted = id.clone();
    let known = app
        .operator
        .queue()
        .read(move |store| look_up(store, &wanted))
        .await??;
    let view = known.view(query.source.as_deref()).ok_or_else(|| {
        ApiError::not_found(format!(
            "no event {id:?} is kept, and the log of attempts knows none: it was never accepted, nobody was to get it, \
             or it was delivered longer ago than the log reaches"
        ))
    })?;
    Ok(Json(view))
}

/// All that is known under one id.
struct Known {
    kept: Vec<FoundEvent>,
    /// Newest first.
    attempts: Vec<LoggedAttempt>,
    names: HashMap<LaneId, Box<str>>,
}

fn look_up(store: &dyn Store, id: &str) -> Result<Known, StoreError> {
    let filter = AttemptFilter {
        event_id: Some(id.into()),
        ..AttemptFilter::default()
    };
    Ok(Known {
        kept: store.find(id, SAME_ID_MAX)?,
        attempts: attempts::read(store, &filter, None, ATTEMPTS_MAX, usize::MAX).attempts,
        names: store
            .lanes()
            .into_iter()
            .map(|lane| (lane.lane, lane.name))
            .collect(),
    })
}

impl Known {
    /// The event from `source` (`None`: from any), and every delivery of which something is known.
    fn view(&self, source: Option<&str>) -> Option<EventView> {
        let wanted = |from: &str| source.is_none_or(|source| source == from);
        let kept = self.kept.iter().find(|found| wanted(&found.event.head.source));
        let mut view = match kept {
            Some(found) => kept_view(found),
            None => logged_view(
                self.attempts
                    .iter()
                    .find(|logged| wanted(&logged.entry.event_source))?,
            ),
        };
        view.other_sources = self.sources_but(&view.source);
        // Another event may have had the same id and source before, when the window of duplicates had passed.
        let seq = kept.map(|found| found.seq);
        let mut tries: BTreeMap<&str, Vec<&LoggedAttempt>> = BTreeMap::new();
        for logged in self.attempts.iter().rev() {
            let entry = &logged.entry;
            if *entry.event_source == *view.source && seq.is_none_or(|seq| seq == entry.seq) {
                tries.entry(&logged.endpoint).or_default().push(logged);
            }
        }
        for (lane, state) in kept.iter().flat_map(|found| &found.deliveries) {
            let endpoint = self.names.get(lane).map_or("", |name| name);
            let seq = seq.unwrap_or_default();
            let logged = tries.remove(endpoint).unwrap_or_default();
            view.deliveries
                .push(delivery(endpoint.to_owned(), seq, state, &logged));
        }
        view.deliveries.extend(
            tries
                .iter()
                .filter_map(|(endpoint, logged)| over(endpoint, logged)),
        );
        Some(view)
    }

    fn sources_but(&self, shown: &str) -> Vec<String> {
        let kept = self.kept.iter().map(|found| &found.event.head.source);
        let logged = self.attempts.iter().map(|logged| &logged.entry.event_source);
        let others: BTreeSet<&str> = kept.chain(logged).map(|source| &**source).collect();
        others
            .into_iter()
            .filter(|source| *source != shown)
            .map(str::to_owned)
            .collect()
    }
}

/// The event as JSON that can be put into an answer as it is.
///
/// # Errors
/// Says why when the bytes are not one JSON value.
pub fn raw_json(event: &Event) -> Result<Box<RawValue>, String> {
    serde_json::from_slice(&event.json).map_err(|error| format!("its bytes are not JSON: {error}"))
}

/// The event as far as the queue alone knows it; `names` are those of the endpoints, by lane.
#[must_use]
pub fn view(found: &FoundEvent, names: &HashMap<LaneId, Box<str>>) -> EventView {
    let of = |(lane, state): &(LaneId, DeliveryState)| {
        let endpoint = names.get(lane).map_or("", |name| name).to_owned();
        delivery(endpoint, found.seq, state, &[])
    };
    EventView {
        deliveries: found.deliveries.iter().map(of).collect(),
        ..kept_view(found)
    }
}

fn kept_view(found: &FoundEvent) -> EventView {
    let head = &found.event.head;
    EventView {
        id: head.id.to_string(),
        source: head.source.to_string(),
        kind: head.kind.to_string(),
        accepted: head.accepted,
        sender_uid: head.sender_uid,
        kept: true,
        other_sources: Vec::new(),
        event: raw_json(&found.event).ok(),
        deliveries: Vec::new(),
    }
}

/// What the log still knows of an event that owes nothing any more.
fn logged_view(logged: &LoggedAttempt) -> EventView {
    let entry = &logged.entry;
    EventView {
        id: entry.event_id.to_string(),
        source: entry.event_source.to_string(),
        kind: entry.event_kind.to_string(),
        accepted: entry.accepted,
        sender_uid: None,
        kept: false,
        other_sources: Vec::new(),
        event: None,
        deliveries: Vec::new(),
    }
}

/// A delivery that is still owed, or dead; `logged` are its tries, oldest first.
fn delivery(endpoint: String, seq: Seq, state: &DeliveryState, logged: &[&LoggedAttempt]) -> DeliveryView {
    let fresh = DeliveryView {
        attempts: logged.iter().map(|logged| attempt_of(logged)).collect(),
        ..untried(endpoint)
    };
    match state {
        DeliveryState::Fresh => fresh,
        DeliveryState::Deferred(deferral) => deferred(fresh, deferral),
        DeliveryState::Dead(evidence) => dead(fresh, seq, evidence),
    }
}

fn untried(endpoint: String) -> DeliveryView {
    DeliveryView {
        endpoint,
        state: "pending".to_owned(),
        tries: 0,
        due: None,
        first_attempt: None,
        last_attempt: None,
        last_status: None,
        last_error: None,
        dead_id: None,
        reason: None,
        attempts: Vec::new(),
    }
}

/// A delivery of which only its tries are known, oldest first.
fn over(endpoint: &str, logged: &[&LoggedAttempt]) -> Option<DeliveryView> {
    let (first, last) = (&logged.first()?.entry.attempt, &logged.last()?.entry.attempt);
    let state = match last.outcome {
        Outcome::Delivered => "delivered",
        Outcome::Skipped => "skipped",
        Outcome::Rejected | Outcome::Error(_) => "settled",
    };
    Some(DeliveryView {
        state: state.to_owned(),
        tries: last.number,
        first_attempt: Some(first.started),
        last_attempt: Some(last.started),
        last_status: last.status,
        last_error: (!last.message.is_empty()).then(|| last.message.clone()),
        attempts: logged.iter().map(|logged| attempt_of(logged)).collect(),
        ..untried(endpoint.to_owned())
    })
}

fn deferred(fresh: DeliveryView, deferral: &Deferral) -> DeliveryView {
    let tried = deferral.last_class.is_some() || deferral.last_status.is_some();
    DeliveryView {
        state: "deferred".to_owned(),
        tries: deferral.tries,
        due: Some(deferral.due),
        first_attempt: tried.then_some(deferral.first_attempt),
        last_attempt: tried.then_some(deferral.last_attempt),
        last_status: deferral.last_status,
        last_error: tried.then(|| deferral.last_message.to_string()),
        ..fresh
    }
}

/// The dead letter has more of the last try's answer than the log, and keeps it for longer.
fn dead(mut fresh: DeliveryView, seq: Seq, evidence: &DeadEvidence) -> DeliveryView {
    let last = evidence.last.as_ref();
    if let Some(last) = last {
        let logged = fresh
            .attempts
            .pop_if(|attempt| attempt.number == last.number && attempt.started == last.started);
        fresh.attempts.push(AttemptView {
            exchange: logged.and_then(|logged| logged.exchange),
            ..last.into()
        });
    }
    DeliveryView {
        dead_id: Some(letter_id(&fresh.endpoint, seq)),
        state: "dead".to_owned(),
        tries: evidence.tries,
        first_attempt: evidence.first_attempt,
        last_attempt: last.map(|last| last.started),
        last_status: last.and_then(|last| last.status),
        last_error: last.map(|last| last.message.clone()),
        reason: Some(evidence.reason),
        ..fresh
    }
}
