//! Endpoints defined over the API: `PUT`, `PATCH` and `DELETE /v1/endpoints/{name}`. They hold the keys of an
//! `[[endpoint]]` as JSON, are judged as those in files are, are on disk before they are in force, and then live beside
//! the others. What a file defines is read-only here.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{ConnectInfo, Path, State};
use axum::http::StatusCode;

use super::doors::Peer;
use super::endpoints::view;
use super::error::{ApiError, ApiResult};
use super::guard::audit;
use super::operator::{Defined, EndpointChange, NotDefined};
use super::server::{App, body, no_endpoint};
use super::types::{EndpointView, Removed};
use crate::config::is_endpoint_name;
use crate::config::managed::Keys;

/// Bytes of one endpoint's keys; the largest hold long templates.
const KEYS_BYTES_MAX: usize = 256 << 10;

/// `PUT /v1/endpoints/{name}`: 201 when it is new, 200 when it was there; the same again changes nothing.
pub async fn put(
    State(app): State<App>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    name: Result<Path<String>, PathRejection>,
    bytes: Result<Bytes, BytesRejection>,
) -> ApiResult<(StatusCode, Json<EndpointView>)> {
    let Path(name) = name?;
    let keys = keys(&name, bytes)?;
    let done = change(&app, &name, EndpointChange::Put(keys)).await?;
    let (status, how) = match done {
        Defined::New => (StatusCode::CREATED, "new"),
        Defined::Changed => (StatusCode::OK, "replaced"),
        Defined::Same => (StatusCode::OK, "unchanged"),
    };
    audit(peer, "put", &name, how);
    Ok((status, Json(view(&app, &name).await?)))
}

/// `PATCH /v1/endpoints/{name}`: a merge patch (RFC 7396) of its keys; what it does not name stays as it is.
pub async fn patch(
    State(app): State<App>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    name: Result<Path<String>, PathRejection>,
    bytes: Result<Bytes, BytesRejection>,
) -> ApiResult<Json<EndpointView>> {
    let Path(name) = name?;
    let keys = keys(&name, bytes)?;
    // Values may be secrets, names of keys are not.
    let named = keys.keys().map(String::as_str).collect::<Vec<_>>().join(" ");
    change(&app, &name, EndpointChange::Merge(keys)).await?;
    audit(peer, "patch", &name, &named);
    Ok(Json(view(&app, &name).await?))
}

/// `DELETE /v1/endpoints/{name}`: nothing more is owed to it; what is owed stays, as orphaned, until it is moved or
/// buried. Answers how much that is.
pub async fn delete(
    State(app): State<App>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    name: Result<Path<String>, PathRejection>,
) -> ApiResult<Json<Removed>> {
    let Path(name) = name?;
    change(&app, &name, EndpointChange::Delete).await?;
    // Looked at afterwards: nothing is added any more, so this is what is left.
    let lanes = app.lane_totals().await?;
    let lane = lanes.iter().find(|lane| *lane.name == *name);
    let removed = Removed {
        deliveries: lane.map_or(0, |lane| lane.pending),
        dead: lane.map_or(0, |lane| lane.dead),
        name,
    };
    let left = format!(
        "{} deliveries and {} dead letters left",
        removed.deliveries, removed.dead
    );
    audit(peer, "delete", &removed.name, &left);
    Ok(Json(removed))
}

/// The keys in a body, for the endpoint called `name`.
fn keys(name: &str, bytes: Result<Bytes, BytesRejection>) -> ApiResult<Keys> {
    if !is_endpoint_name(name) {
        return Err(ApiError::bad_request(format!(
            "{name:?} is not a name: use a-z, 0-9 and -, at most 63 of them; it names the queue"
        )));
    }
    let bytes = bytes?;
    if bytes.len() > KEYS_BYTES_MAX {
        return Err(ApiError::bad_request(format!(
            "the keys have {} bytes; they may have {KEYS_BYTES_MAX}",
            bytes.len()
        )));
    }
    let mut keys: Keys = body(Ok(bytes))?;
    match keys.remove("name") {
        None => Ok(keys),
        Some(same) if same == name => Ok(keys),
        Some(_) => Err(ApiError::bad_request(format!(
            "name: the path says {name:?}; leave the key out, an endpoint can't be renamed"
        ))),
    }
}

async fn change(app: &App, name: &str, change: EndpointChange) -> ApiResult<Defined> {
    let (operator, wanted) = (Arc::clone(&app.operator), name.to_owned());
    // By itself, so that a client who goes away leaves nothing written that is not in force.
    tokio::spawn(async move { operator.change_endpoint(wanted, change).await })
        .await
        .map_err(|error| ApiError::internal(format!("it broke off: {error}")))?
        .map_err(|error| match error {
            NotDefined::InFile => ApiError::conflict(
                "file_defined",
                format!("{name:?} is defined in a file; change it there, then posthaste reload"),
            ),
            NotDefined::Missing => no_endpoint(name),
            NotDefined::TooMany(max) => ApiError::conflict(
                "too_many",
                format!("there are {max} endpoints defined over the API, which is as many as there may be"),
            ),
            NotDefined::Invalid(problems) => ApiError::invalid_endpoint(problems),
            NotDefined::Unwritten(error) => {
                ApiError::internal(format!("it can't be kept, so nothing was changed: {error}"))
            }
        })
}
