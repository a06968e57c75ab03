//! `GET /v1/events/{id}`: where an event stands. For people: finding an event by its id may read the whole queue.

use std::collections::HashMap;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::dead::letter_id;
use super::error::{ApiError, ApiResult};
use super::server::App;
use super::types::{DeliveryView, EventView};
use crate::domain::event::{Event, Seq};
use crate::store::{DeadEvidence, Deferral, DeliveryState, FoundEvent, LaneId};

/// Events under one id that are looked at; they differ in their source.
const SAME_ID_MAX: usize = 20;

/// Which of the events under one id.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShowQuery {
    source: Option<String>,
}

/// `GET /v1/events/{id}`: the newest event with this id, or the one from `?source=`.
pub async fn show(
    State(app): State<App>,
    id: Result<Path<String>, PathRejection>,
    query: Result<Query<ShowQuery>, QueryRejection>,
) -> ApiResult<Json<EventView>> {
    let (Path(id), Query(query)) = (id?, query?);
    let wanted = id.clone();
    let (found, lanes) = app
        .operator
        .queue()
        .read(move |store| (store.find(&wanted, SAME_ID_MAX), store.lanes()))
        .await?;
    let found = found?;
    let at = found
        .iter()
        .position(|found| {
            query
                .source
                .as_deref()
                .is_none_or(|source| *found.event.head.source == *source)
        })
        .ok_or_else(|| {
            ApiError::not_found(format!(
                "no event {id:?} is kept: everything it owed has been delivered, or it was never accepted"
            ))
        })?;
    let names = lanes.into_iter().map(|lane| (lane.lane, lane.name)).collect();
    let others = found
        .iter()
        .enumerate()
        .filter(|(index, _)| *index != at)
        .map(|(_, other)| other.event.head.source.to_string())
        .collect();
    Ok(Json(view(&found[at], &names, others)))
}

/// The event as JSON that can be put into an answer as it is.
///
/// # Errors
/// Says why when the bytes are not one JSON value.
pub fn raw_json(event: &Event) -> Result<Box<RawValue>, String> {
    serde_json::from_slice(&event.json).map_err(|error| format!("its bytes are not JSON: {error}"))
}

/// The event as the API shows it; `names` are those of the endpoints, by lane.
#[must_use]
pub fn view(found: &FoundEvent, names: &HashMap<LaneId, Box<str>>, other_sources: Vec<String>) -> EventView {
    let head = &found.event.head;
    EventView {
        id: head.id.to_string(),
        source: head.source.to_string(),
        kind: head.kind.to_string(),
        accepted: head.accepted,
        sender_uid: head.sender_uid,
        other_sources,
        event: raw_json(&found.event).ok(),
        deliveries: found
            .deliveries
            .iter()
            .map(|(lane, state)| {
                let endpoint = names.get(lane).map_or("", |name| name).to_owned();
                delivery(endpoint, found.seq, state)
            })
            .collect(),
    }
}

fn delivery(endpoint: String, seq: Seq, state: &DeliveryState) -> DeliveryView {
    let fresh = DeliveryView {
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
    };
    match state {
        DeliveryState::Fresh => fresh,
        DeliveryState::Deferred(deferral) => deferred(fresh, deferral),
        DeliveryState::Dead(evidence) => dead(fresh, seq, evidence),
    }
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

fn dead(fresh: DeliveryView, seq: Seq, evidence: &DeadEvidence) -> DeliveryView {
    let last = evidence.last.as_ref();
    DeliveryView {
        dead_id: Some(letter_id(&fresh.endpoint, seq)),
        state: "dead".to_owned(),
        tries: evidence.tries,
        first_attempt: evidence.first_attempt,
        last_attempt: last.map(|last| last.started),
        last_status: last.and_then(|last| last.status),
        last_error: last.map(|last| last.message.clone()),
        reason: Some(evidence.reason),
        attempts: last.map(Into::into).into_iter().collect(),
        ..fresh
    }
}
