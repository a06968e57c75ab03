//! The endpoint that tests start from.

use std::time::Duration;

use super::{BreakerPolicy, Concurrency, Endpoint, OrderPolicy, RequestPolicy, ResponsePolicy, TlsPolicy};
use crate::domain::backoff::{RetryPolicy, Schedule};
use crate::domain::route::TypePattern;
use crate::domain::secret::Secret;

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
        request: RequestPolicy {
            method: http::Method::POST,
            url: Secret::new(url),
            url_masked: "http://masked/".into(),
            headers: Vec::new(),
            timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(5),
            response_bytes_max: 64 * 1024,
            tls: TlsPolicy {
                verify: true,
                ca_pem: "".into(),
            },
        },
        sign: Vec::new(),
        response: ResponsePolicy::default(),
        retry: RetryPolicy {
            schedule: Schedule::Listed(vec![Duration::from_secs(5)]),
            jitter: 0.0,
            max_attempts: 10,
            max_age: Duration::from_secs(3600),
            retry_on: Vec::new(),
            dont_retry_on: Vec::new(),
            max_retry_after: Duration::from_secs(3600),
        },
        breaker: breaker(),
        concurrency: Concurrency { min: 1, max: 32 },
        rate: None,
        batch: None,
        order: OrderPolicy::None,
        best_effort: false,
    }
}

/// The configuration's breaker.
#[must_use]
pub fn breaker() -> BreakerPolicy {
    BreakerPolicy {
        failures: 5,
        rate: 0.5,
        window: Duration::from_secs(60),
        min_requests: 20,
        open: Duration::from_secs(30),
        max_open: Duration::from_secs(600),
    }
}
