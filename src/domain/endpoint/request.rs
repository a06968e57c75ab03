//! What a request to an endpoint looks like, and the bounds of one try.

use std::time::Duration;

use super::body::BodyPolicy;
use super::limits::RetryMatch;
use super::tls::TlsPolicy;
use crate::domain::network::NetworkPolicy;
use crate::domain::secret::Secret;
use crate::template::{Expression, Template};

/// The request line, the headers, the body and the bounds of one attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct RequestPolicy {
    /// Makes `GET` `POST` `PUT` `PATCH` or `DELETE`; `None`: `POST`.
    pub method: Option<Template>,
    /// Where requests go: one address, or several between which [`RequestPolicy::balance`] chooses.
    pub addresses: Vec<Address>,
    /// How one of several addresses is chosen.
    pub balance: Balance,
    /// Addresses tried next, within the same attempt, when the chosen one gives one of `fallback_on`.
    pub fallbacks: Vec<Address>,
    /// What makes an attempt go on to the next fallback.
    pub fallback_on: Vec<RetryMatch>,
    /// Whether requests may go to other machines without encryption.
    pub allows_plaintext: bool,
    /// Query parameters added to the URL, in the order written.
    pub query: Vec<(Box<str>, Template)>,
    /// Headers in the order written. Values may carry secrets.
    pub headers: Vec<(http::HeaderName, Template)>,
    /// What of the above is different under a condition; the first that holds decides.
    pub routes: Vec<Route>,
    /// What is sent.
    pub body: BodyPolicy,
    /// Bound on the whole attempt, answer body and fallbacks included.
    pub timeout: Duration,
    /// Bound on the connection alone.
    pub connect_timeout: Duration,
    /// Bytes of the answer that are read; a longer answer is cut there, which is not an error.
    pub response_bytes_max: usize,
    /// How both sides prove who they are.
    pub tls: TlsPolicy,
    /// Redirects that are followed; past them a redirect is the answer.
    pub redirects_max: u32,
    /// The proxy's URL, credentials and all: `http`, `https`, `socks5` or `socks5h`; `None`: straight there.
    pub proxy: Option<Secret>,
    /// Where requests may go.
    pub network: NetworkPolicy,
}

impl RequestPolicy {
    /// The first address as logs and answers show it, secrets masked.
    #[must_use]
    pub fn shown_address(&self) -> &str {
        self.addresses.first().map_or("", |address| &address.shown)
    }
}

/// A URL.
#[derive(Clone, Debug, PartialEq)]
pub struct Address {
    /// Makes an absolute http or https URL. May carry secrets (a token in the query).
    pub url: Template,
    /// The URL as written, with the password, every query value and every reference masked: what logs and answers show.
    pub shown: Box<str>,
}

/// How one of several addresses is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Balance {
    /// One after the other.
    #[default]
    RoundRobin,
    /// By chance.
    Random,
    /// One after the other, but those that failed lately come last.
    Healthy,
}

/// What is different for events of which a condition holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// The condition.
    pub when: Expression,
    /// Another address instead of all others.
    pub address: Option<Address>,
    /// Another bound on the attempt.
    pub timeout: Option<Duration>,
    /// Another method.
    pub method: Option<Template>,
    /// Headers that come in place of those of the same name, or beside the others.
    pub headers: Vec<(http::HeaderName, Template)>,
}
