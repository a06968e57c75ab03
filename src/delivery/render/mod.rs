//! From events to the request that carries them. Pure, and knows neither signatures nor connections.
//!
//! What does not depend on the event (parsed URL, header values) is made once per endpoint, because
//! requests are made tens of thousands of times a second; an endpoint without a template never looks into an event.

mod address;
mod headers;

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use reqwest::Url;
use smallvec::SmallVec;

use super::body::{self, Item, Shape};
use super::fields::Fields;
use super::scene::{Load, Scene};
use crate::domain::endpoint::{
    Address, BatchShape, BodyFormat, BodyPolicy, Compression, Endpoint, RequestPolicy, Route,
};
use crate::domain::event::Event;
use crate::domain::time::Timestamp;
use crate::domain::url::mask_parts;
use crate::template::{Expression, Scope, Template};
use address::{Chooser, Way};
use headers::Configured;

/// The event's id, the same on every try (Standard Webhooks 1.0.0, "Webhook headers").
pub const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
/// When this try began, in Unix seconds (Standard Webhooks 1.0.0).
pub const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
/// The signatures (Standard Webhooks 1.0.0).
pub const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
/// Which try this is, 1 for the first.
pub const ATTEMPT: HeaderName = HeaderName::from_static("x-posthaste-attempt");
/// By which the receiver of a step's request knows a repeat (draft-ietf-httpapi-idempotency-key-header).
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// W3C Trace Context.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// What stands in place of a query value that may be a secret.
const MASK: &str = "***";

/// The methods an endpoint may ask for.
const METHODS: [http::Method; 5] = [
    http::Method::GET,
    http::Method::POST,
    http::Method::PUT,
    http::Method::PATCH,
    http::Method::DELETE,
];

/// So many headers a request may get beside those that no event changes, without its list growing: its signature,
/// credentials, and what a trace adds.
const HEADERS_MORE: usize = 4;

/// What requests call their sender.
pub const USER_AGENT: &str = concat!("posthaste/", env!("CARGO_PKG_VERSION"));

/// What an id may not hold as `webhook-id`: what CloudEvents' HTTP binding encodes in header values
/// (§3.1.3.2), and the full stop, which separates the parts of the signed text in Standard Webhooks.
const ENCODED_IN_ID: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%').add(b'.');

/// A request ready to be signed and sent. Header values that must not be shown are marked sensitive.
#[derive(Clone, Debug)]
pub struct OutgoingRequest {
    /// The method.
    pub method: http::Method,
    /// Where to.
    pub url: Url,
    /// Every header but those that belong to the connection (`host`, `content-length`, `accept-encoding`).
    pub headers: Fields,
    /// The exact bytes that are signed and sent.
    pub body: Bytes,
}

/// Makes the requests of one endpoint.
#[derive(Debug)]
pub struct Composer {
    scene: Scene,
    method: Method,
    ways: Vec<Way>,
    fallbacks: Vec<Way>,
    shown: Vec<Box<str>>,
    chooser: Chooser,
    allows_plaintext: bool,
    query: Vec<(Box<str>, Template)>,
    headers: Fields,
    made_headers: Configured,
    routes: Vec<Branch>,
    body: BodyPolicy,
    batch: Option<BatchShape>,
    timeout: Duration,
    /// Whether requests are the same for all events, but for the events' own bytes.
    is_plain: bool,
}

/// A route, prepared.
#[derive(Debug)]
struct Branch {
    when: Expression,
    way: Option<Way>,
    shown: Box<str>,
    timeout: Option<Duration>,
    method: Option<Method>,
    headers: Configured,
}

/// The method, checked beforehand where no event changes it.
#[derive(Clone, Debug)]
enum Method {
    Fixed(http::Method),
    Made(Template),
}

/// What is decided for a try before its first request: the route, the address to begin with, and what templates see.
#[derive(Debug)]
pub struct Course {
    scope: Option<Scope>,
    route: Option<usize>,
    chosen: usize,
}

impl Course {
    /// What templates see; `None`: there are none.
    #[must_use]
    pub fn scope(&self) -> Option<&Scope> {
        self.scope.as_ref()
    }
}

