//! Spans in the protobuf messages of OTLP 1.x, as the project's own crate defines them. Pure: bytes go out, nobody is
//! asked to send them.

use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{
    ResourceSpans, ScopeSpans, Span as Message, Status, span, status,
};
use prost::Message as _;

use super::context::Context;
use super::span::{Kind, Span, Value};

/// The media type of what [`encode`] gives.
pub const CONTENT_TYPE: &str = "application/x-protobuf";

/// Who made the spans.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// `service.name`
    pub name: String,
    /// `host.name`
    pub host: String,
}

/// One export request with all of `spans`.
#[must_use]
pub fn encode(service: &Service, spans: Vec<Span>) -> Vec<u8> {
    let resource = [
        ("service.name", &*service.name),
        ("service.version", env!("CARGO_PKG_VERSION")),
        ("host.name", &*service.host),
    ];
    let resource = resource.map(|(name, text)| pair(name, Value::Text(text.to_owned())));
    let request = ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource {
                attributes: resource.into(),
                ..Resource::default()
            }),
            scope_spans: vec![ScopeSpans {
                scope: Some(InstrumentationScope {
                    name: env!("CARGO_PKG_NAME").to_owned(),
                    version: env!("CARGO_PKG_VERSION").to_owned(),
                    ..InstrumentationScope::default()
                }),
                spans: spans.into_iter().map(message).collect(),
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        }],
    };
    request.encode_to_vec()
}

/// How many spans the receiver did not take, by its answer to a request that it took as a whole, and why.
#[must_use]
pub fn rejected(answer: &[u8]) -> Option<(usize, String)> {
    let answer = ExportTraceServiceResponse::decode(answer).ok()?;
    let partial = answer.partial_success?;
    let spans = usize::try_from(partial.rejected_spans).unwrap_or(0);
    (spans > 0).then_some((spans, partial.error_message))
}

fn message(span: Span) -> Message {
    let kind = match span.kind {
        Kind::Server => span::SpanKind::Server,
        Kind::Client => span::SpanKind::Client,
    };
    Message {
        trace_id: span.context.trace_id.to_be_bytes().to_vec(),
        span_id: span.context.span_id.to_be_bytes().to_vec(),
        parent_span_id: span
            .parent
            .map(|id| id.to_be_bytes().to_vec())
            .unwrap_or_default(),
        flags: u32::from(span.context.sampled),
        name: span.name.into_owned(),
        kind: kind as i32,
        start_time_unix_nano: span.start_ns,
        end_time_unix_nano: span.end_ns,
        attributes: span
            .attributes
            .into_iter()
            .map(|(name, value)| pair(name, value))
            .collect(),
        links: span.links.into_iter().map(link).collect(),
        status: span.failure.map(|message| Status {
            message,
            code: status::StatusCode::Error as i32,
        }),
        ..Message::default()
    }
}

fn link(context: Context) -> span::Link {
    span::Link {
        trace_id: context.trace_id.to_be_bytes().to_vec(),
        span_id: context.span_id.to_be_bytes().to_vec(),
        flags: u32::from(context.sampled),
        ..span::Link::default()
    }
}

fn pair(name: &str, value: Value) -> KeyValue {
    let value = match value {
        Value::Text(text) => any_value::Value::StringValue(text),
        Value::Int(number) => any_value::Value::IntValue(number),
        Value::Flag(flag) => any_value::Value::BoolValue(flag),
    };
    KeyValue {
        key: name.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}
