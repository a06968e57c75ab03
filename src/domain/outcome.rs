//! How one try at a delivery ended, and what of it is kept as evidence.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::kept::Kept;
use super::time::Timestamp;
use crate::domain::names::{Names, called, name_of};

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
    /// The answer is not HTTP, not what its headers say, or not what `[endpoint.response]` expects.
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
    pub const NAMES: &'static Names<Self> = &[
        ("render", Self::Render),
        ("blocked", Self::Blocked),
        ("dns", Self::Dns),
        ("connect", Self::Connect),
        ("tls", Self::Tls),
        ("timeout", Self::Timeout),
        ("reset", Self::Reset),
        ("invalid_response", Self::InvalidResponse),
        ("http_3xx", Self::Http3xx),
        ("http_4xx", Self::Http4xx),
        ("http_5xx", Self::Http5xx),
    ];

    /// The class's name, as in `retry_on = ["timeout"]`.
    #[must_use]
    pub fn name(self) -> &'static str {
        name_of(Self::NAMES, &self)
    }

    /// The class called `name`.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        called(Self::NAMES, name)
    }

    /// The class of a status that did not mean success.
    #[must_use]
    pub fn of_status(status: u16) -> Self {
        match status {
            // A status that `success_status` leaves out.
            ..=299 => Self::InvalidResponse,
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
                "check the certificate's name, date and authority; an own authority goes into tls.ca, a certificate that the host asks for into tls.client_cert"
            }
            Self::Timeout => "the endpoint is slower than timeout; it may still have done the work",
            Self::Reset => {
                "the connection was closed early: a proxy limit, a restart, a crash at the other side, or a TLS client certificate that it does not take"
            }
            Self::InvalidResponse => {
                "the answer is not what was expected: check that url is the right HTTP service, and [endpoint.response]"
            }
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

impl Outcome {
    /// The outcome's name, without the class of an error.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Rejected => "rejected",
            Self::Error(_) => "error",
            Self::Skipped => "skipped",
        }
    }

    /// The kind of error; `None` for other outcomes.
    #[must_use]
    pub fn class(self) -> Option<ErrorClass> {
        match self {
            Self::Error(class) => Some(class),
            Self::Delivered | Self::Rejected | Self::Skipped => None,
        }
    }
}

/// A set of outcomes, every class of error counting as one of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutcomeSet(u32);

impl OutcomeSet {
    /// All that are called `name` (see [`Outcome::name`]); `None`: no outcome is called that.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let errors = ErrorClass::NAMES.iter().map(|(_, class)| Outcome::Error(*class));
        let all = [Outcome::Delivered, Outcome::Rejected, Outcome::Skipped]
            .into_iter()
            .chain(errors);
        let set: Self = all.filter(|outcome| outcome.name() == name).collect();
        (set != Self::default()).then_some(set)
    }

    /// The set with `outcome` in it.
    #[must_use]
    pub fn with(self, outcome: Outcome) -> Self {
        // Sets are kept on disk, so these numbers are never given to another outcome: a new class goes to the end of
        // the enum.
        let bit = match outcome {
            Outcome::Delivered => 0,
            Outcome::Rejected => 1,
            Outcome::Skipped => 2,
            Outcome::Error(class) => 3 + class as u32,
        };
        Self(self.0 | 1 << bit)
    }

    /// Whether `outcome` is in it.
    #[must_use]
    pub fn contains(self, outcome: Outcome) -> bool {
        self.with(outcome) == self
    }

    /// Whether the two have an outcome in common.
    #[must_use]
    pub fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

impl FromIterator<Outcome> for OutcomeSet {
    fn from_iter<I: IntoIterator<Item = Outcome>>(outcomes: I) -> Self {
        outcomes.into_iter().fold(Self::default(), Self::with)
    }
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
    /// What was captured, and what became of steps; `None`: nothing.
    pub kept: Option<Box<Kept>>,
}

