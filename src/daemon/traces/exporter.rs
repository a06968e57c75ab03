//! Takes spans from the tracer's queue and sends them to the receiver of `[traces]`, many in one request (OTLP/HTTP 1.x).
//! While the receiver can't be reached the queue fills up, and what does not fit is dropped: nobody else waits. Idle, it
//! sleeps until there is a span.

use std::sync::PoisonError;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue, USER_AGENT};
use reqwest::Url;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use super::Traces;
use crate::config::{Config, TracesEndpoint};
use crate::delivery::fields::Fields;
use crate::delivery::render::{self, OutgoingRequest};
use crate::delivery::send::{Bounds, Clients, Sender};
use crate::trace::otlp::{self, Service};
use crate::trace::span::Span;
use crate::trace::tracer::Counts;

/// Spans in one request.
const BATCH_MAX: usize = 512;
/// How long a span waits for company.
const GATHER: Duration = Duration::from_secs(1);
/// Bound on one request; the default of OpenTelemetry's own exporters.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Bound on its connection alone.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How much of an answer is read, in bytes.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Waits between the tries of one request; then its spans are lost.
const PAUSES: [Duration; 3] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
];
/// Failures are logged at most this often; the status tells of the latest at any time.
const LOG_PAUSE: Duration = Duration::from_secs(60);

/// Why a request was not taken.
struct Refused {
    why: String,
    /// Whether the same request may be taken later (OTLP 1.x, "Retryable Response Codes").
    passing: bool,
}

/// Sends spans to one receiver.
pub(super) struct Exporter {
    traces: Traces,
    sender: Sender,
    url: Url,
    shown: Box<str>,
    headers: Fields,
    service: Service,
    /// When a failure was last logged; `None`: all went well since.
    logged: Option<Instant>,
}

impl Exporter {
    /// An exporter to `endpoint` for `traces`.
    ///
    /// # Errors
    /// One sentence if nothing can be sent there.
    pub(super) fn new(traces: Traces, endpoint: &TracesEndpoint, config: &Config) -> Result<Self, String> {
        let url = Url::parse(endpoint.url.expose()).map_err(|error| format!("traces.endpoint: {error}"))?;
        let network = &config.network.policy;
        let sender = Clients::default()
            .own(url.scheme() == "http", CONNECT_TIMEOUT, network)
            .map_err(|problem| format!("traces: {problem}"))?;
        let mut headers = Fields::default();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(otlp::CONTENT_TYPE));
        headers.insert(USER_AGENT, HeaderValue::from_static(render::USER_AGENT));
        for (name, value) in &config.traces.headers {
            let value = HeaderValue::from_str(value.expose())
                .map_err(|_| format!("traces.headers.{name}: no header can hold this value"))?;
            headers.insert(name.clone(), value);
        }
        Ok(Self {
            traces,
            sender,
            url,
            shown: endpoint.shown.clone(),
            headers,
            service: Service {
                name: config.traces.service_name.clone(),
                host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            },
            logged: None,
        })
    }

    /// Sends what comes in until it is told to stop, and then what is left, each once.
    pub(super) async fn run(mut self, mut queue: mpsc::Receiver<Span>) {
        let stop = self.traces.stop.clone();
        while !stop.is_cancelled() {
            let mut spans = Vec::new();
            let gathered = async {
                queue.recv_many(&mut spans, BATCH_MAX).await;
                // Whether it is the time or the number that ends this makes no difference.
                let _ = timeout(GATHER, fill(&mut queue, &mut spans)).await;
            };
            tokio::select! {
                () = gathered => {}
                () = stop.cancelled() => {}
            }
            if !spans.is_empty() {
                self.export(spans).await;
            }
        }
        loop {
            let mut spans = Vec::new();
            while let (true, Ok(span)) = (spans.len() < BATCH_MAX, queue.try_recv()) {
                spans.push(span);
            }
            if spans.is_empty() {
                return;
            }
            self.export(spans).await;
        }
    }

    async fn export(&mut self, spans: Vec<Span>) {
        let count = spans.len();
        let body = Bytes::from(otlp::encode(&self.service, spans));
        let sent = self.send(body).await;
        let (lost, failure) = match sent {
            Ok(None) => (0, None),
            Ok(Some((lost, why))) => (lost.min(count), Some(format!("{lost} spans were refused: {why}"))),
            Err(refused) => (count, Some(refused.why)),
        };
        let counts = self.traces.tracer.counts();
        Counts::add(&counts.exported, count - lost);
        Counts::add(&counts.dropped, lost);
        self.note(failure);
    }

    /// Sends one request, again where that may help; what the receiver took only in part is told.
    async fn send(&self, body: Bytes) -> Result<Option<(usize, String)>, Refused> {
        let mut pauses = PAUSES.iter();
        loop {
            let refused = match self.post(body.clone()).await {
                Ok(answer) => return Ok(otlp::rejected(&answer)),
                Err(refused) => refused,
            };
            let pause = pauses.next().filter(|_| refused.passing);
            let Some(pause) = pause else {
                return Err(refused);
            };
            tokio::select! {
                () = sleep(*pause) => {}
                () = self.traces.stop.cancelled() => return Err(refused),
            }
        }
    }

    async fn post(&self, body: Bytes) -> Result<Bytes, Refused> {
        let request = OutgoingRequest {
            method: http::Method::POST,
            url: self.url.clone(),
            headers: self.headers.clone(),
            body,
        };
        let bounds = Bounds {
            timeout: TIMEOUT,
            response_bytes_max: ANSWER_BYTES_MAX,
        };
        let sent = self.sender.send(&request, bounds, Instant::now()).await;
        let answer = sent.result.map_err(|failure| Refused {
            why: failure.cause,
            passing: true,
        })?;
        if answer.status.is_success() {
            return Ok(answer.body);
        }
        let status = answer.status.as_u16();
        Err(Refused {
            why: format!("it answered {status}"),
            passing: matches!(status, 429 | 502 | 503 | 504),
        })
    }

    /// Tells how the latest export went: the status at once, the log not too often.
    fn note(&mut self, failure: Option<String>) {
        let (receiver, now) = (&*self.shown, Instant::now());
        match &failure {
            None if self.logged.take().is_some() => tracing::info!(receiver, "traces are taken again"),
            None => {}
            Some(why) if self.logged.is_none_or(|logged| now - logged >= LOG_PAUSE) => {
                self.logged = Some(now);
                tracing::warn!(
                    receiver,
                    why,
                    "traces are not taken; spans are lost, deliveries are not"
                );
            }
            Some(_) => {}
        }
        let mut failing = self.traces.failing.lock().unwrap_or_else(PoisonError::into_inner);
        *failing = failure;
    }
}

/// Takes spans until there are enough for a request.
async fn fill(queue: &mut mpsc::Receiver<Span>, spans: &mut Vec<Span>) {
    while spans.len() < BATCH_MAX && queue.recv_many(spans, BATCH_MAX - spans.len()).await > 0 {}
}
