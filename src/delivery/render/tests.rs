use super::*;
use crate::delivery::tests::{composed, endpoint, event, load};
use crate::domain::endpoint::fixture::{address, fixed};
use crate::template::Target;

fn with_headers(headers: &[(&str, &str)]) -> Endpoint {
    let mut endpoint = endpoint("http://127.0.0.1:9/hook?token=t");
    endpoint.request.headers = headers
        .iter()
        .map(|(name, value)| {
            (
                name.parse().unwrap(),
                Template::compile(value, Target::Text).unwrap(),
            )
        })
        .collect();
    endpoint
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
    let request = composed(&with_headers(&[]), &event, 3, Timestamp(1_700_000_000_999)).unwrap();
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
    let endpoint = endpoint("http://ada:pa%3Ass@127.0.0.1:9/hook");
    let request = composed(&endpoint, &event("e", "{}"), 1, Timestamp(0)).unwrap();
    assert_eq!(request.url.as_str(), "http://127.0.0.1:9/hook");
    let value = request.headers.get(&header::AUTHORIZATION).unwrap();
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
    let request = composed(&template, &event, 1, Timestamp(0)).unwrap();
    assert_eq!(request.headers.get(&header::CONTENT_TYPE).unwrap(), "text/x");
    assert!(!request.headers.get(&header::CONTENT_TYPE).unwrap().is_sensitive());
    assert_eq!(request.headers.get_all("x-key").collect::<Vec<_>>(), ["k1", "k2"]);
    assert!(request.headers.get("x-key").unwrap().is_sensitive());
    assert_eq!(request.headers.get(&TRACEPARENT).unwrap(), "own");
}

