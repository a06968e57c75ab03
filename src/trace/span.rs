//! A span as posthaste tells it, before any wire format: what happened, when, and under which other span. Pure. Names of
//! attributes follow OpenTelemetry's semantic conventions (1.37) for HTTP clients and for CloudEvents; what they have
//! no name for begins with `posthaste.`.

use std::borrow::Cow;

use url::Url;

use super::context::{Context, Origin};
use crate::domain::endpoint::Endpoint;
use crate::domain::event::EventHead;
use crate::domain::outcome::{Attempt, Exchange, Outcome};

/// What kind of work a span is, seen from its parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An event was taken.
    Server,
    /// A request was made.
    Client,
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A text.
    Text(String),
    /// A number.
    Int(i64),
    /// Yes or no.
    Flag(bool),
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// Its own ids.
    pub context: Context,
    /// The span it hangs under; `None`: it begins the trace.
    pub parent: Option<u64>,
    /// Further spans that it comes from.
    pub links: Vec<Context>,
    /// What viewers list it as; few different ones.
    pub name: Cow<'static, str>,
    /// Its kind.
    pub kind: Kind,
    /// When it began, in nanoseconds since 1970.
    pub start_ns: u64,
    /// When it ended.
    pub end_ns: u64,
    /// What is known of it.
    pub attributes: Vec<(&'static str, Value)>,
    /// One sentence if it failed.
    pub failure: Option<String>,
}

/// The attributes of what is known of a span while it is put together.
#[derive(Debug, Default)]
struct Attributes(Vec<(&'static str, Value)>);

impl Attributes {
    fn text(&mut self, name: &'static str, text: &str) {
        if !text.is_empty() {
            self.0.push((name, Value::Text(text.to_owned())));
        }
    }

    fn int(&mut self, name: &'static str, number: impl TryInto<i64>) {
        let number = number.try_into().unwrap_or(i64::MAX);
        self.0.push((name, Value::Int(number)));
    }

    /// A number that is not known of every span.
    fn known<N: TryInto<i64>>(&mut self, name: &'static str, number: Option<N>) {
        if let Some(number) = number {
            self.int(name, number);
        }
    }

    fn event(&mut self, head: &EventHead) {
        self.text("cloudevents.event_id", &head.id);
        self.text("cloudevents.event_source", &head.source);
        self.text("cloudevents.event_type", &head.kind);
    }
}

/// What a try is called: the method, as the conventions want it, which have a word for any but the known ones.
fn method_of<'a>(endpoint: &'a Endpoint, attempt: &'a Attempt) -> &'a str {
    let shown = attempt.request_line.split(' ').next().unwrap_or_default();
    if !shown.is_empty() {
        return shown;
    }
    match &endpoint.request.method {
        None => "POST",
        Some(template) => template.fixed().unwrap_or("_OTHER"),
    }
}

/// Where a try went, secrets masked.
fn address_of<'a>(endpoint: &'a Endpoint, attempt: &'a Attempt) -> &'a str {
    let shown = attempt.request_line.split_once(' ').map(|(_, url)| url);
    shown.unwrap_or_else(|| endpoint.request.shown_address())
}

/// The span of an event's being accepted for `deliveries` endpoints.
#[must_use]
pub fn accepted(origin: Origin, own: u64, head: &EventHead, deliveries: usize, times: (u64, u64)) -> Span {
    let mut attributes = Attributes::default();
    attributes.event(head);
    attributes.text("posthaste.tenant", head.tenant.as_deref().unwrap_or_default());
    attributes.int("posthaste.deliveries", deliveries);
    let (context, parent) = match origin {
        Origin::Here(context) => (context, None),
        Origin::Producer(context) => (
            Context {
                span_id: own,
                ..context
            },
            Some(context.span_id),
        ),
    };
    Span {
        context,
        parent,
        links: Vec::new(),
        name: Cow::Borrowed("accept"),
        kind: Kind::Server,
        start_ns: times.0,
        end_ns: times.1,
        attributes: attributes.0,
        failure: None,
    }
}

/// What a try carried.
#[derive(Clone, Debug, PartialEq)]
pub struct Cargo {
    /// The first event.
    pub head: EventHead,
    /// How many events.
    pub events: usize,
    /// What the others come from.
    pub links: Vec<Context>,
}

/// The span of a try at delivering `cargo` to `endpoint`: how it ended, and how long each phase took.
#[must_use]
pub fn attempted(
    context: Context,
    parent: u64,
    cargo: Cargo,
    endpoint: &Endpoint,
    attempt: &Attempt,
    exchange: &Exchange,
    times: (u64, u64),
) -> Span {
    let method = method_of(endpoint, attempt).to_owned();
    let mut attributes = Attributes::default();
    attributes.text("http.request.method", &method);
    let address = address_of(endpoint, attempt);
    attributes.text("url.full", address);
    if let Ok(url) = Url::parse(address) {
        attributes.text("server.address", url.host_str().unwrap_or_default());
        attributes.known("server.port", url.port_or_known_default());
    }
    attributes.known("http.response.status_code", attempt.status);
    if attempt.number > 1 {
        attributes.int("http.request.resend_count", attempt.number - 1);
    }
    attributes.int("http.request.body.size", exchange.sent_bytes);
    attributes.int("http.response.body.size", exchange.received_bytes);
    if let Some(class) = attempt.outcome.class() {
        attributes.text("error.type", class.name());
    }
    attributes.text("posthaste.endpoint", &endpoint.name);
    attributes.text("posthaste.outcome", attempt.outcome.name());
    attributes.int("posthaste.attempt", attempt.number);
    attributes.int("posthaste.events", cargo.events);
    attributes.known("posthaste.dns_us", exchange.dns_us);
    attributes.known("posthaste.connect_us", exchange.connect_us);
    attributes.known("posthaste.tls_us", exchange.tls_us);
    attributes.known("posthaste.first_byte_us", exchange.first_byte_us);
    attributes.known("posthaste.body_us", exchange.body_us);
    let reused = Value::Flag(exchange.reused);
    attributes.0.push(("posthaste.connection_reused", reused));
    attributes.event(&cargo.head);
    let failed = matches!(attempt.outcome, Outcome::Error(_) | Outcome::Rejected);
    Span {
        context,
        parent: Some(parent),
        links: cargo.links,
        name: Cow::Owned(method),
        kind: Kind::Client,
        start_ns: times.0,
        end_ns: times.1,
        attributes: attributes.0,
        failure: failed.then(|| attempt.message.clone()),
    }
}
