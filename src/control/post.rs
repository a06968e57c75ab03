//! `POST /v1/events`: events by HTTP, through the same intake as those of the producers' socket, with the same answers.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use axum::body::to_bytes;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use hyper::body::Body as _;
use serde::Deserialize;

use super::doors::Peer;
use super::error::{ApiError, ApiResult};
use super::server::App;
use crate::ingest::frame::{Code, Refused};
use crate::ingest::http::Mode;
use crate::ingest::intake::Intake;
use crate::ingest::sender::Sender;
use crate::ingest::turn::{Desk, Turn};

/// How long a body may take to come; it may hold room that others wait for.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// `POST /v1/events`: one event or one atomic batch, in any CloudEvents mode. 202 accepted, 200 duplicate, 4xx or 503
/// rejected; the body is the answer that the producers' socket would give.
pub async fn accept(
    State(app): State<App>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: Request,
) -> ApiResult<Response> {
    let intake = app.operator.intake();
    let mut desk = Desk::new(Arc::clone(intake), sender(&app, peer));
    let (parts, body) = request.into_parts();
    let mode = match Mode::of(&parts.headers) {
        Ok(mode) => mode,
        Err(refused) => {
            let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return answer(&mut desk, Desk::refusing(refused), Some(status)).await;
        }
    };
    let length = body.size_hint().upper();
    // Held until the events are on disk, as for a producer's long line.
    let _room = intake
        .room_for(length.and_then(|bytes| usize::try_from(bytes).ok()))
        .await;
    let turn = match read(intake, body).await {
        Ok(bytes) => turn(&mut desk, mode, &parts.headers, &bytes),
        Err(refused) => Desk::refusing(refused),
    };
    answer(&mut desk, turn, None).await
}

fn turn(desk: &mut Desk, mode: Mode, headers: &HeaderMap, body: &[u8]) -> Turn {
    match mode.text(headers, body) {
        Ok(text) => desk.turn_of(&text),
        Err(refused) => Desk::refusing(refused),
    }
}

/// The whole body, or a refusal once it is longer than any batch may be.
async fn read(intake: &Intake, body: axum::body::Body) -> Result<Bytes, Refused> {
    let bytes_max = intake.limits.batch_bytes_max.max(intake.limits.event_bytes_max);
    let reading = tokio::time::timeout(BODY_TIMEOUT, to_bytes(body, bytes_max));
    let bytes = reading
        .await
        .map_err(|_| {
            Refused::new(
                Code::InvalidEvent,
                format!("the body did not come within {BODY_TIMEOUT:?}"),
            )
        })?
        .map_err(|_| Refused::too_long("the body", bytes_max))?;
    intake.counters.read(bytes.len());
    Ok(bytes)
}

/// Who sends, when this peer does.
pub fn sender(app: &App, peer: Peer) -> Sender {
    match peer.address {
        Some(address) => Sender::remote(address.ip()),
        None => {
            let mut users = app.users.lock().unwrap_or_else(PoisonError::into_inner);
            users.sender(peer.credentials)
        }
    }
}

/// The parts of an answer that its status follows from.
#[derive(Deserialize)]
struct Answered<'a> {
    status: &'a str,
    code: Option<&'a str>,
    retry_after_ms: Option<u64>,
}

/// Commits the turn, and makes a response of its one answer.
async fn answer(desk: &mut Desk, turn: Turn, refused_as: Option<StatusCode>) -> ApiResult<Response> {
    let mut body = Vec::new();
    desk.answer(turn, &mut body).await.map_err(|error| {
        let message = format!("{error}; whether the events were accepted is not known, send them again");
        ApiError::unavailable("unhealthy", message)
    })?;
    let answered: Answered<'_> =
        serde_json::from_slice(&body).map_err(|error| ApiError::internal(format!("no answer: {error}")))?;
    let status = match (answered.status, answered.code) {
        ("accepted", _) => StatusCode::ACCEPTED,
        ("duplicate", _) => StatusCode::OK,
        (_, code) => refused_as.unwrap_or_else(|| status_of(code.unwrap_or_default())),
    };
    let mut response = (status, [(header::CONTENT_TYPE, "application/json")]).into_response();
    if let Some(ms) = answered.retry_after_ms {
        // RFC 9110 10.2.3 knows whole seconds only; early is wrong, late is not.
        let seconds = HeaderValue::from(ms.div_ceil(1000));
        response.headers_mut().insert(header::RETRY_AFTER, seconds);
    }
    *response.body_mut() = body.into();
    Ok(response)
}

fn status_of(code: &str) -> StatusCode {
    match Code::named(code) {
        Some(Code::InvalidJson | Code::InvalidEvent) | None => StatusCode::BAD_REQUEST,
        Some(Code::TooLarge) => StatusCode::PAYLOAD_TOO_LARGE,
        Some(Code::Forbidden) => StatusCode::FORBIDDEN,
        Some(Code::RateLimited) => StatusCode::TOO_MANY_REQUESTS,
        Some(Code::QueueFull | Code::DiskFull | Code::Unhealthy | Code::ShuttingDown) => {
            StatusCode::SERVICE_UNAVAILABLE
        }
    }
}
