//! Listing and showing dead letters. Their ids for people are `<endpoint>:<number>`.

use std::collections::HashMap;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use serde::Deserialize;

use super::error::{ApiError, ApiResult};
use super::events::raw_json;
use super::page::{cursor_of, delivery_of, limit};
use super::server::{App, no_endpoint};
use super::types::{DeadLetterView, DeadSelect, Page};
use super::units::parse_instant;
use crate::domain::delivery::DeadReason;
use crate::domain::event::Seq;
use crate::domain::route::TypePattern;
use crate::domain::time::Timestamp;
use crate::store::{DeadFilter, DeadLetter, DeliveryId, LaneId, LaneTotals, Store, StoreError};

/// A page with events in it ends early once their bytes reach this, so that an answer stays bounded.
const PAGE_EVENT_BYTES_MAX: usize = 4 << 20;

/// Names of lanes.
pub type Names = HashMap<LaneId, Box<str>>;

/// The names of `lanes`.
#[must_use]
pub fn names(lanes: &[LaneTotals]) -> Names {
    lanes.iter().map(|lane| (lane.lane, lane.name.clone())).collect()
}

/// The id of a dead letter: an event is dead once at most for one endpoint, and its number is never given again.
#[must_use]
pub fn letter_id(endpoint: &str, seq: Seq) -> String {
    format!("{endpoint}:{}", seq.0)
}

/// Reads an id; `None` when it is not one, or names an endpoint that never was.
#[must_use]
pub fn parse_letter_id(id: &str, lanes: &[LaneTotals]) -> Option<DeliveryId> {
    let (endpoint, number) = id.rsplit_once(':')?;
    let lane = lanes.iter().find(|lane| *lane.name == *endpoint)?.lane;
    let seq = Seq(number.parse().ok()?);
    Some(DeliveryId { lane, seq })
}

/// Turns what was asked into what the store looks for.
///
/// # Errors
/// 404 for an endpoint that never was, 400 for a field that cannot be read.
pub fn filter(select: &DeadSelect, lanes: &[LaneTotals], now: Timestamp) -> ApiResult<DeadFilter> {
    let lane = match select.endpoint.as_deref() {
        None => None,
        Some(name) => {
            let lane = lanes.iter().find(|lane| *lane.name == *name);
            Some(lane.ok_or_else(|| no_endpoint(name))?.lane)
        }
    };
    let wrong = |field: &str, problem: String| ApiError::bad_request(format!("{field}: {problem}"));
    let instant = |field: &str, text: &Option<String>| {
        text.as_deref()
            .map(|text| parse_instant(text, now))
            .transpose()
            .map_err(|problem| wrong(field, problem))
    };
    Ok(DeadFilter {
        lane,
        kind: select
            .kind
            .as_deref()
            .map(TypePattern::parse)
            .transpose()
            .map_err(|problem| wrong("type", problem))?,
        reason: select.reason.as_deref().map(reason).transpose()?,
        status: select.status,
        since: instant("since", &select.since)?,
        until: instant("until", &select.until)?,
    })
}

fn reason(name: &str) -> ApiResult<DeadReason> {
    DeadReason::named(name).ok_or_else(|| ApiError::unknown("reason", name, "a reason", DeadReason::NAMES))
}

/// What to list: the fields of [`DeadSelect`] beside those of a page. Flat, so that unknown ones are noticed.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListQuery {
    endpoint: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    reason: Option<String>,
    status: Option<u16>,
    since: Option<String>,
    until: Option<String>,
    limit: Option<usize>,
    cursor: Option<String>,
    with: Option<String>,
}

impl ListQuery {
    fn with_event(&self) -> ApiResult<bool> {
        match self.with.as_deref() {
            None => Ok(false),
            Some("event") => Ok(true),
            Some(other) => Err(ApiError::bad_request(format!(
                "with: {other:?} is not known; there is with=event"
            ))),
        }
    }
}

