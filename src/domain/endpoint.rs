//! An endpoint: a destination, what it subscribes to, and the rules for delivering to it. These values are
//! already checked; how they are written down is `config`'s business.

use std::time::Duration;

use super::backoff::RetryPolicy;
use super::outcome::ErrorClass;
use super::route::TypePattern;
use super::secret::Secret;

/// One destination and its policies. `name` is the identity of its queue: renaming makes a new queue.
#[derive(Clone, Debug, PartialEq)]
pub struct Endpoint {
    /// `[a-z0-9-]+`, 1 to 63 bytes.
    pub name: Box<str>,
    /// Free text for people.
    pub description: Box<str>,
    /// A disabled endpoint is owed its events but gets no requests: they are parked.
    pub enabled: bool,
    /// Only events of this tenant; empty: of any.
    pub tenant: Box<str>,
    /// Event types it subscribes to.
    pub events: Vec<TypePattern>,
    /// What a request to it looks like.
    pub request: RequestPolicy,
    /// How signatures are made; several may stand side by side.
    pub sign: Vec<SignPolicy>,
    /// How an answer is read.
    pub response: ResponsePolicy,
    /// When to try again, and when to give up.
    pub retry: RetryPolicy,
    /// When to stop trying for a while.
    pub breaker: BreakerPolicy,
    /// How many requests at once.
    pub concurrency: Concurrency,
    /// One try, no dead letter.
    pub best_effort: bool,
}

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
    /// Verify the server's certificate. False only by an explicit key, and `check` warns.
    pub tls_verify: bool,
    /// PEM text of the certificate authorities to trust besides the system's; empty: none.
    pub tls_ca_pem: Box<str>,
}

/// One signature on each request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignPolicy {
    /// Standard Webhooks 1.0.0, `v1` (HMAC-SHA256): every secret signs, so that receivers can rotate.
    Standard {
        /// Decoded keys, newest first.
        keys: Vec<SigningKey>,
    },
}

/// A decoded HMAC key; never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningKey(pub Box<[u8]>);

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[secret]")
    }
}

/// What counts as delivered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResponsePolicy {
    /// Statuses that mean delivered; empty: 200 to 299.
    pub success_status: Vec<u16>,
}

/// An entry of `retry_on` or `dont_retry_on`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryMatch {
    /// One status.
    Status(u16),
    /// A hundred of statuses: `5` for `5xx`.
    StatusClass(u8),
    /// A kind of technical error.
    Class(ErrorClass),
}

/// When the breaker of an endpoint trips and how it comes back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BreakerPolicy {
    /// Failures in a row that trip it.
    pub failures: u32,
    /// Share of failures in `window` that trips it, once there were `min_requests`.
    pub rate: f64,
    /// The window that `rate` looks at.
    pub window: Duration,
    /// Requests in the window before `rate` is looked at.
    pub min_requests: u32,
    /// How long it stays open before one probe; doubles with each failed probe.
    pub open: Duration,
    /// Bound on that doubling.
    pub max_open: Duration,
}

/// How many requests to one endpoint may be under way at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Concurrency {
    /// Lowest limit; with `max` equal, the limit is fixed.
    pub min: u32,
    /// Highest limit.
    pub max: u32,
}
