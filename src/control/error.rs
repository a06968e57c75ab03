//! Refusals of the control API: a status, a code for programs, a sentence for people.

use axum::Json;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::http::header::WWW_AUTHENTICATE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use super::types::{ErrorBody, ErrorDetail};
use crate::domain::names::{self, Names};
use crate::store::StoreError;

/// An answer that is not a success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// The HTTP status.
    pub status: StatusCode,
    /// What is in the body.
    pub detail: ErrorDetail,
}

/// What a handler returns.
pub type ApiResult<T> = Result<T, ApiError>;

impl ApiError {
    fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        Self {
            status,
            detail: ErrorDetail {
                code: code.to_owned(),
                message: message.into(),
                problems: Vec::new(),
            },
        }
    }

    /// 400: the request itself is wrong.
    #[must_use]
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", message)
    }

    /// 400: `key` has a name that is not `what`; `all` are those there are.
    #[must_use]
    pub fn unknown<T>(key: &str, name: &str, what: &str, all: &Names<T>) -> Self {
        let known = names::list(all).join(", ");
        Self::bad_request(format!("{key}: {name:?} is not {what}; there are {known}"))
    }

    /// 401: over TCP everything but `/healthz` needs the token.
    #[must_use]
    pub fn unauthorized() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            "show the token of [control] token: authorization: Bearer ...",
        )
    }

    /// 403: this peer may not do it.
    #[must_use]
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    /// 500: the daemon could not do it, and nothing was changed.
    #[must_use]
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
    }

    /// 503: not at this time; `code` says why.
    #[must_use]
    pub fn unavailable(code: &str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message)
    }

    /// 404: what it names is not there.
    #[must_use]
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    /// 405: the path is there, the method is not.
    #[must_use]
    pub fn method_not_allowed(message: impl Into<String>) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
    }

    /// 409: it cannot be done in the state things are in; `code` says which.
    #[must_use]
    pub fn conflict(code: &str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, message)
    }

    /// 422: an endpoint was refused for `problems`; it stays as it was.
    #[must_use]
    pub fn invalid_endpoint(problems: Vec<String>) -> Self {
        let mut error = Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "invalid_endpoint",
            "the endpoint is not good, so nothing was changed",
        );
        error.detail.problems = problems;
        error
    }

    /// 422: the configuration was refused for `problems`; the old one stays in force.
    #[must_use]
    pub fn invalid_config(problems: Vec<String>) -> Self {
        let message = format!(
            "the configuration has {} problem{}, so nothing was changed; posthaste check shows them without a daemon",
            problems.len(),
            if problems.len() == 1 { "" } else { "s" }
        );
        let mut error = Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_config", message);
        error.detail.problems = problems;
        error
    }
}

/// A failed store answers 503: nothing but a restart mends it.
impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        Self::unavailable("unhealthy", format!("{error}; see the daemon's log"))
    }
}

impl From<QueryRejection> for ApiError {
    fn from(rejection: QueryRejection) -> Self {
        Self::bad_request(rejection.body_text())
    }
}

impl From<PathRejection> for ApiError {
    fn from(rejection: PathRejection) -> Self {
        Self::bad_request(rejection.body_text())
    }
}

impl From<BytesRejection> for ApiError {
    fn from(rejection: BytesRejection) -> Self {
        Self::new(rejection.status(), "bad_request", rejection.body_text())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let is_unauthorized = self.status == StatusCode::UNAUTHORIZED;
        let mut response = (self.status, Json(ErrorBody { error: self.detail })).into_response();
        if is_unauthorized {
            // RFC 9110 11.6.1: a 401 says how to do better.
            let how = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(WWW_AUTHENTICATE, how);
        }
        response
    }
}
