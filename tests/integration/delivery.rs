//! What endpoints get: who, which request, signed how, and what becomes of each way to answer it.

use posthaste::cli::receive::server::Received;
use serde_json::{Value, json};
use standardwebhooks::Webhook;

use crate::harness::servers::{Scripted, Target, answer, header, nobody};
use crate::harness::{BOUND, Daemon, Setup, endpoint, event, now};
use crate::verifiers::{Signed, Verifier};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OLD_SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

/// C1, A3: the request an endpoint gets when it configures nothing but its address: all of it.
#[test]
fn c1_the_default_request() {
    let mut target = Target::new();
    let daemon = Daemon::start(&endpoint("plain", &target.url("/hook?x=1"), ""));
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let written = format!(
        r#"{{ "type":"contact.created", "id":"e-1","source":"/shop","time":"2026-01-15T10:30:00Z","specversion":"1.0","traceparent":"{trace}","data":{{"b":1,"a":[1.50,"ü"]}} }}"#
    );
    daemon.accept(&written);
    let got = target.next();
    assert_eq!((got.method.as_str(), &*got.path), ("POST", "/hook?x=1"));
    assert_eq!(header(&got, "content-type"), "application/json");
    assert_eq!(
        header(&got, "user-agent"),
        concat!("posthaste/", env!("CARGO_PKG_VERSION"))
    );
    assert_eq!(header(&got, "webhook-id"), "e-1");
    assert_eq!(header(&got, "x-posthaste-attempt"), "1");
    assert_eq!(header(&got, "traceparent"), trace);
    let sent: u64 = header(&got, "webhook-timestamp").parse().unwrap();
    assert!(now().unix_seconds().abs_diff(sent) <= BOUND.as_secs(), "{sent}");
    assert!(!got.headers.contains_key("webhook-signature"), "it has no secret");
    let body: Value = serde_json::from_slice(&got.body).unwrap();
    assert_eq!(
        body,
        serde_json::from_str::<Value>(&written).unwrap(),
        "the event, as CloudEvents JSON"
    );
    assert!(
        got.body.windows(4).any(|bytes| bytes == b"1.50"),
        "the data is handed on as it was written"
    );
}

/// C1: methods, and headers beside or instead of the default ones.
#[test]
fn c1_methods_and_headers() {
    let mut target = Target::new();
    let methods = ["GET", "POST", "PUT", "PATCH", "DELETE"];
    let text: String = methods
        .iter()
        .map(|method| {
            let more = format!(
                "method = \"{method}\"\nheaders = {{ X-Customer-ID = \"12345\", Content-Type = \"application/cloudevents+json\" }}"
            );
            endpoint(&method.to_lowercase(), &target.url(&format!("/{method}")), &more)
        })
        .collect();
    let daemon = Daemon::start(&text);
    assert_eq!(daemon.accept(&event("a", "1"))["deliveries"], 5);
    let mut seen: Vec<String> = target
        .take(5)
        .iter()
        .map(|got| {
            assert_eq!(got.path, format!("/{}", got.method));
            assert_eq!(header(got, "x-customer-id"), "12345");
            assert_eq!(header(got, "content-type"), "application/cloudevents+json");
            got.method.to_string()
        })
        .collect();
    seen.sort();
    assert_eq!(seen, ["DELETE", "GET", "PATCH", "POST", "PUT"]);
}

/// B1: each endpoint gets the types it asks for: `*` is one segment, `**` any number.
#[test]
fn b1_endpoints_get_what_they_ask_for() {
    let mut target = Target::new();
    let text = [
        ("exact", "\"contact.created\""),
        ("one", "\"contact.*\""),
        ("any", "\"contact.**\""),
        ("inner", "\"**.created\""),
        ("two", "\"order.paid\", \"invoice.*\""),
        ("all", "\"**\""),
    ]
    .map(|(name, events)| {
        endpoint(
            name,
            &target.url(&format!("/{name}")),
            &format!("events = [{events}]"),
        )
    });
    let daemon = Daemon::start(&text.concat());
    for (kind, expected) in [
        (
            "contact.created",
            &["/all", "/any", "/exact", "/inner", "/one"][..],
        ),
        ("contact.a.created", &["/all", "/any", "/inner"]),
        ("contact", &["/all", "/any"]),
        ("invoice.sent", &["/all", "/two"]),
        ("order.created.not", &["/all"]),
    ] {
        assert_eq!(
            daemon.accept(&event(kind, kind))["deliveries"],
            expected.len(),
            "{kind}"
        );
        let mut paths: Vec<_> = target
            .take(expected.len())
            .into_iter()
            .map(|got| got.path)
            .collect();
        paths.sort();
        assert_eq!(paths, expected, "{kind}");
    }
}

