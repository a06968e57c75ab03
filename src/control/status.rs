//! What is stuck, since when, and why: status, health, metrics and quarantine.

use std::collections::HashMap;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use serde::Deserialize;

use super::error::ApiResult;
use super::page;
use super::server::App;
use super::types::{
    EndpointRow, EndpointState, Health, LaneNumbers, Page, QuarantinedView, Status, StoreNumbers, Totals,
};
use crate::domain::age::Ages;
use crate::domain::endpoint::{Endpoint, OrderPolicy};
use crate::domain::time::Timestamp;
use crate::observe::metrics::exposition;
use crate::scheduler::{LaneState, LaneView};
use crate::store::{LaneId, LaneTotals, Pause, StoreStats};

/// `GET /healthz`: alive. 503 once the store has failed, because only a restart helps then.
pub async fn healthz(State(app): State<App>) -> Response {
    match app.operator.health() {
        Health::Failed(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("failed: {why}\n")).into_response(),
        Health::Ok | Health::Draining => "ok\n".into_response(),
    }
}

/// `GET /readyz`: taking events. 503 while stopping, failed, or refusing for want of room.
pub async fn readyz(State(app): State<App>) -> ApiResult<Response> {
    let refusing = app.operator.queue().read(|store| store.stats().refusing).await?;
    let why = match app.operator.health() {
        Health::Ok => refusing,
        Health::Draining => Some("shutting_down".to_owned()),
        Health::Failed(why) => Some(why),
    };
    Ok(match why {
        None => "ready\n".into_response(),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")).into_response(),
    })
}

/// `GET /metrics`: the numbers of the status in the Prometheus text format.
pub async fn metrics(State(app): State<App>) -> ApiResult<Response> {
    let text = exposition(&read(&app).await?);
    let content_type = "text/plain; version=0.0.4; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, content_type)], text).into_response())
}

/// `GET /v1/status`
pub async fn status(State(app): State<App>) -> ApiResult<Json<Status>> {
    Ok(Json(read(&app).await?))
}

/// How much of the quarantine to show.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuarantineQuery {
    limit: Option<usize>,
}

/// `GET /v1/quarantine`: damaged records with their bytes, newest first.
pub async fn quarantine(
    State(app): State<App>,
    query: Result<Query<QuarantineQuery>, QueryRejection>,
) -> ApiResult<Json<Page<QuarantinedView>>> {
    let limit = page::limit(query?.limit)?;
    let records = app
        .operator
        .queue()
        .read(move |store| store.quarantine(limit))
        .await?;
    let items = records
        .into_iter()
        .map(|record| QuarantinedView {
            found: record.found,
            what: record.what,
            why: record.why,
            bytes: record.bytes.len() as u64,
            base64: base64::engine::general_purpose::STANDARD.encode(&record.bytes),
        })
        .collect();
    Ok(Json(Page { items, next: None }))
}

/// Gathers the whole status.
///
/// # Errors
/// 503 when the store has failed.
pub async fn read(app: &App) -> ApiResult<Status> {
    let operator = &app.operator;
    let now = operator.now();
    // In this order, because a pause is durable before the scheduler knows it: whoever sees a lane paused finds why.
    let views = operator.lanes().await;
    let (lanes, stats, ages) = operator
        .queue()
        .read(move |s| (s.lanes(), s.stats(), s.ages(now)))
        .await?;
    let config = operator.config();
    let mut endpoints = rows(&config.endpoints, &lanes, &views, now, |lane| {
        operator.numbers(lane)
    });
    for (lane, ages) in ages {
        let name = lanes
            .iter()
            .find(|totals| totals.lane == lane)
            .map(|totals| &*totals.name);
        if let Some(row) = endpoints.iter_mut().find(|row| Some(&*row.name) == name) {
            row.ages = ages;
        }
    }
    Ok(Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        config_hash: config.hash.clone(),
        now,
        uptime_ms: u64::try_from(operator.uptime().as_millis()).unwrap_or(u64::MAX),
        health: operator.health(),
        totals: totals(&endpoints),
        store: store_numbers(stats),
        ingest: operator.ingest(),
        traces: operator.traces(),
        alerts: operator.alerts(),
        endpoints,
    })
}