impl Composer {
    /// Checks and prepares what doesn't depend on the event.
    ///
    /// # Errors
    /// One sentence naming the key that no request can be made from.
    pub fn new(endpoint: &Endpoint) -> Result<Self, String> {
        let policy = &endpoint.request;
        let batch = endpoint.batch.as_ref().map(|batch| batch.shape.clone());
        let way = |address: &Address| Way::new(address, policy.allows_plaintext);
        let ways: Vec<Way> = policy.addresses.iter().map(way).collect::<Result<_, _>>()?;
        if ways.is_empty() {
            return Err("url: there is none".to_owned());
        }
        let configured = Configured::new(&policy.headers)?;
        let mut composer = Self {
            scene: Scene::new(endpoint),
            method: policy
                .method
                .as_ref()
                .map_or(Ok(Method::Fixed(http::Method::POST)), Method::new)?,
            chooser: Chooser::new(policy.balance, ways.len()),
            ways,
            fallbacks: policy.fallbacks.iter().map(way).collect::<Result<_, _>>()?,
            shown: policy
                .addresses
                .iter()
                .chain(&policy.fallbacks)
                .map(|address| address.shown.clone())
                .collect(),
            allows_plaintext: policy.allows_plaintext,
            query: policy.query.clone(),
            headers: Fields::default(),
            made_headers: configured.clone(),
            routes: policy
                .routes
                .iter()
                .map(|route| Branch::new(route, policy))
                .collect::<Result<_, _>>()?,
            body: policy.body.clone(),
            batch,
            timeout: policy.timeout,
            is_plain: false,
        };
        composer.headers = composer.lasting_headers(configured.fixed);
        composer.is_plain = composer.is_same_for_all();
        Ok(composer)
    }

    /// The headers that no event changes, with places for what each try overwrites.
    fn lasting_headers(&self, mut headers: Fields) -> Fields {
        let defaults = [
            (header::CONTENT_TYPE, body::content_type(&self.body, self.shape())),
            (
                header::CONTENT_ENCODING,
                body::content_encoding(self.body.compress),
            ),
            (header::USER_AGENT, Some(HeaderValue::from_static(USER_AGENT))),
        ];
        for (name, value) in defaults {
            if let Some(value) = value {
                headers.insert_if_none(name, value);
            }
        }
        for name in [WEBHOOK_ID, WEBHOOK_TIMESTAMP, ATTEMPT] {
            headers.insert(name, HeaderValue::from_static(""));
        }
        headers
    }

    fn is_same_for_all(&self) -> bool {
        let is_event = matches!(self.body.format, BodyFormat::Event | BodyFormat::CloudEvents);
        let fixed = |way: &Way| matches!(way, Way::Fixed(_));
        is_event
            && !matches!(self.shape(), Shape::Template)
            && self.routes.is_empty()
            && self.query.is_empty()
            && matches!(self.method, Method::Fixed(_))
            && self.made_headers.is_fixed()
            && self.ways.iter().chain(&self.fallbacks).all(fixed)
    }

