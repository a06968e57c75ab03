//! Every route of the control API in one table, with what each needs of whoever asks.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::DefaultBodyLimit;
use axum::extract::rejection::BytesRejection;
use axum::http::header::CONTENT_TYPE;
use axum::http::{Method, Uri};
use axum::middleware::from_fn_with_state;
use axum::response::IntoResponse;
use axum::routing::{MethodRouter, get, post};
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::doors::{self, Door};
use super::error::{ApiError, ApiResult};
use super::guard::{Need, guard, method_of};
use super::operator::Operator;
use super::{
    attempts, configuration, dead, endpoints, events, live, managed, openapi, orphans, replay, status, trial,
};
use crate::dashboard::{self, Asset};
use crate::ingest::sender::Users;
use crate::store::{LaneId, LaneTotals, StoreError};

/// Bytes of a request's body: room for some 300,000 ids in one replay.
const BODY_BYTES_MAX: usize = 16 << 20;

/// What every handler gets.
#[derive(Clone)]
pub struct App {
    /// The running daemon.
    pub operator: Arc<dyn Operator>,
    /// What the users are called who send events here.
    pub users: Arc<Mutex<Users>>,
    /// Cancelled when the daemon stops serving; what would go on for ever ends then.
    pub stop: CancellationToken,
    /// Places for listeners of `/v1/live`.
    pub listeners: Arc<Semaphore>,
    needs: Arc<[(Method, &'static str, Need)]>,
}

impl App {
    /// What the route at `path` needs for `method`; `None`: there is no such route.
    #[must_use]
    pub fn need(&self, method: &Method, path: &str) -> Option<Need> {
        let found = self
            .needs
            .iter()
            .find(|(known, at, _)| known == method_of(method) && *at == path);
        found.map(|(_, _, need)| *need)
    }

    /// Every lane the store knows, with its totals.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    pub async fn lane_totals(&self) -> Result<Vec<LaneTotals>, StoreError> {
        self.operator.queue().read(|store| store.lanes()).await
    }

    /// Whether an endpoint called `name` is configured.
    #[must_use]
    pub fn is_configured(&self, name: &str) -> bool {
        self.operator
            .config()
            .endpoints
            .iter()
            .any(|endpoint| *endpoint.name == *name)
    }

    /// The lane of `name`, configured or orphaned.
    ///
    /// # Errors
    /// 404 when no queue was ever called that.
    pub async fn lane(&self, name: &str) -> ApiResult<LaneId> {
        self.lane_totals()
            .await?
            .iter()
            .find(|lane| *lane.name == *name)
            .map(|lane| lane.lane)
            .ok_or_else(|| no_endpoint(name))
    }
}

/// 404 for an endpoint.
#[must_use]
pub fn no_endpoint(name: &str) -> ApiError {
    ApiError::not_found(format!(
        "there is no endpoint {name:?}; posthaste endpoints list shows them all"
    ))
}

/// Reads a request's body. No body means `{}`, so that `curl -X POST` alone works, and the content type
/// does not matter, because there is only one.
///
/// # Errors
/// 400 with the place of the mistake.
pub fn body<T: DeserializeOwned>(bytes: Result<Bytes, BytesRejection>) -> ApiResult<T> {
    let bytes = bytes?;
    let text: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
    serde_json::from_slice(text)
        .map_err(|error| ApiError::bad_request(format!("the body is not what this path takes: {error}")))
}

/// One entry of the table.
struct Route {
    method: Method,
    path: &'static str,
    need: Need,
    handler: MethodRouter<App>,
}

/// Reads.
fn see(path: &'static str, handler: MethodRouter<App>) -> Route {
    Route {
        method: Method::GET,
        path,
        need: Need::See,
        handler,
    }
}

/// Changes, by `POST`.
fn change(path: &'static str, handler: MethodRouter<App>) -> Route {
    Route {
        method: Method::POST,
        path,
        need: Need::Change,
        handler,
    }
}

/// Every route of the API.
fn table() -> Vec<Route> {
    let alive = Route {
        need: Need::Nothing,
        ..see("/healthz", get(status::healthz))
    };
    let send = Route {
        need: Need::Send,
        ..change("/v1/events", post(super::post::accept))
    };
    let explain = Route {
        need: Need::See,
        ..change("/v1/explain", post(trial::explain))
    };
    let define = |method: Method, handler| Route {
        method,
        ..change("/v1/endpoints/{name}", handler)
    };
    vec![
        alive,
        see("/readyz", get(status::readyz)),
        see("/metrics", get(status::metrics)),
        see("/v1/status", get(status::status)),
        send,
        see("/v1/events/{id}", get(events::show)),
        see("/v1/attempts", get(attempts::list)),
        see("/v1/endpoints", get(endpoints::list)),
        see("/v1/endpoints/{name}", get(endpoints::show)),
        define(Method::PUT, axum::routing::put(managed::put)),
        define(Method::PATCH, axum::routing::patch(managed::patch)),
        define(Method::DELETE, axum::routing::delete(managed::delete)),
        change("/v1/endpoints/{name}/pause", post(endpoints::pause)),
        change("/v1/endpoints/{name}/resume", post(endpoints::resume)),
        change("/v1/endpoints/{name}/flush", post(endpoints::flush)),
        change("/v1/endpoints/{name}/move", post(orphans::move_to)),
        change("/v1/endpoints/{name}/bury", post(orphans::bury)),
        change("/v1/endpoints/{name}/test", post(trial::test)),
        explain,
        see("/v1/dead", get(dead::list)),
        see("/v1/dead/{id}", get(dead::show)),
        change("/v1/dead/replay", post(replay::replay)),
        change("/v1/dead/purge", post(replay::purge)),
        change("/v1/reload", post(configuration::reload)),
        see("/v1/config", get(configuration::show)),
        see("/v1/quarantine", get(status::quarantine)),
        see("/v1/live", get(live::live)),
        see("/v1/openapi.json", get(openapi::document)),
    ]
}

/// The dashboard's files. They hold no data: what they show is asked of the routes above, with the token.
fn pages() -> impl Iterator<Item = Route> {
    dashboard::ASSETS.into_iter().map(|asset| Route {
        need: Need::Nothing,
        ..see(asset.path, get(move || async move { page(asset) }))
    })
}

fn page(asset: Asset) -> impl IntoResponse {
    (
        dashboard::HEADERS,
        [(CONTENT_TYPE, asset.content_type)],
        asset.text,
    )
}

/// Method and path of every route of the API.
#[cfg(test)]
pub(super) fn routes() -> Vec<(Method, &'static str)> {
    let table = table().into_iter();
    table.map(|route| (route.method, route.path)).collect()
}

/// The table as routes, each held to what it needs.
pub fn router(operator: Arc<dyn Operator>, stop: CancellationToken) -> Router {
    let table: Vec<Route> = table().into_iter().chain(pages()).collect();
    let needs = table
        .iter()
        .map(|route| (route.method.clone(), route.path, route.need))
        .collect();
    let app = App {
        operator,
        users: Arc::default(),
        needs,
        stop,
        listeners: Arc::new(Semaphore::new(live::LISTENERS_MAX)),
    };
    table
        .into_iter()
        .fold(Router::new(), |router, route| {
            router.route(route.path, route.handler)
        })
        .fallback(no_path)
        .method_not_allowed_fallback(no_method)
        .layer(from_fn_with_state(app.clone(), guard))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(app)
}

async fn no_path(uri: Uri) -> ApiError {
    ApiError::not_found(format!("there is nothing at {}", uri.path()))
}

async fn no_method(method: Method, uri: Uri) -> ApiError {
    ApiError::method_not_allowed(format!(
        "{} does not take {method}; the allow header says what it takes",
        uri.path()
    ))
}

/// Serves the API at `door` until `stop` is cancelled and requests under way have ended.
pub async fn serve(door: Door, operator: Arc<dyn Operator>, stop: CancellationToken) {
    doors::serve(door, router(operator, stop.clone()), stop).await;
}