/// One row for each configured endpoint in the order written, then the orphaned ones by name.
pub fn rows(
    configured: &[std::sync::Arc<Endpoint>],
    lanes: &[LaneTotals],
    views: &[LaneView],
    now: Timestamp,
    numbers: impl Fn(LaneId) -> LaneNumbers,
) -> Vec<EndpointRow> {
    let by_name: HashMap<&str, &LaneTotals> = lanes.iter().map(|lane| (&*lane.name, lane)).collect();
    let by_lane: HashMap<LaneId, &LaneView> = views.iter().map(|view| (view.lane, view)).collect();
    let mut rows = Vec::with_capacity(configured.len());
    for endpoint in configured {
        let totals = by_name.get(&*endpoint.name).copied();
        let view = totals.and_then(|totals| by_lane.get(&totals.lane).copied());
        let attempts = totals.map(|totals| numbers(totals.lane)).unwrap_or_default();
        rows.push(configured_row(endpoint, totals, view, attempts, now));
    }
    let mut orphans: Vec<&LaneTotals> = lanes
        .iter()
        .filter(|lane| is_orphan(lane, configured.iter().map(|endpoint| &*endpoint.name)))
        .collect();
    orphans.sort_by(|a, b| a.name.cmp(&b.name));
    rows.extend(
        orphans
            .into_iter()
            .map(|lane| orphan_row(lane, numbers(lane.lane))),
    );
    rows
}

/// Whether deliveries are left in the queue of an endpoint that is not among those `configured`.
pub fn is_orphan<'a>(lane: &LaneTotals, mut configured: impl Iterator<Item = &'a str>) -> bool {
    lane.pending + lane.dead > 0 && configured.all(|name| *lane.name != *name)
}

/// What the state of an endpoint is, and what to say of it.
struct Condition {
    state: EndpointState,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    why: String,
}

fn configured_row(
    endpoint: &Endpoint,
    totals: Option<&LaneTotals>,
    view: Option<&LaneView>,
    attempts: LaneNumbers,
    now: Timestamp,
) -> EndpointRow {
    let pause = totals.and_then(|totals| totals.paused.as_ref());
    let condition = condition(endpoint, view, pause, &attempts, now);
    EndpointRow {
        name: endpoint.name.to_string(),
        state: condition.state,
        since: condition.since,
        until: condition.until,
        why: condition.why,
        pending: totals.map_or(0, |totals| totals.pending),
        deferred: totals.map_or(0, |totals| totals.deferred),
        dead: totals.map_or(0, |totals| totals.dead),
        in_flight: view.map_or(0, |view| view.in_flight),
        limit: view.map_or(endpoint.concurrency.min, |view| view.limit),
        oldest: totals.and_then(|totals| totals.oldest_pending),
        ages: Ages::default(),
        next_attempt: totals.and_then(|totals| totals.deferred_next),
        batch_until: view.and_then(|view| view.gathers_until),
        held_up: view.map_or(0, |view| view.held_up),
        attempts,
    }
}

fn orphan_row(lane: &LaneTotals, attempts: LaneNumbers) -> EndpointRow {
    EndpointRow {
        name: lane.name.to_string(),
        state: EndpointState::Orphaned,
        since: None,
        until: None,
        why: "it is not in the configuration any more; move or bury what it is owed".to_owned(),
        pending: lane.pending,
        deferred: lane.deferred,
        dead: lane.dead,
        in_flight: 0,
        limit: 0,
        oldest: lane.oldest_pending,
        ages: Ages::default(),
        next_attempt: None,
        batch_until: None,
        held_up: 0,
        attempts,
    }
}

