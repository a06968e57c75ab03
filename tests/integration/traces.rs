//! H6: traces, as a receiver of OpenTelemetry's own making reads them.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::harness::servers::{Target, header};
use crate::harness::{Daemon, Setup, endpoint, event, eventually};
use crate::packages;
use crate::verifiers::run_verifier;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PRODUCER: &str = "00f067aa0ba902b7";

/// A receiver of traces, and the package that reads them.
struct Collector {
    target: Target,
    package: PathBuf,
}

impl Collector {
    /// `None`, after saying so, where the package can't be had; under `CI=true` that is a failure.
    fn new() -> Option<Self> {
        Some(Self {
            package: packages::pypi("opentelemetry-proto==1.45.2")?,
            target: Target::new(),
        })
    }

    fn config(&self) -> String {
        let url = self.target.url("/v1/traces");
        format!(
            "[traces]\nendpoint = \"{url}\"\nservice_name = \"posthaste-eu\"\nheaders = {{ x-key = \"${{env:OTLP_KEY}}\" }}\n"
        )
    }

    /// The next `count` spans at least, with `name` of the resource checked.
    fn spans(&mut self, count: usize) -> Vec<Value> {
        let mut spans = Vec::new();
        while spans.len() < count {
            let request = self.target.next();
            assert_eq!(
                (
                    &*request.path,
                    header(&request, "content-type"),
                    header(&request, "x-key")
                ),
                ("/v1/traces", "application/x-protobuf", "planted")
            );
            let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/verifiers/otlp.py");
            let line = STANDARD.encode(&request.body) + "\n";
            let read = run_verifier("python3", &script, &self.package, line);
            let read: Value = serde_json::from_str(&read[0]).unwrap();
            let resource = &read["resourceSpans"][0];
            assert_eq!(
                attribute(&resource["resource"], "service.name"),
                json!({ "stringValue": "posthaste-eu" })
            );
            let found = resource["scopeSpans"][0]["spans"].as_array().unwrap();
            spans.extend(found.iter().cloned());
        }
        spans
    }
}

/// The value of an attribute of a span or a resource.
fn attribute(of: &Value, name: &str) -> Value {
    let attributes = of["attributes"].as_array().unwrap();
    let found = attributes.iter().find(|attribute| attribute["key"] == name);
    found.map_or(Value::Null, |attribute| attribute["value"].clone())
}

fn text(of: &Value, name: &str) -> String {
    let value = attribute(of, name);
    let text = value["stringValue"].as_str().or(value["intValue"].as_str());
    text.unwrap_or_default().to_owned()
}

fn traced(kind: &str, id: &str, flags: &str) -> String {
    let traceparent = format!("00-{TRACE}-{PRODUCER}-{flags}");
    json!({ "type": kind, "id": id, "traceparent": traceparent }).to_string()
}

/// The spans called so, oldest first.
fn called<'a>(spans: &'a [Value], name: &str) -> Vec<&'a Value> {
    spans.iter().filter(|span| span["name"] == name).collect()
}

/// H6: an event with a `traceparent` continues its trace; the endpoint's own spans hang under the attempt's.
#[test]
fn h6_a_producers_trace_goes_on_through_every_attempt() {
    let Some(mut collector) = Collector::new() else {
        return;
    };
    let mut target = Target::new();
    let url = target.url("/fail-first/1/503");
    let crm = endpoint(
        "crm",
        &url,
        "retry = { delay = \"10ms\" }\nquery = { key = \"hidden\" }",
    );
    let daemon = Setup::new(&(collector.config() + &crm))
        .env("OTLP_KEY", "planted")
        .start();
    daemon.accept(&traced("a", "e1", "01"));
    let requests = target.take(2);
    let spans = collector.spans(3);
    assert!(spans.iter().all(|span| span["traceId"] == TRACE), "{spans:?}");
    assert!(
        spans.iter().all(|span| span["parentSpanId"] == PRODUCER),
        "{spans:?}"
    );
    assert!(!format!("{spans:?}").contains("hidden"), "{spans:?}");

    let accept = called(&spans, "accept");
    assert_eq!(
        (accept.len(), &accept[0]["kind"]),
        (1, &json!("SPAN_KIND_SERVER"))
    );
    assert_eq!(text(accept[0], "cloudevents.event_id"), "e1");
    assert_eq!(text(accept[0], "posthaste.deliveries"), "1");

    let posts = called(&spans, "POST");
    for (number, ((span, request), status)) in posts.iter().zip(&requests).zip(["503", "200"]).enumerate() {
        assert_eq!(span["kind"], "SPAN_KIND_CLIENT");
        let own = span["spanId"].as_str().unwrap();
        assert_eq!(header(request, "traceparent"), format!("00-{TRACE}-{own}-01"));
        assert_eq!(text(span, "http.response.status_code"), status);
        assert_eq!(text(span, "posthaste.attempt"), (number + 1).to_string());
        assert_eq!(
            (&*text(span, "server.address"), &*text(span, "posthaste.endpoint")),
            ("127.0.0.1", "crm")
        );
        assert_ne!(text(span, "posthaste.first_byte_us"), "");
        let nanos = |name: &str| span[name].as_str().unwrap().parse::<u64>().unwrap();
        assert!(nanos("startTimeUnixNano") < nanos("endTimeUnixNano"), "{span:?}");
    }
    assert_eq!(text(posts[0], "error.type"), "http_5xx");
    assert_eq!(posts[0]["status"]["code"], "STATUS_CODE_ERROR");
    assert_eq!(text(posts[1], "http.request.resend_count"), "1");
    assert_eq!(posts[1]["status"], Value::Null);
}