    /// How events stand in the body.
    fn shape(&self) -> Shape<'_> {
        match &self.batch {
            None if self.body.wrap.is_empty() => Shape::Single,
            None => Shape::Wrapped(&self.body.wrap),
            Some(BatchShape::Array) => Shape::Array,
            Some(BatchShape::Ndjson) => Shape::Lines,
            Some(BatchShape::Wrapped(name)) => Shape::Wrapped(name),
            Some(BatchShape::Template) => Shape::Template,
        }
    }

    /// Whether every request goes to `http:`, whatever the event.
    #[must_use]
    pub fn is_plain_http(&self) -> bool {
        let plain = |way: &Way| matches!(way, Way::Fixed(place) if place.url.scheme() == "http");
        let routed = self.routes.iter().filter_map(|branch| branch.way.as_ref());
        self.ways.iter().chain(&self.fallbacks).chain(routed).all(plain)
    }

    /// The first address as people see it.
    #[must_use]
    pub fn address(&self) -> &str {
        self.shown.first().map_or("", |shown| shown)
    }

    /// `host:port` of `url`, which the request to the address number `stop` of `course` goes to: what messages call the
    /// endpoint.
    #[must_use]
    pub fn address_of(&self, course: &Course, stop: usize, url: &Url) -> Cow<'_, str> {
        match self.way(course, stop) {
            Ok(Way::Fixed(place)) => Cow::Borrowed(&place.address),
            _ => Cow::Owned(address::host_and_port(url)),
        }
    }

    /// What templates and expressions see, for whoever else evaluates some.
    #[must_use]
    pub fn scene(&self) -> &Scene {
        &self.scene
    }

    /// Decides where the try of `load` goes.
    ///
    /// # Errors
    /// One sentence: a condition failed on this event.
    pub fn course(&self, load: &Load<'_>) -> Result<Course, String> {
        let chosen = self.chooser.choose(load.id, load.number, load.now);
        if self.is_plain {
            return Ok(Course {
                scope: None,
                route: None,
                chosen,
            });
        }
        let scope = self.scene.of(load)?;
        let mut route = None;
        for (index, branch) in self.routes.iter().enumerate() {
            let failed = |problem| format!("route[{}].when: {problem}", index + 1);
            if branch.when.test(&scope).map_err(failed)? {
                route = Some(index);
                break;
            }
        }
        Ok(Course {
            scope: Some(scope),
            route,
            chosen,
        })
    }

    /// The same course where templates see more.
    #[must_use]
    pub fn widened(course: Course, widen: impl FnOnce(Scope) -> Scope) -> Course {
        Course {
            scope: course.scope.map(widen),
            ..course
        }
    }

    /// How many addresses the try may go to, one after the other.
    #[must_use]
    pub fn stops(&self) -> usize {
        1 + self.fallbacks.len()
    }

    /// Bound on the whole attempt.
    #[must_use]
    pub fn timeout(&self, course: &Course) -> Duration {
        self.branch(course)
            .and_then(|branch| branch.timeout)
            .unwrap_or(self.timeout)
    }

    fn branch(&self, course: &Course) -> Option<&Branch> {
        course.route.and_then(|index| self.routes.get(index))
    }

    /// The request of `load` to the address number `stop` of its course, 0 for the first. The body of a plain request
    /// is the event's own bytes, not a copy.
    ///
    /// A `traceparent` that no header can carry is left out: a receiver has to ignore one it cannot parse
    /// (W3C Trace Context §3.2.2), so it is not worth a delivery.
    ///
    /// # Errors
    /// One sentence: a template failed on this event, or what it makes cannot stand where it goes.
    pub fn compose(&self, load: &Load<'_>, course: &Course, stop: usize) -> Result<OutgoingRequest, String> {
        let event = load.first()?;
        let branch = self.branch(course);
        let scope = course.scope.as_ref();
        let (mut url, credentials) = self.way(course, stop)?.target(scope, self.allows_plaintext)?;
        let mut headers = self.headers.with_room(HEADERS_MORE);
        if let Some(scope) = scope {
            self.add_query(&mut url, scope)?;
            self.made_headers.make(scope, &mut headers)?;
            if let Some(branch) = branch {
                branch.headers.put_fixed(&mut headers);
                branch.headers.make(scope, &mut headers)?;
            }
        }
        if let Some(value) = credentials {
            headers.insert_if_none(header::AUTHORIZATION, value);
        }
        let id = id_value(load.step_id().unwrap_or(load.id))?;
        if load.step_id().is_some() {
            headers.insert_if_none(IDEMPOTENCY_KEY, id.clone());
        }
        headers.insert(WEBHOOK_ID, id);
        headers.insert(WEBHOOK_TIMESTAMP, decimal(load.now.unix_seconds()));
        headers.insert(ATTEMPT, decimal(load.number.into()));
        let trace = event.head.traceparent.as_deref();
        if let Some(value) = trace.and_then(|text| HeaderValue::from_str(text).ok()) {
            headers.insert_if_none(TRACEPARENT, value);
        }
        let method = branch
            .and_then(|branch| branch.method.as_ref())
            .unwrap_or(&self.method);
        Ok(OutgoingRequest {
            method: method.of(scope)?,
            url,
            headers,
            body: self.body_of(load, scope)?,
        })
    }

    fn body_of(&self, load: &Load<'_>, scope: Option<&Scope>) -> Result<Bytes, String> {
        let Some(scope) = scope else {
            return body::plain(&self.body, self.shape(), load.events);
        };
        let item = |event: &Event| Item {
            json: event.json.clone(),
            scope: self.scene.within(scope, event),
        };
        let items: SmallVec<[Item; 1]> = load.events.iter().map(item).collect();
        body::write(&self.body, self.shape(), &items, scope)
    }

    /// The body of `load` for people: with `***` for secrets, and not compressed.
    ///
    /// # Errors
    /// Those of [`Composer::compose`].
    pub fn masked_body(&self, load: &Load<'_>, course: &Course) -> Result<Bytes, String> {
        let Some(scope) = &course.scope else {
            return self.body_of(load, None);
        };
        let item = |event: &Event| Item {
            json: event.json.clone(),
            scope: self.scene.within(&scope.masked(), event),
        };
        let items: Vec<Item> = load.events.iter().map(item).collect();
        let policy = BodyPolicy {
            compress: Compression::None,
            ..self.body.clone()
        };
        body::write(&policy, self.shape(), &items, &scope.masked())
    }

    fn add_query(&self, url: &mut Url, scope: &Scope) -> Result<(), String> {
        if self.query.is_empty() {
            return Ok(());
        }
        let mut pairs = url.query_pairs_mut();
        for (name, template) in &self.query {
            let failed = |problem| format!("query.{name}: {problem}");
            pairs.append_pair(name, &template.render(scope).map_err(failed)?);
        }
        Ok(())
    }

    fn way(&self, course: &Course, stop: usize) -> Result<&Way, String> {
        let routed = || self.branch(course).and_then(|branch| branch.way.as_ref());
        let way = match stop.checked_sub(1) {
            None => routed().or_else(|| self.ways.get(course.chosen)),
            Some(fallback) => self.fallbacks.get(fallback),
        };
        way.ok_or_else(|| "url: there is no other address".to_owned())
    }

    /// The request line as people see it: the method, and the URL without its secrets.
    #[must_use]
    pub fn shown(&self, course: &Course, stop: usize) -> String {
        let branch = self.branch(course);
        let method = branch
            .and_then(|branch| branch.method.as_ref())
            .unwrap_or(&self.method);
        let method = method.of(course.scope.as_ref()).unwrap_or_default();
        let mut line = format!("{method} {}", self.shown_address(course, stop));
        if let Some(query) = self.shown_query(course) {
            line.push(if line.contains('?') { '&' } else { '?' });
            line.push_str(&query);
        }
        line
    }

    fn shown_address(&self, course: &Course, stop: usize) -> String {
        let made = match (self.way(course, stop), &course.scope) {
            (Ok(Way::Made(template)), Some(scope)) => template.render(&scope.masked()).ok(),
            _ => None,
        };
        if let Some(url) = made.as_deref().and_then(crate::domain::url::parse) {
            return mask_parts(url);
        }
        let branch = self.branch(course);
        let routed = branch.filter(|branch| stop == 0 && branch.way.is_some());
        let index = if stop == 0 {
            course.chosen
        } else {
            self.ways.len() + stop - 1
        };
        let written = routed
            .map(|branch| &branch.shown)
            .or_else(|| self.shown.get(index));
        written.map_or_else(String::new, |shown| shown.to_string())
    }

    /// What `query` adds to the URL. A value is shown when it is made from the event alone: what is written out may be a key.
    fn shown_query(&self, course: &Course) -> Option<String> {
        let scope = course.scope.as_ref().filter(|_| !self.query.is_empty())?;
        let mut pairs = url::form_urlencoded::Serializer::new(String::new());
        for (name, template) in &self.query {
            let is_open = template.fixed().is_none() && !template.has_secret();
            let value = is_open.then(|| template.render(&scope.masked()).ok()).flatten();
            pairs.append_pair(name, value.as_deref().unwrap_or(MASK));
        }
        Some(pairs.finish())
    }

    /// Learns how the request to the first address of `course` ended, for the next choice.
    pub fn learn(&self, course: &Course, worked: bool, now: Timestamp) {
        if course.route.is_none() {
            self.chooser.learn(course.chosen, worked, now);
        }
    }
}

