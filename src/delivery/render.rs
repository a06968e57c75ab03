//! From an event to the request that carries it. Pure, and knows neither signatures nor connections.
//!
//! What does not depend on the event (parsed URL, header values) is made once per endpoint, because
//! requests are made tens of thousands of times a second.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use reqwest::Url;

use super::batch;
use crate::domain::endpoint::{BatchShape, RequestPolicy};
use crate::domain::event::Event;
use crate::domain::time::Timestamp;

/// The event's id, the same on every try (Standard Webhooks 1.0.0, "Webhook headers").
pub const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
/// When this try began, in Unix seconds (Standard Webhooks 1.0.0).
pub const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
/// The signatures (Standard Webhooks 1.0.0).
pub const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
/// Which try this is, 1 for the first.
pub const ATTEMPT: HeaderName = HeaderName::from_static("x-posthaste-attempt");
/// W3C Trace Context.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// What requests call their sender.
const USER_AGENT: &str = concat!("posthaste/", env!("CARGO_PKG_VERSION"));

/// Headers that an endpoint may not configure: the first four differ with each try and are what signatures
/// cover, the others belong to the framing of HTTP itself.
const RESERVED: [HeaderName; 7] = [
    WEBHOOK_ID,
    WEBHOOK_TIMESTAMP,
    WEBHOOK_SIGNATURE,
    ATTEMPT,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::CONNECTION,
];

/// Configured headers whose values are shown; any other may carry a token under whatever name.
const HARMLESS: [HeaderName; 7] = [
    header::ACCEPT,
    header::ACCEPT_ENCODING,
    header::ACCEPT_LANGUAGE,
    header::CACHE_CONTROL,
    header::CONTENT_TYPE,
    header::HOST,
    header::USER_AGENT,
];

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
    pub headers: HeaderMap,
    /// The exact bytes that are signed and sent.
    pub body: Bytes,
}

/// The part of an endpoint's requests that is the same for every event.
#[derive(Clone, Debug)]
pub struct RequestTemplate {
    method: http::Method,
    url: Url,
    headers: HeaderMap,
    /// How events stand together; `None`: an event goes alone.
    batch: Option<BatchShape>,
}

impl RequestTemplate {
    /// Checks and prepares the fixed part of the requests.
    ///
    /// # Errors
    /// One sentence: the URL or a header cannot be used.
    pub fn new(policy: &RequestPolicy, batch: Option<&BatchShape>) -> Result<Self, String> {
        let mut url = parse_url(policy)?;
        let mut headers = configured_headers(policy)?;
        if let Some(value) = take_credentials(&mut url)? {
            headers.entry(header::AUTHORIZATION).or_insert(value);
        }
        for (name, value) in [
            (
                header::CONTENT_TYPE,
                batch.map_or("application/json", batch::content_type),
            ),
            (header::USER_AGENT, USER_AGENT),
        ] {
            headers.entry(name).or_insert(HeaderValue::from_static(value));
        }
        // Places for what each try overwrites, so that rendering does not have to grow the map.
        for name in [WEBHOOK_ID, WEBHOOK_TIMESTAMP, ATTEMPT] {
            headers.insert(name, HeaderValue::from_static(""));
        }
        Ok(Self {
            method: policy.method.clone(),
            url,
            headers,
            batch: batch.cloned(),
        })
    }

    /// `http` or `https`.
    #[must_use]
    pub fn scheme(&self) -> &str {
        self.url.scheme()
    }

    /// `host:port` of the URL: what messages call the endpoint's address.
    #[must_use]
    pub fn address(&self) -> Box<str> {
        let host = self.url.host_str().unwrap_or_default();
        format!("{host}:{}", self.url.port_or_known_default().unwrap_or_default()).into()
    }

