use super::*;
use crate::delivery::tests::{endpoint, event};
use crate::domain::secret::Secret;

fn with_headers(headers: &[(&str, &str)]) -> Result<RequestTemplate, String> {
    let mut policy = endpoint("http://127.0.0.1:9/hook?token=t").request;
    policy.headers = headers
        .iter()
        .map(|(name, value)| (name.parse().unwrap(), Secret::new(value)))
        .collect();
    RequestTemplate::new(&policy)
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
    let request = RequestTemplate::new(&policy)
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
        let error = RequestTemplate::new(&policy).unwrap_err();
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
