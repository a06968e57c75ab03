//! `GET /v1/openapi.json`: the API as OpenAPI 3.1. Paths stand here by hand, schemas come from the types, with their
//! comments. A test holds the paths to the table of routes, another the schemas to real answers.

use axum::Json;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::types::{
    BuryRequest, Change, ChangeReport, ConfigView, DeadLetterView, EndpointRow, EndpointView, ErrorBody,
    EventView, ExplainRequest, Explanation, IngestAnswer, LiveDead, LiveRates, LiveState, LoggedAttemptView,
    MoveRequest, Moved, Page, PauseRequest, QuarantinedView, ReloadReport, Removed, Status, TestRequest,
    TestView,
};

/// `GET /v1/openapi.json`
pub async fn document() -> Json<Value> {
    Json(describe())
}

/// What narrows the list of endpoints.
const ENDPOINTS: &[&str] = &["state", "tenant", "type", "limit", "cursor"];
/// What narrows a list of dead letters.
const DEAD: &[&str] = &[
    "endpoint", "type", "reason", "status", "since", "until", "with", "limit", "cursor",
];

/// What narrows the log of attempts.
const ATTEMPTS: &[&str] = &[
    "endpoint", "event", "outcome", "class", "status", "since", "until", "limit", "cursor",
];

/// The document being put together.
struct Document {
    schemas: SchemaGenerator,
    paths: Map<String, Value>,
}

/// One operation: what it is for, and what goes in and comes out.
struct Operation {
    summary: &'static str,
    query: &'static [&'static str],
    body: Option<Value>,
    answers: Vec<(&'static str, &'static str, Value)>,
}

impl Operation {
    fn new(summary: &'static str) -> Self {
        Self {
            summary,
            query: &[],
            body: None,
            answers: Vec::new(),
        }
    }

    fn query(self, query: &'static [&'static str]) -> Self {
        Self { query, ..self }
    }

    /// The request's body, as JSON.
    fn takes(self, schema: Value) -> Self {
        Self {
            body: Some(json!({ "content": { "application/json": { "schema": schema } } })),
            ..self
        }
    }

    /// An answer as JSON.
    fn gives(mut self, status: &'static str, what: &'static str, schema: Value) -> Self {
        let content = json!({ "application/json": { "schema": schema } });
        self.answers.push((status, what, content));
        self
    }

    /// An answer as text of another type.
    fn text(mut self, status: &'static str, what: &'static str, media_type: &str) -> Self {
        let content = json!({ media_type: { "schema": { "type": "string" } } });
        self.answers.push((status, what, content));
        self
    }
}

/// The whole document.
#[must_use]
pub fn describe() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut document = Document {
        schemas: settings.into_generator(),
        paths: Map::new(),
    };
    document.health();
    document.events();
    document.endpoints();
    document.verbs();
    document.explain();
    document.dead();
    document.configuration();
    document.live();
    let error = document.schema::<ErrorBody>();
    let Document { mut schemas, paths } = document;
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "posthaste control API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "HTTP/1.1 over the control socket, and over TCP with a token where [control] listen says so.",
        },
        "servers": [{ "url": "http://localhost" }],
        // Over the socket the kernel says who asks; over TCP everything but /healthz needs the token.
        "security": [{}, { "token": [] }],
        "paths": paths,
        "components": {
            "schemas": schemas.take_definitions(true),
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
            "responses": {
                "error": {
                    "description": "Not done; the code is for programs, the message for people.",
                    "content": { "application/json": { "schema": error } },
                },
            },
        },
    })
}

impl Document {
    fn schema<T: JsonSchema>(&mut self) -> Value {
        self.schemas.subschema_for::<T>().to_value()
    }

