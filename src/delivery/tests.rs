//! Couriers against real servers on real sockets.
use std::time::Duration;

use bytes::Bytes;

use crate::domain::backoff::{RetryPolicy, Schedule};
use crate::domain::endpoint::{BreakerPolicy, Concurrency, Endpoint, RequestPolicy, ResponsePolicy};
use crate::domain::event::{Event, EventHead};
use crate::domain::secret::Secret;
use crate::domain::time::Timestamp;

/// An endpoint at `url` with the defaults of the configuration.
pub(super) fn endpoint(url: &str) -> Endpoint {
    Endpoint {
        name: "test".into(),
        description: "".into(),
        enabled: true,
        tenant: "".into(),
        events: Vec::new(),
        request: RequestPolicy {
            method: http::Method::POST,
            url: Secret::new(url),
            url_masked: "http://masked/".into(),
            headers: Vec::new(),
            timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(5),
            response_bytes_max: 64 * 1024,
            tls_verify: true,
            tls_ca_pem: "".into(),
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
        breaker: BreakerPolicy {
            failures: 5,
            rate: 0.5,
            window: Duration::from_secs(60),
            min_requests: 20,
            open: Duration::from_secs(30),
            max_open: Duration::from_secs(600),
        },
        concurrency: Concurrency { min: 1, max: 32 },
        best_effort: false,
    }
}

/// An event with this id whose JSON is `json`.
pub(super) fn event(id: &str, json: &str) -> Event {
    Event {
        head: EventHead {
            id: id.into(),
            source: "/test".into(),
            kind: "test.event".into(),
            accepted: Timestamp(1_700_000_000_000),
            deliver_at: None,
            expires: None,
            partition_key: None,
            tenant: None,
            traceparent: None,
            sender_uid: None,
        },
        json: Bytes::copy_from_slice(json.as_bytes()),
    }
}
