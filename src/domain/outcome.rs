//! How one try at a delivery ended, and what of it is kept as evidence.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::time::Timestamp;

/// The kind of a technical error. The names are those of the configuration (`retry_on`), the logs, the
/// metrics and the dead letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorClass {
    /// The host name did not resolve.
    Dns,
    /// No connection: refused, unreachable, or not within `connect_timeout`.
    Connect,
    /// The TLS handshake or the certificate failed.
    Tls,
    /// The whole-attempt deadline passed.
    Timeout,
    /// The connection broke while the request or the answer was on its way.
    Reset,
    /// The answer is not HTTP, or not what its headers say.
    InvalidResponse,
    /// A status 300 to 399; redirects are not followed.
    #[serde(rename = "http_3xx")]
    Http3xx,
    /// A status 400 to 499.
    #[serde(rename = "http_4xx")]
    Http4xx,
    /// A status 500 to 599, or one outside every class.
    #[serde(rename = "http_5xx")]
    Http5xx,
    /// The request could not be built from the event and the configuration.
    Render,
    /// The address is not one posthaste may connect to.
    Blocked,
}

impl ErrorClass {
    /// Every class with its name, in the order of an attempt's life.
    pub const ALL: [(Self, &'static str); 11] = [
        (Self::Render, "render"),
        (Self::Blocked, "blocked"),
        (Self::Dns, "dns"),
        (Self::Connect, "connect"),
        (Self::Tls, "tls"),
        (Self::Timeout, "timeout"),
        (Self::Reset, "reset"),
        (Self::InvalidResponse, "invalid_response"),
        (Self::Http3xx, "http_3xx"),
        (Self::Http4xx, "http_4xx"),
        (Self::Http5xx, "http_5xx"),
    ];

    /// The class's name, as in `retry_on = ["timeout"]`.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(class, _)| *class == self)
            .map_or("", |(_, name)| name)
    }

    /// The class called `name`.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .find(|(_, n)| *n == name)
            .map(|(class, _)| *class)
    }

    /// The class of a status that did not mean success.
    #[must_use]
    pub fn of_status(status: u16) -> Self {
        match status {
            300..=399 => Self::Http3xx,
            400..=499 => Self::Http4xx,
            _ => Self::Http5xx,
        }
    }

    /// What a person should look at first when this keeps happening.
    #[must_use]
    pub fn hint(self) -> &'static str {
        match self {
            Self::Dns => "check the host name in url, and that this machine can resolve it",
            Self::Connect => {
                "check that the service is up and that no firewall stands between: host and port in url"
            }
            Self::Tls => {
                "check the certificate's name, date and authority; an own authority goes into tls.ca"
            }
            Self::Timeout => "the endpoint is slower than timeout; it may still have done the work",
            Self::Reset => {
                "the connection was closed early: a proxy limit, a restart, or a crash at the other side"
            }
            Self::InvalidResponse => "the answer is not valid HTTP: check that url is an HTTP service",
            Self::Http3xx => {
                "the endpoint has moved: put the new address into url, redirects are not followed"
            }
            Self::Http4xx => {
                "the endpoint refuses the request: check authentication, url and what it expects in the body"
            }
            Self::Http5xx => "the endpoint failed on its own side: its logs know more",
            Self::Render => {
                "the request could not be built: check the endpoint's configuration against this event"
            }
            Self::Blocked => "the address is refused by [network]: see deny and allow there",
        }
    }
}

/// How one try ended (E1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The endpoint took it.
    Delivered,
    /// The endpoint said no for good: kept as a dead letter, not retried.
    Rejected,
    /// A technical error of this class: retried where the policy says so.
    Error(ErrorClass),
    /// A condition of ours said that there is nothing to send.
    Skipped,
}

/// What the endpoint told us about itself, beside the outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EndpointSignal {
    /// `Retry-After` on a 429 or 503, already made relative: how long the whole endpoint wants to be left alone.
    pub retry_after: Option<Duration>,
    /// 429, 503 or a timeout: send fewer at once.
    pub overloaded: bool,
    /// 410, or the answer header `webhook-delivery: disable`: pause the endpoint.
    pub gone: bool,
    /// Answer header `webhook-delivery: abort-message`: do not try this one again.
    pub abort: bool,
}

/// The evidence of one try: what was sent, what came back, how long it took. Bounded: excerpts are cut
/// at [`EXCERPT_BYTES_MAX`], header values that carry secrets are masked before they get here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// 1 for the first try.
    pub number: u32,
    /// When it began.
    pub started: Timestamp,
    /// How long it took, answer body included, in milliseconds.
    pub duration_ms: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// The answer's status, if an answer came.
    pub status: Option<u16>,
    /// One sentence: what went wrong, in the words of whoever noticed. Empty when delivered.
    pub message: String,
    /// `POST https://example.com/hook`, secrets masked.
    pub request_line: String,
    /// Request headers as sent, secrets masked.
    pub request_headers: Vec<(String, String)>,
    /// Answer headers.
    pub response_headers: Vec<(String, String)>,
    /// The beginning of the answer's body, lossy UTF-8.
    pub response_excerpt: String,
}

/// Bound on [`Attempt::response_excerpt`] and on the header lists, in bytes each. A dead letter holds one
/// attempt beside its numbers, and several dead letters share a page of the store, so this stays small.
pub const EXCERPT_BYTES_MAX: usize = 4096;