    fn add(&mut self, method: &str, path: &str, operation: Operation) {
        let mut parameters: Vec<Value> = path
            .split('/')
            .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
            .map(|name| {
                json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } })
            })
            .collect();
        parameters.extend(
            operation
                .query
                .iter()
                .map(|name| json!({ "name": name, "in": "query", "schema": { "type": "string" } })),
        );
        let mut responses: Map<String, Value> = operation
            .answers
            .into_iter()
            .map(|(status, what, content)| {
                (
                    status.to_owned(),
                    json!({ "description": what, "content": content }),
                )
            })
            .collect();
        responses.insert(
            "default".to_owned(),
            json!({ "$ref": "#/components/responses/error" }),
        );
        let mut described = json!({
            "summary": operation.summary,
            "parameters": parameters,
            "responses": responses,
        });
        if let Some(body) = operation.body {
            described["requestBody"] = body;
        }
        let at = self.paths.entry(path).or_insert_with(|| json!({}));
        at[method] = described;
    }

    fn health(&mut self) {
        let text = |summary, what, otherwise| {
            Operation::new(summary)
                .text("200", what, "text/plain")
                .text("503", otherwise, "text/plain")
        };
        self.add(
            "get",
            "/healthz",
            text(
                "Whether the daemon is alive; needs no token",
                "Alive",
                "The store has failed",
            ),
        );
        self.add(
            "get",
            "/readyz",
            text("Whether events are taken", "They are", "They are not; the reason"),
        );
        let metrics = Operation::new("The numbers of the status for Prometheus");
        self.add(
            "get",
            "/metrics",
            metrics.text("200", "Text format 0.0.4", "text/plain"),
        );
        let status = self.schema::<Status>();
        let operation = Operation::new("What is stuck, since when, and why");
        self.add(
            "get",
            "/v1/status",
            operation.gives("200", "The whole daemon", status),
        );
        let quarantine = self.schema::<Page<QuarantinedView>>();
        let operation = Operation::new("Damaged records, newest first").query(&["limit"]);
        self.add(
            "get",
            "/v1/quarantine",
            operation.gives("200", "Their bytes", quarantine),
        );
    }

    fn events(&mut self) {
        let (answer, error) = (self.schema::<IngestAnswer>(), self.schema::<ErrorBody>());
        let mut send =
            Operation::new("Send an event or an atomic batch, in any CloudEvents mode (binary: ce- headers)");
        let any = json!({ "schema": true });
        send.body = Some(json!({
            "required": true,
            "content": {
                "application/json": any,
                "application/cloudevents+json": any,
                "application/cloudevents-batch+json": any,
                "*/*": any,
            },
        }));
        for (status, what) in [
            ("200", "A duplicate: it was accepted before"),
            ("202", "Accepted: it is on disk"),
            ("400", "Rejected: not an event"),
            ("403", "Rejected: this sender may not, or the peer may only see"),
            ("413", "Rejected: too large"),
            ("415", "Rejected: events don't come in this type"),
            ("429", "Rejected: too fast; retry-after says when"),
            ("503", "Rejected: not now; retry-after says when"),
        ] {
            // Refused before it was read: by the guard, or because the store has failed.
            let is_either = matches!(status, "403" | "503");
            let schema = match is_either {
                true => json!({ "anyOf": [answer, error] }),
                false => answer.clone(),
            };
            send = send.gives(status, what, schema);
        }
        self.add("post", "/v1/events", send);
        let event = self.schema::<EventView>();
        let show = Operation::new("Where an event stands").query(&["source"]);
        self.add(
            "get",
            "/v1/events/{id}",
            show.gives("200", "The event and what it owes", event),
        );
        let attempts = self.schema::<Page<LoggedAttemptView>>();
        let list = Operation::new("The log of attempts").query(ATTEMPTS);
        self.add("get", "/v1/attempts", list.gives("200", "Newest first", attempts));
    }

    fn endpoints(&mut self) {
        const PATH: &str = "/v1/endpoints/{name}";
        let page = self.schema::<Page<EndpointView>>();
        let list = Operation::new("Endpoints: how they are configured, what they do").query(ENDPOINTS);
        self.add("get", "/v1/endpoints", list.gives("200", "Secrets masked", page));
        let view = self.schema::<EndpointView>();
        let keys = json!({ "type": "object", "description": "The keys of an [[endpoint]] in config.toml" });
        let show = Operation::new("One endpoint");
        self.add("get", PATH, show.gives("200", "Secrets masked", view.clone()));
        let put = Operation::new("Define an endpoint over the API; 409 for one that a file defines")
            .takes(keys.clone())
            .gives("200", "It was there", view.clone())
            .gives("201", "It is new", view.clone());
        self.add("put", PATH, put);
        let patch = Operation::new("Change some keys of an endpoint of the API's (RFC 7396)")
            .takes(keys)
            .gives("200", "As it is now", view);
        self.add("patch", PATH, patch);
        let removed = self.schema::<Removed>();
        let delete = Operation::new("Remove an endpoint of the API's; what it is owed stays, as orphaned");
        self.add("delete", PATH, delete.gives("200", "What is left of it", removed));
    }

    fn explain(&mut self) {
        let (takes, gives) = (self.schema::<ExplainRequest>(), self.schema::<Explanation>());
        let operation =
            Operation::new("Which endpoints would get an event, why or why not, and the request of each");
        let operation = operation.takes(takes).gives("200", "Nothing was sent", gives);
        self.add("post", "/v1/explain", operation);
    }

    fn verbs(&mut self) {
        let row = self.schema::<EndpointRow>();
        let moved = self.schema::<Moved>();
        let (test, tested) = (self.schema::<TestRequest>(), self.schema::<TestView>());
        let (pause, to, bury) = (
            self.schema::<PauseRequest>(),
            self.schema::<MoveRequest>(),
            self.schema::<BuryRequest>(),
        );
        let operations = [
            (
                "pause",
                "Make no requests to it; events for it are parked",
                Some(pause),
                &row,
            ),
            ("resume", "End its pause", None, &row),
            (
                "flush",
                "Everything that waits for a later try is due now",
                None,
                &moved,
            ),
            (
                "test",
                "One request with a marked event at once; neither stored nor counted",
                Some(test),
                &tested,
            ),
            (
                "move",
                "Hand what a removed endpoint is owed to another",
                Some(to),
                &moved,
            ),
            (
                "bury",
                "Make dead letters of what a removed endpoint is owed",
                Some(bury),
                &moved,
            ),
        ];
        for (verb, summary, body, answer) in operations {
            let mut operation = Operation::new(summary).gives("200", "Done", answer.clone());
            if let Some(body) = body {
                operation = operation.takes(body);
            }
            self.add("post", &format!("/v1/endpoints/{{name}}/{verb}"), operation);
        }
    }

    fn dead(&mut self) {
        let page = self.schema::<Page<DeadLetterView>>();
        let list = Operation::new("Dead letters with their evidence; with=event adds the events").query(DEAD);
        self.add(
            "get",
            "/v1/dead",
            list.gives("200", "By endpoint, then in order of acceptance", page),
        );
        let letter = self.schema::<DeadLetterView>();
        let show = Operation::new("One dead letter with its event");
        self.add("get", "/v1/dead/{id}", show.gives("200", "All of it", letter));
        let (change, report) = (self.schema::<Change>(), self.schema::<ChangeReport>());
        for (verb, summary) in [
            (
                "replay",
                "Deliver them again; with endpoint or data as new events",
            ),
            ("purge", "Remove them for good"),
        ] {
            let operation = Operation::new(summary).takes(change.clone());
            let path = format!("/v1/dead/{verb}");
            self.add(
                "post",
                &path,
                operation.gives("200", "What was done", report.clone()),
            );
        }
    }

    fn configuration(&mut self) {
        let (config, report) = (self.schema::<ConfigView>(), self.schema::<ReloadReport>());
        let show = Operation::new("The configuration in force");
        self.add("get", "/v1/config", show.gives("200", "Secrets masked", config));
        let reload = Operation::new("Adopt the changed files, all or nothing");
        self.add("post", "/v1/reload", reload.gives("200", "What changed", report));
        let document = Operation::new("This document");
        let any = json!({ "type": "object" });
        self.add(
            "get",
            "/v1/openapi.json",
            document.gives("200", "OpenAPI 3.1", any),
        );
    }

    /// What stands in `data` of each kind of event; OpenAPI has no words for that.
    fn live(&mut self) {
        let data = json!({
            "state": self.schema::<LiveState>(),
            "dead": self.schema::<LiveDead>(),
            "rates": self.schema::<LiveRates>(),
        });
        let live = Operation::new("Server-sent events: state, dead, and every second rates");
        self.add(
            "get",
            "/v1/live",
            live.text("200", "Until the listener goes", "text/event-stream"),
        );
        self.paths["/v1/live"]["get"]["x-events"] = data;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Every route of the table is described, and nothing else is.
    #[test]
    fn the_document_has_every_route_and_no_other() {
        let document = describe();
        let described: BTreeSet<(String, String)> = document["paths"]
            .as_object()
            .unwrap()
            .iter()
            .flat_map(|(path, methods)| {
                let methods = methods.as_object().unwrap().keys();
                methods.map(move |method| (method.to_uppercase(), path.clone()))
            })
            .collect();
        let served: BTreeSet<(String, String)> = super::super::server::routes()
            .into_iter()
            .map(|(method, path)| (method.to_string(), path.to_owned()))
            .collect();
        assert_eq!(described, served);
    }

    /// Every `$ref` leads somewhere.
    #[test]
    fn references_lead_somewhere() {
        fn walk(value: &Value, document: &Value) {
            match value {
                Value::Object(entries) => {
                    if let Some(Value::String(reference)) = entries.get("$ref") {
                        let pointer = reference.strip_prefix('#').unwrap();
                        assert!(document.pointer(pointer).is_some(), "{reference}");
                    }
                    entries.values().for_each(|inner| walk(inner, document));
                }
                Value::Array(items) => items.iter().for_each(|inner| walk(inner, document)),
                _ => {}
            }
        }
        let document = describe();
        walk(&document, &document);
        let schemas = document["components"]["schemas"].as_object().unwrap();
        assert!(
            schemas.contains_key("Status") && schemas.contains_key("DeadReason"),
            "{:?}",
            schemas.keys()
        );
    }
}
