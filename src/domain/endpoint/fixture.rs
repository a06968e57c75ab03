//! The endpoint that tests start from.

use std::sync::Arc;
use std::time::Duration;

use super::{
    Address, AuthPolicy, Balance, BodyPolicy, BreakerPolicy, Concurrency, Endpoint, Integration, Order,
    RequestPolicy, ResponsePolicy, Selection, TlsPolicy,
};
use crate::domain::backoff::{RetryPolicy, Schedule};
use crate::domain::network::NetworkPolicy;
use crate::domain::route::TypePattern;
use crate::template::{Target, Template};

/// An endpoint called `name` at `url` that wants every event; its policies are near the configuration's defaults,
/// without jitter, and nothing is retried.
#[must_use]
pub fn endpoint(name: &str, url: &str) -> Endpoint {
    Endpoint {
        name: name.into(),
        description: "".into(),
        enabled: true,
        tenant: "".into(),
        events: TypePattern::parse("**").into_iter().collect(),
        selection: Selection::default(),
        bind: "data".into(),
        settings: Arc::default(),
        integration: Integration::default(),
        request: RequestPolicy {
            method: None,
            addresses: vec![address(url)],
            balance: Balance::default(),
            fallbacks: Vec::new(),
            fallback_on: Vec::new(),
            allows_plaintext: true,
            query: Vec::new(),
            headers: Vec::new(),
            routes: Vec::new(),
            body: BodyPolicy::default(),
            timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(5),
            response_bytes_max: 64 * 1024,
            tls: TlsPolicy::default(),
            redirects_max: 0,
            proxy: None,
            network: NetworkPolicy::default(),
        },
        auth: AuthPolicy::None,
        sign: Vec::new(),
        response: ResponsePolicy::default(),
        steps: Vec::new(),
        retry: RetryPolicy {
            schedule: Schedule::Listed(vec![Duration::from_secs(5)]),
            jitter: 0.0,
            max_attempts: 10,
            max_age: Duration::from_secs(3600),
            retry_on: Vec::new(),
            dont_retry_on: Vec::new(),
            max_retry_after: Duration::from_secs(3600),
        },
        breaker: BreakerPolicy::default(),
        concurrency: Concurrency { min: 1, max: 32 },
        batch: None,
        rate: None,
        order: Order::default(),
        best_effort: false,
        cases: Vec::new(),
    }
}

/// An address at `url`, shown as `http://masked/`.
///
/// # Panics
/// When `url` is no template.
#[must_use]
pub fn address(url: &str) -> Address {
    Address {
        url: fixed(url, Target::Url),
        shown: "http://masked/".into(),
    }
}

/// `text` as a template for `target`.
///
/// # Panics
/// When it is none.
#[must_use]
pub fn fixed(text: &str, target: Target) -> Template {
    Template::compile(text, target).unwrap()
}
