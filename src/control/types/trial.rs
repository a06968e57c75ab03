//! `POST /v1/explain` and `POST /v1/endpoints/{name}/test`: who would get an event and how, and a try at once.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::attempt::ExchangeView;
use super::dead::StepNoteView;
use super::status::EndpointState;

/// `POST /v1/explain`
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExplainRequest {
    /// One event, as a producer would send it.
    #[schemars(with = "serde_json::Value")]
    pub event: Box<RawValue>,
}

/// What would become of an event.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Explanation {
    /// The event with what is missing filled in.
    #[schemars(with = "serde_json::Value")]
    pub event: Box<RawValue>,
    /// Every endpoint, in the order of the configuration.
    pub endpoints: Vec<ExplainedEndpoint>,
}

/// What would become of an event at one endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExplainedEndpoint {
    /// Its name.
    pub endpoint: String,
    /// Whether it would get the event.
    pub gets: bool,
    /// Why, or why not.
    pub why: String,
    /// What it is doing now; `paused` and `disabled` park what they get.
    #[serde(default)]
    pub state: Option<EndpointState>,
    /// Its steps, in the order written; of what their answers would bring, the requests hold the names.
    #[serde(default)]
    pub steps: Vec<ExplainedStep>,
    /// The request it would get first.
    #[serde(default)]
    pub request: Option<RequestView>,
    /// Why there can be no request, although it would get the event.
    #[serde(default)]
    pub error: Option<String>,
}

/// A step as it would be carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExplainedStep {
    /// Its name.
    pub name: String,
    /// `before` the delivery's request, or `after` its answer.
    pub stage: String,
    /// Its first request.
    #[serde(default)]
    pub request: Option<RequestView>,
    /// Why there is none; empty else.
    #[serde(default)]
    pub why: String,
}

/// A request; secrets are `***` or `[secret]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RequestView {
    /// `POST https://example.com/hook`
    pub line: String,
    /// Names and values.
    pub headers: Vec<(String, String)>,
    /// The body's beginning.
    pub body: String,
}

/// `POST /v1/endpoints/{name}/test`
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TestRequest {
    /// One event, as a producer would send it; absent: a ping.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<serde_json::Value>")]
    pub event: Option<Box<RawValue>>,
}

/// What came of a test. Nothing of it is stored or counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TestView {
    /// To whom.
    pub endpoint: String,
    /// `delivered` `rejected` `skipped` `error`, as for a delivery.
    pub outcome: String,
    /// Why; empty when delivered.
    pub message: String,
    /// From the beginning to the last byte of the answer.
    pub duration_ms: u64,
    /// How long its parts took; `null`: nothing was sent.
    #[serde(default)]
    pub exchange: Option<ExchangeView>,
    /// What was sent; `null`: no request could be made.
    pub request: Option<RequestView>,
    /// The answer's status; `null`: none came.
    pub status: Option<u16>,
    /// The answer's headers.
    pub response_headers: Vec<(String, String)>,
    /// The beginning of the answer's body.
    pub response_body: String,
    /// What became of its steps, which are carried out as for a delivery.
    #[serde(default)]
    pub steps: Vec<StepNoteView>,
    /// The flags of steps whose default was used.
    #[serde(default)]
    pub flags: Vec<String>,
}