impl Branch {
    fn new(route: &Route, policy: &RequestPolicy) -> Result<Self, String> {
        let way = |address: &Address| Way::new(address, policy.allows_plaintext);
        Ok(Self {
            when: route.when.clone(),
            way: route.address.as_ref().map(way).transpose()?,
            shown: route
                .address
                .as_ref()
                .map(|address| address.shown.clone())
                .unwrap_or_default(),
            timeout: route.timeout,
            method: route.method.as_ref().map(Method::new).transpose()?,
            headers: Configured::new(&route.headers)?,
        })
    }
}

impl Method {
    fn new(template: &Template) -> Result<Self, String> {
        match template.fixed() {
            Some(text) => method(text).map(Self::Fixed),
            None => Ok(Self::Made(template.clone())),
        }
    }

    fn of(&self, scope: Option<&Scope>) -> Result<http::Method, String> {
        match (self, scope) {
            (Self::Fixed(method), _) => Ok(method.clone()),
            (Self::Made(template), Some(scope)) => {
                let text = template
                    .render(scope)
                    .map_err(|problem| format!("method: {problem}"))?;
                method(text.trim())
            }
            (Self::Made(_), None) => Err("method: it is made from an event, and there is none".to_owned()),
        }
    }
}

/// The method called `text`.
fn method(text: &str) -> Result<http::Method, String> {
    METHODS
        .iter()
        .find(|method| method.as_str() == text)
        .cloned()
        .ok_or_else(|| format!("method: {text:?} is none of GET POST PUT PATCH DELETE"))
}

/// `id` as the value of `webhook-id`. CloudEvents ids may hold any character; those that a header or the
/// signed text cannot hold are percent-encoded, so that different ids stay different and no event is
/// undeliverable for its id. Most ids (ULIDs, UUIDs, numbers) stay as they are.
/// A number as a header says it. The library's own way takes two pieces of memory for each.
fn decimal(number: u64) -> HeaderValue {
    let mut buffer = itoa::Buffer::new();
    HeaderValue::from_str(buffer.format(number)).unwrap_or_else(|_| HeaderValue::from(number))
}

fn id_value(id: &str) -> Result<HeaderValue, String> {
    let encoded = utf8_percent_encode(id, ENCODED_IN_ID).to_string();
    HeaderValue::try_from(encoded).map_err(|_| format!("the event id {id:?} cannot be sent as webhook-id"))
}

#[cfg(test)]
mod tests;