#[test]
fn traceparent_is_passed_on_unless_it_is_no_header_value() {
    for (text, expected) in [("00-ab-cd-01", Some("00-ab-cd-01")), ("bad\nvalue", None)] {
        let mut event = event("e", "{}");
        event.head.traceparent = Some(text.into());
        let request = composed(&with_headers(&[]), &event, 1, Timestamp(0)).unwrap();
        assert_eq!(
            request
                .headers
                .get(&TRACEPARENT)
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
    let mut endpoint = endpoint("http://127.0.0.1/");
    for (url, message) in [
        ("no url", "relative URL"),
        ("ftp://host/", "must begin with http"),
        ("http://", "host"),
    ] {
        endpoint.request.addresses = vec![address(url)];
        let error = Composer::new(&endpoint).unwrap_err();
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
        let error = Composer::new(&with_headers(&[(name, value)])).unwrap_err();
        assert!(
            error.contains(message) && error.contains(name) && !error.contains("hunter2"),
            "{error}"
        );
    }
}

const LEAD: &str =
    r#"{"type":"lead.new","source":"/web","data":{"state":"CA","value":150,"email":"a b@x","path":"../up"}}"#;

/// The URL and the method of the first request for `LEAD`.
fn goes_to(change: impl FnOnce(&mut Endpoint)) -> Result<(String, String), String> {
    let mut endpoint = endpoint("https://a.example/");
    change(&mut endpoint);
    let request = composed(&endpoint, &event("e", LEAD), 1, Timestamp(1_700_000_000_000))?;
    Ok((request.method.to_string(), request.url.to_string()))
}

fn url(text: &str) -> Address {
    Address {
        url: fixed(text, Target::Url),
        shown: text.into(),
    }
}

/// B4: path and query are built from the event, and values stay in their place.
#[test]
fn b4_the_url_is_built_from_the_event() {
    for (template, query, expected) in [
        (
            "https://a.example/v2/leads/{{ data.state }}/validate",
            &[("source", "{{ event.source }}"), ("email", "{{ data.email }}")][..],
            "https://a.example/v2/leads/CA/validate?source=%2Fweb&email=a+b%40x",
        ),
        (
            "https://a.example/?k=1",
            &[("a", "b")],
            "https://a.example/?k=1&a=b",
        ),
        (
            "https://a.example/x/{{ data.email }}",
            &[],
            "https://a.example/x/a%20b%40x",
        ),
    ] {
        let found = goes_to(|endpoint| {
            endpoint.request.addresses = vec![url(template)];
            let text = |value| fixed(value, Target::Text);
            endpoint.request.query = query
                .iter()
                .map(|(name, value)| ((*name).into(), text(value)))
                .collect();
        });
        assert_eq!(found.unwrap().1, expected);
    }
    let climbs =
        goes_to(|endpoint| endpoint.request.addresses = vec![url("https://a.example/{{ data.path }}/x")]);
    assert_eq!(climbs.unwrap().1, "https://a.example/..%2Fup/x");
    let plain = goes_to(|endpoint| {
        endpoint.request.allows_plaintext = false;
        endpoint.request.addresses = vec![url("http://{{ data.state }}.example/")];
    });
    assert!(plain.unwrap_err().contains("allow_http"));
}

/// B4: the first route whose condition holds gives address, method, timeout and headers.
#[test]
fn b4_routes_are_chosen_by_condition_and_by_time() {
    let route = |when: &str, to: &str| Route {
        when: Expression::compile(when).unwrap(),
        address: Some(url(to)),
        timeout: Some(Duration::from_secs(3)),
        method: Some(fixed("PUT", Target::Text)),
        headers: Vec::new(),
    };
    for (conditions, expected) in [
        (
            [
                ("data.value > 100", "https://premium.example/"),
                ("true", "https://other.example/"),
            ],
            "https://premium.example/",
        ),
        (
            [
                ("data.value > 200", "https://premium.example/"),
                ("data.state in ['CA', 'TX']", "https://regional.example/"),
            ],
            "https://regional.example/",
        ),
        // 2023-11-14T22:13:20Z
        (
            [
                ("now.hour < 9 or now.hour > 17", "https://night.example/"),
                ("true", "https://day.example/"),
            ],
            "https://night.example/",
        ),
    ] {
        let found = goes_to(|endpoint| {
            endpoint.request.routes = conditions.iter().map(|(when, to)| route(when, to)).collect();
        });
        assert_eq!(found.unwrap(), ("PUT".to_owned(), expected.to_owned()));
    }
    let found =
        goes_to(|endpoint| endpoint.request.routes = vec![route("data.value > 1000", "https://x.example/")]);
    assert_eq!(
        found.unwrap(),
        ("POST".to_owned(), "https://a.example/".to_owned())
    );

    let mut endpoint = endpoint("https://a.example/");
    endpoint.request.routes = vec![route("data.value > 100", "https://x.example/")];
    let composer = Composer::new(&endpoint).unwrap();
    let lead = event("e", LEAD);
    let course = composer.course(&load(&lead, 1, Timestamp(0))).unwrap();
    assert_eq!(composer.timeout(&course), Duration::from_secs(3));
    assert_eq!(composer.shown(&course, 0), "PUT https://x.example/");
}

/// H3, C6: the query that a table adds is shown with the URL, but for what may be a key.
#[test]
fn h3_the_query_is_shown() {
    let query = [
        ("state", "{{ data.state }} x"),
        ("key", "hunter2"),
        ("secret", "{{ secrets.none or 'hunter2' }}"),
    ];
    let mut endpoint = endpoint("https://a.example/?a=1");
    let text = |(name, text): (&str, &str)| (name.into(), fixed(text, Target::Text));
    endpoint.request.query = query.map(text).to_vec();
    let composer = Composer::new(&endpoint).unwrap();
    let lead = event("e", LEAD);
    let course = composer.course(&load(&lead, 1, Timestamp(0))).unwrap();
    let shown = composer.shown(&course, 0);
    assert!(shown.ends_with("state=CA+x&key=***&secret=***"), "{shown}");
    assert!(!shown.contains("hunter2"), "{shown}");
}

/// C1: headers and method are templates, and event data can't add a line to a header.
#[test]
fn c1_headers_are_made_from_the_event() {
    let endpoint = with_headers(&[("x-state", "{{ data.state }}!"), ("x-fixed", "f")]);
    let request = composed(&endpoint, &event("e", LEAD), 1, Timestamp(0)).unwrap();
    assert_eq!(request.headers.get("x-state").unwrap(), "CA!");
    assert_eq!(request.headers.get("x-fixed").unwrap(), "f");
    let evil = event("e", r#"{"data":{"state":"CA\r\nx-evil: 1"}}"#);
    let mut endpoint = endpoint;
    endpoint.request.headers = vec![(
        "x-state".parse().unwrap(),
        fixed("{{ data.state }}", Target::Header),
    )];
    assert!(
        composed(&endpoint, &evil, 1, Timestamp(0))
            .unwrap_err()
            .contains("x-state")
    );
}