/// `GET /v1/dead`: by endpoint, then in order of acceptance.
pub async fn list(
    State(app): State<App>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> ApiResult<Json<Page<DeadLetterView>>> {
    let Query(query) = query?;
    let limit = limit(query.limit)?;
    let after = query.cursor.as_deref().map(delivery_of).transpose()?;
    let with_event = query.with_event()?;
    let select = DeadSelect {
        endpoint: query.endpoint,
        kind: query.kind,
        reason: query.reason,
        status: query.status,
        since: query.since,
        until: query.until,
    };
    let lanes = app.lane_totals().await?;
    let filter = filter(&select, &lanes, app.operator.now())?;
    let names = names(&lanes);
    let page = app
        .operator
        .queue()
        .read(move |store| read_page(store, &names, &filter, after, limit, with_event))
        .await??;
    Ok(Json(page))
}

fn read_page(
    store: &dyn Store,
    names: &Names,
    filter: &DeadFilter,
    after: Option<DeliveryId>,
    limit: usize,
    with_event: bool,
) -> Result<Page<DeadLetterView>, StoreError> {
    let found = store.dead(filter, after, limit)?;
    let mut next = found.next.map(cursor_of);
    let mut items = Vec::with_capacity(found.letters.len());
    let mut bytes = 0;
    let count = found.letters.len();
    for (index, letter) in found.letters.iter().enumerate() {
        let mut item = view(letter, names);
        if with_event {
            bytes += add_event(&mut item, letter.id.seq, store);
        }
        items.push(item);
        if bytes >= PAGE_EVENT_BYTES_MAX && index + 1 < count {
            next = Some(cursor_of(letter.id));
            break;
        }
    }
    Ok(Page { items, next })
}

/// `GET /v1/dead/{id}`: one dead letter with its event.
pub async fn show(
    State(app): State<App>,
    id: Result<Path<String>, PathRejection>,
) -> ApiResult<Json<DeadLetterView>> {
    let Path(id) = id?;
    let lanes = app.lane_totals().await?;
    let names = names(&lanes);
    let missing = || ApiError::not_found(format!("there is no dead letter {id:?} (any more)"));
    let delivery = parse_letter_id(&id, &lanes).ok_or_else(missing)?;
    let found = app
        .operator
        .queue()
        .read(move |store| {
            let letter = store.dead_letter(delivery)?;
            Ok::<_, StoreError>(letter.map(|letter| {
                let mut item = view(&letter, &names);
                add_event(&mut item, letter.id.seq, store);
                item
            }))
        })
        .await??;
    found.map(Json).ok_or_else(missing)
}

/// Puts the event into `item`, or why it can't be; returns the bytes that takes.
fn add_event(item: &mut DeadLetterView, seq: Seq, store: &dyn Store) -> usize {
    let loaded = store.load(&[seq]).pop();
    let event = match loaded {
        Some(Ok(event)) => raw_json(&event),
        Some(Err(error)) => Err(error.to_string()),
        None => Err("the store did not answer".to_owned()),
    };
    match event {
        Ok(event) => item.event = Some(event),
        Err(problem) => item.event_problem = Some(problem),
    }
    item.event.as_ref().map_or(0, |event| event.get().len())
}

fn view(letter: &DeadLetter, names: &Names) -> DeadLetterView {
    let evidence = &letter.evidence;
    let endpoint = names.get(&letter.id.lane).map_or("", |name| name);
    DeadLetterView {
        id: letter_id(endpoint, letter.id.seq),
        endpoint: endpoint.to_owned(),
        reason: evidence.reason,
        since: evidence.since,
        tries: evidence.tries,
        first_attempt: evidence.first_attempt,
        last: evidence.last.as_ref().map(Into::into),
        event_id: evidence.event_id.to_string(),
        event_source: evidence.event_source.to_string(),
        event_type: evidence.event_kind.to_string(),
        accepted: evidence.accepted,
        event: None,
        event_problem: None,
    }
}