    /// The request called `id` for try `number` at `events`, beginning at `now`. The body of a single event is its
    /// own bytes, not a copy.
    ///
    /// A `traceparent` that no header can carry is left out: a receiver has to ignore one it cannot parse
    /// (W3C Trace Context §3.2.2), so it is not worth a delivery. A batch belongs to several traces, so it carries none.
    ///
    /// # Errors
    /// One sentence: the id cannot be put into a header, or there is no event.
    pub fn render(
        &self,
        events: &[Event],
        id: &str,
        number: u32,
        now: Timestamp,
    ) -> Result<OutgoingRequest, String> {
        let [event, ..] = events else {
            return Err("a request needs an event".to_owned());
        };
        let mut headers = self.headers.clone();
        headers.insert(WEBHOOK_ID, id_value(id)?);
        headers.insert(WEBHOOK_TIMESTAMP, HeaderValue::from(now.unix_seconds()));
        headers.insert(ATTEMPT, HeaderValue::from(number));
        if events.len() == 1
            && let Some(value) = event
                .head
                .traceparent
                .as_deref()
                .and_then(|text| HeaderValue::from_str(text).ok())
        {
            headers.entry(TRACEPARENT).or_insert(value);
        }
        Ok(OutgoingRequest {
            method: self.method.clone(),
            url: self.url.clone(),
            headers,
            body: match &self.batch {
                None => event.json.clone(),
                Some(shape) => batch::body(shape, events),
            },
        })
    }
}

/// `id` as the value of `webhook-id`. CloudEvents ids may hold any character; those that a header or the
/// signed text cannot hold are percent-encoded, so that different ids stay different and no event is
/// undeliverable for its id. Most ids (ULIDs, UUIDs, numbers) stay as they are.
fn id_value(id: &str) -> Result<HeaderValue, String> {
    let encoded = utf8_percent_encode(id, ENCODED_IN_ID).to_string();
    HeaderValue::try_from(encoded).map_err(|_| format!("the event id {id:?} cannot be sent as webhook-id"))
}

fn parse_url(policy: &RequestPolicy) -> Result<Url, String> {
    let url = Url::parse(policy.url.expose()).map_err(|why| format!("url {}: {why}", policy.url_masked))?;
    match (url.scheme(), url.has_host()) {
        ("http" | "https", true) => Ok(url),
        _ => Err(format!(
            "url {}: it must begin with http:// or https:// and name a host",
            policy.url_masked
        )),
    }
}

/// The `authorization` header (RFC 7617) for a user name and password in the URL, which are taken out of it: they
/// are no part of the request line. A configured header of that name wins.
fn take_credentials(url: &mut Url) -> Result<Option<HeaderValue>, String> {
    if url.username().is_empty() && url.password().is_none() {
        return Ok(None);
    }
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let user = decoded(url.username());
    let password = decoded(url.password().unwrap_or_default());
    let basic = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
    let mut value = HeaderValue::try_from(basic).map_err(|error| format!("url: its credentials: {error}"))?;
    value.set_sensitive(true);
    let taken = url.set_username("").and_then(|()| url.set_password(None));
    taken.map_err(|()| "url: its credentials can't be used".to_owned())?;
    Ok(Some(value))
}

