//! Endpoints: how they are configured and what they do, and holding them, letting them go, trying them now.
//! A pause is durable before the scheduler hears of it.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{ConnectInfo, Path, Query, State};
use serde::Deserialize;

use super::doors::Peer;
use super::error::{ApiError, ApiResult};
use super::guard::audit;
use super::server::{App, body, no_endpoint};
use super::types::{DefinedIn, EndpointRow, EndpointState, EndpointView, Moved, Page, PauseRequest};
use super::units::{duration_text, parse_duration};
use super::{page, status};
use crate::config::effective;
use crate::domain::endpoint::Endpoint;
use crate::domain::event::Seq;
use crate::domain::names::called;
use crate::scheduler::Input;
use crate::store::Pause;

/// Deferred deliveries looked at in one commit of a flush.
const FLUSH_PAGE: usize = 500;

/// Which endpoints to list; every field narrows.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListQuery {
    state: Option<String>,
    tenant: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    limit: Option<usize>,
    cursor: Option<String>,
}

impl ListQuery {
    fn state(&self) -> ApiResult<Option<EndpointState>> {
        let Some(name) = &self.state else {
            return Ok(None);
        };
        called(EndpointState::NAMES, name)
            .map(Some)
            .ok_or_else(|| ApiError::unknown("state", name, "a state", EndpointState::NAMES))
    }

    /// The type of an event, which those asked for take.
    fn kind(&self) -> ApiResult<Option<&str>> {
        match self.kind.as_deref() {
            Some(pattern) if pattern.contains('*') => Err(ApiError::bad_request(format!(
                "type: {pattern:?} is no event's type; name one without wildcards, and those that take it are listed"
            ))),
            kind => Ok(kind),
        }
    }

    /// Whether the configuration of an endpoint is asked for. One that has none any more has neither tenant nor types.
    fn names(&self, endpoint: Option<&Endpoint>, kind: Option<&str>) -> bool {
        let tenant = self.tenant.as_deref();
        let is_of = |wanted: &str| endpoint.is_some_and(|endpoint| *endpoint.tenant == *wanted);
        let takes = |kind: &str| {
            endpoint.is_some_and(|endpoint| endpoint.events.iter().any(|pattern| pattern.matches(kind)))
        };
        tenant.is_none_or(is_of) && kind.is_none_or(takes)
    }
}