/// H6: without a `traceparent` the trace begins here; what its producer does not want recorded is not.
#[test]
fn h6_traces_begin_here_and_are_sampled() {
    let Some(mut collector) = Collector::new() else {
        return;
    };
    let mut target = Target::new();
    let text = collector.config() + &endpoint("crm", &target.url("/"), "");
    let daemon = Setup::new(&text).env("OTLP_KEY", "planted").start();
    daemon.accept(&traced("a", "unsampled", "00"));
    let unsampled = target.next();
    assert_eq!(
        header(&unsampled, "traceparent"),
        format!("00-{TRACE}-{PRODUCER}-00")
    );
    daemon.accept(&event("a", "e2"));
    let request = target.next();
    let spans = collector.spans(2);
    let (accept, post) = (called(&spans, "accept")[0], called(&spans, "POST")[0]);
    assert_eq!(spans.len(), 2, "nothing of the other: {spans:?}");
    assert_eq!(accept["parentSpanId"], Value::Null);
    assert_eq!(
        (&post["traceId"], &post["parentSpanId"]),
        (&accept["traceId"], &accept["spanId"])
    );
    let (trace, own) = (
        post["traceId"].as_str().unwrap(),
        post["spanId"].as_str().unwrap(),
    );
    assert_eq!(header(&request, "traceparent"), format!("00-{trace}-{own}-01"));
    let exported = eventually("the spans are counted", || {
        let metrics = daemon.http("GET", "/metrics", None).1;
        metrics
            .contains("posthaste_trace_spans_exported_total 2")
            .then_some(metrics)
    });
    assert!(
        exported.contains("posthaste_trace_spans_dropped_total 0"),
        "{exported}"
    );
}

/// H6: a receiver that takes no traces costs spans and no delivery, and the operator is told.
#[test]
fn h6_a_receiver_that_fails_costs_no_delivery() {
    let collector = Target::new();
    let mut target = Target::new();
    let traces = format!("[traces]\nendpoint = \"{}\"\n", collector.url("/status/400"));
    let daemon = Daemon::start(&(traces + &endpoint("crm", &target.url("/"), "")));
    daemon.accept_many("a", "e", 20);
    target.take(20);
    let status = eventually("spans are lost", || {
        let status = daemon.get("/v1/status").1;
        (status["traces"]["dropped"] == 40).then_some(status)
    });
    assert_eq!(status["traces"]["failing"], "it answered 400");
    daemon.logs("traces are not taken");
    let shown = daemon.cli(&["status"]).exits(0);
    assert!(
        shown.out.contains("40 spans") && shown.out.contains("it answered 400"),
        "{shown:?}"
    );
}

/// H6: a stop sends the spans that wait.
#[test]
fn h6_a_stop_sends_the_last_spans() {
    let Some(mut collector) = Collector::new() else {
        return;
    };
    let mut target = Target::new();
    let text = collector.config() + &endpoint("crm", &target.url("/"), "");
    let mut daemon = Setup::new(&text).env("OTLP_KEY", "planted").start();
    daemon.accept(&event("a", "e1"));
    target.next();
    daemon.until_settled("crm");
    daemon.stop();
    assert_eq!(collector.spans(2).len(), 2);
}