/// Of which attempts what was sent and what came back is kept, beside the numbers (`store.attempts_detail`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Detail {
    /// Of those that did not deliver; where an endpoint fails by the thousand, of the first of them.
    #[default]
    Failed,
    /// Of every one.
    All,
}

impl Detail {
    /// Both with their names in the file.
    pub const NAMES: &'static Names<Self> = &[("failed", Self::Failed), ("all", Self::All)];
}

impl Attempt {
    /// A try of which nothing else is known: no time taken, nothing said.
    #[must_use]
    pub fn new(number: u32, started: Timestamp, outcome: Outcome) -> Self {
        Self {
            number,
            started,
            duration_ms: 0,
            outcome,
            status: None,
            message: String::new(),
            request_line: String::new(),
            request_headers: Vec::new(),
            response_headers: Vec::new(),
            response_excerpt: String::new(),
            kept: None,
        }
    }

    /// Bytes of what was sent and what came back.
    #[must_use]
    pub fn exchange_bytes(&self) -> usize {
        let headers = self.request_headers.iter().chain(&self.response_headers);
        let headers = headers.map(|(name, value)| name.len() + value.len());
        self.request_line.len() + self.response_excerpt.len() + headers.sum::<usize>()
    }

    /// Takes out what was sent and what came back, so that only the numbers are kept.
    pub fn forget_exchange(&mut self) {
        self.request_line.clear();
        self.request_headers.clear();
        self.response_headers.clear();
        self.response_excerpt.clear();
    }
}

/// Bound on [`Attempt::response_excerpt`] and on the header lists, in bytes each. A dead letter holds one
/// attempt beside its numbers, and several dead letters share a page of the store, so this stays small.
pub const EXCERPT_BYTES_MAX: usize = 4096;

/// What one exchange took: time by phase in microseconds, and bytes. The phases that happened follow one another; what
/// is missing up to the whole are moments of our own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exchange {
    /// The whole of it, answer body included.
    pub total_us: u64,
    /// Whether it went over a connection that was open already.
    pub reused: bool,
    /// Looking up the host name; `None`: there was nothing to look up.
    pub dns_us: Option<u64>,
    /// Connecting, from the address to where a TLS handshake begins or, without one, a request can be sent: TCP, and
    /// what a proxy wants to be told. `None`: the connection was open already, or never came about.
    pub connect_us: Option<u64>,
    /// From there until a request can be sent, or TLS has failed: the handshake; through an https proxy, both of them and
    /// what is between. `None`: there was none.
    pub tls_us: Option<u64>,
    /// From where a request could be sent until the head of the answer was in: our request on its way, and the endpoint at work. `None`: no
    /// head came.
    pub first_byte_us: Option<u64>,
    /// From there until the body was in, or was given up; `None`: no head came.
    pub body_us: Option<u64>,
    /// Bytes of the request's body.
    pub sent_bytes: u64,
    /// Bytes of the answer's body that were read, decompressed.
    pub received_bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// H1: what a search by outcome finds.
    #[test]
    fn h1_sets_of_outcomes_go_by_name() {
        let timeout = Outcome::Error(ErrorClass::Timeout);
        let all = [Outcome::Delivered, Outcome::Rejected, Outcome::Skipped, timeout];
        for (name, wanted) in [
            ("delivered", [true, false, false, false]),
            ("rejected", [false, true, false, false]),
            ("skipped", [false, false, true, false]),
            ("error", [false, false, false, true]),
        ] {
            let set = OutcomeSet::named(name).unwrap();
            assert_eq!(all.map(|outcome| set.contains(outcome)), wanted, "{name}");
        }
        assert_eq!(OutcomeSet::named("lost"), None);
        let one = OutcomeSet::default().with(timeout);
        assert!(!one.contains(Outcome::Error(ErrorClass::Dns)));
        assert!(one.meets(OutcomeSet::named("error").unwrap()) && !one.meets(OutcomeSet::default()));
    }
}