/// `GET /v1/endpoints`
pub async fn list(
    State(app): State<App>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> ApiResult<Json<Page<EndpointView>>> {
    let Query(query) = query?;
    let limit = page::limit(query.limit)?;
    let (state, kind) = (query.state()?, query.kind()?);
    let views = views(&app).await?;
    let config = app.operator.config();
    let wanted = |view: &EndpointView| {
        let endpoint = config.endpoints.iter().find(|known| *known.name == *view.name);
        state.is_none_or(|state| view.status.state == state) && query.names(endpoint.map(|e| &**e), kind)
    };
    Ok(Json(page::of_named(
        views,
        |view| &view.name,
        wanted,
        query.cursor.as_deref(),
        limit,
    )))
}

/// `GET /v1/endpoints/{name}`
pub async fn show(
    State(app): State<App>,
    name: Result<Path<String>, PathRejection>,
) -> ApiResult<Json<EndpointView>> {
    let Path(name) = name?;
    Ok(Json(view(&app, &name).await?))
}

/// One endpoint.
///
/// # Errors
/// 404 when there is none of this name.
pub async fn view(app: &App, name: &str) -> ApiResult<EndpointView> {
    let mut views = views(app).await?;
    views.retain(|view| view.name == name);
    views.pop().ok_or_else(|| no_endpoint(name))
}

async fn views(app: &App) -> ApiResult<Vec<EndpointView>> {
    let rows = status::read(app).await?.endpoints;
    let config = app.operator.config();
    let shown = effective(&config);
    let configured = shown["endpoint"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    Ok(rows
        .into_iter()
        .map(|row| {
            let keys = configured.iter().find(|keys| keys["name"] == *row.name);
            let defined_in = keys.map(|_| DefinedIn::of(config.managed.contains(&*row.name)));
            EndpointView {
                name: row.name.clone(),
                defined_in,
                config: keys.cloned(),
                status: row,
            }
        })
        .collect())
}

async fn row(app: &App, name: &str) -> ApiResult<Json<EndpointRow>> {
    let mut rows = status::read(app).await?.endpoints;
    rows.retain(|row| row.name == name);
    rows.pop().map(Json).ok_or_else(|| no_endpoint(name))
}

/// Longest reason of a pause, in bytes.
const REASON_BYTES_MAX: usize = 1024;

/// `POST /v1/endpoints/{name}/pause`: no more requests; events for it are parked. Answers the endpoint's row.
pub async fn pause(
    State(app): State<App>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    name: Result<Path<String>, PathRejection>,
    bytes: Result<Bytes, BytesRejection>,
) -> ApiResult<Json<EndpointRow>> {
    let Path(name) = name?;
    let request: PauseRequest = body(bytes)?;
    must_be_configured(&app, &name).await?;
    let now = app.operator.now();
    let length = request
        .pause_for
        .as_deref()
        .map(parse_duration)
        .transpose()
        .map_err(|error| ApiError::bad_request(format!("for: {error}")))?;
    let until = length.map(|length| now.plus(length));
    if request
        .reason
        .as_ref()
        .is_some_and(|reason| reason.len() > REASON_BYTES_MAX)
    {
        return Err(ApiError::bad_request(format!(
            "reason: at most {REASON_BYTES_MAX} bytes; it stands in every status"
        )));
    }
    let pause = Pause {
        by: "operator".into(),
        reason: request
            .reason
            .unwrap_or_else(|| "no reason given".to_owned())
            .into(),
        since: now,
        until,
    };
    let detail = format!(
        "{} for {}",
        pause.reason,
        length.map_or("ever".to_owned(), duration_text)
    );
    set_pause(&app, &name, Some(pause)).await?;
    audit(peer, "pause", &name, &detail);
    row(&app, &name).await
}

/// Makes a pause, or its end, durable, and tells the scheduler: where it becomes durable, so that of two at once the
/// scheduler goes by the one that is on disk in the end.
async fn set_pause(app: &App, name: &str, pause: Option<Pause>) -> ApiResult<()> {
    let (name, operator) = (name.to_owned(), Arc::clone(&app.operator));
    let until = pause.as_ref().map(|pause| pause.until);
    let paused = app.operator.queue().write(move |store| {
        let lane = store.lane(&name)?;
        store.pause(lane, pause)?;
        operator.tell(match until {
            Some(until) => Input::Paused { lane, until },
            None => Input::Resumed { lane },
        });
        Ok(())
    });
    Ok(paused.await?)
}

/// `POST /v1/endpoints/{name}/resume`: ends a pause. Answers the endpoint's row.
pub async fn resume(
    State(app): State<App>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    name: Result<Path<String>, PathRejection>,
) -> ApiResult<Json<EndpointRow>> {
    let Path(name) = name?;
    must_be_configured(&app, &name).await?;
    let config = app.operator.config();
    if config
        .endpoints
        .iter()
        .any(|endpoint| *endpoint.name == *name && !endpoint.enabled)
    {
        return Err(ApiError::conflict(
            "disabled",
            format!(
                "{name:?} has enabled = false in the configuration; change it there, then posthaste reload, or if it was \
                 defined over the API: posthaste endpoints enable {name}"
            ),
        ));
    }
    set_pause(&app, &name, None).await?;
    audit(peer, "resume", &name, "");
    row(&app, &name).await
}

/// `POST /v1/endpoints/{name}/flush`: everything that waits for a later try is due now, and a suspension or
/// an open breaker ends early. Tries used stay used, and an event's `deliverat` stays in force.
pub async fn flush(
    State(app): State<App>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    name: Result<Path<String>, PathRejection>,
) -> ApiResult<Json<Moved>> {
    let Path(name) = name?;
    must_be_configured(&app, &name).await?;
    let now = app.operator.now();
    let queue_name = name.clone();
    let queue = app.operator.queue();
    let lane = queue.write(move |store| store.lane(&queue_name)).await?;
    app.operator.tell(Input::Flushed { lane });
    let (mut deliveries, mut from) = (0, None);
    loop {
        // Page by page, each a commit of its own, so that producers never wait long behind it.
        let page = queue
            .write(move |store| store.flush_lane(lane, now, from, FLUSH_PAGE))
            .await?;
        app.operator.tell(Input::Revived { lane, from: Seq(0) });
        deliveries += page.moved;
        from = page.next;
        if from.is_none() {
            break;
        }
    }
    audit(peer, "flush", &name, &format!("{deliveries} deliveries"));
    Ok(Json(Moved { deliveries }))
}

/// 404 for an endpoint nobody knows, 409 for an orphaned one: no requests are made to it anyway.
async fn must_be_configured(app: &App, name: &str) -> ApiResult<()> {
    if app.is_configured(name) {
        return Ok(());
    }
    app.lane(name).await?;
    Err(ApiError::conflict(
        "orphaned",
        format!(
            "{name:?} is not in the configuration any more; posthaste endpoints move {name} --to OTHER or \
             posthaste endpoints bury {name} deals with what it is owed"
        ),
    ))
}