fn signed(got: &Received, secret: &str) -> Signed {
    let names = ["webhook-id", "webhook-timestamp", "webhook-signature"];
    Signed {
        secret: secret.to_owned(),
        headers: names
            .map(|name| (name.to_owned(), header(got, name).to_owned()))
            .into(),
        body: got.body.to_vec(),
    }
}

/// Two deliveries (one to an endpoint with one secret, one to an endpoint that rotates two), and with which secrets
/// each has to be found good.
fn signed_deliveries() -> Vec<(Received, Vec<(&'static str, bool)>)> {
    let mut target = Target::new();
    let sign = |secrets: &str| format!("sign = [{{ scheme = \"standard\", secrets = [{secrets}] }}]");
    let text = endpoint("one", &target.url("/one"), &sign(&format!("\"{SECRET}\"")))
        + &endpoint(
            "two",
            &target.url("/two"),
            &sign(&format!("\"{SECRET}\", \"{OLD_SECRET}\"")),
        );
    let daemon = Daemon::start(&text);
    daemon.accept(r#"{"type":"contact.created","id":"héllo wörld.%","data":{"name":"Zoë ✓","n":1.50}}"#);
    let received = target.take(2);
    received
        .into_iter()
        .map(|got| {
            let rotates = got.path == "/two";
            (got, vec![(SECRET, true), (OLD_SECRET, rotates)])
        })
        .collect()
}

/// D4, D5: the official Rust library finds real deliveries good, each with every secret it was signed with.
#[test]
fn d4_the_official_rust_crate_verifies_deliveries() {
    for (got, secrets) in signed_deliveries() {
        for (secret, good) in secrets {
            let verdict = Webhook::new(secret).unwrap().verify(&got.body, &got.headers);
            assert_eq!(verdict.is_ok(), good, "{} {secret}: {verdict:?}", got.path);
        }
    }
}

fn judged_by(verifier: Option<Verifier>) {
    let Some(verifier) = verifier else { return };
    let (requests, expected): (Vec<_>, Vec<_>) = signed_deliveries()
        .into_iter()
        .flat_map(|(got, secrets)| {
            secrets
                .into_iter()
                .map(move |(secret, good)| (signed(&got, secret), good))
        })
        .unzip();
    let verdicts = verifier.verdicts(&requests);
    let good: Vec<bool> = verdicts.iter().map(|verdict| verdict == "ok").collect();
    assert_eq!(good, expected, "{verdicts:?}");
}

/// D4, D5: so does the official package of npm.
#[test]
fn d4_the_npm_package_verifies_deliveries() {
    judged_by(Verifier::npm());
}

/// D4, D5: so does the official package of PyPI.
#[test]
fn d4_the_pypi_package_verifies_deliveries() {
    judged_by(Verifier::pypi());
}

/// E1, E4: every way to misbehave, with the class and the words a person finds in the dead letter.
#[test]
fn e4_every_misbehaviour_is_named() {
    let target = Target::new();
    let liar = Scripted::new(|_| "HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nshort".to_owned());
    let nobody = format!("http://{}/", nobody());
    let cases = [
        (
            "refused",
            nobody,
            "connect",
            None,
            "could not connect to 127.0.0.1",
        ),
        (
            "no-host",
            "https://posthaste.invalid/".to_owned(),
            "dns",
            None,
            "could not be resolved",
        ),
        (
            "not-tls",
            target.url("/ok").replace("http:", "https:"),
            "tls",
            None,
            "no TLS connection with",
        ),
        (
            "hang",
            target.url("/hang"),
            "timeout",
            None,
            "no answer within 800ms",
        ),
        (
            "drip",
            target.url("/drip"),
            "timeout",
            Some(200),
            "did not end within 800ms",
        ),
        (
            "reset",
            target.url("/reset"),
            "reset",
            None,
            "the connection to 127.0.0.1",
        ),
        (
            "close",
            target.url("/close"),
            "reset",
            None,
            "the connection to 127.0.0.1",
        ),
        (
            "garbage",
            target.url("/garbage"),
            "invalid_response",
            None,
            "is not valid HTTP",
        ),
        (
            "liar",
            liar.url(),
            "invalid_response",
            Some(200),
            "is not valid HTTP",
        ),
        (
            "redirect",
            target.url("/redirect"),
            "http_3xx",
            Some(302),
            "answered 302 Found",
        ),
        (
            "teapot",
            target.url("/status/418"),
            "http_4xx",
            Some(418),
            "answered 418 I'm a teapot",
        ),
        (
            "broken",
            target.url("/status/500"),
            "http_5xx",
            Some(500),
            "answered 500 Internal Server Error",
        ),
        (
            "odd",
            target.url("/status/799"),
            "http_5xx",
            Some(799),
            "answered 799",
        ),
    ];
    let more = "timeout = \"800ms\"\nretry = { max_attempts = 1 }";
    let text: String = cases
        .iter()
        .map(|(name, url, ..)| endpoint(name, url, more))
        .collect();
    let daemon = Daemon::start(&text);
    assert_eq!(daemon.accept(&event("a", "1"))["deliveries"], cases.len());
    for (name, _, class, status, message) in cases {
        let letter = daemon.until_dead(name, 1).remove(0);
        let last = &letter["last"];
        assert_eq!(
            (&last["class"], &last["status"]),
            (&json!(class), &json!(status)),
            "{name}: {letter}"
        );
        assert!(
            last["message"].as_str().unwrap().contains(message),
            "{name}: {}",
            last["message"]
        );
        assert!(
            last["hint"].as_str().is_some_and(|hint| !hint.is_empty()),
            "{name}: {last}"
        );
        // What no retry can mend is not held back for retries.
        let reason = if status.is_some_and(|status| status < 500 && status != 200) {
            "not_retried"
        } else {
            "max_attempts"
        };
        assert_eq!(letter["reason"], reason, "{name}: {letter}");
        let row = daemon.row(name);
        assert_eq!(row["attempts"]["errors"][class], 1, "{name}: {row}");
        assert_eq!(row["attempts"]["last_error"], last["message"], "{name}");
    }
}

/// E1, E2: statuses that mean success can be listed; then no other does.
#[test]
fn e2_success_is_a_list_of_statuses() {
    let target = Target::new();
    let more = "response = { success_status = [202, 409] }\nretry = { max_attempts = 1 }";
    let text =
        endpoint("listed", &target.url("/status/409"), more) + &endpoint("not", &target.url("/ok"), more);
    let daemon = Daemon::start(&text);
    daemon.accept(&event("a", "1"));
    assert_eq!(daemon.until_dead("not", 1)[0]["last"]["status"], 200);
    daemon.until_row("listed", "delivered", |row| {
        row["attempts"]["delivered"] == 1 && row["pending"] == 0
    });
}

/// E6: an answer without end is read to its bound and no further; it counts, for its status says so.
#[test]
fn e6_answers_are_bounded_in_size() {
    let target = Target::new();
    let text = endpoint(
        "huge",
        &target.url("/big/10000000000"),
        "max_response = \"64KiB\"",
    );
    let daemon = Daemon::start(&text);
    daemon.accept(&event("a", "1"));
    daemon.until_row("huge", "delivered", |row| row["attempts"]["delivered"] == 1);
}

/// E6: the bound in time holds for the whole attempt: an answer that comes byte by byte ends at it.
#[test]
fn e6_attempts_are_bounded_in_time() {
    let target = Target::new();
    let text = endpoint(
        "drip",
        &target.url("/drip"),
        "timeout = \"1s\"\nretry = { max_attempts = 1 }",
    );
    let daemon = Daemon::start(&text);
    daemon.accept(&event("a", "1"));
    let letter = daemon.until_dead("drip", 1).remove(0);
    let took = letter["last"]["duration_ms"].as_u64().unwrap();
    assert!((1000..BOUND.as_millis() as u64 / 3).contains(&took), "{took} ms");
}

/// D8: a redirect is not followed, so that nobody is sent what was meant for somebody else.
#[test]
fn d8_redirects_are_not_followed() {
    let elsewhere = Target::new();
    let location = format!("location: {}\r\n", elsewhere.url("/ok"));
    let target = Scripted::new(move |_| answer(307, &location));
    let daemon = Daemon::start(&endpoint("moved", &target.url(), ""));
    daemon.accept(&event("a", "1"));
    let letter = daemon.until_dead("moved", 1).remove(0);
    assert_eq!(letter["reason"], "not_retried");
    let headers = letter["last"]["response_headers"].as_array().unwrap();
    assert!(
        headers.contains(&json!(["location", elsewhere.url("/ok")])),
        "where it points to is shown: {headers:?}"
    );
    assert_eq!(elsewhere.requests(), 0);
}

/// F4: the answer header `webhook-delivery: abort-message` gives up one delivery, whatever its status.
#[test]
fn f4_abort_message_gives_up_one_delivery() {
    let target = Scripted::new(|n| match n {
        0 => answer(500, "webhook-delivery: abort-message\r\n"),
        _ => answer(200, ""),
    });
    let daemon = Daemon::start(&endpoint("strict", &target.url(), ""));
    daemon.accept(&event("a", "1"));
    assert_eq!(daemon.until_dead("strict", 1)[0]["reason"], "aborted");
    daemon.accept(&event("a", "2"));
    daemon.until_row("strict", "delivered", |row| row["attempts"]["delivered"] == 1);
}

/// Connections are kept open and used again.
#[test]
fn connections_are_used_again() {
    let mut target = Target::new();
    let daemon = Daemon::start(&endpoint("one", &target.url("/ok"), "concurrency = 1"));
    daemon.accept_many("a", "e", 50);
    target.take(50);
    assert_eq!(target.connections(), 1);
}

/// D6: a server whose certificate comes from an own authority is trusted by `tls.ca`, and by nothing else.
#[test]
fn d6_tls_with_an_own_authority() {
    let tls = crate::harness::servers::Tls::new();
    let mut daemon = Setup::new("").stopped();
    std::fs::write(daemon.path("ca.pem"), tls.authority()).unwrap();
    let more = |extra: &str| format!("{extra}\nretry = {{ max_attempts = 1 }}");
    let text = endpoint(
        "trusting",
        &tls.url("localhost"),
        &more("tls = { ca = \"ca.pem\" }"),
    ) + &endpoint("strict", &tls.url("localhost"), &more(""))
        + &endpoint(
            "other-name",
            &tls.url("127.0.0.1"),
            &more("tls = { ca = \"ca.pem\" }"),
        )
        + &endpoint(
            "careless",
            &tls.url("127.0.0.1"),
            &more("tls = { verify = false }"),
        );
    daemon.write_config(&text);
    daemon.restart();
    daemon.accept(&event("a", "1"));
    for (name, message) in [("strict", "UnknownIssuer"), ("other-name", "not valid for name")] {
        let last = daemon.until_dead(name, 1).remove(0)["last"].clone();
        assert_eq!(last["class"], "tls", "{name}: {last}");
        assert!(
            last["message"].as_str().unwrap().contains(message),
            "{name}: {last}"
        );
    }
    for name in ["trusting", "careless"] {
        daemon.until_row(name, "delivered", |row| row["attempts"]["delivered"] == 1);
    }
    assert_eq!(
        tls.requests(),
        2,
        "nothing is sent to a server that is not trusted"
    );
    daemon.logs("not verified");
}
