//! The configuration in force: showing it, and having it read again.

use axum::Json;
use axum::extract::{ConnectInfo, State};

use super::doors::Peer;
use super::error::{ApiError, ApiResult};
use super::guard::audit_reload;
use super::server::App;
use super::types::{ConfigView, ReloadReport};
use crate::config::effective;

/// `GET /v1/config`: secrets masked.
pub async fn show(State(app): State<App>) -> Json<ConfigView> {
    let config = app.operator.config();
    Json(ConfigView {
        hash: config.hash.clone(),
        config: effective(&config),
    })
}

/// `POST /v1/reload`: all or nothing. 422 with every problem when the files are not good.
pub async fn reload(
    State(app): State<App>,
    ConnectInfo(peer): ConnectInfo<Peer>,
) -> ApiResult<Json<ReloadReport>> {
    let reloaded = app.operator.reload().await;
    audit_reload(peer, "", &reloaded);
    reloaded.map(Json).map_err(ApiError::invalid_config)
}
