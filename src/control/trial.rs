//! Trying things out: what would become of an event, and one request to an endpoint at once. Nothing is stored.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{ConnectInfo, Path, State};

use super::doors::Peer;
use super::error::{ApiError, ApiResult};
use super::guard::audit;
use super::server::{App, body, no_endpoint};
use super::status;
use super::types::{ExplainRequest, Explanation, TestRequest, TestView};

/// `POST /v1/explain`: which endpoints would get the event, why or why not, and the request of each. Sends nothing.
pub async fn explain(
    State(app): State<App>,
    bytes: Result<Bytes, BytesRejection>,
) -> ApiResult<Json<Explanation>> {
    let request: ExplainRequest = body(bytes)?;
    let explained = app.operator.explain(request.event.get().to_owned()).await;
    let mut explained = explained.map_err(ApiError::bad_request)?;
    let rows = status::read(&app).await?.endpoints;
    for endpoint in &mut explained.endpoints {
        let row = rows.iter().find(|row| row.name == endpoint.endpoint);
        endpoint.state = row.map(|row| row.state);
    }
    Ok(Json(explained))
}

/// `POST /v1/endpoints/{name}/test`: one request with a marked event, and its raw answer. Neither stored nor counted.
pub async fn test(
    State(app): State<App>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    name: Result<Path<String>, PathRejection>,
    bytes: Result<Bytes, BytesRejection>,
) -> ApiResult<Json<TestView>> {
    let Path(name) = name?;
    let request: TestRequest = body(bytes)?;
    if !app.is_configured(&name) {
        return Err(no_endpoint(&name));
    }
    let event = request.event.map(|event| event.get().to_owned());
    let tried = app.operator.try_out(name.clone(), event).await;
    let view = tried.map_err(ApiError::bad_request)?;
    audit(peer, "test", &name, &view.outcome);
    Ok(Json(view))
}
