//! `/v1/attempts`: the log of attempts.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::dead::AttemptView;
use super::rfc3339;
use super::schema::Instant;
use crate::domain::outcome::Exchange;
use crate::domain::time::Timestamp;
use crate::store::LoggedAttempt;

/// What one request took: time by phase in microseconds, and bytes. A phase is `null` when it did not happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExchangeView {
    /// The whole of it.
    pub total_us: u64,
    /// Whether it went over a connection that was open already; then there is no look-up, connecting or handshake.
    pub reused: bool,
    /// Looking up the host name.
    pub dns_us: Option<u64>,
    /// Connecting: TCP, and what a proxy wants to be told.
    pub connect_us: Option<u64>,
    /// From then on until the TLS handshake was over, or had failed; through an https proxy, both handshakes.
    #[serde(default)]
    pub tls_us: Option<u64>,
    /// From then on until the head of the answer was in.
    pub first_byte_us: Option<u64>,
    /// From then on until its body was in.
    pub body_us: Option<u64>,
    /// Bytes of the request's body.
    pub sent_bytes: u64,
    /// Bytes of the answer's body that were read.
    pub received_bytes: u64,
}

impl From<Exchange> for ExchangeView {
    fn from(exchange: Exchange) -> Self {
        Self {
            total_us: exchange.total_us,
            reused: exchange.reused,
            dns_us: exchange.dns_us,
            connect_us: exchange.connect_us,
            tls_us: exchange.tls_us,
            first_byte_us: exchange.first_byte_us,
            body_us: exchange.body_us,
            sent_bytes: exchange.sent_bytes,
            received_bytes: exchange.received_bytes,
        }
    }
}

/// One try in the log. With `store.attempts_detail = "failed"`, only the numbers are kept of one that delivered, neither
/// request nor answer; where an endpoint fails by the thousand, that is so of most of its failures too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LoggedAttemptView {
    /// Its number in the log; newer ones have higher ones.
    pub id: u64,
    /// To whom.
    pub endpoint: String,
    /// The event's id.
    pub event_id: String,
    /// The event's source.
    pub event_source: String,
    /// The event's type.
    pub event_type: String,
    /// The event's number in the queue.
    pub event_seq: u64,
    /// When the event was accepted.
    #[serde(with = "rfc3339")]
    #[schemars(with = "Instant")]
    pub accepted: Timestamp,
    /// The id of the request, where it carried several events; `null`: it carried this one.
    pub batch: Option<String>,
    /// How it went.
    #[serde(flatten)]
    pub attempt: AttemptView,
}

/// How a try in the log went.
#[must_use]
pub fn attempt_of(logged: &LoggedAttempt) -> AttemptView {
    AttemptView {
        exchange: Some(logged.entry.exchange.into()),
        ..AttemptView::from(&logged.entry.attempt)
    }
}

impl From<&LoggedAttempt> for LoggedAttemptView {
    fn from(logged: &LoggedAttempt) -> Self {
        let entry = &logged.entry;
        Self {
            id: logged.number,
            endpoint: logged.endpoint.to_string(),
            event_id: entry.event_id.to_string(),
            event_source: entry.event_source.to_string(),
            event_type: entry.event_kind.to_string(),
            event_seq: entry.seq.0,
            accepted: entry.accepted,
            batch: entry.batch.as_ref().map(ToString::to_string),
            attempt: attempt_of(logged),
        }
    }
}