fn configured_headers(policy: &RequestPolicy) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, value) in &policy.headers {
        if RESERVED.contains(name) {
            return Err(format!(
                "headers: {name} is set by posthaste on each request; leave it out"
            ));
        }
        let mut value = HeaderValue::from_bytes(value.expose().as_bytes()).map_err(|_| {
            format!("headers: the value of {name} holds a line break or another control character")
        })?;
        value.set_sensitive(!HARMLESS.contains(name));
        headers.append(name, value);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::tests::{endpoint, event};
    use crate::domain::secret::Secret;

    fn with_headers(headers: &[(&str, &str)]) -> Result<RequestTemplate, String> {
        let mut policy = endpoint("http://127.0.0.1:9/hook?token=t").request;
        policy.headers = headers
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), Secret::new(value)))
            .collect();
        RequestTemplate::new(&policy, None)
    }

    fn shown(request: &OutgoingRequest) -> Vec<(&str, &str)> {
        let mut list: Vec<_> = request
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
            .collect();
        list.sort_unstable();
        list
    }

    /// protocol.md §4, first try: exactly these headers, and the event's own bytes.
    #[test]
    fn c1_the_default_request() {
        let event = event("01JHZ", r#"{"type":"a.b"}"#);
        let request = with_headers(&[])
            .unwrap()
            .render(
                std::slice::from_ref(&event),
                &event.head.id,
                3,
                Timestamp(1_700_000_000_999),
            )
            .unwrap();
        assert_eq!(request.method, "POST");
        assert_eq!(request.url.as_str(), "http://127.0.0.1:9/hook?token=t");
        assert_eq!(
            shown(&request),
            [
                ("content-type", "application/json"),
                ("user-agent", USER_AGENT),
                ("webhook-id", "01JHZ"),
                ("webhook-timestamp", "1700000000"),
                ("x-posthaste-attempt", "3"),
            ]
        );
        assert_eq!(request.body.as_ptr(), event.json.as_ptr());
    }

    /// D1: credentials in the URL become basic authentication, and nothing shows them.
    #[test]
    fn d1_credentials_in_the_url_are_basic_authentication() {
        let policy = endpoint("http://ada:pa%3Ass@127.0.0.1:9/hook").request;
        let request = RequestTemplate::new(&policy, None)
            .unwrap()
            .render(&[event("e", "{}")], "e", 1, Timestamp(0))
            .unwrap();
        assert_eq!(request.url.as_str(), "http://127.0.0.1:9/hook");
        let value = &request.headers[header::AUTHORIZATION];
        assert_eq!(value, "Basic YWRhOnBhOnNz");
        assert!(value.is_sensitive());
    }

    #[test]
    fn c1_configured_headers_come_before_defaults_and_are_sensitive() {
        let template = with_headers(&[
            ("content-type", "text/x"),
            ("X-Key", "k1"),
            ("X-Key", "k2"),
            ("traceparent", "own"),
        ]);
        let mut event = event("e", "{}");
        event.head.traceparent = Some("00-ab-cd-01".into());
        let request = template
            .unwrap()
            .render(std::slice::from_ref(&event), &event.head.id, 1, Timestamp(0))
            .unwrap();
        assert_eq!(request.headers[header::CONTENT_TYPE], "text/x");
        assert!(!request.headers[header::CONTENT_TYPE].is_sensitive());
        assert_eq!(
            request.headers.get_all("x-key").iter().collect::<Vec<_>>(),
            ["k1", "k2"]
        );
        assert!(request.headers["x-key"].is_sensitive());
        assert_eq!(request.headers[TRACEPARENT], "own");
    }

    #[test]
    fn traceparent_is_passed_on_unless_it_is_no_header_value() {
        for (text, expected) in [("00-ab-cd-01", Some("00-ab-cd-01")), ("bad\nvalue", None)] {
            let mut event = event("e", "{}");
            event.head.traceparent = Some(text.into());
            let request = with_headers(&[])
                .unwrap()
                .render(std::slice::from_ref(&event), &event.head.id, 1, Timestamp(0))
                .unwrap();
            assert_eq!(
                request
                    .headers
                    .get(TRACEPARENT)
                    .map(|value| value.to_str().unwrap()),
                expected
            );
        }
    }

    /// D4: the id fits into a header and into the signed text, and different ids stay different.
    #[test]
    fn d4_ids_are_encoded_where_they_must_be() {
        for (id, expected) in [
            ("01JHZ7T0M8", "01JHZ7T0M8"),
            ("a/b:c-d_e~f", "a/b:c-d_e~f"),
            ("order.17", "order%2E17"),
            ("order%2E17", "order%252E17"),
            ("two words", "two%20words"),
            ("line\r\nX-Evil: 1", "line%0D%0AX-Evil:%201"),
            ("Grüße", "Gr%C3%BC%C3%9Fe"),
        ] {
            assert_eq!(id_value(id).unwrap(), expected, "{id:?}");
        }
    }

    #[test]
    fn what_no_request_can_be_made_from_is_named() {
        let mut policy = endpoint("http://127.0.0.1/").request;
        for (url, message) in [
            ("no url", "relative URL"),
            ("ftp://host/", "must begin with http"),
            ("http://", "host"),
        ] {
            policy.url = Secret::new(url);
            let error = RequestTemplate::new(&policy, None).unwrap_err();
            assert!(
                error.starts_with("url ") && error.contains(message),
                "{url}: {error}"
            );
        }
        for (name, value, message) in [
            ("webhook-id", "x", "set by posthaste"),
            ("content-length", "3", "set by posthaste"),
            ("x-key", "hunter2\nx", "control character"),
        ] {
            let error = with_headers(&[(name, value)]).unwrap_err();
            assert!(
                error.contains(message) && error.contains(name) && !error.contains("hunter2"),
                "{error}"
            );
        }
    }
}
