//! What a request to an endpoint looks like, and the bounds of one try.

use std::time::Duration;

use super::tls::TlsPolicy;
use crate::domain::secret::Secret;

/// The request line, the headers and the bounds of one attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct RequestPolicy {
    /// `GET` `POST` `PUT` `PATCH` `DELETE`.
    pub method: http::Method,
    /// An absolute http or https URL. May carry secrets (a token in the query), so it is printed by
    /// [`RequestPolicy::url_masked`] only.
    pub url: Secret,
    /// The URL with the password and every query value masked: what logs and answers show.
    pub url_masked: Box<str>,
    /// Headers in the order written. Values may carry secrets.
    pub headers: Vec<(http::HeaderName, Secret)>,
    /// Bound on the whole attempt, answer body included.
    pub timeout: Duration,
    /// Bound on the connection alone.
    pub connect_timeout: Duration,
    /// Bytes of the answer that are read; a longer answer is cut there, which is not an error.
    pub response_bytes_max: usize,
    /// How the server proves who it is.
    pub tls: TlsPolicy,
}