/// The durable pause and `enabled` speak before the scheduler: they are the reason for what it shows, and
/// they are known a moment earlier.
fn condition(
    endpoint: &Endpoint,
    view: Option<&LaneView>,
    pause: Option<&Pause>,
    attempts: &LaneNumbers,
    now: Timestamp,
) -> Condition {
    let seen = view.map(|view| view.since);
    if !endpoint.enabled {
        return Condition {
            state: EndpointState::Disabled,
            since: seen,
            until: None,
            why: "enabled = false in the configuration".to_owned(),
        };
    }
    if let Some(pause) = pause.filter(|pause| pause.until.is_none_or(|until| until > now)) {
        return Condition {
            state: EndpointState::Paused,
            since: Some(pause.since),
            until: pause.until,
            why: format!("by {}: {}", pause.by, pause.reason),
        };
    }
    let lane_state = view.map_or(LaneState::Ready, |view| view.state);
    // Each probe that fails trips it anew; what a person asks is how long it has been down.
    let down_since = match lane_state {
        LaneState::Tripped { .. } | LaneState::Probing => attempts.failing_since,
        _ => None,
    };
    let (state, until, why) = match lane_state {
        LaneState::Ready => (EndpointState::Ready, None, held_up_why(endpoint, view)),
        LaneState::Suspended { until } => (EndpointState::Suspended, Some(until), suspended_why(attempts)),
        LaneState::Tripped { until } => (EndpointState::Tripped, Some(until), failing_why(view, attempts)),
        LaneState::Probing => (EndpointState::Probing, None, failing_why(view, attempts)),
        LaneState::Paused { until } => (EndpointState::Paused, until, "paused".to_owned()),
    };
    Condition {
        state,
        since: down_since.or(seen),
        until,
        why,
    }
}

/// What an ordered endpoint waits for though it is ready.
fn held_up_why(endpoint: &Endpoint, view: Option<&LaneView>) -> String {
    match (view.map_or(0, |view| view.held_up), endpoint.order.policy) {
        (0, _) | (_, OrderPolicy::None) => String::new(),
        (_, OrderPolicy::Endpoint) => {
            "the first delivery waits for another try and holds up the rest".to_owned()
        }
        (1, OrderPolicy::Key) => "1 key is held up by a delivery that waits for another try".to_owned(),
        (keys, OrderPolicy::Key) => {
            format!("{keys} keys are held up, each by a delivery that waits for another try")
        }
    }
}

fn suspended_why(attempts: &LaneNumbers) -> String {
    let status = attempts
        .last_status
        .map_or(String::new(), |status| format!(" (status {status})"));
    format!("the endpoint asked to be left alone{status}")
}

fn failing_why(view: Option<&LaneView>, attempts: &LaneNumbers) -> String {
    let failures = view.map_or(0, |view| view.failures);
    let last = attempts.last_error.as_deref().unwrap_or("no error is known");
    format!("{failures} failures in a row; {last}")
}

fn totals(rows: &[EndpointRow]) -> Totals {
    let sum = |number: fn(&EndpointRow) -> u64| rows.iter().map(number).sum();
    Totals {
        pending: sum(|row| row.pending),
        deferred: sum(|row| row.deferred),
        in_flight: sum(|row| u64::from(row.in_flight)),
        dead: sum(|row| row.dead),
        oldest: rows.iter().filter_map(|row| row.oldest).min(),
        rate_per_second: rows.iter().map(|row| row.attempts.rate_per_second).sum(),
    }
}

fn store_numbers(stats: StoreStats) -> StoreNumbers {
    StoreNumbers {
        events: stats.events,
        live_bytes: stats.live_bytes,
        disk_bytes: stats.disk_bytes,
        free_bytes: stats.free_bytes,
        blob_files: stats.blob_files,
        quarantined: stats.quarantined,
        commits: stats.commits,
        dedup_ids: stats.dedup_ids,
        dedup_since: stats.dedup_since,
        attempts_bytes: stats.attempts_bytes,
        attempts_dropped: stats.attempts_dropped,
        refusing: stats.refusing,
    }
}
