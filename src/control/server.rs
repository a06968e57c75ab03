//! Every route of the control API in one table, and the loop that serves it over a Unix socket.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::DefaultBodyLimit;
use axum::extract::connect_info::Connected;
use axum::extract::rejection::BytesRejection;
use axum::http::{Method, Uri};
use axum::routing::{get, post};
use axum::serve::IncomingStream;
use serde::de::DeserializeOwned;
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;

use super::error::{ApiError, ApiResult};
use super::operator::Operator;
use super::{attempts, configuration, dead, endpoints, events, orphans, replay, status};
use crate::store::{LaneId, LaneTotals, StoreError};

/// Bytes of a request's body: room for some 300,000 ids in one replay.
const BODY_BYTES_MAX: usize = 16 << 20;
/// Requests under way have so long to end once the daemon is stopping.
const DRAIN: Duration = Duration::from_secs(5);

/// What every handler gets.
#[derive(Clone)]
pub struct App {
    /// The running daemon.
    pub operator: Arc<dyn Operator>,
}

impl App {
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

/// Who is at the other end of a connection, as the kernel tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Uid of the process; `None` when the kernel would not say.
    pub uid: Option<u32>,
}

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        Self {
            uid: stream.io().peer_cred().ok().map(|credentials| credentials.uid()),
        }
    }
}

/// Writes down who changed what. One line for each change an operator makes.
pub fn audit(peer: Peer, action: &str, object: &str, detail: &str) {
    tracing::info!(target: "audit", uid = peer.uid, action, object, detail, "operator");
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

/// The table of routes.
pub fn router(operator: Arc<dyn Operator>) -> Router {
    Router::new()
        .route("/healthz", get(status::healthz))
        .route("/readyz", get(status::readyz))
        .route("/metrics", get(status::metrics))
        .route("/v1/status", get(status::status))
        .route("/v1/events/{id}", get(events::show))
        .route("/v1/attempts", get(attempts::list))
        .route("/v1/endpoints", get(endpoints::list))
        .route("/v1/endpoints/{name}", get(endpoints::show))
        .route("/v1/endpoints/{name}/pause", post(endpoints::pause))
        .route("/v1/endpoints/{name}/resume", post(endpoints::resume))
        .route("/v1/endpoints/{name}/flush", post(endpoints::flush))
        .route("/v1/endpoints/{name}/move", post(orphans::move_to))
        .route("/v1/endpoints/{name}/bury", post(orphans::bury))
        .route("/v1/dead", get(dead::list))
        .route("/v1/dead/{id}", get(dead::show))
        .route("/v1/dead/replay", post(replay::replay))
        .route("/v1/dead/purge", post(replay::purge))
        .route("/v1/reload", post(configuration::reload))
        .route("/v1/config", get(configuration::show))
        .route("/v1/quarantine", get(status::quarantine))
        .fallback(no_path)
        .method_not_allowed_fallback(no_method)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(App { operator })
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

/// Serves the API on `listener` until `stop` is cancelled, then lets requests under way end, for at most
/// [`DRAIN`].
///
/// # Errors
/// When the listener fails for good.
pub async fn serve(
    listener: UnixListener,
    operator: Arc<dyn Operator>,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let service = router(operator).into_make_service_with_connect_info::<Peer>();
    let server = axum::serve(listener, service).with_graceful_shutdown(stop.clone().cancelled_owned());
    let overdue = async {
        stop.cancelled().await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        ended = server.into_future() => ended,
        () = overdue => Ok(()),
    }
}
