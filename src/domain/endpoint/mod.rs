//! An endpoint: a destination, what it subscribes to, and the rules for delivering to it. These values are
//! already checked; how they are written down is `config`'s business.

mod batch;
#[cfg(test)]
pub mod fixture;
mod limits;
mod order;
mod rate;
mod request;
mod response;
mod sign;
mod tls;

pub use batch::{BatchPolicy, BatchShape};
pub use limits::{BreakerPolicy, Concurrency, RetryMatch};
pub use order::{OrderKey, OrderPolicy};
pub use rate::RatePolicy;
pub use request::RequestPolicy;
pub use response::ResponsePolicy;
pub use sign::{SignPolicy, SigningKey};
pub use tls::TlsPolicy;

use super::backoff::RetryPolicy;
use super::route::TypePattern;

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
    /// How fast requests may follow each other; `None`: as fast as they go.
    pub rate: Option<RatePolicy>,
    /// How events are put together in one request; `None`: each goes alone.
    pub batch: Option<BatchPolicy>,
    /// What is kept in order of acceptance.
    pub order: OrderPolicy,
    /// One try, no dead letter.
    pub best_effort: bool,
}
